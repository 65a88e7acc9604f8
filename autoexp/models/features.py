"""Views: several descriptions of every candidate, computed once over the whole overview.

Each view has one isotropic length scale in the model, which works because it is standardised as a whole: columns of
mean zero, and a total variance of one, so that two candidates drawn at random are √2 apart in the mean square. Views
are computed tile by tile and fully convolutionally: overlapping patches share the work, and an overview that is mapped
from disk is never held in memory.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoexp.models.descriptors import BANK, OCTAVES, RandomBank, derivatives, halo, windows
from autoexp.models.tiles import Frame, Map
from autoexp.patches import Candidates

COMPONENTS = {"derivatives": 10, "patch": 8, "random": 10}
SAMPLE = 4096
CHUNK = 65_536

View = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Views:
    """Descriptions of all n candidates.

    Attributes:
        names: one for each view; the last one is ``position``.
        arrays: (n, d) each; column means zero, total variance one (or all zero where nothing varies).
    """

    names: tuple[str, ...]
    arrays: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.arrays[0])

    @property
    def structured(self) -> bool:
        """Whether candidates differ in anything but position."""
        return any(bool(view.any()) for view in self.arrays[:-1])


_known: dict[tuple[int, int], Views] = {}


def views_of(candidates: Candidates) -> Views:
    """The views of some candidates, computed once for each overview, whatever regions are applied to it later."""
    key = (id(candidates.image), id(candidates.positions))
    if key not in _known:
        _known[key] = compute_views(candidates)
        for array in (candidates.image, candidates.positions):  # an id may be given to another array after that
            weakref.finalize(array, _known.pop, key, None)
    return _known[key]


def compute_views(candidates: Candidates) -> Views:
    """Derivatives, patch components, a random convolutional bank, and position, of every candidate.

    A million candidates of 32 x 32 pixels take about a gigabyte on the way, and leave 120 MB.
    """
    frame = Frame.of(candidates)
    mean, basis = patch_basis(candidates, frame)
    bank = RandomBank.frozen()
    n, margin = len(candidates), halo(frame.patch)
    raw = {
        "derivatives": np.empty((n, 5 * OCTAVES), np.float32),
        "patch": np.empty((n, basis.shape[1]), np.float32),
        "random": np.empty((n, 2 * BANK[1]), np.float32),
    }
    for indices, tile, centres in frame.tiles(margin):
        raw["derivatives"][indices] = derivatives(tile, centres, frame.patch)
        raw["patch"][indices] = (windows(tile, centres, frame.patch).reshape(len(indices), -1) - mean) @ basis
        raw["random"][indices] = bank(tile, centres, frame.patch)
    views: dict[str, npt.NDArray[np.floating]] = {
        "derivatives": principal(scaled(raw.pop("derivatives")), COMPONENTS["derivatives"]),
        "patch": raw.pop("patch"),
        "random": principal(scaled(raw.pop("random")), COMPONENTS["random"]),
        "position": frame.centres,
    }
    return Views(tuple(views), tuple(standardised(view) for view in views.values()))


def patch_basis(candidates: Candidates, frame: Frame) -> tuple[Map, Map]:
    """Mean (p²,) and principal components (p², k) of the patches, from an even sample of them."""
    patches = sampled_patches(candidates, frame)
    mean = patches.mean(axis=0)
    return mean, components(patches - mean, COMPONENTS["patch"])


def sampled_patches(candidates: Candidates, frame: Frame) -> Map:
    """The patches (k, p²) of an even sample of the candidates, k at most ``SAMPLE``."""
    sample = np.unique(np.linspace(0, len(candidates) - 1, min(len(candidates), SAMPLE)).astype(int))
    return np.concatenate(list(frame.patch_blocks(candidates, sample)))


def scaled(features: Map) -> Map:
    """Columns of mean zero and variance one, in place; a constant column becomes zero."""
    features -= features.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = features.std(axis=0, dtype=np.float64).astype(np.float32)
    features /= np.where(spread > 1e-6, spread, np.inf).astype(np.float32)
    return features


def principal(features: Map, count: int) -> Map:
    """Scores (n, k) on the first principal components of centred features (n, d), k = min(count, d)."""
    return features @ components(features, count)


def components(centred: Map, count: int) -> Map:
    """Leading eigenvectors (d, k) of the covariance of centred features (n, d), k = min(count, d)."""
    d = centred.shape[1]
    covariance = np.zeros((d, d))
    for start in range(0, len(centred), CHUNK):
        part = centred[start : start + CHUNK].astype(np.float64)
        covariance += part.T @ part
    return np.asarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :count], dtype=np.float32)


def standardised(view: npt.NDArray[np.floating]) -> View:
    """Columns of mean zero and a total variance of one; zeros if nothing varies."""
    centred = view - view.mean(axis=0, dtype=np.float64).astype(view.dtype)
    total = float(np.sqrt(centred.var(axis=0, dtype=np.float64).sum()))
    centred /= total if total > 1e-6 else np.inf
    return np.ascontiguousarray(centred, dtype=np.float32)
