"""What to do: a frozen, validated plan. Every field has its unit, bound and default here and nowhere else."""

from __future__ import annotations

import math
import pathlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autoexp.documents import parse_json, read_json, shown
from autoexp.errors import PlanError
from autoexp.fields import Fraction as Fraction
from autoexp.fields import Name, Number, Seed, Whole
from autoexp.fields import explain as explain
from autoexp.scalarizers import Scalarizer, Window

MAX_CANDIDATES = 4_000_000
ALIGNMENT_FRAMES = 5
"""That an alignment takes, as a rule."""
POINT_OVERHEAD_S = 0.02
ELECTRONS_PER_PICOAMPERE_SECOND = 6.241509074e6
Goal = Literal["maximize", "minimize"]
Position = Annotated[Number, Field(ge=-1e7, le=1e7)]
"""On the specimen, nm; a stage travels a few mm, 1e6 to 1e7 nm."""
Speed = Annotated[Number, Field(ge=-1e4, le=1e4)]
"""Of drift, nm/s; a bad stage drifts by 1."""


Setting = Annotated[Number, Field(ge=-1e12, le=1e12)]
"""Of a control, in its own units."""
ControlName = Annotated[Name, Field(min_length=1)]


class Model(BaseModel):
    """Base of all parts of a plan: frozen, finite, no field that is not known, and numbers that are written as such."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OverviewSpec(Model):
    """The image in which positions are chosen. A square scan: Swift's own conventions differ for other shapes."""

    fov_nm: Number = Field(500.0, ge=0.01, le=1e6, description="side of the scanned field, nm: 0.01 to 1e6")
    pixels: Whole = Field(512, ge=16, le=32768, description="pixels along a side")
    dwell_us: Number = Field(4.0, ge=1e-3, le=1e5, description="time per pixel, µs: 0.001 to 1e5")
    center_nm: tuple[Position, Position] = Field((0.0, 0.0), description="centre of the field (y, x), nm, to ±1e7")
    rotation_deg: Number = Field(0.0, ge=-360, le=360, description="scan rotation, degrees")
    channel: Whole = Field(0, ge=0, le=1000, description="scan channel, usually HAADF")

    @property
    def time_s(self) -> float:
        """Duration of the scan."""
        return self.pixels**2 * self.dwell_us * 1e-6


class FrameSpec(Model):
    """A frame of the camera on which the bright-field disk is seen."""

    exposure_s: Number = Field(0.05, ge=1e-6, le=60, description="exposure, s: 1e-6 to 60")
    binning: Whole = Field(8, ge=1, le=64, description="camera pixels to a pixel of the frame, along each axis")
    camera: Name | None = Field(None, description="id of the camera; the instrument's Ronchigram camera, if not given")


class AlignmentSpec(Model):
    """How the bright-field disk is centred: by which controls, on which frames, how well."""

    controls: tuple[Name, Name] = Field(("CAperture.y", "CAperture.x"), description="two controls that shift the disk")
    frame: FrameSpec = FrameSpec()
    goal: tuple[Number, Number] = Field(
        (0.5, 0.5), description="where the disk should be (y, x), fractions of the frame"
    )
    tolerance_px: Number = Field(1.0, ge=1e-3, le=100, description="how near is near enough, pixels of the frame")
    px_per_unit: Number | None = Field(
        None,
        ge=1e-9,
        le=1e12,
        description="pixels of the frame that a unit of the controls shifts the disk by, to within a factor of two; "
        "taken from the camera's calibration if the controls are angles in rad",
    )
    frames: Whole = Field(20, ge=2, le=1000, description="frames after which it is given up")

    @model_validator(mode="after")
    def _is_possible(self) -> AlignmentSpec:
        if self.controls[0] == self.controls[1]:
            raise ValueError(f"the two controls are the same, {self.controls[0]}")
        if not all(0 < g < 1 for g in self.goal):
            raise ValueError(f"the goal {self.goal} lies outside the frame: give fractions between 0 and 1")
        return self


