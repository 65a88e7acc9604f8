"""Where the bright-field disk is on a camera's frame, to a fraction of a pixel; or that there is none.

A disk of one brightness with a soft edge on a dark ground is fitted to the frame, by least squares with a loss that
forgives outliers (Huber 1964): so a disk that is cut off by the border keeps its centre, which its centre of mass would
not, and a hot pixel or what the specimen writes into the disk counts little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from autoexp.drift import reduced

Array = npt.NDArray[np.float64]

SIDE = 96
"""Pixels along a side to which a larger frame is reduced before the fit: averaging them loses no precision."""
SIGNIFICANT = 8.0
"""Standard deviations by which a disk stands out from the ground, or it is none."""
BETTER = 0.5
"""Of what is not noise in a frame, the disk has to explain so much at least."""
VISIBLE = 0.08
"""So much of the disk has to be on the frame."""
SMALLEST_PX = 2.5
OUTLIER = 3.0
"""Standard deviations from which a pixel counts for less."""


@dataclass(frozen=True)
class Disk:
    """A disk that was found.

    Attributes:
        center: (y, x) in pixels of the frame; (0, 0) is the middle of its first pixel. May lie outside.
        radius: pixels.
        std: standard deviation of the centre along each axis (y, x), pixels.
        brightness: above the ground, counts a pixel.
        visible: share of its area that is on the frame.
    """

    center: tuple[float, float]
    radius: float
    std: tuple[float, float]
    brightness: float
    visible: float

    def offset(self, shape: tuple[int, int]) -> tuple[float, float]:
        """From the middle of a frame of some shape to the centre (y, x), pixels."""
        return self.center[0] - (shape[0] - 1) / 2, self.center[1] - (shape[1] - 1) / 2


def find_disk(frame: npt.NDArray[np.generic]) -> Disk | None:
    """The disk on a frame (h, w), or None where none is to be seen.

    An empty frame, one that is all bright, and one with nothing round on it have no disk.

    Raises:
        ValueError: the frame is not an image of at least 8 by 8 pixels.
    """
    image = np.asarray(frame, dtype=np.float64)
    if image.ndim != 2 or min(image.shape) < 8:
        raise ValueError(f"A camera frame is an image of at least 8 by 8 pixels, not of shape {image.shape}.")
    if not np.isfinite(image).all():
        image = np.where(
            np.isfinite(image), image, np.median(image[np.isfinite(image)]) if np.isfinite(image).any() else 0
        )
    small, factor = _reduced(_without_hot_pixels(image))
    start = _guess(small)
    found = None if start is None else _fit(small, start)
    if found is None:
        return None
    (y, x, radius, _edge, brightness, _ground), std = found
    center = float((y + 0.5) * factor - 0.5), float((x + 0.5) * factor - 0.5)
    spread = float(std[0] * factor), float(std[1] * factor)
    return Disk(center, float(radius * factor), spread, float(brightness), _visible(small.shape, y, x, radius))


def center_of_mass(frame: npt.NDArray[np.generic]) -> tuple[float, float] | None:
    """Centre of mass (y, x) of what is brighter than halfway between ground and disk, pixels; None if nothing is.

    A second opinion: it knows nothing of a disk's shape, and does not share an error of the fit.
    """
    image = _without_hot_pixels(np.nan_to_num(np.asarray(frame, dtype=np.float64)))
    smooth = ndimage.gaussian_filter(image, max(image.shape) / 100)
    bright = _brightest(smooth, 2, 99.5)
    if bright is None:
        return None
    y, x = ndimage.center_of_mass(bright)
    return float(y), float(x)


def _brightest(smooth: Array, low: float, high: float) -> npt.NDArray[np.bool_] | None:
    """The largest spot (h, w) that is brighter than halfway between two percentiles; None if there is none."""
    ground, top = np.percentile(smooth, (low, high))
    if not top > ground:
        return None
    label, count = ndimage.label(smooth > (ground + top) / 2)
    if not count:
        return None
    areas = ndimage.sum_labels(np.ones_like(smooth), label, range(1, count + 1))
    return np.asarray(label == 1 + int(np.argmax(areas)))


def _without_hot_pixels(image: Array) -> Array:
    """Replace what stands far out from its neighbours by their median."""
    median = ndimage.median_filter(image, 3, mode="nearest")
    off = image - median
    usual = float(np.percentile(np.abs(off), 99.5))
    noise = float(np.sqrt(np.mean(np.minimum(np.abs(off), usual) ** 2)))
    return np.where(off > max(8 * noise, 2 * usual), median, image)


def _reduced(image: Array) -> tuple[Array, int]:
    """Means over blocks, so that the shorter side has about ``SIDE`` pixels; and the size of a block."""
    factor = max(1, min(image.shape) // SIDE)
    h, w = (n // factor for n in image.shape)
    return np.asarray(reduced(image[: h * factor, : w * factor], (h, w))), factor


def _guess(image: Array) -> Array | None:
    """Where to begin: the largest bright spot of the smoothed image, taken for a disk; None if all is alike."""
    bright = _brightest(ndimage.gaussian_filter(image, 2.0), 1, 99.8)
    if bright is None or bright.sum() < 4:
        return None
    y, x = ndimage.center_of_mass(bright)
    inside, outside = float(image[bright].mean()), float(image[~bright].mean())
    # half the larger extent: more of a disk at the border is missing than its area tells
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    radius = max(np.sqrt(bright.sum() / np.pi), np.ptp(rows) / 2, np.ptp(columns) / 2, 1.0)
    y, x = (_moved_out(c, e, n, radius) for c, e, n in ((y, rows, image.shape[0]), (x, columns, image.shape[1])))
    return np.array([y, x, radius, 1.0, inside - outside, outside])


def _moved_out(center: float, extent: npt.NDArray[np.intp], size: int, radius: float) -> float:
    """Along one axis, the centre of a disk of which a part may lie beyond one border."""
    low, high = extent[0] == 0, extent[-1] == size - 1
    if low and not high:
        return float(extent[-1] - radius)
    if high and not low:
        return float(extent[0] + radius)
    return center


def _fit(image: Array, start: Array) -> tuple[Array, Array] | None:
    """(y, x, radius, edge, brightness, ground) and the standard deviations of the first two; None if it is no disk."""
    h, w = image.shape
    noise = max(_noise(image), 1e-9 * max(float(np.ptp(image)), 1e-12))
    low = np.array([-h, -w, SMALLEST_PX / 2, 0.2, 0.0, -np.inf])
    high = np.array([2 * h, 2 * w, 1.5 * max(h, w), 0.25 * max(h, w), np.inf, np.inf])
    p, covariance, residual = _descend(image, noise, np.clip(start, low, high), low, high)
    y, x, radius, edge, brightness, _ = p
    std = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    inside = _visible(image.shape, y, x, radius) * np.pi * radius**2
    flat, left = float(((image - np.median(image)) ** 2).sum()), float((residual**2).sum()) * noise**2
    explained = (flat - left) / max(flat - image.size * noise**2, 1e-12 * flat + 1e-300)
    if (
        brightness * np.sqrt(max(inside, 1.0)) < SIGNIFICANT * noise
        or brightness < SIGNIFICANT * std[4]
        or radius < SMALLEST_PX
        or edge > radius / 2
        or inside < VISIBLE * np.pi * radius**2
        or explained < BETTER
        or max(std[:2]) > radius / 4
    ):
        return None
    return p, std[:2]


def _descend(image: Array, noise: float, start: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Least squares with Huber's loss (Levenberg 1944, Marquardt 1963): parameters, covariance (6, 6), residuals.

    By normal equations, which for six parameters and ten thousand pixels takes a tenth of what scipy's takes.
    """
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].reshape(2, -1).astype(np.float64)
    values = image.ravel()

    def residuals(p: Array) -> tuple[Array, Array, Array, Array, Array]:
        dy, dx = rows - p[0], columns - p[1]
        distance = np.sqrt(dy**2 + dx**2 + 1e-12)
        inside = special.expit((p[2] - distance) / p[3])
        return (inside * p[4] + p[5] - values) / noise, dy, dx, distance, inside

    def cost(r: Array) -> float:
        return float(special.huber(OUTLIER, r).sum())

    def slopes(p: Array, dy: Array, dx: Array, distance: Array, inside: Array) -> Array:
        edge = inside * (1 - inside) * (p[4] / p[3])
        by_edge = -edge * (p[2] - distance) / p[3]
        return (
            np.stack([edge * dy / distance, edge * dx / distance, edge, by_edge, inside, np.ones_like(inside)]) / noise
        )

    def weighted(J: Array, r: Array) -> Array:
        return np.asarray(J * np.minimum(1.0, OUTLIER / np.maximum(np.abs(r), 1e-12)))

    p, damping = start, 1e-3
    r, *parts = residuals(p)
    best = cost(r)
    for _ in range(50):
        J = slopes(p, *parts)
        WJ = weighted(J, r)
        information, gradient = WJ @ J.T, WJ @ r
        while damping < 1e8:
            system = information + np.diag(damping * np.maximum(np.diag(information), 1e-12))
            tried = np.clip(p - np.linalg.solve(system, gradient), low, high)
            r_tried, *parts_tried = residuals(tried)
            if (reached := cost(r_tried)) < best:
                break
            damping *= 5
        else:
            break
        gained, best = best - reached, reached
        p, r, parts, damping = tried, r_tried, parts_tried, max(damping / 5, 1e-9)
        if gained < 1e-6 * best:
            break
    J = slopes(p, *parts)
    WJ = weighted(J, r)
    bread = np.linalg.pinv(WJ @ J.T)
    # pixels in the disk are noisier than those around it: White's covariance (1980) takes each as it is
    return p, bread @ ((WJ * r**2) @ WJ.T) @ bread, r


def _noise(image: Array) -> float:
    """Standard deviation of the noise of a pixel, from what differs between neighbours (Immerkaer 1996)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    return float(np.sqrt(np.pi / 2) * np.mean(np.abs(ndimage.convolve(image, kernel)))) / 6


def _visible(shape: tuple[int, ...], y: float, x: float, radius: float) -> float:
    """Share of a disk's area that lies on an image."""
    unit = np.linspace(-1, 1, 81)
    dy, dx = np.meshgrid(unit, unit, indexing="ij")
    disk = dy**2 + dx**2 <= 1
    rows, columns = y + radius * dy[disk], x + radius * dx[disk]
    on = (rows >= -0.5) & (rows <= shape[0] - 0.5) & (columns >= -0.5) & (columns <= shape[1] - 0.5)
    return float(on.mean())
