"""What the operator enters to have the beam aligned, and how it becomes a specification."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterable

from nion.utils import Model

from autoexp import plan as planning
from autoexp.errors import PlanError
from nionswift_plugin.autoexp_ui import entries, stored_form
from nionswift_plugin.autoexp_ui.translation import translate as _

KEY = "autoexp/alignment"
DEFAULTS: dict[str, typing.Any] = {
    "controls": "",
    "camera": "",
    "exposure_ms": 50.0,
    "binning": 8,
    "goal_y": 0.5,
    "goal_x": 0.5,
    "tolerance_px": 1.0,
    "frames": 20,
    "px_per_unit": 0.0,
}
N = entries.Number
NUMBERS = {
    "exposure_ms": N(planning.FrameSpec, "exposure_s", 1e-3, units="ms"),
    "binning": N(planning.FrameSpec, "binning", whole=True),
    "goal_y": N(),
    "goal_x": N(),
    "tolerance_px": N(planning.AlignmentSpec, "tolerance_px", units="px"),
    "frames": N(planning.AlignmentSpec, "frames", whole=True),
    "px_per_unit": N(planning.AlignmentSpec, "px_per_unit", optional=True),
}
Pair = tuple[str, str]


class AlignmentForm(stored_form.StoredForm):
    """The fields of the alignment panel.

    Args:
        stored: model of the stored text, persistent between sessions.
    """

    def __init__(self, stored: typing.Any):
        super().__init__(stored, DEFAULTS, numbers=NUMBERS)

    def make_spec(self) -> planning.AlignmentSpec:
        """How to align.

        Raises:
            PlanError: the fields make no sense; the message names each.
        """
        self.require_entered()
        pair = pair_of(self.value("controls"))
        if pair is None:
            raise PlanError(_("Choose first, in the Beam Alignment panel, by which controls the disk is centred."))
        return planning.checked(
            planning.AlignmentSpec,
            controls=pair,
            frame=planning.checked(
                planning.FrameSpec,
                exposure_s=self.value("exposure_ms") / 1000,
                binning=self.value("binning"),
                camera=self.value("camera") or None,
            ),
            goal=(self.value("goal_y"), self.value("goal_x")),
            tolerance_px=self.value("tolerance_px"),
            frames=self.value("frames"),
            px_per_unit=self.value("px_per_unit") or None,
        )


def stored_spec(text: str) -> planning.AlignmentSpec:
    """How to align, as it was entered last in the alignment panel.

    Raises:
        PlanError: nothing that makes sense.
    """
    form = AlignmentForm(Model.PropertyModel[str](text))
    try:
        return form.make_spec()
    finally:
        form.close()


def pair_of(text: str) -> Pair | None:
    """The two controls that a field names; None where it does not name two."""
    names = [name.strip() for name in text.split(",")]
    return (names[0], names[1]) if len(names) == 2 and all(names) else None


def pairs_of(names: Iterable[str]) -> list[Pair]:
    """Pairs of controls that may shift the disk: those whose names end in y and x; of the others, any two."""
    left = sorted(names)
    found: list[Pair] = []
    for name in list(left):
        for y, x in ("yx", "YX"):
            if name.endswith(y) and (partner := name[:-1] + x) in left:
                found.append((name, partner))
                left = [other for other in left if other not in (name, partner)]
    return found + list(itertools.combinations(left, 2))


def task_name(pair: Pair) -> str:
    """What is done with a pair of controls, in words."""
    y, x = pair
    both = y[:-1].rstrip("._ ") if y[:-1] == x[:-1] and len(y) > 1 else f"{y}, {x}"
    return _("Centre the disk by {controls}").format(controls=both)