class AlignmentStage(Model):
    """The beam is aligned before the overview; looks at the disk show later whether it has moved."""

    spec: AlignmentSpec = AlignmentSpec()
    every: Whole = Field(0, ge=0, le=10_000, description="spectra between two looks at the disk; 0: none")
    within_px: Number | None = Field(
        None,
        ge=1e-3,
        le=1e4,
        description="the beam is aligned again when the disk is farther from its goal, pixels of the frame; three "
        "times the tolerance, if not given",
    )

    @property
    def allowed_px(self) -> float:
        """How far the disk may be from its goal before the beam is aligned again, pixels of the frame."""
        return self.within_px or 3 * self.spec.tolerance_px

    def exposed_s(self, points: int) -> float:
        """Exposure of the disk's camera in a run of so many points, if the beam stays as it is."""
        looks = points // self.every if self.every else 0
        return (ALIGNMENT_FRAMES + looks) * self.spec.frame.exposure_s


class PatchSpec(Model):
    """How the overview is cut into candidates.

    ``border="inside"`` keeps only patches that lie wholly in the image; ``"reflect"`` also takes positions nearer to
    the border than half a patch and mirrors the image there. A patch never wraps round.
    """

    pixels: Whole = Field(16, ge=2, le=512, description="side of a patch, pixels of the overview")
    stride: Whole = Field(8, ge=1, le=512, description="distance between neighbouring candidates, pixels")
    border: Literal["inside", "reflect"] = Field("inside", description="whether patches may reach over the border")

    @property
    def reach(self) -> int:
        """Pixels that a candidate needs on either axis: a whole patch, or one where the image is mirrored."""
        return self.pixels if self.border == "inside" else 1

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(rows, columns) of the candidates on an overview of a shape (h, w)."""
        rows, columns = (max(0, (length - self.reach) // self.stride + 1) for length in shape)
        return rows, columns


class ZeroLossSpec(Model):
    """Energies are measured from each spectrum's own zero-loss peak, which is at 0 eV."""

    within_eV: Number = Field(2.0, ge=1e-3, le=1e3, description="how far from 0 eV the peak is looked for, eV")
    limit_eV: Number | None = Field(
        None, ge=1e-3, le=1e3, description="the run pauses when the peak has moved farther since the first spectrum, eV"
    )


class SpectrumSpec(Model):
    """How each spectrum is taken."""

    exposure_s: Number = Field(0.05, ge=1e-6, le=600, description="exposure, s: 1e-6 to 600")
    binning: Whole = Field(1, ge=1, le=64, description="camera binning along both axes")
    settle_s: Number = Field(0.0, ge=0, le=10, description="wait after the probe has been parked, s")
    zero_loss: ZeroLossSpec | None = Field(None, description="measure energies from each spectrum's zero-loss peak")


class DriftCheck(Model):
    """Now and then an image of the whole field shows how far the specimen has moved; positions move with it."""

    every: Whole = Field(20, ge=1, le=10_000, description="spectra between two looks")
    pixels: Whole = Field(128, ge=16, le=4096, description="pixels along a side of the image, at most the overview's")
    dwell_us: Number = Field(4.0, ge=1e-3, le=1e5, description="time per pixel, µs: 0.001 to 1e5")

    def scan(self, overview: OverviewSpec) -> OverviewSpec:
        """The image to take, of the same field as the overview."""
        return overview.model_copy(update={"pixels": min(self.pixels, overview.pixels), "dwell_us": self.dwell_us})


class ExpectedImprovement(Model):
    """Expected improvement over the best value so far (Jones et al. 1998): find the extreme."""

    kind: Literal["expected-improvement"] = "expected-improvement"
    xi: Number = Field(0.0, ge=0, le=10, description="improvement asked for, in standard deviations of the target")


class UpperConfidenceBound(Model):
    """Mean plus ``beta`` standard deviations (Srinivas et al. 2010): find the interesting fraction."""

    kind: Literal["upper-confidence-bound"] = "upper-confidence-bound"
    beta: Number = Field(2.0, ge=0, le=100, description="weight of the uncertainty, standard deviations")


class ProbabilityOfImprovement(Model):
    """Probability of exceeding the best value so far (Kushner 1964)."""

    kind: Literal["probability-of-improvement"] = "probability-of-improvement"
    xi: Number = Field(0.01, ge=0, le=10, description="improvement asked for, in standard deviations of the target")


