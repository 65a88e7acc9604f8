"""What the operator enters, kept between sessions, and how it becomes a plan."""

from __future__ import annotations

import typing
from collections.abc import Callable

from autoexp import plan as planning
from autoexp import scalarizers
from autoexp.errors import PlanError
from nionswift_plugin.autoexp_ui import entries, steering, stored_form
from nionswift_plugin.autoexp_ui.translation import translate as _

ANOTHER = "another"
"""A score or an agent that a plan can hold and the fields cannot; shown, never chosen."""
SCALARIZERS = (
    ("window", _("Intensity in a window")),
    ("edge", _("Edge above its background")),
    ("peak-height", _("Height of a peak")),
    ("peak-position", _("Position of a peak")),
    ("peak-width", _("Width of a peak")),
    ("ratio", _("Ratio of two windows")),
    ("similarity", _("Likeness to a target spectrum")),
    (ANOTHER, _("As in the plan")),
)
AGENTS = (
    ("deep-kernel", _("Deep kernel learning")),
    ("joined-network", _("Deep kernel, network where it helps")),
    ("trained-network", _("Deep kernel, trained network alone")),
    ("grid", _("Raster")),
    ("random", _("Random points")),
    ("features", _("Bright features")),
    (ANOTHER, _("As in the plan")),
)
KERNELS = {"deep-kernel": "views", "joined-network": "joined", "trained-network": "deep"}
ACQUISITIONS = (
    ("upper-confidence-bound", _("Find the interesting fraction")),
    ("expected-improvement", _("Find the extreme")),
    ("maximum-variance", _("Learn the whole map")),
    ("probability-of-improvement", _("Improve as surely as possible")),
    ("thompson-sampling", _("Follow a random draw")),
    ("expected-hypervolume-improvement", _("Trade two values against each other")),
)
PARAMETERS = {"upper-confidence-bound": "beta", "expected-improvement": "xi", "probability-of-improvement": "xi"}
GOALS = (("maximize", _("high values")), ("minimize", _("low values")))
CHOICES = {
    "scalarizer": SCALARIZERS,
    "agent": AGENTS,
    "acquisition": ACQUISITIONS,
    "goal": GOALS,
    "other_goal": GOALS,
}

DEFAULTS: dict[str, typing.Any] = {
    "fov_nm": 500.0,
    "pixels": 512,
    "dwell_us": 4.0,
    "scalarizer": 0,
    "low_eV": 1.1,
    "high_eV": 1.7,
    "second_low_eV": 0.3,
    "second_high_eV": 0.9,
    "agent": 0,
    "acquisition": 0,
    "goal": 0,
    "parameter": 2.0,
    "other_low_eV": 2.0,
    "other_high_eV": 2.6,
    "other_goal": 0,
    "patch_px": 16,
    "stride_px": 8,
    "seeds": 10,
    "exposure_ms": 50.0,
    "binning": 1,
    "points": 60,
    "minutes": 0.0,
    "enough": 0.0,
    "drift_every": 0,
    "align": False,
    "align_every": 0,
    "target": None,
}
N = entries.Number
ENERGY = N(scalarizers.Window, "low_eV", units="eV")
NUMBERS = {
    "fov_nm": N(planning.OverviewSpec, "fov_nm", units="nm"),
    "pixels": N(planning.OverviewSpec, "pixels", units="px", whole=True),
    "dwell_us": N(planning.OverviewSpec, "dwell_us", units="µs"),
    **dict.fromkeys(("low_eV", "high_eV", "second_low_eV", "second_high_eV", "other_low_eV", "other_high_eV"), ENERGY),
    "parameter": N(planning.UpperConfidenceBound, "beta"),
    "patch_px": N(planning.PatchSpec, "pixels", units="px", whole=True),
    "stride_px": N(planning.PatchSpec, "stride", units="px", whole=True),
    "exposure_ms": N(planning.SpectrumSpec, "exposure_s", 1e-3, units="ms"),
    "binning": N(planning.SpectrumSpec, "binning", whole=True),
    "points": N(planning.Budget, "points", whole=True),
    "minutes": N(planning.Budget, "time_s", 60.0, units="min", optional=True),
    "enough": N(planning.StopRule, "within", optional=True),
    "drift_every": N(planning.DriftCheck, "every", whole=True, optional=True),
    "align_every": N(planning.AlignmentStage, "every", whole=True, optional=True),
}
KEY = "autoexp/form"
WINDOW, SECOND_WINDOW, OTHER_WINDOW = steering.WINDOWS


