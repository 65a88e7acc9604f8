"""Policies that are fixed before the experiment: raster, random, a given list, features of the overview."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from autoexp.agent import Outcome, Suggestion
from autoexp.patches import Candidates
from autoexp.plan import FeatureAgent

Order = npt.NDArray[np.intp]


class OrderedPolicy:
    """Measures candidates in an order that is known from the start.

    Args:
        candidates: where it may measure.
        order: candidate indices, first to last.
        reason: why, as a sentence for the operator.
    """

    name = "ordered"

    def __init__(self, candidates: Candidates, order: Order, reason: str):
        self._candidates = candidates
        self._left = [int(i) for i in reversed(order) if candidates.allowed[i]]  # the last is the next
        self._reason = reason
        self._done: set[int] = set()

    def suggest(self, n: int, pending: Sequence[Suggestion] = ()) -> list[Suggestion]:
        """The next ``n`` of the order."""
        taken = {s.candidate for s in pending}
        left = (index for index in reversed(self._left) if index not in taken and index not in self._done)
        return [self._suggestion(index) for _, index in zip(range(n), left, strict=False)]

    def ingest(self, outcomes: Sequence[Outcome]) -> None:
        """Remember what is done; values do not matter."""
        self._done |= {o.candidate for o in outcomes if o.candidate is not None}
        while self._left and self._left[-1] in self._done:
            self._left.pop()

    def _suggestion(self, index: int) -> Suggestion:
        y, x = self._candidates.positions[index]
        return Suggestion(index, (float(y), float(x)), self._reason)


class GridPolicy(OrderedPolicy):
    """An even raster of ``budget`` points over the whole field, row by row, then whatever is left."""

    name = "grid"

    def __init__(self, candidates: Candidates, budget: int):
        rows, columns = candidates.shape
        budget = min(budget, rows * columns)
        down = min(rows, max(math.ceil(budget / columns), round(math.sqrt(budget * rows / columns))))
        ends = np.round(np.linspace(0, budget, down + 1)).astype(int)
        lines = zip(_spread(rows, down), np.diff(ends), strict=True)
        raster = np.concatenate([row * columns + _spread(columns, int(count)) for row, count in lines])
        rest = np.setdiff1d(np.arange(len(candidates)), raster)
        super().__init__(candidates, np.concatenate([raster, rest]), "next point of the raster")


class RandomPolicy(OrderedPolicy):
    """Candidates in a random order that the seed fixes."""

    name = "random"

    def __init__(self, candidates: Candidates, seed: int):
        order = np.random.default_rng([seed, 10]).permutation(len(candidates))
        super().__init__(candidates, order, "drawn at random")


class FeaturePolicy(OrderedPolicy):
    """The blobs of the overview, strongest first: maxima of a difference of Gaussians of the size looked for."""

    name = "features"

    def __init__(self, candidates: Candidates, spec: FeatureAgent):
        image = np.asarray(candidates.image, dtype=np.float32)
        sign = 1.0 if spec.polarity == "bright" else -1.0
        narrow = ndimage.gaussian_filter(image, spec.size_px / 2, mode="reflect")
        blobs = sign * (narrow - ndimage.gaussian_filter(image, spec.size_px, mode="reflect"))
        size = 2 * max(1, round(spec.size_px)) + 1
        floor = blobs.mean() + 2 * blobs.std()
        peaks = np.argwhere((blobs == ndimage.maximum_filter(blobs, size)) & (blobs > floor))
        strongest = peaks[np.argsort(-blobs[tuple(peaks.T)], kind="stable")]
        order = [candidates.nearest(((y + 0.5) / image.shape[0], (x + 0.5) / image.shape[1])) for y, x in strongest]
        unique = np.array(list(dict.fromkeys(order)), dtype=np.intp)
        super().__init__(candidates, unique, f"{spec.polarity} feature of the overview")


class ListPolicy:
    """Given positions, in their order; they need not be candidates."""

    name = "list"

    def __init__(self, candidates: Candidates, positions: Sequence[tuple[float, float]]):
        self._left = [
            Suggestion(None, (float(p[0]), float(p[1])), f"number {i + 1} of the given list")
            for i, p in enumerate(positions)
            if candidates.allows(p)
        ]

    def suggest(self, n: int, pending: Sequence[Suggestion] = ()) -> list[Suggestion]:
        """The next ``n`` of the list."""
        taken = {s.position for s in pending}
        return [s for s in self._left if s.position not in taken][:n]

    def ingest(self, outcomes: Sequence[Outcome]) -> None:
        """Strike off what is done."""
        done = {o.position for o in outcomes}
        self._left = [s for s in self._left if s.position not in done]


def _spread(length: int, count: int) -> npt.NDArray[np.intp]:
    """``count`` indices, evenly spread over ``length`` with half a step at both ends."""
    return np.unique(((np.arange(count) + 0.5) * length / count).astype(np.intp))
