"""The virtual microscope: a beam, a specimen that drifts and takes dose, detectors, and a bright-field disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from virtual_stem.detector import AnnularDetector, Counts, ScintillatorCamera, binned, electrons
from virtual_stem.geometry import ScanGeometry
from virtual_stem.optics import Optics
from virtual_stem.specimen import Array, Specimen
from virtual_stem.stage import DoseMap, Drift, Probe

__all__ = ["ScanGeometry", "VirtualMicroscope"]

LIT_ROWS = 16  # the beam lights one row in so many of the spectrometer's camera


def default_controls() -> dict[str, float]:
    """The controls of the instrument, by the names that Swift uses for them; SI units as there."""
    pairs = ("CAperture", "BeamShift", "stage_position_m")
    return {
        "EHT": 100_000.0,
        "BeamCurrent": 50e-12,
        "C10": 0.0,
        "ConvergenceAngle": 0.030,
        "ZLPtare": 0.0,
        "C_Blank": 0.0,
        **{f"{name}.{axis}": 0.0 for name in pairs for axis in "xy"},
    }


class VirtualMicroscope:
    """Everything that happens between a command and a frame, with no knowledge of who commands it.

    Time runs ``time_scale`` times faster than the clock on the wall, so that a long experiment can be rehearsed in a
    short one: an exposure of 50 ms still collects the electrons of 50 ms. Each detector draws its noise from a stream
    of its own, so that a frame depends on the seed and on how many frames that detector has taken before.

    Args:
        specimen: what is in the column.
        seed: noise and the hidden optics are functions of it.
        drift: how the specimen moves; not at all by default.
        eels: the spectrometer's camera.
        haadf: the annular detector.
        optics: the hidden alignment of the instrument; drawn by the seed by default.
        probe_nm: standard deviation of the probe.
        settle_s: how long the probe is still on its way after it has been parked elsewhere.
        time_scale: simulated seconds per second.
        clock: monotonic seconds.

    Attributes:
        dose: what the specimen has taken, :meth:`stand` included.
        stood_e: electrons that it has taken from a beam that stood on it besides the exposures.
    """

    def __init__(
        self,
        specimen: Specimen,
        *,
        seed: int = 0,
        drift: Drift | None = None,
        eels: ScintillatorCamera | None = None,
        haadf: AnnularDetector | None = None,
        optics: Optics | None = None,
        probe_nm: float = 0.5,
        settle_s: float = 0.0002,
        time_scale: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.specimen = specimen
        self.drift = drift or Drift(seed=seed)
        self.eels = eels or ScintillatorCamera(counts_per_electron=1.0 if specimen.recorded else 40.0)
        self.haadf = haadf or AnnularDetector()
        self.optics = optics or Optics.hidden(seed)
        self.probe_nm = probe_nm
        self.controls = default_controls()
        self.dose = DoseMap(specimen.size_nm, probe_nm=probe_nm)
        self.probe = Probe(settle_s)
        self.stood_e = 0.0
        self._booked_s: float | None = None
        self._exposed_s = 0.0
        self._clock = clock
        self._time_scale = time_scale
        self._start, self._start_s = clock(), 0.0
        self._lock = threading.RLock()
        self._noise = {name: np.random.default_rng([seed, 3, k]) for k, name in enumerate(("eels", "haadf", "disk"))}

    # --- time, beam and place

    @property
    def time_s(self) -> float:
        """Simulated seconds since the microscope was made."""
        return self._start_s + (self._clock() - self._start) * self._time_scale

    @property
    def time_scale(self) -> float:
        """Simulated seconds per second; a change takes effect from now on."""
        return self._time_scale

    @time_scale.setter
    def time_scale(self, value: float) -> None:
        self._start_s = self.time_s
        self._start, self._time_scale = self._clock(), value

    @property
    def beam_current_pA(self) -> float:
        """Beam current at the specimen, zero while blanked."""
        return 0.0 if self.controls["C_Blank"] else self.controls["BeamCurrent"] * 1e12

    @property
    def energy_offset_eV(self) -> float:
        """Energy of the first channel."""
        return self.specimen.axis.offset_eV + self.controls["ZLPtare"]

    def origin_nm(self, time_s: npt.ArrayLike) -> Array:
        """Where the specimen's origin appears on the stage at times (...): moved there by stage and drift, seen
        through the beam shift; (..., 2)."""
        c = self.controls
        stage = np.array([c["stage_position_m.y"], c["stage_position_m.x"]]) * 1e9
        shift = np.array([c["BeamShift.y"], c["BeamShift.x"]]) * 1e9
        return stage - shift + self.drift.offset_nm(time_s)

    def to_specimen(self, stage_nm: Array, time_s: npt.ArrayLike | None = None) -> Array:
        """Specimen coordinates of stage positions (..., 2), now or at given times."""
        return np.asarray(stage_nm, dtype=float) - self.origin_nm(self.time_s if time_s is None else time_s)

    # --- the beam while nothing is measured

    def stand(self) -> None:
        """Let the specimen take what the beam has put into it since the last time, besides the exposures.

        Once it has been parked, the probe is somewhere, and an unblanked beam goes on. Time is that on the wall, which
        is what passes between exposures however fast those are simulated.
        """
        with self._lock:
            now_s = self._clock()
            passed_s = 0.0 if self._booked_s is None else max(0.0, now_s - self._booked_s)
            exposed_s = min(passed_s, self._exposed_s)
            self._exposed_s -= exposed_s
            self._booked_s = now_s
            count = electrons(self.beam_current_pA, passed_s - exposed_s)
            if count and self.probe.is_placed:
                self.dose.add_point(self.to_specimen(self.probe.at(self.time_s)), count)
                self.stood_e += count

    def set_control(self, name: str, value: float) -> None:
        """Set a control; what the beam has done until now, it did with the controls as they were."""
        with self._lock:
            self.stand()
            if name == "C_Blank":
                self._exposed_s = 0.0
            self.controls[name] = value

    def _expose(self, exposure_s: float) -> None:
        """So much simulated time is an exposure of its own, which has just passed or is about to."""
        self._booked_s = self._clock() if self._booked_s is None else self._booked_s
        self._exposed_s += exposure_s / self._time_scale

    # --- images

    def scan(self, geometry: ScanGeometry, shape: tuple[int, int], dwell_s: float, *, exposes: bool = True) -> Counts:
        """A HAADF frame (h, w) in counts that begins now; the specimen takes its dose.

        Rows are taken one after the other, so drift shears the frame. ``exposes`` is False for what a further
        detector sees of a scan that has been accounted for.
        """
        with self._lock:
            begin = self.time_s
            rows_s = begin + dwell_s * shape[1] * np.arange(shape[0])
            points = geometry.pixel_centres(shape)
            points -= self.origin_nm(rows_s)[:, None] if not self.drift.is_still else self.origin_nm(begin)
            per_pixel = electrons(self.beam_current_pA, dwell_s)
            if exposes:
                self.stand()
                self._expose(dwell_s * shape[0] * shape[1])
                centre = self.to_specimen(np.asarray(geometry.center_nm), rows_s[len(rows_s) // 2])
                field = ScanGeometry(geometry.fov_nm, (centre[0], centre[1]), geometry.rotation_rad)
                self.dose.add_area(field, per_pixel * shape[0] * shape[1])
                self.probe.place(geometry.to_stage([1.0, 1.0]))
        image = self.specimen.haadf(points)
        if self.specimen.recorded:
            return (image * (per_pixel > 0)).astype(np.float32)
        pixel_nm = np.asarray(geometry.fov_nm) / shape
        image = ndimage.gaussian_filter(image, self.probe_nm / pixel_nm, mode="nearest", truncate=3)
        return self.haadf.expose(image * per_pixel, self._noise["haadf"])

    def unconnected(self, shape: tuple[int, int]) -> Counts:
        """What a scan shows (h, w) on an input to which no detector is connected: the amplifier's noise."""
        return self.haadf.expose(np.zeros(shape), self._noise["haadf"])

    # --- spectra

    def park(self, stage_nm: npt.ArrayLike) -> None:
        """Send the probe to a stage position (2,)."""
        with self._lock:
            self.stand()
            self.probe.park(np.asarray(stage_nm, dtype=float), self.time_s)

    def spectrum_frame(
        self,
        stage_nm: npt.ArrayLike,
        exposure_s: float,
        shape: tuple[int, int],
        *,
        binning: int | None = None,
        first_channel: int = 0,
    ) -> Counts:
        """A spectrometer camera frame (rows, channels) in counts at a parked position; the specimen takes its dose.

        The beam lights a band of one sixteenth of the rows, evenly; the rest holds read noise alone.

        Args:
            stage_nm: (2,) where the probe is parked, or has just been sent to.
            exposure_s: collection time.
            shape: rows and channels of the frame, after binning.
            binning: unbinned channels per channel; by default as many as fit the axis.
            first_channel: unbinned channel at which the frame begins.
        """
        with self._lock:
            self._expose(exposure_s)
            self.park(stage_nm)
            positions, shares, times = self.probe.way(self.time_s, exposure_s)
            points = self.to_specimen(positions, times)
            taken = electrons(self.beam_current_pA, exposure_s) * shares
            before = self.dose.at(points)
            for point, count in zip(points, taken, strict=True):
                self.dose.add_point(point, count)
            # Bleaching goes on during the exposure; the dose half-way through stands for its mean.
            dose = (before + self.dose.at(points)) / 2
        return self._frame(shares @ self._spectra(points, dose), exposure_s, shape, binning, first_channel)

    def scanned_frame(
        self,
        stage_nm: Array,
        exposure_s: float,
        shape: tuple[int, int],
        *,
        binning: int | None = None,
        first_channel: int = 0,
    ) -> Counts:
        """What the spectrometer's camera sees while the probe scans over stage positions (n, 2), evenly.

        The dose is the scan's and is accounted for there.
        """
        points = self.to_specimen(stage_nm)
        mean = self._spectra(points, self.dose.at(points)).mean(axis=0)
        return self._frame(mean, exposure_s, shape, binning, first_channel)

    def expected_counts(self, points_nm: npt.ArrayLike, exposure_s: float) -> Array:
        """Ground truth: noise-free spectra (n, E) at specimen positions (n, 2), in counts as measured ones are.

        They are those of a fresh specimen under an unblanked beam, unbinned, summed over the camera's rows; with no
        drift, stage or beam shift, specimen positions are stage positions. What a scalarizer makes of them is what an
        experiment is scored against.
        """
        spectra = self._spectra(np.atleast_2d(np.asarray(points_nm, dtype=float)), None)
        if self.specimen.recorded:
            return spectra
        total = electrons(self.controls["BeamCurrent"] * 1e12, exposure_s)
        return np.asarray(self.eels.spread(spectra)) * (total * self.eels.counts_per_electron)

    def full_well_counts(self, rows: int) -> float:
        """Counts at which a channel is saturated, summed over a camera of so many unbinned rows."""
        return self.eels.full_well_counts * max(1, rows // LIT_ROWS)

    def _spectra(self, points_nm: Array, dose_e_nm2: Array | None) -> Array:
        """Noise-free spectra (n, E) per unbinned channel rather than per eV."""
        axis = self.specimen.axis
        energy = self.energy_offset_eV + axis.dispersion_eV * np.arange(axis.channels)
        return self.specimen.spectra(points_nm, energy, dose_e_nm2) * axis.dispersion_eV

    def _frame(
        self, mean: Array, exposure_s: float, shape: tuple[int, int], binning: int | None, first_channel: int
    ) -> Counts:
        rows, channels = shape
        binning = binning or max(1, len(mean) // channels)
        mean = mean[first_channel : first_channel + channels * binning]
        band = max(1, rows // LIT_ROWS)
        lit = np.s_[(rows - band) // 2 : (rows - band) // 2 + band]
        current = self.beam_current_pA
        if self.specimen.recorded:
            frame = np.zeros(shape, np.float32)
            frame[lit] = binned(mean / band, binning) * (current > 0)
            return frame
        rng = self._noise["eels"]
        frame = self.eels.read_out(np.zeros(shape, np.float32), rng)
        share = np.broadcast_to(mean * (electrons(current, exposure_s) / band), (band, len(mean)))
        frame[lit] = self.eels.expose(share, rng, binning)
        return frame

    # --- the bright-field disk

    def disk_frame(self, exposure_s: float, shape: tuple[int, int]) -> Counts:
        """A frame (h, w) of the bright-field disk on the Ronchigram camera, in counts."""
        deflector = np.array([self.controls["CAperture.y"], self.controls["CAperture.x"]])
        share = self.optics.disk(self.optics.disk_centre(deflector), shape)
        rng = self._noise["disk"]
        signal = np.zeros(shape, np.float32)
        lit = share > 0
        signal[lit] = rng.poisson(share[lit] * electrons(self.beam_current_pA, exposure_s))
        return self.eels.read_out(signal * np.float32(self.eels.counts_per_electron), rng)
