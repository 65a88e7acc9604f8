"""The vocabulary of a run. Everything that happened, was decided or was asked for is one of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from autoexp.agent import Evidence
from autoexp.instrument import EnergyCalibration, FrameOfReference
from autoexp.plan import Acquisition, AgentSpec, AlignmentSpec, Budget, Fraction, Plan, Region
from autoexp.scalarizers import Scalarizer
from autoexp.text import clean, clean_tree

FORMAT_VERSION = 3
"""Of journals. 2 pays for every exposure before it begins (``exposure-begun``). 3 says what an image took that was
exposed for longer than was asked for (``exposure-settled``), and tells the energies of each spectrum. Those before are
read as ever."""

Phase = Literal["idle", "preparing", "running", "paused", "suspended", "finishing", "faulted"]
Verb = Literal["start", "pause", "resume", "set-back", "stop", "abort", "halt"]
Ending = Literal["completed", "stopped", "aborted", "halted", "faulted", "discarded"]


def _as_clean(value: Any) -> Any:
    return clean(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_as_clean)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Electrons = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0, le=1 << 48)]
Shift = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Tree = Annotated[dict[str, Any], BeforeValidator(clean_tree)]
Place = tuple[Fraction, Fraction]


class _Event(BaseModel):
    # NaN and infinity are part of what instruments and agents say; JSON carries them as strings.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", defer_build=True)


class ArrayRef(_Event):
    """An array in the run's folder: file name and checksum of its bytes."""

    file: Text
    crc32: Number


class RecordRef(_Event):
    """One record of a stream of equal records: its number and the checksum of its bytes."""

    index: Number
    crc32: Number


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
    id: Text


class MeasureHere(_Event):
    """Measure at this position next, whatever the agent thinks."""

    kind: Literal["measure-here"] = "measure-here"
    id: Text
    position: Place


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
    run_id: Text
    plan: Plan
    software: dict[Text, Text]
    instrument: Tree


class Snapshot(_Event):
    """The controls as they were found."""

    type: Literal["snapshot"] = "snapshot"
    controls: dict[Text, Finite]


class ExposureBegun(_Event):
    """An image of the specimen or of the beam is about to be taken: from here on its dose is on the account.

    What comes of it (``prepared``, ``drifted``, ``looked``) settles what it really took. If nothing came, or the run
    was cut off, it stays paid for. ``lost`` are exposures of which only events behind a damaged line tell.

    Attributes:
        what: which kind of exposure.
        exposure_s: how long it is to last.
        dose_e: electrons that it is to put into the specimen; 0 where the beam current is not known.
        stood_s: how long the beam had stood on the specimen since the exposure before.
    """

    type: Literal["exposure-begun"] = "exposure-begun"
    what: Literal["overview", "drift", "frame", "lost"]
    exposure_s: Seconds
    dose_e: Electrons
    stood_s: Seconds = 0.0


class ExposureSettled(_Event):
    """An image took longer than was asked for, as the device tells, whether or not it can be used.

    Attributes:
        what: which kind of exposure.
        exposure_s: how long it took.
        dose_e: electrons that it has put into the specimen, in the place of those that were paid for beforehand.
    """

    type: Literal["exposure-settled"] = "exposure-settled"
    what: Literal["overview", "drift", "frame"]
    exposure_s: Seconds
    dose_e: Electrons


class Prepared(_Event):
    """The overview is taken and cut into candidates."""

    type: Literal["prepared"] = "prepared"
    overview: ArrayRef
    shape: tuple[Number, Number]
    fov_nm: tuple[Finite, Finite] | None
    center_nm: tuple[Finite, Finite] = (0.0, 0.0)
    rotation_rad: Finite = 0.0
    candidates: Number
    dose_e: Electrons
    metadata: Tree = Field(default_factory=dict)

    def to_nm(self, position: tuple[float, float]) -> tuple[float, float] | None:
        """Distance (y, x) in nm of a fractional position from the field's corner; None where nothing is calibrated."""
        return FrameOfReference(self.fov_nm).to_nm(position) if self.fov_nm else None


class SpectraOpened(_Event):
    """The stream of spectra: how long each is, and the energy of its channels."""

    type: Literal["spectra-opened"] = "spectra-opened"
    file: Text
    channels: int = Field(ge=1, le=1 << 24)
    offset: Finite
    scale: Finite
    units: Text
    counts_per_electron: Finite | None

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
    id: Number
    candidate: Number | None
    position: Place
    reason: Text
    agent: Text
    mean: float | None = None
    std: float | None = None
    acquisition: float | None = None
    request: Text | None = None
    known: Number = 0
    pending: tuple[Number, ...] = ()
    decision_s: float = 0.0


class Exposing(_Event):
    """The shutter is about to open; from here on the specimen may have taken the dose, so it is on the account.

    The probe is at the decided position moved by ``shift``, fractions of the field: how far the specimen has drifted.
    ``stood_s`` is how long the beam had stood on the specimen since the exposure before.
    """

    type: Literal["exposing"] = "exposing"
    id: Number
    exposure_s: Seconds
    shift: tuple[Shift, Shift] = (0.0, 0.0)
    dose_e: Electrons = 0.0
    stood_s: Seconds = 0.0


