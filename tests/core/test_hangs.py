"""Whoever hangs is not waited for: an abort gives the instrument back within two seconds."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest
from helpers import insist, plan, until

from autoexp import engine as engine_module
from autoexp import events as ev
from autoexp.agents.static import RandomPolicy
from autoexp.engine import Engine
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import Budget, GridAgent
from autoexp.runlog import RunReader
from autoexp.scalarizers import Window, register_scalarizer
from autoexp.state import fold
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope

SITE = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6)})
OTHER = Window(low_eV=2.0, high_eV=2.6)
GIVEN_BACK_S = 2.0


class Hanging(FaultyInstrument):
    """Does not return from what it is told to hang in, abort or not, until it is let go."""

    def __init__(self, instrument):
        super().__init__(instrument)
        self.hang_in = ""
        self.hung = threading.Event()
        self.leave = threading.Event()
        self.given_back_s = None

    def _hang(self, what):
        if what == self.hang_in:
            self.hung.set()
            self.leave.wait(30)

    def overview(self, spec):
        self._hang("overview")
        return super().overview(spec)

    def spectrum(self, position, spec):
        self._hang("spectrum")
        return super().spectrum(position, spec)

    def check(self):
        self._hang("check")
        super().check()

    def get(self, name):
        self._hang("get")
        return super().get(name)

    def open(self):
        self._hang("open")
        super().open()

    def close(self):
        self._hang("close")
        problems = super().close()
        self.given_back_s = time.monotonic()
        return problems


@pytest.fixture
def hanging(plasmonic):
    made = Hanging(DirectInstrument(VirtualMicroscope(plasmonic, time_scale=200)))
    yield made
    made.leave.set()


def begin(given, instrument, folder, locks, **more):
    engine = Engine(given, instrument, folder, lock_folder=locks, beam_current_pA=50.0, site=SITE, **more)
    engine.start()
    return engine


def abort(engine, instrument):
    """Abort; seconds until the instrument was given back, and those until the run was over."""
    begun = time.monotonic()
    engine.abort()
    while engine.status.ending is None and time.monotonic() - begun < 10:
        time.sleep(0.005)
    over_s = time.monotonic() - begun
    return (None if instrument.given_back_s is None else instrument.given_back_s - begun), over_s


@pytest.mark.parametrize("what", ["overview", "spectrum", "check", "open"])
def test_a_device_that_hangs_in_a_run(what, hanging, tmp_path, locks):
    hanging.hang_in = what
    engine = begin(plan(), hanging, tmp_path / "run", locks)
    assert hanging.hung.wait(10)
    given_back_s, over_s = abort(engine, hanging)
    assert given_back_s is not None
    assert given_back_s < GIVEN_BACK_S
    assert over_s < GIVEN_BACK_S + 0.5
    assert engine.join(5)
    assert engine.status.ending == "aborted"


@pytest.mark.parametrize("what", ["close", "get"])
def test_what_hangs_while_it_is_given_back_is_named(what, hanging, tmp_path, locks):
    engine = begin(plan(budget=Budget(points=4000)), hanging, tmp_path / "run", locks)
    until(lambda: engine.status.points >= 2)
    hanging.hang_in = what
    _, over_s = abort(engine, hanging)
    assert over_s < GIVEN_BACK_S + 0.5
    assert engine.join(5)
    assert engine.status.phase == "faulted"
    assert "had not returned" in engine.status.reason


def scoring(function):
    register_scalarizer("test hangs", function)
    return {"kind": "function", "name": "test hangs"}


def test_a_score_that_hangs_does_not_keep_the_instrument(hanging, tmp_path, locks):
    calls, release = [], threading.Event()

    def hang(spectra, energy):
        calls.append(1)
        if len(calls) > 60:
            release.wait(30)
        return spectra.sum(axis=1)

    engine = begin(plan(scalarizer=scoring(hang)), hanging, tmp_path / "run", locks)
    until(lambda: len(calls) > 60, 20)
    given_back_s, _ = abort(engine, hanging)
    assert given_back_s < GIVEN_BACK_S
    assert engine.join(5)
    release.set()
    state = fold(RunReader(tmp_path / "run").records)
    assert state.finished.ending == "aborted"
    assert len(state.measured) == engine.state.exposures  # the spectrum itself is kept


def test_a_score_that_hangs_pauses_the_run_and_another_goes_on(hanging, tmp_path, locks):
    release = threading.Event()
    given = plan(scalarizer=scoring(lambda s, e: release.wait(30) or s.sum(axis=1)), decision_deadline_s=0.3)
    engine = begin(given, hanging, tmp_path / "run", locks)
    until(lambda: engine.status.phase == "paused", 20)
    assert "gave no number" in engine.status.reason
    assert engine.state.exposures == 1
    assert np.isnan(engine.state.measured[0].value)
    engine.steer(ev.SetScalarizer(scalarizer=Window(low_eV=1.1, high_eV=1.7)))
    engine.resume()
    assert engine.join(30)
    release.set()
    assert engine.status.ending == "completed"
    assert len(engine.state.scored) == 6


def test_a_score_that_hangs_after_others_pauses_at_once(hanging, tmp_path, locks):
    release, scored = threading.Event(), []

    def late(spectra, energy):
        scored.append(1)
        if len(scored) > 60:  # the third spectrum, each being scored anew for its noise
            release.wait(30)
        return spectra.sum(axis=1)

    engine = begin(plan(scalarizer=scoring(late), decision_deadline_s=0.3), hanging, tmp_path / "run", locks)
    until(lambda: engine.status.phase == "paused", 20)
    assert len(engine.state.scored) == engine.state.exposures - 1 > 0
    engine.stop()
    assert engine.join(30)
    release.set()


def test_a_score_cannot_write_to_what_it_is_given(hanging, tmp_path, locks):
    def spoil(spectra, energy):
        spectra[:] = 0
        return spectra.sum(axis=1)

    engine = begin(plan(scalarizer=scoring(spoil)), hanging, tmp_path / "run", locks)
    insist(engine)
    assert "read-only" in engine.status.warning
    assert all(RunReader(tmp_path / "run").spectra().any(axis=1))


def test_a_score_that_insists_on_writing_spoils_no_other_score(hanging, tmp_path, locks):
    def spoil(spectra, energy):
        for given in (spectra, energy):
            given.setflags(write=True)
            given[:] = 0
        return spectra.sum(axis=1)

    given = plan(scalarizer=scoring(spoil), second=OTHER)
    engine = begin(given, hanging, tmp_path / "run", locks)
    insist(engine)
    assert engine.status.ending == "stopped"
    assert any("no number" in warning for warning in engine.state.warnings)
    opened = engine.state.spectra
    right = OTHER.score(RunReader(tmp_path / "run").spectra(), opened.energy, opened.counts_per_electron)
    np.testing.assert_allclose([p.second for p in engine.state.measured], right.value, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy; as everywhere but in tests it is no error
@pytest.mark.parametrize("told", [np.inf, -np.inf, np.nan])
def test_a_score_that_is_no_finite_number_is_none(told, hanging, tmp_path, locks):
    odd = scoring(lambda spectra, energy: np.full(len(spectra), told))
    engine = begin(plan(scalarizer=odd), hanging, tmp_path / "run", locks)
    insist(engine)
    assert engine.status.ending == "stopped"
    measured = list(RunReader(tmp_path / "run").events(ev.Measured))
    assert len(measured) == 6
    assert all(np.isnan(event.value) and event.noise == 0 for event in measured)
    assert not engine.state.scored


def test_an_observer_that_hangs_does_not_keep_the_instrument(hanging, tmp_path, locks):
    release, waits = threading.Event(), threading.Event()

    def hang(record, state):
        if isinstance(record.event, ev.Measured):
            waits.set()
            release.wait(30)

    engine = begin(plan(budget=Budget(points=4000)), hanging, tmp_path / "run", locks, observers=(hang,))
    assert waits.wait(10)
    given_back_s, _ = abort(engine, hanging)
    assert given_back_s < GIVEN_BACK_S
    assert engine.join(5)
    release.set()


def test_an_observer_that_hangs_is_left_behind(hanging, tmp_path, locks, monkeypatch):
    monkeypatch.setattr("autoexp.observers.PATIENCE_S", 0.2)
    release = threading.Event()
    engine = begin(plan(), hanging, tmp_path / "run", locks, observers=(lambda r, s: release.wait(30),))
    assert engine.join(20)
    release.set()
    assert engine.status.ending == "completed"


def test_an_agent_that_hangs_does_not_keep_the_instrument(hanging, tmp_path, locks, monkeypatch):
    release, asked = threading.Event(), threading.Event()

    class Sleepy:
        name = "sleepy"

        def suggest(self, n, pending=()):
            asked.set()
            release.wait(30)
            return []

        def ingest(self, outcomes):
            pass

    monkeypatch.setattr("autoexp.decider.make_agent", lambda *given: Sleepy())
    engine = begin(plan(), hanging, tmp_path / "run", locks)
    assert asked.wait(10)
    given_back_s, _ = abort(engine, hanging)
    assert given_back_s < GIVEN_BACK_S
    assert engine.join(5)
    release.set()


def test_a_disk_that_hangs_does_not_keep_the_instrument(hanging, tmp_path, locks):
    """The engine's own thread is stuck: the watchdog gives the instrument back, and the run can be resumed."""
    release, stuck = threading.Event(), threading.Event()
    engine = Engine(plan(), hanging, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0, site=SITE)
    append = engine._recorder._log.append

    def slow(*events, **given):
        if isinstance(events[0], ev.Measured):
            stuck.set()
            release.wait(30)
        return append(*events, **given)

    engine._recorder._log.append = slow
    engine.start()
    assert stuck.wait(10)
    given_back_s, over_s = abort(engine, hanging)
    assert given_back_s < GIVEN_BACK_S
    assert over_s < GIVEN_BACK_S + 0.5
    assert "did not answer" in engine.status.reason
    release.set()
    assert engine.join(10)
    assert engine.status.ending == "aborted"
    assert hanging.commands.count(("close", None)) == 1


