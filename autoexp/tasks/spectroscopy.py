"""What a suggestion means in targeted spectroscopy: park the probe, take a spectrum, screen it.

Screening finds what no model should learn from: numbers that are none, a frame that is an old one, a detector that is
saturated or dark.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from autoexp.errors import InstrumentError, StaleFrameError
from autoexp.guardian import Guardian
from autoexp.instrument import Position, Spectrum
from autoexp.plan import SpectrumSpec

SATURATED_FRACTION = 0.02


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


@dataclass
class SpectroscopyTask:
    """Takes spectra through the guardian.

    Attributes:
        guardian: the only way to the instrument.
        spec: how each spectrum is taken.
        full_well_counts: a channel at or above this is saturated; None where that is not known.
        dark_counts: a spectrum with fewer counts in all was taken without beam.
    """

    guardian: Guardian
    spec: SpectrumSpec
    full_well_counts: float | None = None
    dark_counts: float = 0.0
    _last: tuple[int | None, int] | None = None

    def measure(self, position: Position) -> Spectrum:
        """A spectrum that may be learned from.

        Raises:
            GuardianError: it may not be taken; nothing was exposed.
            InstrumentError: it did not come, or is not to be learned from (:class:`SpectrumFaultError`).
        """
        spectrum = self.guardian.spectrum(position, self.spec)
        self._screen(spectrum)
        return spectrum

    def _screen(self, spectrum: Spectrum) -> None:
        counts = spectrum.counts
        fingerprint = spectrum.frame_number, zlib.crc32(np.ascontiguousarray(counts).tobytes())
        last, self._last = self._last, fingerprint
        if last is not None and (last[1] == fingerprint[1] or not _newer(fingerprint[0], last[0])):
            raise StaleFrameError("The camera returned a frame that is older than the command; it was discarded.")
        if not np.isfinite(counts).all():
            bad = int((~np.isfinite(counts)).sum())
            raise SpectrumFaultError("nan", f"{bad} channels of the spectrum hold no number.", spectrum)
        if self.full_well_counts is not None:
            full = float((counts >= self.full_well_counts).mean())
            if full > SATURATED_FRACTION:
                message = f"{full:.0%} of the channels are saturated. Shorten the exposure, then resume."
                raise SpectrumFaultError("saturated", message, spectrum, suspend=True)
        if float(counts.sum(dtype=float)) <= self.dark_counts:
            message = "The spectrum is dark: is the beam blanked, or a valve shut? Resume when the beam is back."
            raise SpectrumFaultError("dark", message, spectrum, suspend=True)


def _newer(now: int | None, last: int | None) -> bool:
    return now is None or last is None or now > last
