"""Where a run has measured, or is about to."""

from __future__ import annotations

from autoexp.state import Point, RunState

ON_THE_SPOT = 1e-6
"""Fractions of the field within which two positions are the same."""


class Visits:
    """Which candidates and positions were exposed or are to be; kept up from state to state of one run."""

    def __init__(self) -> None:
        self._counted = 0
        self._open: set[int] = set()
        self._candidates: set[int] = set()
        self._spots: set[tuple[int, int]] = set()

    def holds(self, candidate: int | None, position: tuple[float, float], state: RunState) -> bool:
        """Whether a candidate or a position has been visited in a state, or is about to be."""
        self._catch_up(state)
        pending = [state.points[i] for i in self._open]
        if candidate is not None and (candidate in self._candidates or any(p.candidate == candidate for p in pending)):
            return True
        y, x = _spot(position)
        near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
        return not near.isdisjoint(self._spots) or any(_spot(p.position) in near for p in pending)

    def _catch_up(self, state: RunState) -> None:
        """Take in the points that are new, and those that were open before."""
        new = range(self._counted, max(self._counted, state.next_id))
        self._counted = max(self._counted, state.next_id)
        for i in sorted(self._open.union(new)):
            point = state.points.get(i)
            if point is not None:
                self._take_in(i, point)

    def _take_in(self, i: int, point: Point) -> None:
        if point.status in ("decided", "exposing"):
            self._open.add(i)
            return
        self._open.discard(i)
        if point.exposed:
            self._spots.add(_spot(point.position))
            if point.candidate is not None:
                self._candidates.add(point.candidate)


def _spot(position: tuple[float, float]) -> tuple[int, int]:
    return round(position[0] / ON_THE_SPOT), round(position[1] / ON_THE_SPOT)
