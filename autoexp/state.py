"""The state of a run: a fold over its events, and nothing else.

A state is a value. Another one comes of each event and shares with it what the event leaves alone, so an event costs no
more late in a run than early; only new values of all points go through all points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from autoexp import events as ev
from autoexp.agent import Outcome
from autoexp.drift import Shift, extrapolated
from autoexp.errors import PlanError, RunLogError
from autoexp.persistent import PersistentList
from autoexp.plan import Plan
from autoexp.points import Point, Points, PointStatus, changed
from autoexp.settings import Settings

__all__ = ["Point", "PointStatus", "Points", "RunState", "Settings", "fold"]

Changes = dict[str, Any]


@dataclass(frozen=True)
class RunState:
    """Where a run stands after some of its events.

    Properties that are lists, ``pending`` and ``requests`` aside, go through all points; what is asked after every
    event does not.
    """

    seq: int = -1
    run_id: str = ""
    plan: Plan | None = None
    settings: Settings | None = None
    history: PersistentList[Settings] = field(default_factory=PersistentList)
    undone: int = 0
    phase: ev.Phase = "idle"
    phase_reason: str = ""
    remedy: ev.Verb | None = None
    prepared: ev.Prepared | None = None
    prepared_s: float = 0.0
    looks: PersistentList[ev.Drifted] = field(default_factory=PersistentList)
    seen_drift: tuple[tuple[float, Shift], ...] = ()
    aligning: bool = False
    alignments: PersistentList[ev.Aligned] = field(default_factory=PersistentList)
    disk: ev.Looked | None = None
    spectra: ev.SpectraOpened | None = None
    points: Points = field(default_factory=Points)
    served: int = 0
    dose_e: float = 0.0
    paid: dict[str, float] = field(default_factory=dict)
    stood_s: float = 0.0
    elapsed_s: float = 0.0
    measuring_s: float = 0.0
    warnings: PersistentList[str] = field(default_factory=PersistentList)
    snapshot: dict[str, float] = field(default_factory=dict)
    displaced: frozenset[str] = frozenset()
    predicted: ev.Predicted | None = None
    finished: ev.Finished | None = None

    @property
    def measured(self) -> list[Point]:
        """Points with a usable spectrum, in the order of their decisions; unscored ones have the value NaN."""
        return [p for p in self.points.values() if p.status == "measured"]

    @property
    def scored(self) -> list[Point]:
        """Measured points to which the scalarizer gives a number."""
        return [p for p in self.points.values() if p.scored]

    @property
    def failed(self) -> list[Point]:
        """Points that were exposed and gave nothing usable."""
        return [p for p in self.points.values() if p.status == "failed"]

    @property
    def measured_count(self) -> int:
        """Number of points with a usable spectrum."""
        return self.points.measured

    @property
    def failed_count(self) -> int:
        """Number of points that were exposed and gave nothing usable."""
        return self.points.failed

    @property
    def pending(self) -> list[Point]:
        """Points that were decided or begun and whose outcome is not known."""
        return [p for p in self.points.unsettled if p.pending]

    @property
    def requests(self) -> list[ev.MeasureHere]:
        """What the operator asked to measure and nobody has taken up yet."""
        if self.settings is None:
            return []
        return [r for r in self.settings.requests.since(self.served) if r.id not in self.points.taken]

    @property
    def exposures(self) -> int:
        """Exposures that the budget has paid for."""
        return self.points.exposures

    @property
    def next_id(self) -> int:
        """The id of the next decision."""
        return self.points.next_id

    @property
    def outcomes(self) -> PersistentList[tuple[int, Outcome]]:
        """All known outcomes with the ids of their points, in the order of the decisions."""
        return self.points.outcomes

    def drift(self, elapsed_s: float) -> Shift:
        """How far (y, x) the specimen is taken to have moved at a time of the run, fractions of the field."""
        return extrapolated(self.seen_drift, elapsed_s - self.prepared_s)

    def shifts(self) -> tuple[Shift, Shift]:
        """Between which shifts the drift is until the next look."""
        return self.drift(-math.inf), self.drift(math.inf)

    def best(self) -> Point | None:
        """The measured point that serves the goal best; of several the earliest."""
        return self.points.lowest if self.settings and self.settings.goal == "minimize" else self.points.highest

    def steered(self, command: ev.Steering) -> RunState:
        """The state once a steering command is in force.

        Raises:
            PlanError: the command makes no sense here; the message says why.
        """
        return changed(self, **_steered(self, command))

    def apply(self, record: ev.Record) -> RunState:
        """The state after one more event.

        Raises:
            RunLogError: no run can have this event here, so the journal is not what a run has written.
        """
        try:
            changes = _meaning(record.event, self)
        except (PlanError, RunLogError) as error:
            raise RunLogError(
                f"Event {record.seq} of this run contradicts those before it: {error} The journal was edited or is "
                "damaged; nothing was changed. Put back a copy of it, or leave this run aside."
            ) from error
        if "prepared" in changes:
            changes["prepared_s"] = record.elapsed_s
        passed = record.elapsed_s - self.elapsed_s if self.phase == "running" else 0.0
        measuring_s = self.measuring_s + max(0.0, passed)
        return changed(self, seq=record.seq, elapsed_s=record.elapsed_s, measuring_s=measuring_s, **changes)


def fold(records: Iterable[ev.Record], state: RunState | None = None) -> RunState:
    """The state after all of the records.

    Raises:
        RunLogError: no run can have had these events in this order.
    """
    state = state or RunState()
    for record in records:
        state = state.apply(record)
    return state


# --- what each event changes; an event of which nothing is said here changes nothing


@singledispatch
def _meaning(event: ev.Event, state: RunState) -> Changes:
    return {}


@_meaning.register
def _(event: ev.Started, state: RunState) -> Changes:
    if state.plan is not None:
        raise RunLogError("The run begins a second time.")
    return {"run_id": event.run_id, "plan": event.plan, "settings": Settings.of(event.plan)}


@_meaning.register
def _(event: ev.Snapshot, state: RunState) -> Changes:
    return {"snapshot": dict(event.controls), "displaced": frozenset[str]()}


@_meaning.register
def _(event: ev.Moving, state: RunState) -> Changes:
    return {"displaced": state.displaced | {event.name}}


@_meaning.register
def _(event: ev.ExposureBegun, state: RunState) -> Changes:
    return {
        "paid": {**state.paid, event.what: event.dose_e},
        "dose_e": state.dose_e + event.dose_e,
        "stood_s": state.stood_s + event.stood_s,
    }


@_meaning.register
def _(event: ev.ExposureSettled, state: RunState) -> Changes:
    settled = _settled(state, event.what, event.dose_e)
    return {**settled, "paid": {**settled["paid"], event.what: event.dose_e}}


@_meaning.register
def _(event: ev.Prepared, state: RunState) -> Changes:
    _require_going(state, event)
    if state.points:
        raise RunLogError("The overview is taken anew, but there are points in the one before.")
    return {**_settled(state, "overview", event.dose_e), "prepared": event}


@_meaning.register
def _(event: ev.SpectraOpened, state: RunState) -> Changes:
    _require_going(state, event)
    if state.spectra is not None:
        raise RunLogError("A second file of spectra is opened.")
    return {"spectra": event}


@_meaning.register
def _(event: ev.Decided, state: RunState) -> Changes:
    _require_going(state, event)
    if event.id != state.next_id:
        raise RunLogError(f"Point {event.id} is decided where point {state.next_id} is next.")
    point = Point(
        event.id,
        event.candidate,
        event.position,
        event.reason,
        event.agent,
        mean=event.mean,
        std=event.std,
        request=event.request,
    )
    points = state.points.added(point)
    return {"points": points} | ({} if event.request is None else _served(state, state.settings, points))


@_meaning.register
def _(event: ev.Exposing, state: RunState) -> Changes:
    _require_going(state, event)
    stood_s = state.stood_s + event.stood_s
    return {**_become(state, event.id, "exposing", dose_e=event.dose_e, exposed=True), "stood_s": stood_s}


@_meaning.register
def _(event: ev.Measured, state: RunState) -> Changes:
    return _become(
        state,
        event.id,
        "measured",
        dose_e=event.dose_e,
        exposed=True,
        value=event.value,
        noise=event.noise,
        second=event.second,
        second_noise=event.second_noise,
        record=event.record.index,
        crc32=event.record.crc32,
        shift_eV=event.shift_eV,
        zero_loss=event.zero_loss,
    )


@_meaning.register
def _(event: ev.Failed, state: RunState) -> Changes:
    record = {} if event.record is None else {"record": event.record.index, "crc32": event.record.crc32}
    return _become(state, event.id, "failed", dose_e=event.dose_e, exposed=True, fault=event.fault, **record)


@_meaning.register
def _(event: ev.Skipped, state: RunState) -> Changes:
    return _become(state, event.id, "skipped", dose_e=event.dose_e, fault=event.reason, exposed=event.exposed)


@_meaning.register
def _(event: ev.Steered, state: RunState) -> Changes:
    return {} if event.refused else _steered(state, event.command)


@_meaning.register
def _(event: ev.Rescored, state: RunState) -> Changes:
    return {"points": state.points.rescored([_rescored(state, i, event) for i in event.values])}


@_meaning.register
def _(event: ev.PhaseChanged, state: RunState) -> Changes:
    return {"phase": event.phase, "phase_reason": event.reason, "remedy": event.remedy}


@_meaning.register
def _(event: ev.Predicted, state: RunState) -> Changes:
    return {"predicted": event}


@_meaning.register
def _(event: ev.Warned, state: RunState) -> Changes:
    return {"warnings": state.warnings.append(event.message)}


@_meaning.register
def _(event: ev.Drifted, state: RunState) -> Changes:
    seen = (*state.seen_drift[-1:], (event.since_s, event.shift)) if event.certain else state.seen_drift
    return {**_settled(state, "drift", event.dose_e), "looks": state.looks.append(event), "seen_drift": seen}


@_meaning.register
def _(event: ev.AlignmentBegun, state: RunState) -> Changes:
    return {"aligning": True}


@_meaning.register
def _(event: ev.Looked, state: RunState) -> Changes:
    return {**_settled(state, "frame", event.dose_e), "disk": event}


@_meaning.register
def _(event: ev.Aligned, state: RunState) -> Changes:
    displaced = state.displaced if event.success else frozenset[str]()  # what failed was put back
    return {"aligning": False, "alignments": state.alignments.append(event), "displaced": displaced}


@_meaning.register
def _(event: ev.Restored, state: RunState) -> Changes:
    displaced = state.displaced if event.problems else frozenset[str]()
    return {"stood_s": state.stood_s + event.stood_s, "displaced": displaced}


@_meaning.register
def _(event: ev.Finished, state: RunState) -> Changes:
    if state.finished is not None:
        raise RunLogError("The run ends a second time.")
    return {"finished": event}


def _settled(state: RunState, what: str, dose_e: float) -> Changes:
    """An exposure that was paid for beforehand, or never was (format 1), has really taken ``dose_e``."""
    paid = dict(state.paid)
    return {"dose_e": max(0.0, state.dose_e + dose_e - paid.pop(what, 0.0)), "paid": paid}


def _steered(state: RunState, command: ev.Steering) -> Changes:
    if state.settings is None:
        raise PlanError("There is no run to steer.")
    if isinstance(command, ev.Undo):
        if not state.history:
            raise PlanError("There is nothing to undo.")
        settings, history, undone = state.history[-1], state.history[:-1], state.undone + 1
    else:
        settings, history, undone = state.settings.after(command), state.history.append(state.settings), state.undone
    changes = {"settings": settings, "history": history, "undone": undone}
    return {**changes, **_served(state, settings, state.points)}


def _served(state: RunState, settings: Settings | None, points: Points) -> Changes:
    """How many requests, from the first, have been taken up: they are never asked about again."""
    requests = settings.requests if settings else PersistentList[ev.MeasureHere]()
    served = min(state.served, len(requests))
    while served < len(requests) and requests[served].id in points.taken:
        served += 1
    return {"served": served}


def _become(state: RunState, point_id: int, status: PointStatus, dose_e: float, **changes: object) -> Changes:
    """What becomes of a point, and of the dose, which is never less than none, however sums are rounded."""
    old = _find(state, point_id)
    if not old.pending or old.status == status:
        raise RunLogError(f"Point {point_id} is {old.status} and cannot become {status}.")
    points = state.points.updated(changed(old, status=status, dose_e=dose_e, **changes))
    return {"points": points, "dose_e": max(0.0, state.dose_e + dose_e - old.dose_e)}


def _rescored(state: RunState, point_id: int, event: ev.Rescored) -> Point:
    point = _find(state, point_id)
    if point.status != "measured":
        raise RunLogError(f"Point {point_id} gets another value, but is {point.status}.")
    return changed(
        point,
        value=event.values[point_id],
        noise=event.noises.get(point_id, 0.0),
        second=event.seconds.get(point_id),
        second_noise=event.second_noises.get(point_id, 0.0),
    )


def _find(state: RunState, point_id: int) -> Point:
    point = state.points.get(point_id)
    if point is None:
        raise RunLogError(f"Point {point_id} was never decided.")
    return point


def _require_going(state: RunState, event: ev.Event) -> None:
    """Refuse what only happens between the beginning of a run and its end."""
    if state.plan is None:
        raise RunLogError(f"The event {event.type!r} comes before the run begins.")
    if state.finished is not None:
        raise RunLogError(f"The event {event.type!r} comes after the run has ended.")
