"""The points of a run: every decision, what became of it, and what is asked of all of them after every event.

As all of a state they are values: a change gives other points, which share with these what has not changed. What goes
over all points, a count or the best of them, is kept, not computed anew, so that the ten-thousandth point costs no more
than the hundredth.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from autoexp.agent import Outcome, Suggestion
from autoexp.persistent import PersistentList, PersistentSet

PointStatus = Literal["decided", "exposing", "measured", "failed", "skipped"]
PENDING = ("decided", "exposing")

V = TypeVar("V")


def changed(value: V, /, **changes: Any) -> V:
    """A frozen dataclass, one without slots, with some fields changed: ``replace`` at a tenth of its cost."""
    new = object.__new__(type(value))
    object.__setattr__(new, "__dict__", value.__dict__ | changes)
    return new


@dataclass(frozen=True)
class Point:
    """One decision and what became of it.

    ``shift_eV`` and ``zero_loss`` are what :class:`autoexp.events.Measured` says of the energies of its spectrum.
    """

    id: int
    candidate: int | None
    position: tuple[float, float]
    reason: str
    agent: str
    status: PointStatus = "decided"
    mean: float | None = None
    std: float | None = None
    request: str | None = None
    value: float = float("nan")
    noise: float = 0.0
    second: float | None = None
    second_noise: float = 0.0
    record: int | None = None
    crc32: int | None = None
    shift_eV: float = 0.0
    zero_loss: Any = None
    fault: str = ""
    dose_e: float = 0.0
    exposed: bool = False

    @property
    def compared(self) -> tuple[float, float] | None:
        """Both values, where there are two and both are numbers."""
        if self.second is None or not (math.isfinite(self.value) and math.isfinite(self.second)):
            return None
        return self.value, self.second

    @property
    def suggestion(self) -> Suggestion:
        """The point as the agent suggested it."""
        return Suggestion(self.candidate, self.position, self.reason, self.mean, self.std)

    @property
    def pending(self) -> bool:
        """Whether its outcome is not known yet. Once it is, nothing but the values change."""
        return self.status in PENDING

    @property
    def scored(self) -> bool:
        """Whether it is measured and has a number."""
        return self.status == "measured" and math.isfinite(self.value)

    @property
    def outcome(self) -> Outcome | None:
        """What the agent is to learn of it; None while that is not known, and if it was never exposed."""
        if self.pending or (self.status == "skipped" and not self.exposed):
            return None
        status: Literal["ok", "failed", "skipped"] = (
            "ok" if self.scored else "skipped" if self.status == "skipped" else "failed"
        )
        return Outcome(status, self.candidate, self.position, self.value, self.noise, self.second, self.second_noise)


@dataclass(frozen=True, eq=False, repr=False)
class Points(Mapping[int, Point]):
    """Points by id. Ids count the decisions, from 0.

    Attributes:
        in_order: the points.
        settled: how many of them, from the first, are no longer pending; of these nothing but values can change.
        learned: ids and outcomes of the settled points.
        measured: number of points with a usable spectrum.
        failed: number of points that were exposed and gave nothing usable.
        exposures: number of exposures that the budget has paid for.
        highest: the point with the highest value, the earliest of several.
        lowest: the point with the lowest value, the earliest of several.
        latest_record: the highest number of a measured point's spectrum; -1 before the first.
        taken: ids of the requests that were taken up.
    """

    in_order: PersistentList[Point] = field(default_factory=PersistentList)
    settled: int = 0
    learned: PersistentList[tuple[int, Outcome]] = field(default_factory=PersistentList)
    measured: int = 0
    failed: int = 0
    exposures: int = 0
    highest: Point | None = None
    lowest: Point | None = None
    latest_record: int = -1
    taken: PersistentSet[str] = field(default_factory=PersistentSet)

    @property
    def last(self) -> Point | None:
        """The point decided last."""
        return self.in_order[-1] if self.in_order else None

    @property
    def next_id(self) -> int:
        """The id of the next decision."""
        return len(self.in_order)

    @property
    def unsettled(self) -> Iterator[Point]:
        """The pending points, and whatever was decided after the first of them: never more than a few in a run."""
        return self.in_order.since(self.settled)

    def settled_since(self, index: int) -> Iterator[Point]:
        """The settled points from an index on; for whoever follows a run and has seen those before."""
        return (self.in_order[i] for i in range(index, self.settled))

    @property
    def outcomes(self) -> PersistentList[tuple[int, Outcome]]:
        """Ids and outcomes of all points that have one."""
        found = self.learned
        for point in self.unsettled:
            if (outcome := point.outcome) is not None:
                found = found.append((point.id, outcome))
        return found

    def added(self, point: Point) -> Points:
        """With a new decision, whose id is the next."""
        taken = self.taken if point.request is None else self.taken.add(point.request)
        return changed(self, in_order=self.in_order.append(point), taken=taken)

    def updated(self, point: Point) -> Points:
        """With what became of a point that was pending until now."""
        in_order = self.in_order.set(point.id, point)
        exposures = self.exposures + point.exposed - self.in_order[point.id].exposed
        sums = {} if point.pending else self._settled(point) | self._summed(point)
        return changed(self, in_order=in_order, exposures=exposures, **sums)

    def rescored(self, points: Iterable[Point]) -> Points:
        """With measured points that have other values; the only change that goes through all points."""
        known = list(self.in_order)
        for point in points:
            known[point.id] = point
        scored = [p for p in known if p.scored]
        learned = [(p.id, outcome) for p in known[: self.settled] if (outcome := p.outcome) is not None]
        return changed(
            self,
            in_order=PersistentList(known),
            learned=PersistentList(learned),
            highest=max(scored, key=lambda p: p.value, default=None),
            lowest=min(scored, key=lambda p: p.value, default=None),
        )

    def _settled(self, point: Point) -> dict[str, Any]:
        """How far points are settled once this one is."""
        settled, learned = self.settled, self.learned
        if point.id != settled:
            return {}
        while not point.pending:
            if (outcome := point.outcome) is not None:
                learned = learned.append((point.id, outcome))
            settled += 1
            if settled == len(self.in_order):
                break
            point = self.in_order[settled]
        return {"settled": settled, "learned": learned}

    def _summed(self, point: Point) -> dict[str, Any]:
        """Counts and extremes with a point whose outcome is now known."""
        sums: dict[str, Any] = {}
        if point.status == "failed":
            sums["failed"] = self.failed + 1
        if point.status == "measured":
            sums["measured"] = self.measured + 1
            sums["latest_record"] = max(self.latest_record, -1 if point.record is None else point.record)
        return sums | self._extremes(point) if point.scored else sums

    def _extremes(self, point: Point) -> dict[str, Any]:
        """The highest and the lowest value with that of one more point; of equal ones the earliest counts."""
        high, low = self.highest, self.lowest
        higher = high is None or (point.value, -point.id) > (high.value, -high.id)
        lower = low is None or (point.value, point.id) < (low.value, low.id)
        return {"highest": point if higher else high, "lowest": point if lower else low}

    def __getitem__(self, point_id: int) -> Point:
        if not 0 <= point_id < len(self.in_order):
            raise KeyError(point_id)
        return self.in_order[point_id]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.in_order)))

    def __len__(self) -> int:
        return len(self.in_order)

    def values(self) -> ValuesView[Point]:
        """The points, in the order of the decisions."""
        return _Values(self)

    def items(self) -> ItemsView[int, Point]:
        """Ids and points, in the order of the decisions."""
        return _Items(self)

    def __repr__(self) -> str:
        return f"Points({list(self.in_order)})"


class _Values(ValuesView[Point]):
    _mapping: Points

    def __iter__(self) -> Iterator[Point]:
        return iter(self._mapping.in_order)


class _Items(ItemsView[int, Point]):
    _mapping: Points

    def __iter__(self) -> Iterator[tuple[int, Point]]:
        return enumerate(self._mapping.in_order)
