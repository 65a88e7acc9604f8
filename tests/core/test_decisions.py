"""What an agent says is checked where it enters; whatever it says, the run measures what it may, and says so."""

from __future__ import annotations

import pathlib
import tempfile
from dataclasses import replace

import numpy as np
import pytest
from helpers import plan, run
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.agent import Evidence, Prediction, Suggestion
from autoexp.decider import Decider
from autoexp.patches import allowed_by, cut
from autoexp.plan import Budget, ListAgent, PatchSpec, Region
from autoexp.state import RunState, fold
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope

FORBIDDEN = Region(id="r", kind="exclude", top=0.4, left=0.4, bottom=0.6, right=0.6)


class Evil:
    """Says whatever it was told to say, over and over."""

    name = "evil"

    def __init__(self, candidates, said):
        self.candidates, self.said, self.told, self.next = candidates, said, [], 0

    def suggest(self, n, pending=()):
        self.next = len(self.told) + len(pending)
        said = self.said(self) if callable(self.said) else self.said
        return said if isinstance(said, list) else [said]

    def ingest(self, outcomes):
        self.told += outcomes


@pytest.fixture
def evil(monkeypatch):
    def arm(said):
        monkeypatch.setattr("autoexp.decider.make_agent", lambda spec, candidates, seed, budget: Evil(candidates, said))

    return arm


