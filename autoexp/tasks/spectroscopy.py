"""What a suggestion means in targeted spectroscopy: park the probe, take a spectrum, screen it.

Screening finds what no model should learn from: numbers that are none, a frame that is an old one, a detector that is
saturated or dark.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from autoexp.account import LONGER, Exposure
from autoexp.errors import InstrumentError, StaleFrameError
from autoexp.guardian import Guardian
from autoexp.instrument import EnergyCalibration, Position, Spectrum
from autoexp.plan import SpectrumSpec

SATURATED_FRACTION = 0.02
DARK_SIGMA = 5.0


class SpectrumFaultError(InstrumentError):
    """A spectrum came and is not to be learned from.

    Attributes:
        fault: short name of the reason.
        spectrum: what came; it is saved all the same.
        suspend: whether to stop and ask before the next exposure.
    """

    def __init__(self, fault: str, message: str, spectrum: Spectrum, suspend: bool = False):
        super().__init__(message)
        self.fault = fault
        self.spectrum = spectrum
        self.suspend = suspend


class SpectroscopyTask:
    """Takes spectra through the guardian.

    Args:
        guardian: the only way to the instrument.
        spec: how each spectrum is taken.

    Attributes:
        axis: energies of the channels, as of the first spectrum; None before it.
    """

    def __init__(self, guardian: Guardian, spec: SpectrumSpec):
        self.axis: EnergyCalibration | None = None
        self._guardian = guardian
        self._spec = spec
        self._longest_s = 0.0
        self._last: tuple[int | None, int] | None = None
        self._was_dark = False

    def measure(self, position: Position, begin: Callable[[Exposure], None] | None = None) -> Spectrum:
        """A spectrum that may be learned from.

        Args:
            position: (y, x), fractions of the overview.
            begin: told before the exposure begins; if it raises, nothing is exposed.

        Raises:
            GuardianError: it may not be taken; nothing was exposed.
            InstrumentError: it did not come, or is not to be learned from (:class:`SpectrumFaultError`).
        """
        spectrum = self._guardian.spectrum(position, self._spec, begin)
        self._screen(spectrum)
        return spectrum

    def _screen(self, spectrum: Spectrum) -> None:
        counts = spectrum.counts
        self._refuse_stale(spectrum)
        self._compare(spectrum)
        if not np.isfinite(counts).all():
            bad = int((~np.isfinite(counts)).sum())
            raise SpectrumFaultError("nan", f"{bad} channels of the spectrum hold no number.", spectrum)
        full = saturated_fraction(counts, self._guardian.site.saturation_counts)
        if full > SATURATED_FRACTION:
            message = f"{full:.0%} of the channels are saturated. Shorten the exposure in a new run, or resume."
            raise SpectrumFaultError("saturated", message, spectrum, suspend=True)
        # Hysteresis: after a dark spectrum the next has to be clearly brighter.
        self._was_dark = is_dark(counts, DARK_SIGMA * (2 if self._was_dark else 1))
        if self._was_dark:
            message = "The spectrum is dark: is the beam blanked, or a valve shut? Resume when the beam is back."
            raise SpectrumFaultError("dark", message, spectrum, suspend=True)

    def _compare(self, spectrum: Spectrum) -> None:
        """Is this what was asked for, and on the scale of the spectra before? Their offset may move; it is followed."""
        asked, told = self._spec.exposure_s, spectrum.exposed_s
        if told is not None and not told <= LONGER * max(asked, self._longest_s):
            self._longest_s = told  # whoever resumes has seen it
            message = f"The camera says that it exposed for {told:g} s instead of {asked:g} s; that dose is counted."
            raise SpectrumFaultError("exposure", message, spectrum, suspend=True)
        now, self.axis = spectrum.energy, self.axis or spectrum.energy
        if not abs(now.scale - self.axis.scale) * len(spectrum.counts) <= self.axis.scale:
            message = (
                f"The energy axis has changed: {now.scale:g} eV a channel instead of {self.axis.scale:g}. Set it back "
                "and resume, or begin a new run."
            )
            raise SpectrumFaultError("axis", message, spectrum, suspend=True)

    def _refuse_stale(self, spectrum: Spectrum) -> None:
        fingerprint = spectrum.frame_number, zlib.crc32(np.ascontiguousarray(spectrum.counts).tobytes())
        last, self._last = self._last, fingerprint
        flat = bool((spectrum.counts == spectrum.counts[0]).all())  # two dark frames may be the same, number by number
        if last is not None and ((last[1] == fingerprint[1] and not flat) or not _newer(fingerprint[0], last[0])):
            raise StaleFrameError("The camera returned a frame that is older than the command; it was discarded.")


def saturated_fraction(counts: npt.NDArray[np.floating], full_counts: float | None = None) -> float:
    """Share of channels at the detector's limit.

    Where the limit is not known, saturation shows as a plateau: many channels that hold the very same highest value.
    """
    top = float(counts.max())
    if top <= 0:
        return 0.0
    if full_counts is not None:
        return float((counts >= full_counts).mean())
    plateau = int((counts == top).sum())
    return plateau / len(counts) if plateau >= 3 else 0.0


def is_dark(counts: npt.NDArray[np.floating], sigma: float = DARK_SIGMA) -> bool:
    """Whether a spectrum's mean is no more than its own noise explains.

    The noise is estimated from the median difference of neighbouring channels, on which peaks have no influence.
    """
    values = np.asarray(counts, dtype=float)
    noise = float(np.median(np.abs(np.diff(values)))) / (0.6745 * math.sqrt(2)) if len(values) > 1 else 0.0
    return float(values.mean()) <= sigma * noise / math.sqrt(len(values))


def _newer(now: int | None, last: int | None) -> bool:
    return now is None or last is None or now > last
