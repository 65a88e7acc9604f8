"""The vocabulary of a run. Everything that happened, was decided or was asked for is one of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from autoexp.agent import Evidence
from autoexp.instrument import EnergyCalibration, FrameOfReference
from autoexp.plan import Acquisition, AgentSpec, AlignmentSpec, Budget, Fraction, Plan, Region
from autoexp.scalarizers import Scalarizer

FORMAT_VERSION = 1

Phase = Literal["idle", "preparing", "running", "paused", "suspended", "finishing", "faulted"]
Verb = Literal["start", "pause", "resume", "stop", "abort", "halt"]
Ending = Literal["completed", "stopped", "aborted", "halted", "faulted", "discarded"]


class _Event(BaseModel):
    # NaN and infinity are part of what instruments and agents say; JSON carries them as strings.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", defer_build=True)


class ArrayRef(_Event):
    """An array in the run's folder: file name and checksum of its bytes."""

    file: str
    crc32: int


class RecordRef(_Event):
    """One record of a stream of equal records: its number and the checksum of its bytes."""

    index: int = Field(ge=0)
    crc32: int


# --- what the operator may ask for while it runs


class SetScalarizer(_Event):
    """Look for something else; what was measured is scored anew."""

    kind: Literal["set-scalarizer"] = "set-scalarizer"
    scalarizer: Scalarizer


class SetSecond(_Event):
    """Score something else beside, or nothing more; what was measured is scored anew.

    An agent that trades two values needs the second, so both can change in one step, and one undo takes both back.
    """

    kind: Literal["set-second"] = "set-second"
    scalarizer: Scalarizer | None
    agent: AgentSpec | None = None


class SetAgent(_Event):
    """Let another agent decide."""

    kind: Literal["set-agent"] = "set-agent"
    agent: AgentSpec


class SetAcquisition(_Event):
    """Change the acquisition function of the present agent."""

    kind: Literal["set-acquisition"] = "set-acquisition"
    acquisition: Acquisition


class SetBudget(_Event):
    """Change when to stop."""

    kind: Literal["set-budget"] = "set-budget"
    budget: Budget


class AddRegion(_Event):
    """Measure only here, or not here; replaces a region of the same id."""

    kind: Literal["add-region"] = "add-region"
    region: Region


class RemoveRegion(_Event):
    """Forget a region."""

    kind: Literal["remove-region"] = "remove-region"
    id: str


class MeasureHere(_Event):
    """Measure at this position next, whatever the agent thinks."""

    kind: Literal["measure-here"] = "measure-here"
    id: str
    position: tuple[Fraction, Fraction]


class Undo(_Event):
    """Take back the last steering command that has not been taken back."""

    kind: Literal["undo"] = "undo"


Steering = Annotated[
    SetScalarizer | SetSecond | SetAgent | SetAcquisition | SetBudget | AddRegion | RemoveRegion | MeasureHere | Undo,
    Field(discriminator="kind"),
]


# --- what happened


class Started(_Event):
    """The run begins: what was planned, with which software, on which instrument."""

    type: Literal["started"] = "started"
    format: int = FORMAT_VERSION
    run_id: str
    plan: Plan
    software: dict[str, str]
    instrument: dict[str, Any]


class Snapshot(_Event):
    """The controls as they were found."""

    type: Literal["snapshot"] = "snapshot"
    controls: dict[str, float]


class Prepared(_Event):
    """The overview is taken and cut into candidates."""

    type: Literal["prepared"] = "prepared"
    overview: ArrayRef
    shape: tuple[int, int]
    fov_nm: tuple[float, float] | None
    center_nm: tuple[float, float] = (0.0, 0.0)
    rotation_rad: float = 0.0
    candidates: int
    dose_e: float
    metadata: dict[str, Any] = Field(default_factory=dict)

    def to_nm(self, position: tuple[float, float]) -> tuple[float, float] | None:
        """Distance (y, x) in nm of a fractional position from the field's corner; None where nothing is calibrated."""
        return FrameOfReference(self.fov_nm).to_nm(position) if self.fov_nm else None


class SpectraOpened(_Event):
    """The stream of spectra: how long each is, and the energy of its channels."""

    type: Literal["spectra-opened"] = "spectra-opened"
    file: str
    channels: int = Field(ge=1)
    offset: float
    scale: float
    units: str
    counts_per_electron: float | None

    @property
    def energy(self) -> npt.NDArray[np.float64]:
        """Energies of the channels (E,), in ``units``."""
        return EnergyCalibration(self.offset, self.scale, self.units).axis(self.channels)


class Decided(_Event):
    """A position was chosen, by whom and why, and on what knowledge.

    ``known`` outcomes (the first so many, by id) and the ``pending`` ids are what the agent had when it decided; with
    them a decision can be reproduced.
    """

    type: Literal["decided"] = "decided"
    id: int
    candidate: int | None
    position: tuple[float, float]
    reason: str
    agent: str
    mean: float | None = None
    std: float | None = None
    acquisition: float | None = None
    request: str | None = None
    known: int = 0
    pending: tuple[int, ...] = ()
    decision_s: float = 0.0