SPOT = Suggestion(None, (0.5, 0.5), "x")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (Suggestion(None, (0.5, 0.5), "x"), "regions forbid"),
        (Suggestion(112, (0.5, 0.5), "x"), "candidate 112, where regions forbid"),
        (Suggestion(None, (0.1, 0.1), "x"), "measured already"),
        (Suggestion(7, (0.5, 0.5), "x"), "not its position"),
        (Suggestion(3, (0.1, 0.1), None), "no text"),
        (Suggestion(3.5, (0.1, 0.1), "x"), "does not exist"),
        (Suggestion(True, (0.1, 0.1), "x"), "does not exist"),
        (Suggestion(3, (0.1, 0.1, 0.1), "x"), "no pair"),
        (Suggestion(3, "ab", "x"), "no pair"),
        (Suggestion(3, None, "x"), "no pair"),
        (Suggestion(3, (True, 0.1), "x"), "not finite"),
        (Suggestion(None, (0.1, 0.1), "x", mean=np.zeros(3)), "not finite"),
        (Suggestion(None, (0.1, 0.1), "x", std=float("nan")), "not finite"),
        (Suggestion(-1, (0.1, 0.1), "x"), "does not exist"),
        (42, "no suggestion"),
    ],
)
def test_what_cannot_be_measured_is_replaced_and_said(said, says, evil, instrument, tmp_path, locks):
    evil(said)
    engine = run(plan(regions=(FORBIDDEN,)), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert len(engine.state.measured) == 6
    assert any(says in warning for warning in engine.state.warnings)
    assert_allowed(instrument, (FORBIDDEN,))


def test_numbers_of_numpy_and_odd_text_are_taken_as_they_are_meant(evil, instrument, tmp_path, locks):
    def said(agent):
        i = np.int64(agent.next)
        return Suggestion(i, agent.candidates.positions[i], "odd \udcff\x1b[2J text", mean=np.float32(1.5))

    evil(said)
    engine = run(plan(budget=Budget(points=3)), instrument, tmp_path / "run", locks)
    assert [(p.candidate, p.agent) for p in engine.state.measured] == [(0, "evil"), (1, "evil"), (2, "evil")]
    assert engine.state.measured[0].reason == "odd ??[2J text"
    assert engine.state.measured[0].mean == 1.5


def test_an_agent_is_told_every_outcome_once_in_whatever_order_they_come(evil):
    """Point 1 is known before point 0, as where two are in flight."""
    evil(lambda agent: Suggestion(agent.next, tuple(agent.candidates.positions[agent.next]), "x"))
    candidates = cut(np.random.default_rng(0).random((64, 64)), plan().patches)

    def decided(i):
        place = {"candidate": i, "position": tuple(candidates.positions[i]), "reason": "", "agent": "evil"}
        return ev.Decided(id=i, **place), ev.Exposing(id=i, exposure_s=0.1)

    def measured(i):
        return ev.Measured(id=i, record=ev.RecordRef(index=i, crc32=0), value=float(i), noise=0.1, dose_e=1.0)

    def after(state, *events):
        told = {"utc": "", "elapsed_s": 0.0}
        return fold([ev.Record(seq=state.seq + 1 + k, event=e, **told) for k, e in enumerate(events)], state)

    state = after(RunState(), ev.Started(run_id="x", plan=plan(), software={}, instrument={}))
    decider = Decider(plan(), candidates, state)
    for events in ([*decided(0), *decided(1), measured(1)], [measured(0)], [*decided(2), measured(2)]):
        state = after(state, *events)
        assert decider.fetch(state).warning is None
    told = decider._advisor._agent.told
    assert sorted(outcome.candidate for outcome in told) == [0, 1, 2]


def test_a_position_that_is_no_candidates_is_measured_once(evil, instrument, tmp_path, locks):
    evil(lambda agent: Suggestion(None, (0.3, 0.3 + 0.01 * agent.next), "x"))
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert [p.agent for p in engine.state.measured] == ["evil"] * 6


def test_a_list_goes_round_what_regions_forbid(instrument, tmp_path, locks):
    listed = (*((0.41 + 0.02 * i, 0.5) for i in range(8)), (0.9, 0.9), (0.1, 0.9))
    engine = run(plan(agent=ListAgent(positions=listed), regions=(FORBIDDEN,)), instrument, tmp_path / "run", locks)
    assert [p.position for p in engine.state.measured] == [(0.9, 0.9), (0.1, 0.9)]
    assert engine.state.settings.agent.kind == "list"
    assert not engine.state.warnings


def test_an_agent_cannot_write_to_what_it_is_given(evil, instrument, tmp_path, locks):
    written = []

    def said(agent):
        for name in ("allowed", "positions", "image"):
            array = getattr(agent.candidates, name)
            for attempt in (lambda a: a.__setitem__(slice(None), 1), lambda a: a.setflags(write=True)):
                try:
                    attempt(array)
                except ValueError:
                    continue
                written.append(name)
        i = 20 + agent.next
        return Suggestion(i, tuple(agent.candidates.positions[i]), "x")

    evil(said)
    run(plan(regions=(FORBIDDEN,)), instrument, tmp_path / "run", locks)
    assert not written
    assert_allowed(instrument, (FORBIDDEN,))


@pytest.mark.parametrize(
    "told",
    [
        Prediction(np.zeros(3), np.zeros(3), 1),
        Prediction("mean", "std", 1),
        Prediction(np.array([object()] * 225), np.zeros(225), 1),
        Prediction(np.zeros(225), np.zeros(225), "many"),
        "tomorrow it rains",
    ],
)
def test_a_prediction_that_is_none_harms_nobody(told, evil, monkeypatch, instrument, tmp_path, locks):
    monkeypatch.setattr(Evil, "predict", lambda self: told, raising=False)
    evil(lambda agent: Suggestion(agent.next, tuple(agent.candidates.positions[agent.next]), "x"))
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert engine.prediction is None


def assert_allowed(instrument, regions):
    exposed = np.array([position for kind, position in instrument.commands if kind == "spectrum"])
    assert allowed_by(regions, exposed).all()
    assert len(np.unique(exposed.round(5), axis=0)) == len(exposed)


anything = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=4), st.just(np.int64(5)), st.just([1])
)
place = st.one_of(
    anything, st.tuples(anything, anything), st.tuples(st.floats(0, 1), st.floats(0, 1)), st.just(SPOT.position)
)
said = st.builds(Suggestion, anything, place, anything, anything, anything, anything)


@settings(max_examples=40, deadline=None)
@given(script=st.lists(st.one_of(said, anything), min_size=1, max_size=6))
def test_whatever_an_agent_says_only_what_is_allowed_is_exposed_and_only_once(script, plasmonic):
    import autoexp.decider

    spoken = iter(script * 50)
    given = autoexp.decider.make_agent
    autoexp.decider.make_agent = lambda spec, candidates, seed, budget: Evil(candidates, lambda agent: next(spoken))
    instrument = FaultyInstrument(DirectInstrument(VirtualMicroscope(plasmonic, time_scale=1e5)))
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            engine = run(plan(regions=(FORBIDDEN,), budget=Budget(points=4)), instrument, folder / "run", folder)
    finally:
        autoexp.decider.make_agent = given
    assert engine.status.ending == "completed", engine.error
    assert len(engine.state.measured) == 4
    assert_allowed(instrument, (FORBIDDEN,))


def test_candidates_are_read_only_and_the_image_of_others_is_not():
    image = np.random.default_rng(0).random((32, 32))
    candidates = cut(image, PatchSpec(pixels=8, stride=8)).restricted([FORBIDDEN])
    assert not any(a.flags.writeable for a in (candidates.image, candidates.positions, candidates.allowed))
    image[0, 0] = 7  # the owner's own array stays as it was


