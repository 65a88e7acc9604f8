"""Filling space before there is a model: points that differ in what the overview shows, and in where they lie."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from autoexp.models.features import Views


class SpaceFilling:
    """Distances of all candidates from what was measured, in structure and place together.

    A point is drawn as k-means++ draws its centres, with a probability proportional to the squared distance (Arthur &
    Vassilvitskii 2007): that covers all that occurs in the image, and is not led astray by its few oddest patches, as
    taking the farthest point would be. Structure, which is the mean of the views that describe it, and position count
    alike.

    Args:
        views: of all n candidates; the last one is position.
    """

    def __init__(self, views: Views):
        *structure, position = views.arrays
        self._views = [(view, 1 / len(structure)) for view in structure] + [(position, 1.0)]
        self._squared = np.full(len(views), np.inf)
        self._added: list[int] = []

    def add(self, row: int) -> None:
        """Remember a point that was measured; distances are only computed when they are needed."""
        self._added.append(row)

    def choose(self, free: npt.NDArray[np.bool_], pending: Iterable[int], rng: np.random.Generator) -> int:
        """A candidate far from all that was measured or is pending.

        Args:
            free: (n,) where one may measure; at least one.
            pending: rows in flight.
            rng: draws it.
        """
        self._squared = self._nearer(self._squared, self._added)
        self._added = []
        weight = np.where(free, self._nearer(self._squared, pending), 0.0)
        if not 0 < weight.sum() < np.inf:
            return int(rng.choice(np.flatnonzero(free)))
        return int(rng.choice(len(weight), p=weight / weight.sum()))

    def _nearer(self, squared: npt.NDArray[np.float64], rows: Iterable[int]) -> npt.NDArray[np.float64]:
        for row in rows:
            away = [share * ((view - view[row]) ** 2).sum(axis=1, dtype=np.float64) for view, share in self._views]
            squared = np.minimum(squared, sum(away))
        return squared