def test_the_watchdog_guards_a_run_that_nobody_aborts(hanging, tmp_path, locks, monkeypatch):
    monkeypatch.setattr(engine_module, "IDLE_S", 0.5)
    release = threading.Event()
    engine = Engine(plan(), hanging, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0, site=SITE)
    append = engine._recorder._log.append

    def slow(*events, **given):
        if isinstance(events[0], ev.Measured) and not release.is_set():
            release.wait(30)
        return append(*events, **given)

    engine._recorder._log.append = slow
    engine.start()
    until(lambda: hanging.given_back_s is not None, 20)
    release.set()
    assert engine.join(10)
    assert engine.status.ending == "faulted"
    state = fold(RunReader(tmp_path / "run").records)
    assert state.finished is None  # nobody decided to end it
    hanging.given_back_s = None
    resumed = begin(None, hanging, tmp_path / "run", locks)
    assert resumed.join(20)
    assert resumed.status.ending == "completed"


def test_a_pause_is_not_taken_for_hanging(hanging, tmp_path, locks, monkeypatch):
    monkeypatch.setattr(engine_module, "IDLE_S", 0.3)
    engine = begin(plan(budget=Budget(points=60)), hanging, tmp_path / "run", locks)
    until(lambda: engine.status.points >= 2, 20)
    engine.pause()
    until(lambda: engine.status.phase == "paused", 20)
    time.sleep(0.8)
    assert hanging.given_back_s is None
    engine.resume()
    assert engine.join(30)
    assert engine.status.ending == "completed"


