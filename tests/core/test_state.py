"""The fold: what it says of a run, that a state never changes, and that an event costs the same late as early."""

from __future__ import annotations

import math
import os
import sys
import tracemalloc
from dataclasses import dataclass, field, replace

import pytest
from helpers import plan
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.agent import Outcome
from autoexp.drift import extrapolated
from autoexp.errors import PlanError, RunLogError
from autoexp.plan import Budget, DeepKernelAgent, RandomAgent, UpperConfidenceBound
from autoexp.state import Point, RunState, fold
from autoexp.status import status_of

CASES = int(os.environ.get("AUTOEXP_FUZZ", "200"))
PENDING = ("decided", "exposing")
VALUES = (0.0, -0.0, 1.0, 1.0, 2.5, -3.0, math.nan, math.inf)
ACQUISITION = UpperConfidenceBound()
AGENTS = (RandomAgent(), DeepKernelAgent(), DeepKernelAgent(goal="minimize"))


def record(event, seq=0, elapsed_s=0.0):
    return ev.Record(seq=seq, utc="", elapsed_s=elapsed_s, event=event)


def records(events):
    return [record(event, seq, 0.1 * seq) for seq, event in enumerate(events)]


def started(points=20, **changes):
    return ev.Started(run_id="run", plan=plan(budget=Budget(points=points), **changes), software={}, instrument={})


def decided(i, **changes):
    return ev.Decided(**{"id": i, "candidate": i, "position": (0.5, 0.5), "reason": "r", "agent": "a", **changes})


def measured(i, value=1.0, dose_e=5.0, **changes):
    ref = ev.RecordRef(index=i, crc32=i + 7)
    return ev.Measured(id=i, record=ref, value=value, noise=0.1, dose_e=dose_e, **changes)


def prepared(dose_e=3.0):
    ref = ev.ArrayRef(file="overview.npy", crc32=0)
    return ev.Prepared(overview=ref, shape=(64, 64), fov_nm=None, candidates=9, dose_e=dose_e)


def spectra_opened():
    axis = {"offset": 0.0, "scale": 1.0, "units": "eV"}
    return ev.SpectraOpened(file="spectra.bin", channels=8, counts_per_electron=None, **axis)


def whole_point(i, value=1.0):
    return [decided(i), ev.Exposing(id=i, exposure_s=0.1, dose_e=5.0), measured(i, value)]


# --- a reference that goes through everything, again and again


