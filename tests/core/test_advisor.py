"""An agent is asked one thing at a time and told everything once, whatever the operator does and however slow it is."""

from __future__ import annotations

import pathlib
import tempfile
import threading
import time

import pytest
from helpers import Stepper, plan, until
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.advisor import Advisor
from autoexp.agents.static import RandomPolicy
from autoexp.engine import Engine
from autoexp.plan import Budget, GridAgent, Region
from autoexp.testing import DirectInstrument
from autoexp.threads import InTurn
from virtual_stem.microscope import VirtualMicroscope


class Slow(RandomPolicy):
    """Notes who is inside at once, and what it was told."""

    def __init__(self, candidates, seed, pace):
        super().__init__(candidates, seed)
        self.pace, self.inside, self.met, self.told = pace, 0, [], []

    def _spend(self, what):
        self.inside += 1
        if self.inside > 1:
            self.met.append(what)
        time.sleep(self.pace.get(what, 0.0))
        self.inside -= 1

    def ingest(self, outcomes):
        self._spend("ingest")
        self.told += [o.position for o in outcomes]
        super().ingest(outcomes)

    def suggest(self, n, pending=()):
        self._spend("suggest")
        return super().suggest(n, pending)

    def predict(self):
        self._spend("predict")


def watch(monkeypatch, pace):
    made = []

    def make(spec, candidates, seed, budget):
        made.append(Slow(candidates, seed, pace))
        return made[-1]

    monkeypatch.setattr("autoexp.decider.make_agent", make)
    return made


def test_points_asked_for_while_the_agent_thinks(monkeypatch, instrument, tmp_path, locks):
    made = watch(monkeypatch, {"ingest": 0.05, "suggest": 0.15})

    def ask():
        for k in range(3):
            engine.steer(ev.MeasureHere(id=f"x{k}", position=(0.1 + 0.2 * k, 0.3)))

    engine = Engine(
        plan(budget=Budget(points=10)),
        instrument,
        tmp_path / "run",
        lock_folder=locks,
        observers=(Stepper(ev.Exposing, ask, 3),),
    )
    engine.run()
    (agent,) = made
    assert engine.state.finished.ending == "completed"
    assert not agent.met
    assert agent.told == [p.position for p in engine.state.measured][: len(agent.told)]
    assert len(agent.told) == 10  # with those of the last prediction


PAUSES = st.sampled_from([0.0, 0.0, 0.002, 0.01, 0.03])
ACTS = ["measure", "budget", "pause", "agent", "region", "nothing"]


@settings(max_examples=15, deadline=None)
@example(pace={"ingest": 0.03, "suggest": 0.1}, acts=[("nothing", 0.3), *[("measure", 0.04), ("nothing", 0.05)] * 4])
@given(
    pace=st.fixed_dictionaries({"ingest": PAUSES, "suggest": PAUSES, "predict": PAUSES}),
    acts=st.lists(st.tuples(st.sampled_from(ACTS), PAUSES), max_size=12),
)
def test_whatever_the_operator_does_calls_never_meet_and_each_outcome_is_told_once_in_order(pace, acts, plasmonic):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        made = watch(patch, pace)
        instrument = DirectInstrument(VirtualMicroscope(plasmonic, time_scale=1e5))
        folder = pathlib.Path(name)
        engine = Engine(plan(budget=Budget(points=12)), instrument, folder / "run", lock_folder=folder)
        engine.start()
        for number, (act, wait_s) in enumerate(acts):
            _do(engine, act, number)
            time.sleep(wait_s)
        until(lambda: engine.resume() or engine.join(0.05), 60)
    assert engine.state.finished.ending == "completed", engine.error
    measured = [p.position for p in engine.state.points.values() if p.status == "measured"]
    for agent in made:
        assert not agent.met
        assert agent.told == measured[: len(agent.told)]


def _do(engine, act, number):
    if act == "measure":
        engine.steer(ev.MeasureHere(id=f"x{number}", position=(0.05 + 0.07 * number, 0.51)))
    elif act == "budget":
        engine.steer(ev.SetBudget(budget=Budget(points=12 + number)))
    elif act == "pause":
        engine.pause()
        engine.resume()
    elif act == "agent":
        engine.steer(ev.SetAgent(agent=GridAgent()))
    elif act == "region":
        engine.steer(ev.AddRegion(region=Region(id=f"r{number}", kind="exclude", top=0, left=0, bottom=0.1, right=0.1)))


class Scripted:
    """Does what it is told to when it is asked."""

    name = "scripted"
    has_work = True

    def __init__(self):
        self.working, self.go_on = 0, threading.Event()

    def suggest(self, n, pending=()):
        return []

    def ingest(self, outcomes):
        pass

    def work_ahead(self):
        self.working += 1
        self.go_on.wait(20)


def test_only_what_was_asked_last_is_answered():
    hold = threading.Event()
    advisor = Advisor(Scripted, 1.0, 1.0)
    first = advisor.begin(lambda agent: hold.wait(20))
    until(lambda: advisor._agent is not None)
    second, third = advisor.begin(lambda agent: 2), advisor.begin(lambda agent: 3)
    hold.set()
    assert third.wait(10) and third.result() == 3
    assert first.result() is True
    with pytest.raises(Exception, match="something else was asked"):
        second.result()


def test_after_it_has_raised_an_agent_is_not_called_again():
    advisor, calls = Advisor(Scripted, 1.0, 1.0), []

    def fail(agent):
        calls.append(agent)
        raise SystemExit(3)

    for _ in range(3):
        call = advisor.begin(fail)
        assert call.wait(10)
        with pytest.raises(RuntimeError, match="SystemExit"):
            call.result()
    assert len(calls) == 1


def test_each_stage_has_its_own_time():
    now, hold = [0.0], threading.Event()

    def make():
        hold.wait(20)
        return Scripted()

    advisor = Advisor(make, 1.0, 50.0, clock=lambda: now[0])
    call = advisor.begin(lambda agent: hold.clear() or hold.wait(20))
    now[0] = 49.0
    assert not advisor.overdue(0.0)
    now[0] = 51.0
    assert advisor.overdue(0.0) == "it was not ready within 50 s"
    hold.set()
    until(lambda: not hold.is_set())
    assert not advisor.overdue(0.0)  # the answer has only begun
    now[0] = 52.1
    assert advisor.overdue(0.0) == "it did not answer within 1 s"
    assert not advisor.overdue(52.0)  # one who waits for a moment only
    hold.set()
    assert call.wait(10)


def test_work_ahead_is_done_once_at_a_time():
    agent = Scripted()
    advisor = Advisor(lambda: agent, 1.0, 1.0)
    for _ in range(4):
        assert advisor.begin(advisor.let_work_ahead).wait(10)
    until(lambda: agent.working)
    assert agent.working == 1
    agent.go_on.set()
    until(lambda: advisor._ahead.wait(0))
    assert advisor.begin(advisor.let_work_ahead).wait(10)
    until(lambda: agent.working == 2)


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_calls_in_turn_are_made_in_order_and_leave_no_thread(counts):
    line, done = InTurn("test-in-turn"), []
    for start, count in enumerate(counts):
        calls = [line.begin(lambda n=(start, k): done.append(n)) for k in range(count)]
        assert calls[-1].wait(10)
    assert done == [(start, k) for start, count in enumerate(counts) for k in range(count)]
    until(lambda: not any(t.name == "test-in-turn" for t in threading.enumerate()))