def test_halt_tells_the_instrument_nothing(hanging, tmp_path, locks):
    engine = begin(plan(budget=Budget(points=4000)), hanging, tmp_path / "run", locks)
    until(lambda: engine.status.points >= 2, 20)
    hanging.hang_in = "spectrum"
    assert hanging.hung.wait(10)
    sent = len(hanging.commands)
    engine.halt()
    assert engine.join(5)
    assert engine.status.ending == "halted"
    assert hanging.commands[sent:] == []
    hanging.leave.set()
    time.sleep(0.1)
    assert {kind for kind, _ in hanging.commands[sent:]} <= {"spectrum"}  # what was in flight comes to its own end


class _SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError("I cannot even say that")


@pytest.mark.parametrize(
    "error", [SystemExit("2"), KeyboardInterrupt(), _SpeechlessError(), Exception("\udcff\x1b[2J")]
)
def test_whatever_a_score_or_an_observer_raises_the_run_goes_on(error, hanging, tmp_path, locks, caplog):
    caplog.set_level(logging.CRITICAL + 1)  # what was logged of half a surrogate pair could not be reported

    def fail(*_):
        raise error

    given = plan(scalarizer=scoring(fail), budget=Budget(points=3))
    engine = begin(given, hanging, tmp_path / "run", locks, observers=(fail,))
    insist(engine)
    assert engine.status.ending == "stopped", engine.status.reason
    assert len(engine.state.measured) == 3
    assert len(RunReader(tmp_path / "run").records) == len(engine.records)


@pytest.mark.parametrize(
    "error", [SystemExit("2"), KeyboardInterrupt(), _SpeechlessError(), Exception("\udcff\x1b[2J")]
)
@pytest.mark.parametrize("kind", ["overview", "spectrum", "set"])
def test_whatever_an_instrument_raises_it_is_put_back(error, kind, hanging, tmp_path, locks, caplog):
    caplog.set_level(logging.CRITICAL + 1)

    def fail(*_):
        raise error

    setattr(hanging, kind, fail)
    engine = begin(plan(), hanging, tmp_path / "run", locks)
    until(lambda: engine.join(0) or engine.status.phase in ("suspended", "paused"), 30)
    engine.abort()
    assert engine.join(30)
    assert ("close", None) in hanging.commands


