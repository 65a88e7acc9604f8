"""Fills space: each point as far as possible from all before it. The policy of last resort, and a good first look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoexp.agent import Outcome, Suggestion
from autoexp.patches import Candidates


class SpaceFillingPolicy:
    """Farthest-point sampling over the allowed candidates, in overview pixels; it starts where the seed says."""

    name = "space-filling"

    def __init__(self, candidates: Candidates, seed: int):
        self._candidates = candidates
        self._points = candidates.positions * np.asarray(candidates.image.shape)
        allowed = np.flatnonzero(candidates.allowed)
        self._first = int(np.random.default_rng([seed, 11]).choice(allowed)) if len(allowed) else None
        self._distance = np.full(len(candidates), np.inf)
        self._distance[~candidates.allowed] = -1.0

    def suggest(self, n: int, pending: Sequence[Suggestion] = ()) -> list[Suggestion]:
        """The ``n`` farthest candidates, each taken before the next is looked for."""
        distance = self._distance.copy()
        for suggestion in pending:
            self._mark(distance, suggestion.candidate, suggestion.position)
        found: list[Suggestion] = []
        for _ in range(n):
            index = self._first if np.isinf(distance).any() else int(distance.argmax())
            if index is None or distance[index] <= 0:
                break
            y, x = self._candidates.positions[index]
            found.append(Suggestion(index, (float(y), float(x)), "farthest from all points so far"))
            self._mark(distance, index, (float(y), float(x)))
        return found

    def ingest(self, outcomes: Sequence[Outcome]) -> None:
        """Remember where measurements were made."""
        for outcome in outcomes:
            self._mark(self._distance, outcome.candidate, outcome.position)

    def _mark(self, distance: np.ndarray, candidate: int | None, position: tuple[float, float]) -> None:
        point = np.asarray(position) * np.asarray(self._candidates.image.shape)
        np.minimum(distance, np.linalg.norm(self._points - point, axis=1), out=distance)
        if candidate is not None:
            distance[candidate] = -1.0