class Exposing(_Event):
    """The shutter is about to open; from here on the specimen may have taken the dose.

    The probe is at the decided position moved by ``shift``, fractions of the field: how far the specimen has drifted.
    """

    type: Literal["exposing"] = "exposing"
    id: int
    exposure_s: float
    shift: tuple[float, float] = (0.0, 0.0)


class Measured(_Event):
    """A spectrum has been taken, saved and scored."""

    type: Literal["measured"] = "measured"
    id: int
    record: RecordRef
    value: float
    noise: float
    second: float | None = None
    second_noise: float = 0.0
    dose_e: float
    waited_s: float = 0.0


class Failed(_Event):
    """Nothing usable came; whatever came is saved."""

    type: Literal["failed"] = "failed"
    id: int
    fault: str
    message: str
    record: RecordRef | None = None
    dose_e: float = 0.0


class Skipped(_Event):
    """A decision was not carried out; or, if ``exposed``, nobody knows what came of it."""

    type: Literal["skipped"] = "skipped"
    id: int
    reason: str
    exposed: bool = False
    dose_e: float = 0.0


class Steered(_Event):
    """The operator asked for something; refused with a reason, or in force from here on."""

    type: Literal["steered"] = "steered"
    command: Steering
    refused: str | None = None


class Commanded(_Event):
    """A verb was given; refused with a reason, or obeyed."""

    type: Literal["commanded"] = "commanded"
    verb: Verb
    refused: str | None = None


class Rescored(_Event):
    """New values of all measured points, by id, after the scalarizer changed."""

    type: Literal["rescored"] = "rescored"
    values: dict[int, float]
    noises: dict[int, float]
    seconds: dict[int, float] = Field(default_factory=dict)
    second_noises: dict[int, float] = Field(default_factory=dict)


class PhaseChanged(_Event):
    """The engine entered another phase."""

    type: Literal["phase"] = "phase"
    phase: Phase
    reason: str = ""


class Predicted(_Event):
    """A model's prediction of the whole field was saved: one array, mean and standard deviation stacked.

    ``density`` and ``shares`` are what :class:`autoexp.agent.Evidence` holds.
    """

    type: Literal["predicted"] = "predicted"
    after: int
    array: ArrayRef
    coverage: float | None = None
    density: dict[str, float] = Field(default_factory=dict)
    shares: dict[str, float] = Field(default_factory=dict)

    @property
    def evidence(self) -> Evidence | None:
        """What the model was known to rest on, if anything was."""
        return Evidence(self.density, self.shares) if self.density else None


class Warned(_Event):
    """Something that the operator should know and that did not stop the run."""

    type: Literal["warned"] = "warned"
    message: str


class Drifted(_Event):
    """A look at the whole field showed how far the specimen has moved since the overview.

    ``shift`` is (y, x) in fractions of the field; where it is not ``certain``, it is not used.
    """

    type: Literal["drifted"] = "drifted"
    shift: tuple[float, float]
    significance: float
    certain: bool
    since_s: float
    exposures: int
    dose_e: float


class AlignmentBegun(_Event):
    """The beam is about to be aligned, and why; without a ``spec``, controls are moved by hand or put back."""

    type: Literal["alignment-begun"] = "alignment-begun"
    spec: AlignmentSpec | None
    reason: str
    instrument: dict[str, Any] = Field(default_factory=dict)


class Moving(_Event):
    """A control is about to be moved; written down before it is."""

    type: Literal["moving"] = "moving"
    name: str
    before: float
    value: float


class Looked(_Event):
    """A frame of the camera on which the disk is seen: where it was, and with which values of the two controls.

    ``center`` is (y, x) in pixels of the frame; None, as the distances from the goal, where there was no disk.
    """

    type: Literal["looked"] = "looked"
    values: tuple[float, float]
    center: tuple[float, float] | None
    residual_px: float | None
    residual_mrad: float | None
    aligned: bool
    dose_e: float = 0.0


class Aligned(_Event):
    """An alignment has ended, well or not; what was learned of how the controls move the disk."""

    type: Literal["aligned"] = "aligned"
    success: bool
    reason: str
    frames: int
    rotation_deg: float | None = None
    px_per_unit: float | None = None
    mirrored: bool | None = None


class Restored(_Event):
    """The instrument was put back; what could not be is listed."""

    type: Literal["restored"] = "restored"
    problems: list[str]


class Finished(_Event):
    """The run is over."""

    type: Literal["finished"] = "finished"
    ending: Ending
    reason: str


Event = Annotated[
    Started
    | Snapshot
    | Prepared
    | SpectraOpened
    | Decided
    | Exposing
    | Measured
    | Failed
    | Skipped
    | Steered
    | Commanded
    | Rescored
    | PhaseChanged
    | Predicted
    | Warned
    | Drifted
    | AlignmentBegun
    | Moving
    | Looked
    | Aligned
    | Restored
    | Finished,
    Field(discriminator="type"),
]


class Record(_Event):
    """An event with its place in the run.

    Attributes:
        seq: number of the event, from 0.
        utc: wall-clock time with offset, for people.
        elapsed_s: monotonic seconds since the run was opened, for durations.
    """

    seq: int = Field(ge=0)
    utc: str
    elapsed_s: float
    event: Event
