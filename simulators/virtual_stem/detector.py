"""From mean electrons to counts: shot noise, point spread, gain, read noise, saturation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

ELECTRONS_PER_PICOAMPERE_SECOND = 6.241509074e6


def electrons(beam_current_pA: float, exposure_s: float) -> float:
    """Electrons that arrive in an exposure."""
    return beam_current_pA * exposure_s * ELECTRONS_PER_PICOAMPERE_SECOND


@dataclass(frozen=True)
class CountingDetector:
    """A camera's chain from electrons to counts.

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

    def expose(self, mean_electrons: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Counts for the mean electrons per pixel (..., E): Poisson in electrons, then gain, read noise, full well."""
        spread = ndimage.gaussian_filter1d(mean_electrons, self.spread_channels, axis=-1, mode="nearest")
        counts = rng.poisson(np.maximum(spread, 0)).astype(np.float32) * np.float32(self.counts_per_electron)
        counts += np.float32(self.read_noise_counts) * rng.standard_normal(counts.shape, np.float32)
        return np.minimum(counts, np.float32(self.full_well_counts), out=counts)


@dataclass(frozen=True)
class AnnularDetector:
    """The HAADF detector and its amplifier.

    Attributes:
        counts_per_electron: signal for one detected electron.
        noise_counts: standard deviation of the amplifier's noise per pixel.
    """

    counts_per_electron: float = 1.0
    noise_counts: float = 1.0

    def expose(self, mean_electrons: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Counts for the mean detected electrons per pixel."""
        counts = rng.poisson(np.maximum(mean_electrons, 0)).astype(np.float32) * np.float32(self.counts_per_electron)
        counts += np.float32(self.noise_counts) * rng.standard_normal(counts.shape, np.float32)
        return counts
