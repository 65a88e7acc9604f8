"""How far the specimen has moved since the overview: two images of the same field, laid over each other.

Every image is compared with the overview itself, so errors do not add up. Between two looks the drift is taken to go on
as fast as it went between the last two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

Image = npt.NDArray[np.floating]
Shift = tuple[float, float]

SIGNIFICANCE = 5.0
"""Standard deviations of the correlation of unrelated images that the peak has to exceed.

Of 2,000 unrelated pairs of random textures, fine and coarse, none came beyond 4.2."""
SAME_PX = 2.0
"""A second look finds the same shift if it lies no farther from the first."""
FINE_PX = 1.0
COARSE = 1 / 32


@dataclass(frozen=True)
class Registration:
    """How one image lies over another.

    Attributes:
        shift: (y, x) by which the second shows everything moved, fractions of the field.
        significance: height of the correlation's peak, in standard deviations of what unrelated images would give.
        certain: whether that is beyond chance.
    """

    shift: Shift
    significance: float
    certain: bool


def register(before: Image, image: Image) -> Registration:
    """Find the shift by cross-correlation, to a fraction of a pixel, for shifts of up to a third of the field.

    Where the peak does not stand out, the windows, which fade towards the borders, may have hidden most of what both
    images show: that part is compared once more by itself.

    Args:
        before: (h, w) of the field.
        image: (h, w) of the same field.
    """
    found = _correlated(before, image)
    steps = [round(s * n) for s, n in zip(found.shift, image.shape, strict=True)]
    if found.certain or not any(steps):
        return found
    again = _correlated(_shared(before, [-k for k in steps]), _shared(image, steps))
    if not again.certain or max(abs(s) * n for s, n in zip(again.shift, before.shape, strict=True)) > SAME_PX:
        return found
    return Registration(found.shift, again.significance, True)


def _shared(image: Image, steps: Sequence[int]) -> Image:
    """The part of an image that one which lies so many pixels before it shows as well."""
    return image[tuple(slice(max(0, k), n + min(0, k)) for k, n in zip(steps, image.shape, strict=True))]


def _correlated(before: Image, image: Image) -> Registration:
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape))
    A, B = (fft.fft2(_structure(part, window)) for part in (before, image))
    correlation = fft.ifft2(np.conj(A) * B).real
    near = [np.abs(fft.fftfreq(n)) <= 1 / 3 for n in image.shape]
    allowed = np.where(np.outer(*near), correlation, -np.inf)
    peak = np.unravel_index(int(allowed.argmax()), image.shape)
    y, x = (_refined(correlation, peak, axis) / n for axis, n in enumerate(image.shape))
    # by Parseval's theorem the mean square over all shifts; near no shift the windows overlap, and it is higher
    overlap = (window**2).sum() ** 2 / (window.size * (window**4).sum())
    chance = np.sqrt(np.mean(np.abs(A) ** 2 * np.abs(B) ** 2) / image.size / overlap)
    significance = float(correlation[peak] / chance) if chance > 0 else 0.0
    return Registration((y, x), significance, significance > SIGNIFICANCE)


def extrapolated(looks: Sequence[tuple[float, Shift]], now_s: float) -> Shift:
    """The shift at a time, from the looks (time in s, shift) so far: at most one interval beyond the last.

    Before the first look the specimen is where the overview showed it, at time 0.
    """
    if not looks:
        return 0.0, 0.0
    (t0, s0), (t1, s1) = looks[-2:] if len(looks) > 1 else ((0.0, (0.0, 0.0)), looks[0])
    interval, passed = t1 - t0, max(0.0, now_s - t1)
    # both may be infinite
    ahead = 0.0 if interval <= 0 else 1.0 if passed >= interval else passed / interval
    return s1[0] + ahead * (s1[0] - s0[0]), s1[1] + ahead * (s1[1] - s0[1])


def reduced(image: Image, shape: tuple[int, int]) -> Image:
    """Means over blocks of an image, (h, w) of them: the same field with fewer pixels, band by band.

    Block borders are rounded to whole pixels, so an image on disk is read once and never held in memory.
    """
    rows, columns = (np.linspace(0, n, m + 1).round().astype(int) for n, m in zip(image.shape, shape, strict=True))
    found = np.empty(shape)
    for i, (top, bottom) in enumerate(pairwise(rows)):
        band = np.asarray(image[top:bottom].mean(axis=0, dtype=np.float64))
        found[i] = np.add.reduceat(band, columns[:-1]) / np.diff(columns)
    return found


def _structure(image: Image, window: Image) -> Image:
    """What can be recognised: details coarser than noise and finer than slopes, fading towards the border."""
    image = np.asarray(image, dtype=np.float64)
    fine = ndimage.gaussian_filter(image, FINE_PX)
    detail = fine - ndimage.gaussian_filter(image, FINE_PX + COARSE * min(image.shape))
    return np.asarray((detail - (detail * window).sum() / window.sum()) * window)


def _refined(correlation: Image, peak: tuple[np.intp, ...], axis: int) -> float:
    """Position of the peak along an axis, by a parabola through it and its two neighbours."""
    n = correlation.shape[axis]
    line = np.take(correlation, peak[1 - axis], axis=1 - axis)
    i = int(peak[axis])
    below, top, above = line[i - 1], line[i], line[(i + 1) % n]
    bend = below - 2 * top + above
    offset = 0.5 * (below - above) / bend if bend < 0 else 0.0
    position = i + float(np.clip(offset, -0.5, 0.5))
    return position - n if i > n // 2 else position
