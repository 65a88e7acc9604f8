"""From mean electrons to counts: shot noise, gain, point spread, read noise, saturation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from virtual_stem.specimen import Array

Counts = npt.NDArray[np.float32]

ELECTRONS_PER_PICOAMPERE_SECOND = 6.241509074e6


def electrons(beam_current_pA: float, exposure_s: float) -> float:
    """Electrons that arrive in an exposure."""
    return beam_current_pA * exposure_s * ELECTRONS_PER_PICOAMPERE_SECOND


@dataclass(frozen=True)
class ScintillatorCamera:
    """A camera that looks at a scintillator, and its chain from electrons to counts.

    The order is that of the hardware (Egerton, *EELS in the Electron Microscope*, 3rd ed., section 2.5): electrons
    arrive at random (Poisson), each makes a flash of ``counts_per_electron`` that spreads over neighbouring channels,
    pixels are binned, the read-out adds its noise once per read pixel, and the pixel saturates. The spread comes after
    the shot noise, so that neighbouring channels are correlated and a wide window still has Poisson statistics.

    Attributes:
        counts_per_electron: gain.
        read_noise_counts: standard deviation added to every pixel that is read out.
        spread_channels: standard deviation of the point spread, in unbinned channels along the last axis.
        full_well_counts: a pixel saturates here.
    """

    counts_per_electron: float = 40.0
    read_noise_counts: float = 3.0
    spread_channels: float = 0.6
    full_well_counts: float = 6.0e6

    def spread(self, values: Array) -> Array:
        """The point spread alone, along the last axis; light that comes in at its ends makes up for what leaves."""
        if self.spread_channels < 0.01:  # far less than a channel
            return values
        return np.asarray(ndimage.gaussian_filter1d(values, self.spread_channels, axis=-1, mode="nearest"))

    def expose(self, mean_electrons: Array, rng: np.random.Generator, binning: int = 1) -> Counts:
        """Counts (..., E // binning) for the mean electrons per unbinned channel (..., E)."""
        arrived = rng.poisson(np.maximum(mean_electrons, 0)).astype(np.float32)
        return self.read_out(binned(self.spread(arrived), binning) * np.float32(self.counts_per_electron), rng)

    def read_out(self, signal: Array, rng: np.random.Generator) -> Counts:
        """What the electronics make of a signal in counts: read noise, full well."""
        noise = rng.standard_normal(signal.shape, np.float32) * np.float32(self.read_noise_counts)
        return np.minimum(signal + noise, np.float32(self.full_well_counts)).astype(np.float32)


@dataclass(frozen=True)
class AnnularDetector:
    """The HAADF detector and its amplifier.

    Attributes:
        counts_per_electron: signal for one detected electron.
        noise_counts: standard deviation of the amplifier's noise per pixel.
    """

    counts_per_electron: float = 1.0
    noise_counts: float = 1.0

    def expose(self, mean_electrons: Array, rng: np.random.Generator) -> Counts:
        """Counts for the mean detected electrons per pixel."""
        counts = rng.poisson(np.maximum(mean_electrons, 0)).astype(np.float32) * np.float32(self.counts_per_electron)
        counts += np.float32(self.noise_counts) * rng.standard_normal(counts.shape, np.float32)
        return counts


def binned(values: Array, binning: int) -> Array:
    """Sums of ``binning`` neighbours along the last axis; a rest that fills no bin is left out."""
    if binning == 1:
        return values
    whole = values.shape[-1] // binning * binning
    return np.asarray(values[..., :whole].reshape(*values.shape[:-1], -1, binning).sum(axis=-1))
