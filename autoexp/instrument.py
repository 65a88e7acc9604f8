"""The border to hardware: what a microscope must be able to do, as small protocols, and what it hands back.

Positions are (y, x), fractional in the overview, 0..1, as in Swift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from autoexp.foreign import finite_number
from autoexp.plan import FrameSpec, OverviewSpec, SpectrumSpec

Position = tuple[float, float]


@dataclass(frozen=True)
class Identity:
    """Which instrument this is.

    Attributes:
        key: stable name, under which it is locked and its limits are found.
        name: name for people.
        simulated: whether it is a simulation; shown wherever its data are.
        scan: the scan device.
        camera: the spectrometer's camera.
    """

    key: str
    name: str
    simulated: bool
    scan: str = ""
    camera: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain form, for the run log."""
        return {k: getattr(self, k) for k in ("key", "name", "simulated", "scan", "camera")}


@dataclass(frozen=True)
class FrameOfReference:
    """Where an overview lies on the specimen.

    Attributes:
        fov_nm: (height, width) of the field.
        center_nm: (y, x) of its centre, in scan coordinates.
        rotation_rad: scan rotation.
    """

    fov_nm: tuple[float, float]
    center_nm: tuple[float, float] = (0.0, 0.0)
    rotation_rad: float = 0.0

    def to_nm(self, position: Position) -> tuple[float, float]:
        """Distance (y, x) in nm of a fractional position from the field's top left corner."""
        return position[0] * self.fov_nm[0], position[1] * self.fov_nm[1]


@dataclass(frozen=True)
class Overview:
    """The image in which positions are chosen.

    Attributes:
        image: (h, w) float32, counts.
        frame: where it lies; None where nothing is calibrated, as with a bare array.
        metadata: whatever the instrument tells about it.
    """

    image: npt.NDArray[np.float32]
    frame: FrameOfReference | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exposed_s(self) -> float | None:
        """How long the specimen was scanned, as the instrument tells; None where it does not."""
        return told_exposure_s(self.metadata)


@dataclass(frozen=True)
class EnergyCalibration:
    """Energy of channel i is ``offset + scale * i``, in ``units``."""

    offset: float
    scale: float
    units: str = "eV"

    def axis(self, channels: int) -> npt.NDArray[np.float64]:
        """Channel energies (channels,)."""
        return self.offset + self.scale * np.arange(channels, dtype=np.float64)


@dataclass(frozen=True)
class Spectrum:
    """One spectrum.

    Attributes:
        counts: (E,) float32, as the camera gave them.
        energy: calibration of the channels.
        frame_number: the camera's own number, where it has one; must grow.
        counts_per_electron: gain of the camera, where it is known.
        metadata: whatever the instrument tells about it.
    """

    counts: npt.NDArray[np.float32]
    energy: EnergyCalibration
    frame_number: int | None = None
    counts_per_electron: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exposed_s(self) -> float | None:
        """How long the camera has exposed, as it tells; None where it does not."""
        return told_exposure_s(self.metadata)


@dataclass(frozen=True)
class CameraFrame:
    """A frame of the camera on which the bright-field disk is seen.

    Attributes:
        image: (h, w), counts.
        mrad_per_px: width of a pixel; None where the camera does not say.
        exposed_s: how long it has exposed, as it tells; None where it does not.
    """

    image: npt.NDArray[np.float32]
    mrad_per_px: float | None = None
    exposed_s: float | None = None


def told_exposure_s(metadata: Any) -> float | None:
    """The exposure that Swift's metadata tell (``hardware_source.exposure``, s); None where they tell none."""
    source = metadata.get("hardware_source") if isinstance(metadata, Mapping) else None
    return told_seconds(source.get("exposure") if isinstance(source, Mapping) else None)


def told_seconds(told: object) -> float | None:
    """A time that an instrument tells, s; None where that is no finite number of at least 0."""
    seconds = finite_number(told)
    return seconds if seconds is not None and seconds >= 0 else None


@runtime_checkable
class Scanner(Protocol):
    """Takes images."""

    def overview(self, spec: OverviewSpec) -> Overview:
        """Scan a frame, and bind fractional positions to the field that it shows."""
        ...

    def bind(self, spec: OverviewSpec) -> None:
        """Bind fractional positions to the field of an earlier overview, without a new exposure."""
        ...


@runtime_checkable
class Spectrometer(Protocol):
    """Takes spectra at points."""

    def spectrum(self, position: Position, spec: SpectrumSpec) -> Spectrum:
        """Park the probe, wait until it has settled, expose, read.

        Raises:
            InstrumentError: there is no usable frame; the subclass says why.
        """
        ...


@runtime_checkable
class Camera(Protocol):
    """Takes frames of the bright-field disk."""

    def camera_frame(self, spec: FrameSpec) -> CameraFrame:
        """A new frame, exposed after everything that was commanded before.

        Raises:
            InstrumentError: there is no such camera, or no usable frame.
        """
        ...


@runtime_checkable
class Controls(Protocol):
    """Sets and reads what can be set by name, in the instrument's own units."""

    def get(self, name: str) -> float:
        """The value of a control.

        Raises:
            InstrumentError: there is no such control.
        """
        ...

    def set(self, name: str, value: float) -> None:
        """Ask for a new value; the guardian confirms it by reading back.

        Raises:
            InstrumentError: the instrument refuses.
        """
        ...


@runtime_checkable
class Parker(Protocol):
    """An instrument whose probe can be sent to a place without an exposure; it need not."""

    def park(self, position: Position) -> None:
        """Park the probe at a place (y, x), fractions of the overview.

        Raises:
            InstrumentError: it is not where it was sent.
        """
        ...


@runtime_checkable
class PlanChecker(Protocol):
    """An instrument that knows beforehand what it cannot do; it need not."""

    def check_plan(self, overview: OverviewSpec, spectrum: SpectrumSpec) -> None:
        """Refuse what cannot be set, before anything moves.

        Raises:
            PlanError: what there is instead.
        """
        ...


@runtime_checkable
class Instrument(Scanner, Spectrometer, Controls, Protocol):
    """A microscope that the engine can use."""

    @property
    def identity(self) -> Identity:
        """Which instrument this is."""
        ...

    def open(self) -> None:
        """Take over: remember the state of probe, scan and camera, stop what is playing."""
        ...

    def check(self) -> None:
        """Make sure that a spectrum can be taken now.

        Raises:
            DisconnectedError: a device is gone.
            FieldChangedError: the scanned field is not the overview's any more.
            InstrumentBusyError: somebody else has started to acquire.
        """
        ...

    def abort(self) -> None:
        """End the exposure in flight at once. Callable from any thread, also when nothing is in flight."""
        ...

    def close(self) -> list[str]:
        """Put everything back as it was at :meth:`open`; returns what could not be put back, never raises."""
        ...
