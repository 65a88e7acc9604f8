"""Views: several descriptions of every candidate, computed once over the whole overview.

Each view has one isotropic length scale in the model, which works because it is standardised as a whole: columns of
mean zero, and a total variance of one, so that two candidates drawn at random are √2 apart on average. Views are
computed tile by tile and fully convolutionally: overlapping patches share the work, and an overview that is mapped
from disk is never held in memory.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from autoexp.models.tiles import Frame, Map, Points, block_mean
from autoexp.patches import Candidates

OCTAVES = 4
COMPONENTS = {"derivatives": 10, "patch": 8, "random": 10}
SAMPLE = 4096
BANK = (8, 16)

View = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Views:
    """Descriptions of all n candidates.

    Attributes:
        names: one for each view.
        arrays: (n, d) each; column means zero, total variance one (or all zero where nothing varies).
    """

    names: tuple[str, ...]
    arrays: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.arrays[0])


_known: dict[tuple[int, int], Views] = {}


def views_of(candidates: Candidates) -> Views:
    """The views of some candidates; kept as long as the candidates live, whatever regions are applied to them."""
    key = (id(candidates.image), id(candidates.positions))
    if key not in _known:
        _known[key] = compute_views(candidates)
        weakref.finalize(candidates.positions, _known.pop, key, None)
    return _known[key]


def compute_views(candidates: Candidates) -> Views:
    """Derivatives, patch components, a random convolutional bank, and position, of every candidate.

    A million candidates take about 0.5 GB beside the result of 120 MB.
    """
    frame = Frame.of(candidates)
    mean, basis = patch_basis(candidates, frame)
    filters = random_filters()
    halo = _halo(frame.patch)
    raw: list[list[Map]] = [[], [], []]
    found = []
    for indices, corner in frame.blocks(_ALIGN):
        start = (corner[0] - halo, corner[1] - halo)
        local = frame.centres[indices] - start
        reach = np.ceil(local.max(axis=0)).astype(int) + halo
        tile = frame.read(start, (_align(reach[0]), _align(reach[1])))
        raw[0].append(derivatives(tile, local, frame.patch))
        raw[1].append((windows(tile, local, frame.patch).reshape(len(indices), -1) - mean) @ basis)
        raw[2].append(random_bank(tile, local, frame.patch, filters))
        found.append(indices)
        frame.release()
    order = np.argsort(np.concatenate(found))
    gathered = [np.concatenate(parts)[order] for parts in raw]
    return Views(
        ("derivatives", "patch", "random", "position"),
        (
            standardised(principal(scaled(gathered[0]), COMPONENTS["derivatives"])),
            standardised(gathered[1]),
            standardised(principal(scaled(gathered[2]), COMPONENTS["random"])),
            standardised(frame.centres.astype(np.float32)),
        ),
    )


_ALIGN = 2**OCTAVES


def _align(length: int) -> int:
    return -(-int(length) // _ALIGN) * _ALIGN


def _halo(patch: int) -> int:
    """Pixels beyond a tile that its views look at: three standard deviations of the coarsest octave, aligned."""
    return _align(int(3 * _sigma(patch) * 2 ** (OCTAVES - 1)) + 2**OCTAVES)


def _sigma(patch: int) -> float:
    """Gaussian width of the finest octave, pixels: a sixteenth of the patch, and no less than the grid can hold."""
    return max(patch / 16, 0.7)


def derivatives(tile: Map, centres: Points, patch: int) -> Map:
    """Multi-scale derivatives at each centre.

    At each octave of a pyramid, σ = patch/16, patch/8, patch/4, patch/2: the Gaussian-smoothed image, the magnitude of
    its gradient, the two eigenvalues of its Hessian, and the local standard deviation (Lindeberg 1998).

    Args:
        tile: (h, w) image.
        centres: (n, 2) positions (y, x) in it, pixel i spanning i to i + 1.
        patch: side of a patch, pixels.

    Returns:
        (n, 5 * OCTAVES).
    """
    found = []
    for octave in range(OCTAVES):
        at = (centres / 2**octave - 0.5).T
        found += [ndimage.map_coordinates(m, at, order=1, mode="nearest") for m in _structure(tile, _sigma(patch))]
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
    """The patches (n, patch, patch) round the centres, to the nearest pixel."""
    corner = np.floor(centres - patch / 2 + 0.5 - 1e-6).astype(int)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(tile, (patch, patch))[corner[:, 0], corner[:, 1]])


def patch_basis(candidates: Candidates, frame: Frame) -> tuple[Map, Map]:
    """Mean (p²,) and principal components (p², k) of the patches, from an even sample of them."""
    sample = np.unique(np.linspace(0, len(candidates) - 1, min(len(candidates), SAMPLE)).astype(int))
    pixels = (candidates.patches(sample).astype(np.float64) - frame.offset) / frame.scale
    patches = block_mean(pixels.astype(np.float32), frame.factor).reshape(len(sample), -1)
    mean = patches.mean(axis=0)
    return mean, _components(patches - mean, COMPONENTS["patch"])


def random_filters() -> tuple[Map, Map]:
    """Two layers of frozen random filters, (25, a) and (9 a, b), of unit norm (Saxe et al. 2011)."""
    rng = np.random.default_rng([2011, 0])
    layers = [rng.standard_normal((25, BANK[0])), rng.standard_normal((9 * BANK[0], BANK[1]))]
    first, second = ((layer / np.linalg.norm(layer, axis=0)).astype(np.float32) for layer in layers)
    return first, second


def random_bank(tile: Map, centres: Points, patch: int, filters: tuple[Map, Map]) -> Map:
    """Responses of a random convolutional network, pooled over each patch.

    5 x 5 filters of stride 2, rectified; 3 x 3 filters, rectified; then mean and maximum over the patch and the value
    at its centre.

    Returns:
        (n, 3 b) with b filters in the second layer.
    """
    first = np.maximum(_convolve(tile[..., None], filters[0], 5, 2), 0)
    second = np.maximum(_convolve(first, filters[1], 3, 1), 0)
    width = max(1, patch // 2)
    rows, columns = np.minimum(np.floor(centres / 2).astype(int), np.array(second.shape[:2]) - 1).T
    pooled = [
        ndimage.uniform_filter(second, (width, width, 1))[rows, columns],
        ndimage.maximum_filter(second, (width, width, 1))[rows, columns],
        second[rows, columns],
    ]
    return np.concatenate(pooled, axis=1)


def _convolve(image: Map, filters: Map, size: int, stride: int) -> Map:
    """(h, w, c) with filters (size² c, k) gives (h / stride, w / stride, k); mirrored at the border."""
    reach = size // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))[::stride, ::stride]
    h, w = seen.shape[:2]
    return np.asarray((seen.reshape(h * w, -1) @ filters).reshape(h, w, -1))


def scaled(features: Map) -> Map:
    """Columns of mean zero and variance one; a constant column becomes zero."""
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = centred.std(axis=0, dtype=np.float64).astype(np.float32)
    return np.asarray(centred / np.where(spread > 1e-6, spread, 1.0))


def principal(features: Map, count: int) -> Map:
    """Scores (n, k) on the first principal components of centred features, k ≤ ``count``."""
    return features @ _components(features, count)


def standardised(view: npt.NDArray[np.floating]) -> View:
    """Columns of mean zero and a total variance of one; zeros if nothing varies."""
    centred = view - view.mean(axis=0, dtype=np.float64)
    total = float(np.sqrt(centred.var(axis=0, dtype=np.float64).sum()))
    return np.ascontiguousarray(centred / (total if total > 1e-6 else 1.0), dtype=np.float32)


def _components(centred: Map, count: int) -> Map:
    """Leading eigenvectors (d, k) of the covariance."""
    covariance = centred.T.astype(np.float64) @ centred / max(1, len(centred))
    return np.asarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :count], dtype=np.float32)