@dataclass
class Reference:
    """What is said of the events so far, each time from the first."""

    events: list = field(default_factory=list)

    @property
    def points(self):
        points = {}
        for e in self.events:
            match e:
                case ev.Decided():
                    points[e.id] = Point(
                        e.id, e.candidate, e.position, e.reason, e.agent, mean=e.mean, std=e.std, request=e.request
                    )
                case ev.Exposing():
                    points[e.id] = replace(points[e.id], status="exposing", exposed=True, dose_e=e.dose_e)
                case ev.Measured():
                    told = {"value": e.value, "noise": e.noise, "second": e.second, "second_noise": e.second_noise}
                    stored = {"record": e.record.index, "crc32": e.record.crc32, "dose_e": e.dose_e}
                    points[e.id] = replace(points[e.id], status="measured", exposed=True, **told, **stored)
                case ev.Failed():
                    stored = {"record": e.record.index, "crc32": e.record.crc32} if e.record else {}
                    told = {"fault": e.fault, "dose_e": e.dose_e, "exposed": True}
                    points[e.id] = replace(points[e.id], status="failed", **told, **stored)
                case ev.Skipped():
                    told = {"fault": e.reason, "dose_e": e.dose_e, "exposed": e.exposed}
                    points[e.id] = replace(points[e.id], status="skipped", **told)
                case ev.Rescored():
                    for i, value in e.values.items():
                        told = {"value": value, "noise": e.noises.get(i, 0.0), "second": e.seconds.get(i)}
                        points[i] = replace(points[i], **told, second_noise=e.second_noises.get(i, 0.0))
        return points

    def of(self, kind):
        return [e for e in self.events if isinstance(e, kind)]

    @property
    def commands(self):
        """Those in force."""
        commands = []
        for e in self.of(ev.Steered):
            if isinstance(e.command, ev.Undo):
                commands.pop()
            else:
                commands.append(e.command)
        return commands

    @property
    def goal(self):
        agents = [c.agent for c in self.commands if isinstance(c, ev.SetAgent)]
        return getattr((agents or [RandomAgent()])[-1], "goal", "maximize")

    @property
    def dose_e(self):
        paid = {}
        dose_e = sum(p.dose_e for p in self.points.values())
        for e in self.events:
            match e:
                case ev.ExposureBegun():
                    dose_e += paid.pop(e.what, 0.0)  # of the one before nothing came
                    paid[e.what] = e.dose_e
                case ev.Prepared() | ev.Drifted() | ev.Looked():
                    what = {"prepared": "overview", "drifted": "drift", "looked": "frame"}[e.type]
                    paid.pop(what, None)
                    dose_e += e.dose_e
        return dose_e + sum(paid.values())

    def said(self):
        """All that a state says, in values that compare: NaN as text."""
        points = self.points.values()
        shown = [p for p in points if p.status == "measured"]
        scored = [p for p in shown if math.isfinite(p.value)]
        sign = -1 if self.goal == "minimize" else 1
        taken = {p.request for p in points}
        asked = [c for c in self.commands if isinstance(c, ev.MeasureHere)]
        certain = [(e.since_s, e.shift) for e in self.of(ev.Drifted) if e.certain]
        return repr(
            {
                "points": list(self.points.items()),
                "measured": shown,
                "scored": scored,
                "failed": [p for p in points if p.status == "failed"],
                "pending": [p for p in points if p.status in PENDING],
                "counts": (len(shown), sum(p.status == "failed" for p in points), sum(p.exposed for p in points)),
                "outcomes": [(p.id, o) for p in points if (o := outcome_of(p)) is not None],
                "requests": [r for r in asked if r.id not in taken],
                "best": max(scored, key=lambda p: sign * p.value, default=None),
                "last": self.points[max(self.points)] if self.points else None,
                "next": max(self.points, default=-1) + 1,
                "latest": max((p.record for p in shown), default=-1),
                "settled": next((i for i, p in enumerate(points) if p.status in PENDING), len(points)),
                "warnings": [e.message for e in self.of(ev.Warned)],
                "looks": self.of(ev.Drifted),
                "drift": [extrapolated(certain, t) for t in (-math.inf, 0.0, 3.0, math.inf)],
                "commands": len(self.commands),
            }
        )


def outcome_of(point):
    if point.status in PENDING or (point.status == "skipped" and not point.exposed):
        return None
    scored = point.status == "measured" and math.isfinite(point.value)
    status = "ok" if scored else "skipped" if point.status == "skipped" else "failed"
    return Outcome(status, point.candidate, point.position, point.value, point.noise, point.second, point.second_noise)


def said(state):
    """The same of a state."""
    assert state.prepared_s == 0
    return repr(
        {
            "points": list(state.points.items()),
            "measured": state.measured,
            "scored": state.scored,
            "failed": state.failed,
            "pending": state.pending,
            "counts": (state.measured_count, state.failed_count, state.exposures),
            "outcomes": list(state.outcomes),
            "requests": state.requests,
            "best": state.best(),
            "last": status_of(state).last,
            "next": state.next_id,
            "latest": state.points.latest_record,
            "settled": state.points.settled,
            "warnings": list(state.warnings),
            "looks": list(state.looks),
            "drift": [state.drift(t) for t in (-math.inf, 0.0, 3.0, math.inf)],
            "commands": len(state.history),
        }
    )


