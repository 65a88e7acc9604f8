"""The virtual microscope: a beam, a specimen that drifts and takes dose, detectors, and a bright-field disk."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from virtual_stem.detector import AnnularDetector, CountingDetector, electrons
from virtual_stem.specimen import Array, Specimen
from virtual_stem.stage import DoseMap, Drift

Counts = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ScanGeometry:
    """How fractional positions in a scan lie on the stage.

    Attributes:
        fov_nm: (height, width) of the scanned field.
        center_nm: (y, x) of its centre in scan coordinates.
        rotation_rad: scan rotation about the centre of the field, in the sense of Swift's FloatPoint.rotate.
    """

    fov_nm: tuple[float, float]
    center_nm: tuple[float, float] = (0.0, 0.0)
    rotation_rad: float = 0.0

    def to_stage(self, fractions: npt.ArrayLike) -> Array:
        """Positions in nm of fractional positions (..., 2) in 0..1, both (y, x)."""
        offset = (np.asarray(fractions, dtype=float) - 0.5) * np.asarray(self.fov_nm)
        c, s = np.cos(self.rotation_rad), np.sin(self.rotation_rad)
        return offset @ np.array([[c, -s], [s, c]]) + np.asarray(self.center_nm)

    def pixel_centres(self, shape: tuple[int, int]) -> Array:
        """Stage positions (h, w, 2) in nm of the pixels of a scan."""
        y, x = ((np.arange(n) + 0.5) / n for n in shape)
        return self.to_stage(np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1))


@dataclass(frozen=True)
class Optics:
    """What an instrument has but nobody tells: how deflectors move the bright-field disk on the camera.

    Attributes:
        deflector_to_rad: (2, 2) response of the disk's angle (y, x) to the deflector (y, x), rad per unit.
        disk_rad: radius of the bright-field disk (the convergence semi-angle).
        misalignment_rad: (y, x) where the disk lies with the deflectors at zero.
        camera_rad: full width of the camera in angle.
    """

    deflector_to_rad: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    disk_rad: float = 0.030
    misalignment_rad: tuple[float, float] = (0.0, 0.0)
    camera_rad: float = 0.200


@dataclass
class Settings:
    """The controls of the instrument, by the names that Swift uses for them; SI units as there."""

    values: dict[str, float] = field(
        default_factory=lambda: {
            "EHT": 100_000.0,
            "BeamCurrent": 50e-12,
            "C10": 0.0,
            "ConvergenceAngle": 0.030,
            "ZLPtare": 0.0,
            "CAperture.x": 0.0,
            "CAperture.y": 0.0,
            "BeamShift.x": 0.0,
            "BeamShift.y": 0.0,
            "stage_position_m.x": 0.0,
            "stage_position_m.y": 0.0,
            "C_Blank": 0.0,
        }
    )


class VirtualMicroscope:
    """Everything that happens between a command and a frame, with no knowledge of who commands it.

    Time runs ``time_scale`` times faster than the clock on the wall, so that a long experiment can be rehearsed in a
    short one: an exposure of 50 ms still collects the electrons of 50 ms.

    Args:
        specimen: what is in the column.
        seed: noise and drift are functions of it.
        drift: how the specimen moves.
        eels: the spectrometer's camera.
        haadf: the annular detector.
        optics: the hidden alignment of the instrument.
        probe_nm: standard deviation of the probe.
        time_scale: simulated seconds per second.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        specimen: Specimen,
        *,
        seed: int = 0,
        drift: Drift | None = None,
        eels: CountingDetector | None = None,
        haadf: AnnularDetector | None = None,
        optics: Optics | None = None,
        probe_nm: float = 0.5,
        time_scale: float = 1.0,
        clock: object = time.monotonic,
    ):
        self.specimen = specimen
        self.drift = drift or Drift(seed=seed)
        self.eels = eels or CountingDetector()
        self.haadf = haadf or AnnularDetector()
        self.optics = optics or Optics()
        self.probe_nm = probe_nm
        self.time_scale = time_scale
        self.controls = Settings().values
        self.dose = DoseMap(specimen.size_nm, probe_nm=probe_nm)
        self._clock = clock
        self._start = self._now()
        self._rng = np.random.default_rng([seed, 3])
        self._lock = threading.Lock()

    def _now(self) -> float:
        return float(self._clock())  # type: ignore[operator]

    @property
    def time_s(self) -> float:
        """Simulated seconds since the microscope was made."""
        return (self._now() - self._start) * self.time_scale

    @property
    def beam_current_pA(self) -> float:
        """Beam current at the specimen, zero while blanked."""
        return 0.0 if self.controls["C_Blank"] else self.controls["BeamCurrent"] * 1e12

    @property
    def energy_offset_eV(self) -> float:
        """Energy of the first channel."""
        return self.specimen.axis.offset_eV + self.controls["ZLPtare"]

    def to_specimen(self, stage_nm: Array) -> Array:
        """Specimen coordinates of stage positions (..., 2) now: drift, stage and beam shift taken into account."""
        c = self.controls
        stage = np.array([c["stage_position_m.y"], c["stage_position_m.x"]]) * 1e9
        shift = np.array([c["BeamShift.y"], c["BeamShift.x"]]) * 1e9
        return stage_nm - stage - self.drift.offset_nm(self.time_s) + shift

    def scan(self, geometry: ScanGeometry, shape: tuple[int, int], dwell_s: float) -> Counts:
        """A HAADF frame (h, w) in counts; the specimen takes its dose."""
        with self._lock:
            points = self.to_specimen(geometry.pixel_centres(shape))
            per_pixel = electrons(self.beam_current_pA, dwell_s)
            fraction = self.specimen.haadf(points)
            pixel_nm = np.asarray(geometry.fov_nm) / shape
            fraction = ndimage.gaussian_filter(fraction, self.probe_nm / pixel_nm, mode="nearest")
            self.dose.add_area(points, per_pixel / float(np.prod(pixel_nm)))
            return self.haadf.expose(fraction * per_pixel, self._rng)

    def mean_spectrum(self, stage_nm: Array, energy_eV: Array) -> Array:
        """Noise-free spectrum at a stage position (2,) as the specimen is now; electrons per electron and eV."""
        point = self.to_specimen(np.asarray(stage_nm, dtype=float))[None]
        return self.specimen.spectra(point, energy_eV, self.dose.at(point))[0]

    def spectrum_frame(self, stage_nm: Array, exposure_s: float, shape: tuple[int, int]) -> Counts:
        """A spectrometer camera frame (rows, channels) in counts; the specimen takes its dose.

        The beam lights a band of one sixteenth of the rows, evenly; the rest holds read noise alone.
        """
        with self._lock:
            rows, channels = shape
            axis = self.specimen.axis
            dispersion = axis.dispersion_eV * axis.channels / channels
            energy = self.energy_offset_eV + dispersion * np.arange(channels)
            total = electrons(self.beam_current_pA, exposure_s)
            mean = self.mean_spectrum(stage_nm, energy) * dispersion * total
            self.dose.add_point(self.to_specimen(np.asarray(stage_nm, dtype=float)), total)
            band = max(1, rows // 16)
            frame = (self.eels.read_noise_counts * self._rng.standard_normal(shape, np.float32)).astype(np.float32)
            top = (rows - band) // 2
            lit = np.broadcast_to(mean / band, (band, channels))
            frame[top : top + band] = self.eels.expose(lit, self._rng)
            return frame

    def disk_frame(self, exposure_s: float, shape: tuple[int, int]) -> Counts:
        """A frame of the bright-field disk on the Ronchigram camera, in counts."""
        with self._lock:
            angles = (np.arange(shape[0]) + 0.5) / shape[0] - 0.5, (np.arange(shape[1]) + 0.5) / shape[1] - 0.5
            width = self.optics.camera_rad
            deflector = np.array([self.controls["CAperture.y"], self.controls["CAperture.x"]])
            centre = np.asarray(self.optics.deflector_to_rad) @ deflector + np.asarray(self.optics.misalignment_rad)
            radius = np.hypot(angles[0][:, None] * width - centre[0], angles[1][None] * width - centre[1])
            pixel = width / shape[0]
            disk = np.clip((self.optics.disk_rad - radius) / pixel + 0.5, 0, 1)
            full = np.pi * (self.optics.disk_rad / pixel) ** 2
            mean = disk * electrons(self.beam_current_pA, exposure_s) / full
            counts = self._rng.normal(mean, np.sqrt(mean + 1e-9)) * self.eels.counts_per_electron
            counts += self.eels.read_noise_counts * self._rng.standard_normal(shape, np.float32)
            return counts.astype(np.float32)
