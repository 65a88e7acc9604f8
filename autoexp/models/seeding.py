"""Filling space before there is a model: points that differ in what the overview shows, and in where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from autoexp.models.features import Views

Space = Literal["structure", "field"]


class SpaceFilling:
    """Distances of all candidates from what was measured, in structure and in the field.

    Structure is drawn as k-means++ draws its centres, with a probability proportional to the squared distance (Arthur
    & Vassilvitskii 2007): it covers all that occurs in the image, and is not led astray by its few oddest patches, as
    the farthest point would be. In the field the farthest point is taken.

    Args:
        views: of all n candidates; the last one is position.
    """

    def __init__(self, views: Views):
        self._spaces: dict[Space, tuple[npt.NDArray[np.float32], ...]] = {
            "structure": views.arrays[:-1],
            "field": views.arrays[-1:],
        }
        self._squared = {space: np.full(len(views), np.inf) for space in self._spaces}
        self._added: dict[Space, list[int]] = {space: [] for space in self._spaces}

    def add(self, row: int) -> None:
        """Remember a point that was measured; the distances are looked at when they are needed."""
        for rows in self._added.values():
            rows.append(row)

    def choose(
        self, space: Space, free: npt.NDArray[np.bool_], pending: Sequence[int], rng: np.random.Generator
    ) -> int:
        """A candidate far from all that was measured or is pending.

        Args:
            space: in which it is to be far.
            free: (n,) where one may measure; at least one.
            pending: rows in flight.
            rng: only used in structure, and for the very first point.
        """
        self._squared[space] = self._with(space, self._added[space])
        self._added[space] = []
        squared = np.where(free, self._with(space, pending), 0.0)
        if np.isinf(squared).any():
            return int(rng.choice(np.flatnonzero(free)))
        if space == "structure" and squared.sum() > 0:
            return int(rng.choice(len(squared), p=squared / squared.sum()))
        if space == "structure":
            return self.choose("field", free, pending, rng)
        return int(np.where(free, squared, -1.0).argmax())

    def _with(self, space: Space, rows: Sequence[int]) -> npt.NDArray[np.float64]:
        squared = self._squared[space]
        for row in rows:
            away = sum(((view - view[row]) ** 2).sum(axis=1, dtype=np.float64) for view in self._spaces[space])
            squared = np.minimum(squared, away)
        return squared
