"""Where the zero-loss peak of a spectrum is, to a part of a channel, and how wide; and scores on axes that move.

The peak of the electrons that have lost nothing is at 0 eV, whatever the spectrometer's calibration says. Its place is
taken half-way between the two flanks at half its height, where they are steepest (Egerton, *EELS in the Electron
Microscope*, 3rd ed., section 5.1), and its width is their distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from autoexp.errors import PlanError
from autoexp.scalarizers import Scalarizer, Scores

Array = npt.NDArray[np.float64]
Spectra = npt.NDArray[np.floating[Any]]
SMOOTHING = 1.0
"""Channels."""
CLEAR = 5.0
"""Standard deviations of counting by which a peak stands out."""
FINEST = 32
"""Parts of a channel by which axes are told apart, so that spectra on the same one are scored together."""


class ZeroLoss(NamedTuple):
    """Peaks (n,): where they are and how wide at half height, eV; NaN where there is none."""

    position_eV: Array
    width_eV: Array


def find_zero_loss(spectra: Spectra, energy_eV: Array, within_eV: float, counts_per_electron: float = 1.0) -> ZeroLoss:
    """The zero-loss peaks of spectra.

    Args:
        spectra: (n, E) counts.
        energy_eV: (E,) energies of the channels, as calibrated.
        within_eV: how far from 0 eV a peak is looked for.
        counts_per_electron: gain of the detector.
    """
    spectra = np.atleast_2d(np.asarray(spectra, dtype=float))
    near = np.flatnonzero(np.abs(energy_eV) <= within_eV)
    none = np.full(len(spectra), np.nan)
    if len(near) < 3:
        return ZeroLoss(none, none.copy())
    smooth = ndimage.gaussian_filter1d(spectra, SMOOTHING, axis=1, mode="nearest")
    rows = np.arange(len(spectra))
    top = near[0] + smooth[:, near].argmax(axis=1)
    floor = smooth[:, near].min(axis=1)
    height = _height(smooth, rows, top) - floor
    half = (floor + height / 2)[:, None]
    channel = np.arange(spectra.shape[1])
    below = smooth < half
    left = np.where(below & (channel < top[:, None]), channel, -1).max(axis=1)
    right = np.where(below & (channel > top[:, None]), channel, spectra.shape[1]).min(axis=1)
    clear = height > CLEAR * np.sqrt(np.maximum(smooth[rows, top], 0) * counts_per_electron)
    inside = (top > near[0]) & (top < near[-1])
    good = clear & inside & (left >= 0) & (right < spectra.shape[1])
    left, right = np.where(good, left, 0), np.where(good, right, 1)
    rising = left + _part(smooth, rows, left, left + 1, half[:, 0])
    falling = right - 1 + _part(smooth, rows, right - 1, right, half[:, 0])
    low, high = (np.interp(c, channel, energy_eV) for c in (rising, falling))
    return ZeroLoss(np.where(good, (low + high) / 2, np.nan), np.where(good, high - low, np.nan))


def scored(
    scalarizer: Scalarizer,
    spectra: Spectra,
    energy_eV: Array,
    counts_per_electron: float | None,
    shift_eV: Array | None = None,
) -> Scores:
    """Values (n,) of spectra (n, E), each on its own axis, and their counting noise; NaN where there is no axis.

    Args:
        scalarizer: what to look for.
        spectra: (n, E).
        energy_eV: (E,), of a spectrum that is not shifted.
        counts_per_electron: gain of the detector; None where counting noise is not known, so that it is zero.
        shift_eV: (n,) what is added to the energies of each; NaN where it is not known. None: nothing.

    Raises:
        PlanError: the scalarizer has no place on any of the axes.
        Exception: whatever the scalarizer raises.
    """
    value, std = np.full(len(spectra), np.nan), np.zeros(len(spectra))
    trouble: PlanError | None = None
    done = 0
    for shift, rows in _groups(np.zeros(len(spectra)) if shift_eV is None else shift_eV, energy_eV):
        axis = energy_eV + shift
        axis.flags.writeable = False
        try:
            scalarizer.check_axis(axis)
        except PlanError as error:
            trouble = trouble or error
            continue
        part = spectra if len(rows) == len(spectra) else spectra[rows]
        if counts_per_electron is None:
            value[rows] = scalarizer.values(np.asarray(part, dtype=float), axis)
        else:
            value[rows], std[rows] = scalarizer.score(part, axis, counts_per_electron)
        done += 1
    if trouble is not None and not done:
        raise trouble
    return Scores(value, std)


def _groups(shift_eV: Array, energy_eV: Array) -> Iterator[tuple[float, npt.NDArray[np.intp]]]:
    """The different shifts, to a small part of a channel, and which spectra have them."""
    finest = (energy_eV[-1] - energy_eV[0]) / max(len(energy_eV) - 1, 1) / FINEST if len(energy_eV) > 1 else 1.0
    known = np.flatnonzero(np.isfinite(shift_eV))
    steps, which = np.unique(np.round(shift_eV[known] / finest), return_inverse=True)
    for k, step in enumerate(steps):
        yield float(step * finest), known[which == k]


def _height(smooth: Array, rows: npt.NDArray[np.intp], top: npt.NDArray[np.intp]) -> Array:
    """How high peaks (n,) are between channels: of the parabola through the highest one and its neighbours."""
    left, right = np.maximum(top - 1, 0), np.minimum(top + 1, smooth.shape[1] - 1)
    low, mid, high = smooth[rows, left], smooth[rows, top], smooth[rows, right]
    bend = 2 * mid - low - high
    return np.asarray(mid + np.where(bend > 0, (high - low) ** 2 / (8 * np.where(bend > 0, bend, 1.0)), 0.0))


def _part(
    smooth: Array, rows: npt.NDArray[np.intp], a: npt.NDArray[np.intp], b: npt.NDArray[np.intp], level: Array
) -> Array:
    """Which part of the way from channel ``a`` to ``b`` a flank crosses a level."""
    low, high = smooth[rows, a], smooth[rows, b]
    step = high - low
    return np.asarray(np.clip((level - low) / np.where(step == 0, 1.0, step), 0.0, 1.0))