class Script:
    """Turns numbers into events that a run might have, whatever the numbers are."""

    def __init__(self, values=()):
        self.state = Reference([started()])
        for i, value in enumerate(values):
            self.state.events += whole_point(i, value)

    def event(self, kind, a, b):
        points = self.state.points
        pending = [p for p in points.values() if p.status in PENDING]
        exposing = [p for p in pending if p.status == "exposing"]
        value = VALUES[b % len(VALUES)]
        match kind:
            case "decide":
                asked = [c.id for c in self.state.commands if isinstance(c, ev.MeasureHere)]
                request = asked[a % len(asked)] if asked and b % 2 else None
                return decided(len(points), candidate=None if request else a % 9, request=request)
            case "expose" if len(pending) > len(exposing):
                chosen = [p for p in pending if p.status == "decided"]
                return ev.Exposing(id=chosen[a % len(chosen)].id, exposure_s=0.1, dose_e=float(b % 4), stood_s=0.5)
            case "measure" if pending:
                return measured(pending[a % len(pending)].id, value, float(b % 3), second=VALUES[a % len(VALUES)])
            case "fail" if pending:
                ref = ev.RecordRef(index=b, crc32=a) if b % 2 else None
                return ev.Failed(id=pending[a % len(pending)].id, fault="f", message="", record=ref, dose_e=float(b))
            case "skip" if pending:
                point = pending[a % len(pending)]
                return ev.Skipped(id=point.id, reason="s", exposed=b % 2 == 0, dose_e=float(b % 2))
            case "rescore":
                ids = [p.id for p in points.values() if p.status == "measured"]
                values = {i: VALUES[(i * a + b) % len(VALUES)] for i in ids}
                return ev.Rescored(values=values, noises=dict.fromkeys(ids, 0.2))
            case "agent":
                return ev.Steered(command=ev.SetAgent(agent=AGENTS[a % len(AGENTS)]))
            case "ask" if all(getattr(c, "id", "") != str(a) for c in self.state.commands):
                return ev.Steered(command=ev.MeasureHere(id=str(a), position=(0.1, 0.2)))
            case "undo" if self.state.commands:
                return ev.Steered(command=ev.Undo())
            case "look":
                since = {"since_s": float(len(self.state.events)), "exposures": 0, "dose_e": float(b % 3)}
                return ev.Drifted(shift=(a / 99, b / 99), significance=6.0, certain=a % 2 == 0, **since)
            case "begin":
                what = ("drift", "frame")[a % 2]
                return ev.ExposureBegun(what=what, exposure_s=1.0, dose_e=float(b), stood_s=0.25)
            case "warn":
                return ev.Warned(message=f"{a} {b}")
        return ev.PhaseChanged(phase="running" if a % 2 else "paused")


KINDS = ("decide", "expose", "measure", "fail", "skip", "rescore", "agent", "ask", "undo", "look", "begin", "warn")
STEPS = st.lists(
    st.tuples(st.sampled_from(("decide", "expose", "measure") * 3 + KINDS), st.integers(0, 30), st.integers(0, 30)),
    max_size=40,
)


@settings(deadline=None, max_examples=CASES)
@given(st.lists(st.sampled_from(VALUES), max_size=5), STEPS)
def test_a_state_says_what_going_through_everything_says_and_never_changes(values, steps):
    script, kept = Script(values), []
    state = fold(records(script.state.events))
    for kind, a, b in steps:
        kept.append((state, said(state), status_of(state)))
        script.state.events.append(event := script.event(kind, a, b))
        state = state.apply(record(event, state.seq + 1, 0.1 * state.seq))
        assert said(state) == script.state.said()
        assert state.dose_e == pytest.approx(script.state.dose_e)
        assert state.dose_e >= 0
    for old, told, status in kept:
        assert said(old) == told
        assert repr(status_of(old)) == repr(status)
    assert repr(fold(records(script.state.events)).points) == repr(state.points)