class ThompsonSampling(Model):
    """The maximum of one joint draw from the posterior (Thompson 1933)."""

    kind: Literal["thompson-sampling"] = "thompson-sampling"


class MaximumVariance(Model):
    """The most uncertain candidate: learn the map rather than find an extreme."""

    kind: Literal["maximum-variance"] = "maximum-variance"


class ExpectedHypervolumeImprovement(Model):
    """Two values at once (Emmerich et al. 2011): widen the front of the best compromises between them."""

    kind: Literal["expected-hypervolume-improvement"] = "expected-hypervolume-improvement"
    second_goal: Goal = Field("maximize", description="whether high or low second values are wanted")


Acquisition = Annotated[
    ExpectedImprovement
    | UpperConfidenceBound
    | ProbabilityOfImprovement
    | ThompsonSampling
    | MaximumVariance
    | ExpectedHypervolumeImprovement,
    Field(discriminator="kind"),
]


class Costs(Model):
    """What it costs to measure somewhere, in the acquisition function's own unit.

    That is a standard deviation of the measured values, save for expected and probability of improvement, which are
    compared by their logarithms: there, a cost of 1 divides them by e. At equal worth the nearest is always taken.
    """

    travel: Number = Field(0.0, ge=0, le=100, description="of a move as long as the field is wide")
    damage: Number = Field(0.0, ge=0, le=100, description="of measuring at a spot that was exposed once already")
    damage_px: Number = Field(8.0, ge=1e-3, le=1e4, description="radius of a damaged spot, pixels of the overview")


class StopRule(Model):
    """Stop early, once little is left to find.

    The guarantee: as long as the model is right, the chance that any allowed candidate is better than the best one
    measured by more than ``within`` is at most ``risk`` (a union bound over all of them, whatever their correlations).
    Where the whole map is to be learned, the run ends once no candidate is uncertain by more than ``within``.
    """

    within: Number = Field(0.25, ge=1e-6, le=10, description="what does not matter, standard deviations of the values")
    risk: Number = Field(0.05, ge=1e-12, lt=1, description="chance of missing something better")


class GridAgent(Model):
    """Every candidate of an even raster over the field, row by row: what is done today."""

    kind: Literal["grid"] = "grid"


class RandomAgent(Model):
    """Candidates drawn at random, without replacement."""

    kind: Literal["random"] = "random"


class ListAgent(Model):
    """Given positions, in their order."""

    kind: Literal["list"] = "list"
    positions: tuple[tuple[Fraction, Fraction], ...] = Field(
        min_length=1, max_length=1_000_000, description="(y, x), fractions of the field"
    )


class FeatureAgent(Model):
    """A feature finder: the brightest (or darkest) peaks and blobs of the overview, strongest first."""

    kind: Literal["features"] = "features"
    size_px: Number = Field(6.0, ge=0.1, le=256, description="radius of what is looked for, pixels of the overview")
    polarity: Literal["bright", "dark"] = Field("bright", description="which features")


class DeepKernelAgent(Model):
    """Deep kernel learning: a Gaussian process on patch features chooses where the next spectrum is worth most."""

    kind: Literal["deep-kernel"] = "deep-kernel"
    acquisition: Acquisition = Field(UpperConfidenceBound(), description="what makes a position worth measuring")
    goal: Goal = Field("maximize", description="whether high or low values are wanted")
    seeds: Whole = Field(10, ge=1, le=1000, description="space-filling points before the model takes over")
    refit_every: Whole = Field(5, ge=1, le=1000, description="points between refits of the hyperparameters, at least")
    costs: Costs = Field(Costs(), description="what it costs to measure somewhere")
    stop: StopRule | None = Field(None, description="stop before the budget is spent, once little is left to find")
    kernel: Literal["views", "deep", "joined"] = Field(
        "views",
        description="frozen views of each patch; a network trained with the kernel, as published; or the views, and "
        "the network where the evidence says that it helps (the latter two need torch)",
    )


AgentSpec = Annotated[GridAgent | RandomAgent | ListAgent | FeatureAgent | DeepKernelAgent, Field(discriminator="kind")]


