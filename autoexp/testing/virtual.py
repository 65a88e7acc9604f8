"""The virtual microscope straight behind the instrument's protocols, without Swift in between: quick, for tests."""

from __future__ import annotations

import math
import threading

import numpy as np

from autoexp.errors import AbortedError, InstrumentError
from autoexp.instrument import CameraFrame, EnergyCalibration, FrameOfReference, Identity, Overview, Position, Spectrum
from autoexp.plan import FrameSpec, OverviewSpec, SpectrumSpec
from virtual_stem.microscope import ScanGeometry, VirtualMicroscope


class DirectInstrument:
    """A virtual microscope as an :class:`autoexp.instrument.Instrument`.

    Args:
        microscope: the physics; its time scale shortens exposures.
        key: under which it is locked.
        rows: rows of the camera; a spectrum is their sum.
    """

    def __init__(self, microscope: VirtualMicroscope, key: str = "direct", rows: int = 16):
        self.microscope = microscope
        self.identity = Identity(key, "Virtual STEM", simulated=True, scan="scan", camera="camera")
        self._rows = rows
        self._geometry: ScanGeometry | None = None
        self._frames = 0
        self._cut = threading.Event()
        self.probe: Position | None = None
        self._found: Position | None = None

    @property
    def beam_current_pA(self) -> float:
        """Beam current at the specimen."""
        return self.microscope.beam_current_pA

    def open(self) -> None:
        """Remember where the probe is."""
        self._cut.clear()
        self._found = self.probe

    def close(self) -> list[str]:
        """Put the probe back."""
        self.probe = self._found
        return []

    def check(self) -> None:
        """There is nobody else."""

    def abort(self) -> None:
        """End the exposure in flight."""
        self._cut.set()

    def bind(self, spec: OverviewSpec) -> None:
        """Set the field."""
        fov = spec.fov_nm, spec.fov_nm
        self._geometry = ScanGeometry(fov, spec.center_nm, math.radians(spec.rotation_deg))

    def overview(self, spec: OverviewSpec) -> Overview:
        """Scan a frame; the wait for it is left out."""
        self.bind(spec)
        assert self._geometry is not None
        image = self.microscope.scan(self._geometry, (spec.pixels, spec.pixels), spec.dwell_us * 1e-6)
        frame = FrameOfReference((spec.fov_nm, spec.fov_nm), spec.center_nm, math.radians(spec.rotation_deg))
        return Overview(image, frame, {"simulated": True})

    def spectrum(self, position: Position, spec: SpectrumSpec) -> Spectrum:
        """Park, expose, sum the rows."""
        self.park(position)
        assert self._geometry is not None
        if self._cut.wait(spec.exposure_s / self.microscope.time_scale):
            raise AbortedError("The exposure was cut short.")
        axis = self.microscope.specimen.axis
        frame = self.microscope.spectrum_frame(
            self._geometry.to_stage(position), spec.exposure_s, (self._rows, axis.channels)
        )
        self._frames += 1
        return Spectrum(
            frame.sum(axis=0),
            EnergyCalibration(self.microscope.energy_offset_eV, axis.dispersion_eV),
            frame_number=self._frames,
            counts_per_electron=self.microscope.eels.counts_per_electron,
        )

    def park(self, position: Position) -> None:
        """Send the probe to a place."""
        if self._geometry is None:
            raise InstrumentError("Take an overview first: positions have no meaning yet.")
        self.probe = position
        self.microscope.park(self._geometry.to_stage(position))

    def camera_frame(self, spec: FrameSpec) -> CameraFrame:
        """The bright-field disk."""
        if self._cut.wait(spec.exposure_s / self.microscope.time_scale):
            raise AbortedError("The exposure was cut short.")
        side = 2048 // spec.binning
        image = self.microscope.disk_frame(spec.exposure_s, (side, side))
        return CameraFrame(image, self.microscope.optics.camera_rad * 1e3 / side)

    def get(self, name: str) -> float:
        """The value of a control."""
        if name not in self.microscope.controls:
            raise InstrumentError(f"The instrument has no control {name!r}.")
        return self.microscope.controls[name]

    def set(self, name: str, value: float) -> None:
        """Set a control."""
        self.get(name)
        self.microscope.set_control(name, value)


def spectrum_like(spectrum: Spectrum, counts: np.ndarray) -> Spectrum:
    """The same spectrum with other counts."""
    return Spectrum(
        counts, spectrum.energy, spectrum.frame_number, spectrum.counts_per_electron, dict(spectrum.metadata)
    )