def in_order(agent):
    return Suggestion(agent.next, tuple(agent.candidates.positions[agent.next]), "x")


def raises(*_):
    raise RuntimeError("do not look at me")


@pytest.mark.parametrize(
    "told",
    [
        Prediction(np.zeros(225), np.zeros(225), 0, coverage="x"),
        Prediction(np.zeros(225), np.zeros(225), 0, evidence=[1]),
        Prediction(np.zeros(225), np.zeros(225), 0, evidence=Evidence({"a": None}, {})),
        Prediction(np.zeros(225), np.zeros(225), -5),
        Prediction(np.zeros(225), np.zeros(225), 2**60),
        Prediction(np.full(225, np.inf), np.zeros(225), 0),
        Prediction(np.zeros(225) + 1j, np.zeros(225), 0),
        Prediction(np.ma.masked_all(225), np.zeros(225), 0),
        raises,
    ],
)
def test_a_useless_prediction_is_said_once_and_costs_no_decision(told, evil, monkeypatch, instrument, tmp_path, locks):
    monkeypatch.setattr(Evil, "predict", told if callable(told) else lambda self: told, raising=False)
    evil(in_order)
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert [p.agent for p in engine.state.measured] == ["evil"] * 6
    assert engine.prediction is None
    assert len([w for w in engine.state.warnings if "The evil agent predicted" in w]) == 1
    assert len([w for w in engine.state.warnings if "last prediction could not be made" in w]) == 1


def test_a_prediction_that_is_of_no_use_only_in_the_end(evil, monkeypatch, instrument, tmp_path, locks):
    def predict(agent):
        return Prediction(np.zeros(225), np.ones(225), len(agent.told) if len(agent.told) < 6 else -5)

    monkeypatch.setattr(Evil, "predict", predict, raising=False)
    evil(in_order)
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert engine.prediction.after == 4  # the fifth was on its way when the sixth was decided
    assert "after -5 points" in engine.state.warnings[-1]


@pytest.mark.parametrize("name", ["name", "finished", "has_work", "predict", "suggest", "ingest", "work_ahead"])
def test_an_agent_whose_parts_raise_ends_no_run(name, evil, monkeypatch, instrument, tmp_path, locks):
    monkeypatch.setattr(Evil, "work_ahead", lambda self: None, raising=False)
    monkeypatch.setattr(Evil, "has_work", True, raising=False)
    monkeypatch.setattr(Evil, "finished", "", raising=False)
    monkeypatch.setattr(Evil, name, property(raises), raising=False)
    evil(in_order)
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert len(engine.state.measured) == 6


class Mine(str):
    """Text that says of itself what it likes."""

    def __len__(self):
        return 1

    def isascii(self):
        return True

    isprintable = isascii


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (Suggestion(10**5000, (0.1, 0.1), "x"), "does not exist"),
        (Suggestion(3, b"ab", "x"), "no pair"),
        (Suggestion(3, np.ma.masked_all(2), "x"), "not finite"),
        (Suggestion(3, np.array(0.5), "x"), "raised TypeError"),
        (Suggestion(None, (0.1, 0.1), "x", std=-1.0), "below zero"),
        (Suggestion(None, (0.1, 0.1), "x", mean=10**400), "not finite"),
        (type("Shy", (Suggestion,), {"position": property(raises)}).__new__(Suggestion), "raised AttributeError"),
    ],
)
def test_suggestions_of_the_worst_kind(said, says, evil, instrument, tmp_path, locks):
    evil(said)
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert len(engine.state.measured) == 6
    assert any(says in warning for warning in engine.state.warnings)


@pytest.mark.parametrize("said", [None, 7, "", iter(()), np.zeros(3), {}])
def test_what_is_no_list_of_suggestions_is_not_taken_for_the_end(said, evil, monkeypatch, instrument, tmp_path, locks):
    monkeypatch.setattr(Evil, "suggest", lambda self, n, pending=(): said)
    evil(None)
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert len(engine.state.measured) == 6
    assert any("nothing that is a list" in warning for warning in engine.state.warnings)


def test_texts_that_are_more_than_texts(evil, monkeypatch, instrument, tmp_path, locks):
    monkeypatch.setattr(Evil, "name", Mine("evil\x1b[2J\udcff"))
    evil(lambda agent: replace(in_order(agent), reason=Mine("\udcff" * 5000)))
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert {type(p.reason) for p in engine.state.measured} == {str}
    assert {p.agent for p in engine.state.measured} == {"evil?[2J?"}