class Budget(Model):
    """When to stop: at whichever comes first."""

    points: Whole = Field(60, ge=1, le=1_000_000, description="spectra to take, to 1e6")
    time_s: Number | None = Field(None, ge=1e-3, le=1e9, description="time for the whole run, s: 0.001 to 1e9")
    dose_e: Number | None = Field(
        None, gt=0, le=1e30, description="electrons into the specimen, overview included, to 1e30"
    )


class Region(Model):
    """A rectangle on the overview in which to measure only, or not at all; fractions of the field."""

    id: Name
    kind: Literal["include", "exclude"]
    top: Fraction
    left: Fraction
    bottom: Fraction
    right: Fraction

    @model_validator(mode="after")
    def _has_area(self) -> Region:
        if not (self.top < self.bottom and self.left < self.right):
            raise ValueError("a region needs top < bottom and left < right")
        return self


def require_upward(low: float, high: float, what: str) -> None:
    """Refuse a range that holds nothing.

    Raises:
        ValueError: it does not run upward.
    """
    if not low < high:
        raise ValueError(f"{what} must run upward, not from {low:g} to {high:g}")


class UserLimits(Model):
    """What the operator allows, within what the site allows."""

    max_exposure_s: Number | None = Field(None, ge=1e-6, le=1e6, description="longest exposure, s: 1e-6 to 1e6")
    controls: dict[ControlName, tuple[Setting, Setting]] = Field(
        default_factory=dict, max_length=1000, description="range per control, in its own units: lowest, highest"
    )

    @model_validator(mode="after")
    def _run_upward(self) -> UserLimits:
        for name, (low, high) in self.controls.items():
            require_upward(low, high, f"controls.{name}")
        return self


class VirtualInstrument(Model):
    """The virtual microscope that comes with the package."""

    kind: Literal["virtual"] = "virtual"
    specimen: str = Field(
        "plasmonic", max_length=4096, description="name of a specimen, or the file of a recorded spectrum image"
    )
    seed: Seed = Field(0, description="which of the specimens of that name, and its noise")
    beam_current_pA: Number = Field(50.0, ge=1e-3, le=10_000, description="beam current, pA: 0.001 to 1e4")
    drift_nm_s: tuple[Speed, Speed] = Field((0.0, 0.0), description="drift of the specimen (y, x), nm/s, to ±1e4")
    time_scale: Number = Field(1.0, ge=1e-3, le=1000, description="simulated seconds per second: 0.001 to 1000")


class SwiftInstrument(Model):
    """The instrument that is registered with Nion Swift; devices by their ids, or Swift's own choice."""

    kind: Literal["swift"] = "swift"
    scan: Name | None = Field(None, description="id of the scan device")
    camera: Name | None = Field(None, description="id of the spectrometer's camera")


InstrumentSpec = Annotated[VirtualInstrument | SwiftInstrument, Field(discriminator="kind")]


@dataclass(frozen=True)
class Estimate:
    """What a plan will cost.

    Attributes:
        candidates: positions to choose from.
        points: spectra that will be taken.
        time_s: duration.
        dose_e: electrons into the specimen, or None where the beam current is not known.
    """

    candidates: int
    points: int
    time_s: float
    dose_e: float | None