class ZeroLossPeak(_Event):
    """Where the zero-loss peak of a spectrum is on its own calibration, and its width at half its height, eV."""

    position_eV: Finite
    width_eV: Finite


class Measured(_Event):
    """A spectrum has been taken, saved and scored.

    Its energies are those of the stream, with ``shift_eV`` added: the camera's calibration at that time, measured from
    the ``zero_loss`` peak where the plan says so.
    """

    type: Literal["measured"] = "measured"
    id: Number
    record: RecordRef
    value: float
    noise: float
    second: float | None = None
    second_noise: float = 0.0
    dose_e: Electrons
    waited_s: float = 0.0
    shift_eV: Finite = 0.0
    zero_loss: ZeroLossPeak | None = None


class Failed(_Event):
    """Nothing usable came; whatever came is saved."""

    type: Literal["failed"] = "failed"
    id: Number
    fault: Text
    message: Text
    record: RecordRef | None = None
    dose_e: Electrons = 0.0


class Skipped(_Event):
    """A decision was not carried out; or, if ``exposed``, nobody knows what came of it."""

    type: Literal["skipped"] = "skipped"
    id: Number
    reason: Text
    exposed: bool = False
    dose_e: Electrons = 0.0


class Steered(_Event):
    """The operator asked for something; refused with a reason, or in force from here on."""

    type: Literal["steered"] = "steered"
    command: Steering
    refused: Text | None = None


class Commanded(_Event):
    """A verb was given; refused with a reason, or obeyed."""

    type: Literal["commanded"] = "commanded"
    verb: Verb
    refused: Text | None = None


class Rescored(_Event):
    """New values of all measured points, by id, after the scalarizer changed; by a version that writes ``format``."""

    type: Literal["rescored"] = "rescored"
    format: int = 2
    values: dict[Number, float]
    noises: dict[Number, float]
    seconds: dict[Number, float] = Field(default_factory=dict)
    second_noises: dict[Number, float] = Field(default_factory=dict)


class PhaseChanged(_Event):
    """The engine entered another phase.

    ``remedy`` is a verb that would end the reason for which it waits, where there is one beside resuming.
    """

    type: Literal["phase"] = "phase"
    phase: Phase
    reason: Text = ""
    remedy: Verb | None = None


class Predicted(_Event):
    """A model's prediction of the whole field was saved: one array, mean and standard deviation stacked.

    ``density`` and ``shares`` are what :class:`autoexp.agent.Evidence` holds.
    """

    type: Literal["predicted"] = "predicted"
    after: Number
    array: ArrayRef
    coverage: float | None = None
    density: dict[Text, float] = Field(default_factory=dict)
    shares: dict[Text, float] = Field(default_factory=dict)

    @property
    def evidence(self) -> Evidence | None:
        """What the model was known to rest on, if anything was."""
        return Evidence(self.density, self.shares) if self.density else None


class Warned(_Event):
    """Something that the operator should know and that did not stop the run."""

    type: Literal["warned"] = "warned"
    message: Text


class Drifted(_Event):
    """A look at the whole field showed how far the specimen has moved since the overview.

    ``shift`` is (y, x) in fractions of the field; where it is not ``certain``, it is not used.
    """

    type: Literal["drifted"] = "drifted"
    shift: tuple[Shift, Shift]
    significance: float
    certain: bool
    since_s: Finite
    exposures: Number
    dose_e: Electrons


class AlignmentBegun(_Event):
    """The beam is about to be aligned, and why; without a ``spec``, controls are moved by hand or put back."""

    type: Literal["alignment-begun"] = "alignment-begun"
    spec: AlignmentSpec | None
    reason: Text
    instrument: Tree = Field(default_factory=dict)


class Moving(_Event):
    """A control is about to be moved; written down before it is."""

    type: Literal["moving"] = "moving"
    name: Text
    before: float
    value: Finite


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
    dose_e: Electrons = 0.0


class Aligned(_Event):
    """An alignment has ended, well or not; what was learned of how the controls move the disk."""

    type: Literal["aligned"] = "aligned"
    success: bool
    reason: Text
    frames: Number
    rotation_deg: float | None = None
    px_per_unit: float | None = None
    mirrored: bool | None = None


class Restored(_Event):
    """The instrument was put back; what could not be is listed.

    ``stood_s`` is how long the beam had stood on the specimen since the last exposure.
    """

    type: Literal["restored"] = "restored"
    problems: list[Text]
    stood_s: Seconds = 0.0


class Finished(_Event):
    """The run is over."""

    type: Literal["finished"] = "finished"
    ending: Ending
    reason: Text


Event = Annotated[
    Started
    | Snapshot
    | ExposureBegun
    | ExposureSettled
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

    seq: Number
    utc: Text
    elapsed_s: Seconds
    event: Event