@settings(deadline=None, max_examples=max(10, CASES // 10))
@given(STEPS, STEPS)
def test_two_futures_of_one_state_know_nothing_of_each_other(one, other):
    script = Script([float(i % 5) for i in range(70)])  # more than are held in one piece
    common = fold(records(script.state.events))
    futures = []
    for steps in (one, other):
        branch, state = Script(), common
        branch.state.events = list(script.state.events)
        for kind, a, b in steps:
            branch.state.events.append(event := branch.event(kind, a, b))
            state = state.apply(record(event))
        futures.append((branch.state, state))
    for reference, state in futures:
        assert said(state) == reference.said()


def test_the_best_is_the_earliest_of_equals_whenever_it_settles_and_after_new_values():
    state = fold(records([started(), decided(0), decided(1), *[ev.Exposing(id=i, exposure_s=0.1) for i in (0, 1)]]))
    state = fold(records([measured(1, 2.0), measured(0, 2.0), *whole_point(2, 1.0), *whole_point(3, 1.0)]), state)
    minimized = state.steered(ev.SetAgent(agent=DeepKernelAgent(goal="minimize")))
    assert (state.best().id, minimized.best().id) == (0, 2)
    rescored = ev.Rescored(values={0: 5.0, 1: 1.0, 2: 7.0, 3: 7.0}, noises={})
    assert state.apply(record(rescored)).best().id == 2
    assert minimized.apply(record(rescored)).best().id == 1
    assert (
        state.apply(record(ev.Rescored(values={0: math.nan, 1: -1.0, 2: math.inf, 3: -2.0}, noises={}))).best().id == 1
    )


def test_a_request_after_one_was_taken_and_taken_back_is_waiting():
    def ask(i):
        return ev.Steered(command=ev.MeasureHere(id=i, position=(0.5, 0.5)))

    state = fold(records([started(), ask("a"), decided(0, candidate=None, request="a")]))
    assert state.requests == []
    state = fold(records([ev.Steered(command=ev.Undo()), ask("b")]), state)
    assert [r.id for r in state.requests] == ["b"]


def test_drift_goes_on_from_the_last_two_certain_looks():
    looks = [(1.0, 0.1, True), (2.0, 0.3, True), (3.0, 0.4, True), (4.0, 9.0, False)]
    events = [
        ev.Drifted(shift=(y, 0), significance=9.0, certain=sure, since_s=t, exposures=0, dose_e=0.0)
        for t, y, sure in looks
    ]
    state = fold(records([started(), *events]))
    assert state.drift(3.5)[0] == pytest.approx(0.45)
    assert state.drift(100.0)[0] == pytest.approx(0.5)
    assert len(state.looks) == 4


def test_however_doses_round_there_is_never_less_than_none():
    begun = [ev.ExposureBegun(what=w, exposure_s=1.0, dose_e=d) for w, d in (("overview", 1e16), ("drift", 1.0))]
    look = ev.Drifted(shift=(0, 0), significance=9.0, certain=True, since_s=1.0, exposures=0, dose_e=0.0)
    assert fold(records([started(), *begun, prepared(0.0), look])).dose_e == 0
    doses = enumerate((1e16, 1.0))
    points = [e for i, d in doses for e in (decided(i), ev.Exposing(id=i, exposure_s=1.0, dose_e=d))]
    skipped = [ev.Skipped(id=i, reason="") for i in (0, 1)]
    assert fold(records([started(), *points, *skipped])).dose_e == 0


# --- what no run can have written


def at_point(*more):
    return [started(), decided(0), *more]


EXPOSING = ev.Exposing(id=0, exposure_s=1.0)
IMPOSSIBLE = {
    "begins twice": ([started(), started()], "a second time"),
    "decided before the beginning": ([decided(0)], "before the run begins"),
    "steered before the beginning": ([ev.Steered(command=ev.Undo())], "no run to steer"),
    "decided after the end": ([started(), ev.Finished(ending="stopped", reason=""), decided(0)], "after the run"),
    "exposed after the end": (at_point(ev.Finished(ending="stopped", reason=""), EXPOSING), "after the run"),
    "ends twice": ([ev.Finished(ending="stopped", reason="")] * 2, "ends a second time"),
    "decided twice": (at_point(decided(0)), "0 is decided where point 1 is next"),
    "decided ahead": ([started(), decided(1 << 48)], "is decided where point 0 is next"),
    "another overview": (at_point(prepared()), "taken anew"),
    "other spectra": ([started(), spectra_opened(), spectra_opened()], "second file of spectra"),
    "exposed, never decided": ([started(), ev.Exposing(id=7, exposure_s=1.0)], "7 was never decided"),
    "measured, never decided": (at_point(measured(1)), "1 was never decided"),
    "failed, never decided": ([started(), ev.Failed(id=10**9, fault="f", message="")], "never decided"),
    "skipped, never decided": ([started(), ev.Skipped(id=0, reason="")], "never decided"),
    "exposed once failed": (at_point(ev.Failed(id=0, fault="f", message=""), EXPOSING), "cannot become exposing"),
    "exposed twice": (at_point(EXPOSING, EXPOSING), "is exposing and cannot become exposing"),
    "measured twice": (at_point(EXPOSING, measured(0), measured(0)), "is measured and cannot become measured"),
    "skipped once measured": (at_point(EXPOSING, measured(0), ev.Skipped(id=0, reason="")), "cannot become skipped"),
    "scored, never decided": ([started(), ev.Rescored(values={5: 1.0}, noises={})], "never decided"),
    "scored, not measured": (at_point(EXPOSING, ev.Rescored(values={0: 1.0}, noises={})), "but is exposing"),
    "nothing to undo": ([started(), ev.Steered(command=ev.Undo())], "nothing to undo"),
    "no such region": ([started(), ev.Steered(command=ev.RemoveRegion(id="x"))], "no region 'x'"),
    "no acquisition": ([started(), ev.Steered(command=ev.SetAcquisition(acquisition=ACQUISITION))], "no acquisition"),
    "asked twice": (
        [started(), *[ev.Steered(command=ev.MeasureHere(id="a", position=(0, 0)))] * 2],
        "was made before",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_no_run_can_have_written_is_refused_with_a_sentence(name):
    events, says = IMPOSSIBLE[name]
    *before, last = records(events)
    state = fold(before)
    told = repr(state)
    with pytest.raises(RunLogError, match=says) as raised:
        state.apply(last)
    assert str(raised.value).startswith(f"Event {last.seq} of this run")
    assert repr(state) == told


ANY = st.one_of(
    st.builds(decided, st.integers(0, 3), request=st.sampled_from([None, "a", "b"])),
    st.builds(ev.Exposing, id=st.integers(0, 3), exposure_s=st.just(0.1), dose_e=st.floats(0, 1e30)),
    st.builds(measured, st.integers(0, 3), st.floats(), st.floats(0, 1e30)),
    st.builds(ev.Failed, id=st.integers(0, 3), fault=st.just("f"), message=st.just(""), dose_e=st.floats(0, 1e30)),
    st.builds(ev.Skipped, id=st.integers(0, 3), reason=st.just(""), exposed=st.booleans(), dose_e=st.floats(0, 1e30)),
    st.builds(ev.Rescored, values=st.dictionaries(st.integers(0, 3), st.floats(), max_size=3), noises=st.just({})),
    st.builds(
        ev.Steered,
        command=st.one_of(
            st.just(ev.Undo()),
            st.builds(ev.RemoveRegion, id=st.just("x")),
            st.builds(ev.MeasureHere, id=st.sampled_from("ab"), position=st.just((0.5, 0.5))),
            st.builds(ev.SetAgent, agent=st.sampled_from(AGENTS)),
            st.builds(ev.SetAcquisition, acquisition=st.just(ACQUISITION)),
            st.builds(ev.SetSecond, scalarizer=st.none()),
        ),
    ),
    st.builds(
        ev.ExposureBegun, what=st.sampled_from(["drift", "frame"]), exposure_s=st.just(1.0), dose_e=st.floats(0, 1e30)
    ),
    st.builds(
        ev.Drifted,
        shift=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
        significance=st.floats(),
        certain=st.booleans(),
        since_s=st.floats(allow_nan=False, allow_infinity=False),
        exposures=st.just(0),
        dose_e=st.floats(0, 1e30),
    ),
    st.builds(ev.Finished, ending=st.just("stopped"), reason=st.just("")),
    st.builds(started),
    st.builds(ev.PhaseChanged, phase=st.sampled_from(["running", "paused"])),
)


@settings(deadline=None, max_examples=CASES)
@given(st.lists(ANY, max_size=25), st.booleans())
def test_events_in_any_order_are_folded_or_refused_and_the_dose_stays_a_number(events, begun):
    state = fold(records([started()] if begun else []))
    for event in events:
        try:
            state = state.apply(record(event, elapsed_s=state.elapsed_s + 0.1))
        except RunLogError:
            continue
        assert 0 <= state.dose_e < math.inf
        assert state.exposures >= 0
        assert not any(math.isnan(s) for shift in state.shifts() for s in shift)
        status_of(state)


def test_what_was_measured_was_exposed_whether_that_was_written_down_or_not():
    state = fold(records([*at_point(measured(0)), decided(1), ev.Failed(id=1, fault="f", message="")]))
    assert state.exposures == 2


def test_a_command_that_makes_no_sense_is_a_plan_error_for_whoever_steers():
    state = fold(records([started()]))
    with pytest.raises(PlanError, match="nothing to undo"):
        state.steered(ev.Undo())
    with pytest.raises(PlanError, match="no run to steer"):
        RunState().steered(ev.Undo())


def test_before_the_beginning_a_run_may_warn_and_change_its_phase():
    state = fold(records([ev.PhaseChanged(phase="preparing"), ev.Warned(message="w"), ev.Snapshot(controls={"a": 1})]))
    assert (state.phase, list(state.warnings), state.snapshot) == ("preparing", ["w"], {"a": 1})


def test_what_was_paid_and_never_settled_stays_on_the_account():
    begun = ev.ExposureBegun(what="drift", exposure_s=1.0, dose_e=100.0, stood_s=2.0)
    look = ev.Drifted(shift=(0, 0), significance=9.0, certain=True, since_s=1.0, exposures=0, dose_e=90.0)
    state = fold(records([started(), begun, begun, look, ev.Restored(problems=[], stood_s=0.5)]))
    assert state.dose_e == 190
    assert state.stood_s == status_of(state).stood_s == 4.5


# --- cost


def growing(count, requests=False):
    """So many points, a warning and a steering command beside each."""
    yield started(points=count)
    yield ev.PhaseChanged(phase="running")
    for i in range(count):
        if requests:
            yield ev.Steered(command=ev.MeasureHere(id=str(i), position=(0.5, 0.5)))
            yield decided(i, candidate=None, request=str(i))
            yield from whole_point(i, float(i % 97))[1:]
        else:
            yield from whole_point(i, float(i % 97))
        yield ev.Warned(message="w")
        yield ev.Drifted(shift=(0, 0), significance=9.0, certain=True, since_s=float(i), exposures=i, dose_e=0.0)


def asked(state):
    """What is asked of a state after every event."""
    status_of(state)
    found = state.pending, state.requests, state.exposures, state.outcomes, state.best(), state.drift(1.0)
    return found, len(state.outcomes), state.next_id, state.dose_e


def calls_of(state, events):
    """Calls of functions, Python's own too, that some events and the questions after each take."""
    count = 0

    def tell(*_):
        nonlocal count
        count += 1

    sys.setprofile(tell)
    try:
        for event in events:
            state = state.apply(event)
            asked(state)
    finally:
        sys.setprofile(None)
    return count


def bytes_of(state, events):
    """Most memory that one of some events, with the questions after it, takes."""
    most = 0
    tracemalloc.start()
    try:
        for event in events:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            state = state.apply(event)
            asked(state)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return most


@pytest.mark.parametrize("requests", [False, True])
def test_an_event_costs_the_same_late_in_a_run_as_early(requests):
    events = records(growing(3000, requests))
    size = 6 if requests else 5
    early, late = 2 + 150 * size, len(events) - 150 * size
    first, last = fold(events[:early]), fold(events[:late])
    for cost, room in ((calls_of, 1.5), (bytes_of, 2.5)):
        before, after = cost(first, events[early : early + 100 * size]), cost(last, events[late : late + 100 * size])
        assert after < room * before, (cost.__name__, before, after)


def test_what_a_run_has_moved_is_known_until_it_is_put_back_or_to_stay():
    moved = [ev.Snapshot(controls={"a": 1.0}), ev.Moving(name="a", before=1.0, value=2.0)]
    assert fold(records(moved)).displaced == {"a"}
    assert fold(records([*moved, ev.Restored(problems=["a is stuck"])])).displaced == {"a"}
    assert not fold(records([*moved, ev.Restored(problems=[])])).displaced
    assert not fold(records([*moved, ev.Snapshot(controls={"a": 2.0})])).displaced
    assert fold(records([*moved, ev.Aligned(success=True, reason="", frames=1)])).displaced == {"a"}
    assert not fold(records([*moved, ev.Aligned(success=False, reason="", frames=1)])).displaced
