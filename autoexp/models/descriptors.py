"""What is computed on one tile of the overview: multi-scale derivatives, patches, a random convolutional bank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from autoexp.models.tiles import ALIGN, Map, Points, block_mean

OCTAVES = 4
BANK = (8, 16)


def halo(patch: int) -> int:
    """Pixels beyond a tile at which its descriptors look: three standard deviations of the coarsest octave."""
    reach = 3 * finest(patch) * 2 ** (OCTAVES - 1) + 2**OCTAVES
    return -(-int(reach) // ALIGN) * ALIGN


def finest(patch: int) -> float:
    """Gaussian width of the finest octave, pixels: a sixteenth of the patch, and no less than the grid can hold."""
    return max(patch / 16, 0.7)


def derivatives(tile: Map, centres: Points, patch: int) -> Map:
    """Multi-scale derivatives at each centre.

    At each octave of a pyramid, σ = patch/16, patch/8, patch/4, patch/2: the Gaussian-smoothed image, the magnitude of
    its gradient, the two eigenvalues of its Hessian, and the local standard deviation (Lindeberg 1998, "Feature
    detection with automatic scale selection").

    Args:
        tile: (h, w) image.
        centres: (n, 2) positions (y, x) in it; pixel i spans i to i + 1.
        patch: side of a patch, pixels.

    Returns:
        (n, 5 * OCTAVES).
    """
    found: list[Map] = []
    for octave in range(OCTAVES):
        at = (centres / 2**octave - 0.5).T
        found += [ndimage.map_coordinates(m, at, order=1, mode="nearest") for m in _structure(tile, finest(patch))]
        tile = block_mean(tile, 2)
    return np.stack(found, axis=1)


def _structure(image: Map, sigma: float) -> list[Map]:
    smooth = ndimage.gaussian_filter(image, sigma, truncate=3.0)
    spread = ndimage.gaussian_filter(image**2, sigma, truncate=3.0) - smooth**2
    dy, dx = np.gradient(smooth)
    dyy, dyx = np.gradient(dy)
    dxx = np.gradient(dx, axis=1)
    middle, half = (dyy + dxx) / 2, np.hypot((dyy - dxx) / 2, dyx)
    return [smooth, np.hypot(dy, dx), middle + half, middle - half, np.sqrt(np.maximum(spread, 0))]


def windows(tile: Map, centres: Points, patch: int) -> Map:
    """The patches (n, patch, patch) round the centres (n, 2), to the nearest pixel."""
    corner = np.floor(centres - patch / 2 + 0.5 + 1e-6).astype(int)  # as Candidates.patches rounds
    return np.asarray(np.lib.stride_tricks.sliding_window_view(tile, (patch, patch))[corner[:, 0], corner[:, 1]])


@dataclass(frozen=True)
class RandomBank:
    """A convolutional network of two layers whose filters are random and stay so (Saxe et al. 2011).

    Attributes:
        first: (25, a) filters of 5 x 5, applied with stride 2.
        second: (9 a, b) filters of 3 x 3.
    """

    first: Map
    second: Map

    @classmethod
    def frozen(cls) -> RandomBank:
        """The one bank that is used in every run: filters of unit norm."""
        rng = np.random.default_rng([2011, 0])
        layers = rng.standard_normal((25, BANK[0])), rng.standard_normal((9 * BANK[0], BANK[1]))
        first, second = ((layer / np.linalg.norm(layer, axis=0)).astype(np.float32) for layer in layers)
        return cls(first, second)

    def __call__(self, tile: Map, centres: Points, patch: int) -> Map:
        """Rectified responses (n, 2 b): the mean over each patch, and the value at its centre.

        The maximum over the patch was tried as well: it took most of the time, and no target was predicted better.
        """
        first = np.maximum(_convolve(tile[..., None], self.first, 5, 2), 0)
        maps = np.maximum(_convolve(first, self.second, 3, 1), 0)
        width = max(1, patch // 2)
        rows, columns = np.minimum((centres / 2).astype(int), np.array(maps.shape[:2]) - 1).T
        mean = ndimage.uniform_filter(maps, (width, width, 1))[rows, columns]
        return np.concatenate([mean, maps[rows, columns]], axis=1)


def _convolve(image: Map, filters: Map, size: int, stride: int) -> Map:
    """(h, w, c) with filters (c size², k) gives (h / stride, w / stride, k); mirrored at the border."""
    reach = size // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))[::stride, ::stride]
    h, w = seen.shape[:2]
    return np.asarray((seen.reshape(h * w, -1) @ filters).reshape(h, w, -1))