WRONG = {
    "complex": lambda s: s.sum(axis=1) + 7j,
    "text": lambda s: np.array(["3.5"] * len(s)),
    "dates": lambda s: np.array(["2020-01-01"] * len(s), "M8[s]"),
    "true or false": lambda s: np.ones(len(s), bool),
    "objects": lambda s: np.array([None] * len(s)),
    "shape": lambda s: s,
    "no array": lambda s: [1, [2]],
}


@pytest.mark.parametrize("what", WRONG)
def test_a_score_that_is_no_real_number_pauses_the_run_before_the_next_exposure(what, hanging, tmp_path, locks):
    given = plan(scalarizer=scoring(lambda s, e: WRONG[what](s)))
    engine = begin(given, hanging, tmp_path / "run", locks)
    until(lambda: engine.status.phase == "paused", 20)
    assert "gave no number" in engine.status.reason
    assert what in engine.status.reason
    assert engine.state.exposures == 1
    engine.steer(ev.SetScalarizer(scalarizer=Window(low_eV=1.1, high_eV=1.7)))
    engine.resume()
    assert engine.join(30)
    assert engine.status.ending == "completed"
    assert len(engine.state.scored) == 6


def test_what_is_under_a_mask_is_no_value(hanging, tmp_path, locks):
    engine = begin(
        plan(scalarizer=scoring(lambda s, e: np.ma.masked_all(len(s)) + 5)), hanging, tmp_path / "run", locks
    )
    insist(engine)
    assert engine.status.ending == "stopped"
    assert len(engine.state.measured) == 6
    assert not engine.state.scored
    assert not engine.state.warnings


def hanging_once(monkeypatch, release):
    """Agents of which the first takes for ever to be made."""
    made = []

    def make(spec, candidates, seed, budget):
        made.append(threading.get_ident())
        if len(made) == 1:
            release.wait(30)
        return RandomPolicy(candidates, seed)

    monkeypatch.setattr("autoexp.decider.make_agent", make)
    return made


def test_an_agent_that_is_never_ready_is_set_aside(hanging, tmp_path, locks, monkeypatch):
    release = threading.Event()
    hanging_once(monkeypatch, release)
    engine = begin(plan(decision_deadline_s=0.05), hanging, tmp_path / "run", locks)
    assert engine.join(20)
    release.set()
    assert engine.status.ending == "completed"
    assert {p.agent for p in engine.state.measured} == {"space-filling"}
    assert "it was not ready within 0.725 s" in engine.state.warnings[0]  # ten deadlines, and 225 ms for 225 candidates


def test_an_agent_that_is_never_ready_pauses_the_run_and_is_made_anew(hanging, tmp_path, locks, monkeypatch):
    release = threading.Event()
    made = hanging_once(monkeypatch, release)
    engine = begin(plan(decision_deadline_s=0.05, fallback="pause"), hanging, tmp_path / "run", locks)
    until(lambda: engine.status.phase == "paused", 20)
    assert "it was not ready within" in engine.status.reason
    assert engine.state.exposures == 0
    engine.resume()
    assert engine.join(20)
    release.set()
    assert len(made) == 2
    assert {p.agent for p in engine.state.measured} == {"random"}


def test_an_agent_that_is_made_anew_while_it_runs_has_time_for_it(hanging, tmp_path, locks, monkeypatch):
    def slow(spec, candidates, seed, budget):
        time.sleep(0.6)  # longer than a decision may take
        return RandomPolicy(candidates, seed)

    monkeypatch.setattr("autoexp.decider.make_agent", slow)
    engine = begin(plan(decision_deadline_s=0.3), hanging, tmp_path / "run", locks)
    until(lambda: engine.status.points >= 1)
    engine.steer(ev.SetAgent(agent=GridAgent()))
    assert engine.join(30)
    assert not engine.state.warnings


@pytest.mark.parametrize("verb", ["abort", "stop", "halt"])
def test_while_an_agent_is_made_the_run_obeys(verb, hanging, tmp_path, locks, monkeypatch):
    release = threading.Event()
    made = hanging_once(monkeypatch, release)
    engine = begin(plan(), hanging, tmp_path / "run", locks)
    until(lambda: made)
    begun = time.monotonic()
    getattr(engine, verb)()
    assert engine.join(10)
    release.set()
    assert time.monotonic() - begun < GIVEN_BACK_S
    assert (("close", None) in hanging.commands) == (verb != "halt")
    assert engine.state.exposures == 0
