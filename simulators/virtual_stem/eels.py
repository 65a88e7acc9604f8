"""Shapes of electron energy-loss spectra, vectorised over positions.

Letters follow Egerton, *Electron Energy-Loss Spectroscopy in the Electron Microscope*, 3rd edition (2011): ``t`` is
the thickness in inelastic mean free paths (t/λ), energies are in eV, and all intensities are electrons per incident
electron and eV unless a function says otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import signal, special

from virtual_stem.specimen import Array


def zero_loss(energy_eV: Array, fwhm_eV: float) -> Array:
    """The zero-loss peak: a Gaussian with the weak Lorentzian tail of a real source; unit area. Shape (E,)."""
    sigma = fwhm_eV / 2.3548
    gauss = np.exp(-0.5 * (energy_eV / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return np.asarray(0.97 * gauss + 0.03 * lorentzian(energy_eV, 0.0, fwhm_eV))


def lorentzian(energy_eV: Array, centre_eV: npt.ArrayLike, fwhm_eV: npt.ArrayLike) -> Array:
    """Unit-area Lorentzians, broadcast over the leading shape of ``centre_eV``; shape (..., E)."""
    half = np.asarray(fwhm_eV, dtype=float)[..., None] / 2
    offset = energy_eV - np.asarray(centre_eV, dtype=float)[..., None]
    return np.asarray(half / np.pi / (offset**2 + half**2))


def bulk_plasmon(energy_eV: Array, plasmon_eV: float, fwhm_eV: float) -> Array:
    """Drude volume-loss function (Egerton section 3.3.1), normalised to unit area over all positive losses; shape (E,).

    The width must be less than twice the plasmon energy.
    """
    e = np.maximum(energy_eV, 0.0)
    loss = e * fwhm_eV * plasmon_eV**2 / ((e**2 - plasmon_eV**2) ** 2 + (e * fwhm_eV) ** 2)
    root = np.sqrt(plasmon_eV**2 - fwhm_eV**2 / 4)
    angle = np.pi / 2 + np.arctan((plasmon_eV**2 - fwhm_eV**2 / 2) / (fwhm_eV * root))
    return np.asarray(loss / (plasmon_eV**2 / (2 * root) * angle))


def power_law(energy_eV: Array, amplitude: npt.ArrayLike, exponent: npt.ArrayLike, at_eV: float) -> Array:
    """Background A (E / at_eV)^-r, with A the intensity at ``at_eV`` (Egerton section 4.4); shape (..., E)."""
    ratio = np.maximum(energy_eV, 1.0) / at_eV
    return np.asarray(
        np.asarray(amplitude, dtype=float)[..., None] * ratio ** -np.asarray(exponent, dtype=float)[..., None]
    )


def edge(energy_eV: Array, onset_eV: npt.ArrayLike, exponent: float = 3.5, rise_eV: float = 1.5) -> Array:
    """A hydrogenic ionisation edge of unit height: a smooth step at the onset with a power-law tail; (..., E)."""
    onset = np.asarray(onset_eV, dtype=float)[..., None]
    step = 0.5 * (1 + np.tanh((energy_eV - onset) / rise_eV))
    return np.asarray(step * (np.maximum(energy_eV, onset) / onset) ** -exponent)


def lines(energy_eV: Array, centre_eV: npt.ArrayLike, fwhm_eV: npt.ArrayLike, height: npt.ArrayLike) -> Array:
    """A sum of white lines of given heights; shape (E,)."""
    width = np.asarray(fwhm_eV, dtype=float)
    return np.asarray(height, dtype=float) * (np.pi * width / 2) @ lorentzian(energy_eV, centre_eV, width)


def scattered(source: Array, single: Array, times: int, dispersion_eV: float) -> Array:
    """What a source becomes after one, two, ... inelastic events, each with the same distribution.

    A spectrum through a thickness of t mean free paths is the source and these, with the weights of a Poisson
    distribution, exp(-t) t^n / n! (Egerton section 3.4.1); see :func:`poisson_weights`.

    Args:
        source: (k, E) what enters: the zero-loss peak, or an edge.
        single: (L,) unit-area distribution of one event, sampled from zero loss upward.
        times: largest number of events.
        dispersion_eV: eV per channel.

    Returns:
        (times + 1, k, E), the source first; what is scattered beyond the axis is lost.
    """
    orders = [source]
    for _ in range(times):
        once = signal.fftconvolve(orders[-1], single[None] * dispersion_eV, axes=-1)
        orders.append(once[:, : source.shape[-1]])
    return np.stack(orders)


def poisson_weights(thickness: Array, times: int) -> Array:
    """Probabilities (n, times + 1) of 0, 1, 2, ... inelastic events, for thicknesses (n,) in mean free paths."""
    k = np.arange(times + 1)
    return np.asarray(np.exp(-thickness)[:, None] * thickness[:, None] ** k / special.factorial(k))
