"""Square maps of a specimen's properties, centred on the stage origin: sampling them, and drawing into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from virtual_stem.specimen import Array, Image

Box = tuple[slice, slice]


def sample_map(values: npt.NDArray[Any], size_nm: float, points_nm: Array) -> Array:
    """Interpolate a map (H, W), which spans ``size_nm`` about the origin, at ``points_nm`` (..., 2); shape (...,).

    Linear between pixel centres; beyond the border the border's value is kept.
    """
    shape = np.asarray(values.shape).reshape(2, *[1] * (points_nm.ndim - 1))
    pixels = (np.moveaxis(points_nm, -1, 0) / size_nm + 0.5) * shape - 0.5
    return np.asarray(ndimage.map_coordinates(values, pixels, order=1, mode="nearest", output=np.float64))


def map_boxes(centre_nm: Array, reach_nm: Array, size_nm: float, pixels: int) -> Iterator[tuple[int, Box, Image]]:
    """For each object: its number, the part of a map (pixels, pixels) that it may touch, and the positions there.

    Args:
        centre_nm: (n, 2) where the objects are.
        reach_nm: (n,) how far from there they may reach.
        size_nm: side of the map.
        pixels: its pixels along a side.

    Yields:
        number, (rows, columns) as slices, positions (h, w, 2) nm; nothing for an object that lies beyond the map.
    """
    line = (((np.arange(pixels) + 0.5) / pixels - 0.5) * size_nm).astype(np.float32)
    for k, (centre, reach) in enumerate(zip(centre_nm, reach_nm, strict=True)):
        low, high = (np.searchsorted(line, centre + side * reach) for side in (-1, 1))
        y, x = line[low[0] : high[0]], line[low[1] : high[1]]
        if y.size and x.size:
            points = np.stack(np.broadcast_arrays(y[:, None], x[None]), axis=-1)
            yield k, np.s_[low[0] : high[0], low[1] : high[1]], points


def grain(rng: np.random.Generator, pixels: int, correlation_px: float) -> Image:
    """A seamless random texture (pixels, pixels) of zero mean and unit standard deviation, as of an amorphous film."""
    noise = ndimage.gaussian_filter(rng.standard_normal((pixels, pixels), np.float32), correlation_px, mode="wrap")
    return np.asarray(noise / noise.std(), np.float32)