class PlanForm(stored_form.StoredForm):
    """The fields of the experiment panel.

    Args:
        stored: model of the stored text, persistent between sessions.
        alignment: how the beam is aligned, as entered elsewhere.
    """

    def __init__(
        self, stored: typing.Any, alignment: Callable[[], planning.AlignmentSpec] = lambda: planning.AlignmentSpec()
    ):
        super().__init__(stored, DEFAULTS, CHOICES, NUMBERS)
        self._alignment = alignment
        for name in ("scalarizer", "agent"):
            if self.value(name) == index_of(name, ANOTHER):  # what came with a plan went with its run
                self.set(**{name: DEFAULTS[name]})

    def mistakes(self) -> dict[str, str]:
        """What is wrong, by field; of windows and numbers that are not in use nothing is said."""
        unused = {"second_low_eV", "second_high_eV"} - {name for _g, _l, ends in self.windows() for name in ends}
        unused |= set() if self.compares else {"other_low_eV", "other_high_eV"}
        unused |= set() if self.learns else {"parameter", "enough"}
        found = {name: wrong for name, wrong in super().mistakes().items() if name not in unused}
        for _graphic, _label, (low, high) in self.windows():
            if not {low, high} & found.keys() and not self.value(low) < self.value(high):
                found[low] = _("The lower end lies above the upper end.")
        if self.scalarizer_kind == "edge" and not found.keys() & {"low_eV", "second_low_eV", "second_high_eV"}:
            if not self.value("second_low_eV") > 0:
                found["second_low_eV"] = _("The background has to begin above 0 eV.")
            elif not self.value("second_high_eV") <= self.value("low_eV"):
                found["second_low_eV"] = _("The background has to end before the edge begins.")
        return found

    # --- from fields to a plan

    @property
    def scalarizer_kind(self) -> str:
        """Kind of the chosen scalarizer."""
        return SCALARIZERS[self.value("scalarizer") or 0][0]

    @property
    def agent_kind(self) -> str:
        """Kind of the chosen agent."""
        return AGENTS[self.value("agent") or 0][0]

    @property
    def learns(self) -> bool:
        """Whether the chosen agent learns."""
        return self.agent_kind in KERNELS

    @property
    def acquisition_kind(self) -> str:
        """Kind of the chosen acquisition function."""
        return ACQUISITIONS[self.value("acquisition") or 0][0]

    @property
    def goal(self) -> str:
        """Whether high or low values are wanted."""
        return GOALS[self.value("goal") or 0][0]

    @property
    def other_goal(self) -> str:
        """Whether high or low second values are wanted."""
        return GOALS[self.value("other_goal") or 0][0]

    @property
    def compares(self) -> bool:
        """Whether two values are traded against each other."""
        return self.learns and self.acquisition_kind == "expected-hypervolume-improvement"

    def make_second(self) -> scalarizers.Scalarizer | None:
        """The second scalarizer, where two values are traded against each other.

        Raises:
            PlanError: its window is none.
        """
        return self.make_other_window() if self.compares else None

    def make_other_window(self) -> scalarizers.Scalarizer:
        """The window of the second value.

        Raises:
            PlanError: it is none.
        """
        window = {"low_eV": self.value("other_low_eV"), "high_eV": self.value("other_high_eV")}
        return scalarizers.parse_scalarizer({"kind": "window", **window})

    def make_scalarizer(self) -> scalarizers.Scalarizer:
        """The scalarizer that the fields describe.

        Raises:
            PlanError: they describe none; the message names the field.
        """
        kind = self.scalarizer_kind
        window = {"low_eV": self.value("low_eV"), "high_eV": self.value("high_eV")}
        second = {"low_eV": self.value("second_low_eV"), "high_eV": self.value("second_high_eV")}
        if kind == ANOTHER:
            raise PlanError(_("Choose what to look for; the score of the latest run came with its plan."))
        if kind == "edge":
            given = {**window, "background_low_eV": second["low_eV"], "background_high_eV": second["high_eV"]}
        elif kind == "ratio":
            given = {"numerator": window, "denominator": second}
        elif kind == "similarity":
            if not self.value("target"):
                raise PlanError(_("Select a spectrum in the data panel and press Use as Target first."))
            given = {**self.value("target"), **window}
        else:
            given = window
        return scalarizers.parse_scalarizer({"kind": kind, **given})

    def make_agent(self) -> planning.AgentSpec:
        """The agent that the fields describe.

        Raises:
            PlanError: they describe none; the message names the field.
        """
        kind = self.agent_kind
        if kind == ANOTHER:
            raise PlanError(_("Choose how positions are chosen; the agent of the latest run came with its plan."))
        if kind == "grid":
            return planning.GridAgent()
        if kind == "random":
            return planning.RandomAgent()
        if kind == "features":
            return planning.FeatureAgent(size_px=max(1.0, self.value("patch_px") / 2))
        within = self.value("enough")
        return planning.checked(
            planning.DeepKernelAgent,
            acquisition=self.make_acquisition(),
            goal=self.goal,
            seeds=self.value("seeds"),
            stop={"within": within} if within else None,
            kernel=KERNELS[kind],
        )

    def make_acquisition(self) -> planning.Acquisition:
        """The acquisition function that the fields describe.

        Raises:
            PlanError: its parameter is out of range.
        """
        kind = self.acquisition_kind
        given = {PARAMETERS[kind]: self.value("parameter")} if kind in PARAMETERS else {}
        if kind == "expected-hypervolume-improvement":
            given = {"second_goal": self.other_goal}
        described = planning.checked(planning.DeepKernelAgent, acquisition={"kind": kind, **given})
        return described.acquisition

    def make_budget(self) -> planning.Budget:
        """The budget that the fields describe."""
        minutes = self.value("minutes")
        return planning.checked(planning.Budget, points=self.value("points"), time_s=minutes * 60 if minutes else None)

    def make_overview(self) -> planning.OverviewSpec:
        """The overview that the fields describe.

        Raises:
            PlanError: what stands in them makes no sense.
        """
        self.require_entered("fov_nm", "pixels", "dwell_us")
        return planning.checked(
            planning.OverviewSpec,
            fov_nm=self.value("fov_nm"),
            pixels=self.value("pixels"),
            dwell_us=self.value("dwell_us"),
        )

    def windows(self) -> list[tuple[str, str, tuple[str, str]]]:
        """The windows of the chosen scalarizer: graphic, label, and the fields of its two ends."""
        first, second = ("low_eV", "high_eV"), ("second_low_eV", "second_high_eV")
        labels = {"edge": (_("edge"), _("background")), "ratio": (_("numerator"), _("denominator"))}
        one, two = labels.get(self.scalarizer_kind, (_("look here"), ""))
        windows = [(WINDOW, one, first)]
        windows += [(SECOND_WINDOW, two, second)] if two else []
        other = ("other_low_eV", "other_high_eV")
        windows = [] if self.scalarizer_kind == ANOTHER else windows
        return [*windows, (OTHER_WINDOW, _("and here"), other)] if self.compares else windows

    def make_plan(self, name: str, scan: str, camera: str, regions: tuple[planning.Region, ...] = ()) -> planning.Plan:
        """The whole plan.

        Raises:
            PlanError: something in it is not usable; the message names each field.
        """
        self.require_entered()
        return planning.checked(
            planning.Plan,
            name=name,
            instrument=planning.SwiftInstrument(scan=scan, camera=camera),
            overview=self.make_overview(),
            patches=planning.checked(planning.PatchSpec, pixels=self.value("patch_px"), stride=self.value("stride_px")),
            spectrum=planning.checked(
                planning.SpectrumSpec, exposure_s=self.value("exposure_ms") / 1000, binning=self.value("binning")
            ),
            scalarizer=self.make_scalarizer(),
            second=self.make_second(),
            agent=self.make_agent(),
            align=self._align(),
            drift={"every": self.value("drift_every")} if self.value("drift_every") else None,
            budget=self.make_budget(),
            regions=regions,
        )

    def _align(self) -> planning.AlignmentStage | None:
        if not self.value("align"):
            return None
        return planning.checked(planning.AlignmentStage, spec=self._alignment(), every=self.value("align_every") or 0)


def index_of(choice: str, kind: str) -> int:
    """Where a kind is in the list of a choice; one that is not listed is shown as another."""
    kinds = [listed for listed, _label in CHOICES[choice]]
    return kinds.index(kind if kind in kinds else ANOTHER)
