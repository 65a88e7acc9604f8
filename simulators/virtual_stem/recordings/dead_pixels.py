"""What was recorded where a detector, or a program before, has left no number: NaN, infinity, or beyond all counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

DEAD_CHANNEL = 0.5
"""A channel without a number at more than this share of the places is the detector's fault, not that of the places."""

LARGEST = 1e30
"""Of a count that is recorded; sums of such can still be told."""


def mended(spectra: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], list[str]]:
    """A map in which every number is one, and where it is not what was recorded.

    Dead channels get the values between their neighbours. A place that still lacks a number is dead; it gets the
    spectrum of the nearest one that is not.

    Args:
        spectra: (h, w, E).

    Returns:
        The map (h, w, E), itself where nothing had to be mended; the dead places (h, w); what was done, in sentences.
    """
    if spectra.dtype.kind != "f" or (known := _known(spectra)).all():
        return spectra, np.zeros(spectra.shape[:2], bool), []
    channels = known.mean(axis=(0, 1)) < 1 - DEAD_CHANNEL
    dead: npt.NDArray[np.bool_] = np.ones(spectra.shape[:2], bool)
    if not channels.all():
        dead = ~np.asarray(known[..., ~channels].all(axis=2))
    if dead.all():
        return spectra, dead, []
    spectra, notes = spectra.copy(), []
    if channels.any():
        spectra[..., channels] = _between(spectra, channels)
        notes.append(f"{channels.sum()} dead channels hold no numbers; what lies between their neighbours is used.")
    if dead.any():
        _fill_from_nearest(spectra, dead)
        notes.append(f"{dead.sum()} of {dead.size:,} places hold no numbers and are left out.")
    return spectra, dead, notes


def mended_image(image: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[str]]:
    """An image in which every pixel is a number: dead ones get that of the nearest that is not; and what was done."""
    if image.dtype.kind != "f" or image.ndim != 2:
        return image, []
    dead = ~_known(image)
    if dead.all() or not dead.any():
        return image, []
    image = image.copy()
    _fill_from_nearest(image, dead)
    return image, [f"{dead.sum()} pixels of the overview hold no numbers; their neighbours stand in for them."]


def _known(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(array) & (np.abs(array) <= min(LARGEST, float(np.finfo(array.dtype).max))))


def _between(spectra: npt.NDArray[Any], channels: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Values (h, w, dead channels) on the straight line between the nearest living channels on either side."""
    alive, wanted = np.flatnonzero(~channels), np.flatnonzero(channels)
    right = np.clip(np.searchsorted(alive, wanted), 0, len(alive) - 1)
    left = np.clip(right - (alive[right] > wanted), 0, None)
    low, high = alive[left], alive[right]
    part = np.clip((wanted - low) / np.maximum(high - low, 1), 0, 1)
    return np.asarray(spectra[..., low] * (1 - part) + spectra[..., high] * part)


def _fill_from_nearest(array: npt.NDArray[Any], dead: npt.NDArray[np.bool_]) -> None:
    y, x = ndimage.distance_transform_edt(dead, return_distances=False, return_indices=True)
    array[dead] = array[y[dead], x[dead]]