class Plan(Model):
    """One autonomous experiment, from overview to budget.

    ``Plan.from_json`` reads a file, ``to_json`` writes one; both forms are the same.
    """

    version: Literal[1] = 1
    name: Name = Field("experiment", min_length=1, max_length=80, description="what the operator calls it")
    seed: Seed = Field(0, description="all randomness of the run follows from it")
    instrument: InstrumentSpec = VirtualInstrument()
    overview: OverviewSpec = OverviewSpec()
    patches: PatchSpec = PatchSpec()
    spectrum: SpectrumSpec = SpectrumSpec()
    scalarizer: Scalarizer = Window(low_eV=1.1, high_eV=1.7)
    second: Scalarizer | None = Field(None, description="what else is scored, for a compromise between two values")
    agent: AgentSpec = DeepKernelAgent()
    fallback: Literal["continue", "pause"] = Field(
        "continue", description="when the agent fails or hangs: go on with a space-filling policy, or pause"
    )
    resume_after_s: Number | None = Field(
        None, gt=0, le=1e6, description="go on by itself so long after the beam was lost, s; never, if not given"
    )
    decision_deadline_s: Number = Field(
        20.0,
        ge=1e-3,
        le=3600,
        description="an agent that takes longer (to be made: ten times) is set aside, s: 0.001 to 3600",
    )
    budget: Budget = Budget()
    align: AlignmentStage | None = Field(None, description="align the beam first, and again when it has moved")
    drift: DriftCheck | None = Field(None, description="look for drift, and follow it")
    regions: tuple[Region, ...] = Field((), max_length=1000, description="where to measure only, or not at all")
    limits: UserLimits = UserLimits()

    @model_validator(mode="after")
    def _patches_fit(self) -> Plan:
        if self.patches.reach > self.overview.pixels:
            raise ValueError(
                f"a patch of {self.patches.pixels} px does not fit into an overview of {self.overview.pixels} px"
            )
        if self.candidates() > MAX_CANDIDATES:
            raise ValueError(
                f"an overview of {self.overview.pixels} px cut at a stride of {self.patches.stride} px gives "
                f"{self.candidates():,} candidates; at most {MAX_CANDIDATES:,} can be handled: widen the stride"
            )
        return self

    @model_validator(mode="after")
    def _two_values_for_a_compromise(self) -> Plan:
        require_second(self.agent, self.second)
        return self

    def candidates(self) -> int:
        """Number of positions to choose from."""
        rows, columns = self.patches.grid((self.overview.pixels, self.overview.pixels))
        return rows * columns

    def estimate(self, beam_current_pA: float | None = None) -> Estimate:
        """Points, time and dose if all goes well."""
        points = min(self.budget.points, self.candidates())
        look_s = self.drift.scan(self.overview).time_s / self.drift.every if self.drift else 0.0
        per_point = self.spectrum.exposure_s + self.spectrum.settle_s + POINT_OVERHEAD_S + look_s
        beam_s = self.align.exposed_s(points) if self.align else 0.0
        time_s = self.overview.time_s + beam_s + points * per_point
        if self.budget.time_s is not None and time_s > self.budget.time_s:
            points = max(0, math.floor((self.budget.time_s - self.overview.time_s - beam_s) / per_point))
            time_s = self.budget.time_s
        exposed_s = self.overview.time_s + beam_s + points * (self.spectrum.exposure_s + look_s)
        dose = None if beam_current_pA is None else exposed_s * beam_current_pA * ELECTRONS_PER_PICOAMPERE_SECOND
        return Estimate(self.candidates(), points, time_s, dose)

    def to_json(self) -> str:
        """The plan as JSON text."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read a plan.

        Raises:
            PlanError: it is too large, is not JSON, or a field is wrong; the message names each.
        """
        return _plan(parse_json(text, "The plan"), "The plan")

    @classmethod
    def read(cls, path: str | pathlib.Path) -> Plan:
        """Read a plan's file.

        Raises:
            PlanError: the file cannot be read or used.
        """
        return _plan(read_json(path, "The plan"), f"The plan {shown(path)}")


def _plan(document: Any, what: str) -> Plan:
    try:
        return Plan.model_validate(document)
    except ValidationError as error:
        raise PlanError(f"{what} cannot be used:\n{explain(error)}") from error


def require_second(agent: AgentSpec, second: Scalarizer | None) -> None:
    """Refuse an agent that trades two values against each other where only one is scored.

    Raises:
        ValueError: what to do.
    """
    compromise = isinstance(agent, DeepKernelAgent) and isinstance(agent.acquisition, ExpectedHypervolumeImprovement)
    if compromise and second is None:
        raise ValueError(
            "expected-hypervolume-improvement seeks compromises between two values; give the second scalarizer too"
        )


M = TypeVar("M", bound=Model)


def checked(model: type[M], **values: Any) -> M:
    """A part of a plan, made of values that came from a person.

    Raises:
        PlanError: it makes no sense; the message names each field.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise PlanError(explain(error).strip()) from error
