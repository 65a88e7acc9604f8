"""Shapes of electron energy-loss spectra, vectorised over positions.

Letters follow Egerton, *Electron Energy-Loss Spectroscopy in the Electron Microscope*, 3rd edition (2011): ``t`` is
the thickness in inelastic mean free paths (t/λ), energies are in eV, and all intensities are electrons per incident
electron and eV unless a function says otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def zero_loss(energy_eV: Array, fwhm_eV: float) -> Array:
    """The zero-loss peak: a Gaussian with the weak Lorentzian tail of a real source; unit area. Shape (E,)."""
    sigma = fwhm_eV / 2.3548
    gauss = np.exp(-0.5 * (energy_eV / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return 0.97 * gauss + 0.03 * lorentzian(energy_eV, 0.0, fwhm_eV)


def lorentzian(energy_eV: Array, centre_eV: npt.ArrayLike, fwhm_eV: npt.ArrayLike) -> Array:
    """Unit-area Lorentzians, broadcast over the leading shape of ``centre_eV``; shape (..., E)."""
    half = np.asarray(fwhm_eV, dtype=float)[..., None] / 2
    offset = energy_eV - np.asarray(centre_eV, dtype=float)[..., None]
    return half / np.pi / (offset**2 + half**2)


def bulk_plasmon(energy_eV: Array, plasmon_eV: npt.ArrayLike, fwhm_eV: npt.ArrayLike) -> Array:
    """Drude volume-loss function, normalised to unit area over all positive losses (Egerton eq. 3.43); (..., E)."""
    e_p = np.asarray(plasmon_eV, dtype=float)[..., None]
    width = np.asarray(fwhm_eV, dtype=float)[..., None]
    e = np.maximum(energy_eV, 0.0)
    loss = e * width * e_p**2 / ((e**2 - e_p**2) ** 2 + (e * width) ** 2)
    return loss / (np.pi / 2 * e_p**2)


def power_law(energy_eV: Array, amplitude: npt.ArrayLike, exponent: npt.ArrayLike, at_eV: float) -> Array:
    """Background A (E / at_eV)^-r, with A the intensity at ``at_eV`` (Egerton eq. 4.51); shape (..., E)."""
    ratio = np.maximum(energy_eV, 1.0) / at_eV
    return np.asarray(amplitude, dtype=float)[..., None] * ratio ** -np.asarray(exponent, dtype=float)[..., None]


def edge(energy_eV: Array, onset_eV: npt.ArrayLike, exponent: float = 3.5, rise_eV: float = 1.5) -> Array:
    """A hydrogenic ionisation edge of unit height: a smooth step at the onset with a power-law tail; (..., E)."""
    onset = np.asarray(onset_eV, dtype=float)[..., None]
    step = 0.5 * (1 + np.tanh((energy_eV - onset) / rise_eV))
    return step * (np.maximum(energy_eV, onset) / onset) ** -exponent


def white_line(energy_eV: Array, centre_eV: npt.ArrayLike, fwhm_eV: float) -> Array:
    """A white line of unit height (a Lorentzian scaled to one at its centre); shape (..., E)."""
    return lorentzian(energy_eV, centre_eV, fwhm_eV) * (np.pi * fwhm_eV / 2)


def plural_scattering(source: Array, single: Array, t: npt.ArrayLike, dispersion_eV: float) -> Array:
    """Spread ``source`` by Poisson-distributed inelastic events (Fourier-log model, Egerton eq. 4.8).

    Args:
        source: (n, E) or (E,) what enters: the zero-loss peak, or an edge on its background.
        single: (n, E) or (E,) unit-area single-scattering distribution, sampled from zero loss upward.
        t: (n,) or scalar thickness in mean free paths.
        dispersion_eV: eV per channel.

    Returns:
        (n, E) spectra; the area of ``source`` is kept but for what is scattered beyond the axis.
    """
    length = source.shape[-1]
    padded = 2 * length
    t = np.asarray(t, dtype=float)[..., None]
    spread = np.exp(t * (np.fft.rfft(single * dispersion_eV, padded) - 1))
    return np.fft.irfft(np.fft.rfft(source, padded) * spread, padded)[..., :length]
