"""What the operator enters, kept between sessions, and how it becomes a plan."""

from __future__ import annotations

import typing
from collections.abc import Callable

from autoexp import plan as planning
from autoexp import scalarizers
from autoexp.errors import PlanError
from autoexp.state import Settings
from nionswift_plugin.autoexp_ui import stored_form
from nionswift_plugin.autoexp_ui.translation import translate as _

SCALARIZERS = (
    ("window", _("Intensity in a window")),
    ("edge", _("Edge above its background")),
    ("peak-height", _("Height of a peak")),
    ("peak-position", _("Position of a peak")),
    ("peak-width", _("Width of a peak")),
    ("ratio", _("Ratio of two windows")),
    ("similarity", _("Likeness to a target spectrum")),
)
AGENTS = (
    ("deep-kernel", _("Deep kernel learning")),
    ("joined-network", _("Deep kernel, network where it helps")),
    ("trained-network", _("Deep kernel, trained network alone")),
    ("grid", _("Raster")),
    ("random", _("Random points")),
    ("features", _("Bright features")),
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
KEY = "autoexp/form"
WINDOW = "autoexp-window"
SECOND_WINDOW = "autoexp-second-window"
OTHER_WINDOW = "autoexp-other-window"


class PlanForm(stored_form.StoredForm):
    """The fields of the experiment panel.

    Args:
        stored: model of the stored text, persistent between sessions.
        alignment: how the beam is aligned, as entered elsewhere.
    """

    def __init__(
        self, stored: typing.Any, alignment: Callable[[], planning.AlignmentSpec] = lambda: planning.AlignmentSpec()
    ):
        super().__init__(stored, DEFAULTS, CHOICES)
        self._alignment = alignment

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
    def compares(self) -> bool:
        """Whether two values are traded against each other."""
        return self.learns and self.acquisition_kind == "expected-hypervolume-improvement"

    def make_second(self) -> scalarizers.Scalarizer | None:
        """The second scalarizer, where two values are traded against each other.

        Raises:
            PlanError: its window is none.
        """
        if not self.compares:
            return None
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

    def make_agent(self, known: planning.AgentSpec | None = None) -> planning.AgentSpec:
        """The agent that the fields describe; what they cannot say is as in ``known``, if that is of the same kind."""
        kind = self.agent_kind
        if kind == "grid":
            return planning.GridAgent()
        if kind == "random":
            return planning.RandomAgent()
        if kind == "features":
            return planning.FeatureAgent(size_px=max(1.0, self.value("patch_px") / 2))
        hidden = ("refit_every", "costs")
        alike = isinstance(known, planning.DeepKernelAgent)
        known_only = {name: getattr(known, name) for name in hidden} if alike else {}
        return planning.checked(
            planning.DeepKernelAgent,
            acquisition=self._acquisition(),
            goal=GOALS[self.value("goal") or 0][0],
            seeds=self.value("seeds"),
            stop=self._stop(known),
            **known_only,
            kernel=KERNELS[kind],
        )

    def _stop(self, known: planning.AgentSpec | None) -> dict[str, float] | None:
        within = self.value("enough")
        if not within:
            return None
        rule = known.stop if isinstance(known, planning.DeepKernelAgent) else None
        return {"within": within, **({"risk": rule.risk} if rule else {})}

    def make_budget(self) -> planning.Budget:
        """The budget that the fields describe."""
        minutes = self.value("minutes")
        return planning.checked(planning.Budget, points=self.value("points"), time_s=minutes * 60 if minutes else None)

    def make_overview(self) -> planning.OverviewSpec:
        """The overview that the fields describe."""
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
        return [*windows, (OTHER_WINDOW, _("and here"), other)] if self.compares else windows

    def show(self, settings: Settings) -> None:
        """Set the fields to what is in force in a run; what the fields cannot express is left as it is."""
        scalarizer, budget = settings.scalarizer, settings.budget
        told = scalarizer.model_dump()
        kinds = [kind for kind, _label in SCALARIZERS]
        values: dict[str, typing.Any] = {"points": budget.points, "minutes": (budget.time_s or 0.0) / 60}
        if scalarizer.kind in kinds:
            values["scalarizer"] = kinds.index(scalarizer.kind)
        first, second = told.get("numerator", told), told.get("denominator", told)
        values |= {n: first[n] for n in ("low_eV", "high_eV") if first.get(n) is not None}
        for name, source in (("second_low_eV", "low_eV"), ("second_high_eV", "high_eV")):
            found = told.get(f"background_{source}") if scalarizer.kind == "edge" else second.get(source)
            if scalarizer.kind in ("edge", "ratio") and found is not None:
                values[name] = found
        if isinstance(settings.second, scalarizers.Window):
            values |= {"other_low_eV": settings.second.low_eV, "other_high_eV": settings.second.high_eV}
        self.set(**values, **_agent_fields(settings.agent))

    def make_plan(self, name: str, scan: str, camera: str, regions: tuple[planning.Region, ...] = ()) -> planning.Plan:
        """The whole plan.

        Raises:
            PlanError: something in it is not usable; the message names each field.
        """
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

    def _acquisition(self) -> dict[str, typing.Any]:
        kind = self.acquisition_kind
        if kind == "expected-hypervolume-improvement":
            return {"kind": kind, "second_goal": GOALS[self.value("other_goal") or 0][0]}
        return {"kind": kind, **({PARAMETERS[kind]: self.value("parameter")} if kind in PARAMETERS else {})}


def _agent_fields(agent: planning.AgentSpec) -> dict[str, typing.Any]:
    """The fields that describe an agent."""
    kinds = _kinds("agent")
    if not isinstance(agent, planning.DeepKernelAgent):
        return {"agent": kinds.index(agent.kind)} if agent.kind in kinds else {}
    acquisition = agent.acquisition
    parameter = PARAMETERS.get(acquisition.kind)
    other_goal = getattr(acquisition, "second_goal", None)
    return {
        "agent": kinds.index(next(kind for kind, kernel in KERNELS.items() if kernel == agent.kernel)),
        "acquisition": _kinds("acquisition").index(acquisition.kind),
        "goal": _kinds("goal").index(agent.goal),
        "seeds": agent.seeds,
        **({"parameter": getattr(acquisition, parameter)} if parameter else {}),
        **({"other_goal": _kinds("goal").index(other_goal)} if other_goal else {}),
        "enough": agent.stop.within if agent.stop else 0.0,
    }


def _kinds(choice: str) -> list[str]:
    return [kind for kind, _label in CHOICES[choice]]
