"""The engine, run for real on the virtual microscope."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from folders import a_run
from helpers import BLANKED, Stepper, insist, plan, run, until
from pydantic import ValidationError

from autoexp import events as ev
from autoexp.campaigns import verify
from autoexp.engine import BLIND_IN_A_ROW, Engine
from autoexp.errors import InstrumentBusyError, RunLogError
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import (
    Budget,
    DeepKernelAgent,
    ExpectedHypervolumeImprovement,
    GridAgent,
    ListAgent,
    OverviewSpec,
    Plan,
    Region,
    SpectrumSpec,
    StopRule,
)
from autoexp.runlog import EVENTS, RunLog, RunReader
from autoexp.scalarizers import Edge, Function, PeakPosition, Window, register_scalarizer
from autoexp.state import fold
from autoexp.testing import FaultyInstrument


def test_a_run_measures_its_budget_and_saves_everything(instrument, tmp_path, locks):
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.error is None
    assert engine.status.ending == "completed"
    assert engine.status.progress == 1.0
    reader = RunReader(tmp_path / "run")
    state = fold(reader.records)
    assert state == engine.state
    assert len(state.measured) == 6
    assert Plan.from_json((tmp_path / "run" / "plan.json").read_text(encoding="utf-8")) == state.plan == plan()
    assert reader.spectra().shape == (6, 1024)
    assert reader.array(state.prepared.overview).shape == (64, 64)
    energy = state.spectra.offset + state.spectra.scale * np.arange(1024)
    again = state.settings.scalarizer.score(reader.spectra(), energy, state.spectra.counts_per_electron)
    np.testing.assert_allclose(again.value, [p.value for p in state.measured], rtol=1e-6)


def test_the_raster_stays_within_its_budget_and_spans_the_field(instrument, tmp_path, locks):
    engine = run(plan(agent=GridAgent(), budget=Budget(points=9)), instrument, tmp_path / "run", locks)
    positions = np.array([p.position for p in engine.state.measured])
    assert len(np.unique(positions[:, 0])) == 3
    assert positions.min() < 0.25
    assert positions.max() > 0.75


def test_the_same_seed_chooses_the_same_points(instrument, tmp_path, locks):
    first = run(plan(seed=3), instrument, tmp_path / "a", locks).state
    second = run(plan(seed=3), instrument, tmp_path / "b", locks).state
    other = run(plan(seed=4), instrument, tmp_path / "c", locks).state
    chosen = [[p.candidate for p in s.points.values()] for s in (first, second, other)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_nothing_left_to_measure_completes_the_run(instrument, tmp_path, locks):
    positions = ((0.2, 0.3), (0.7, 0.1))
    engine = run(plan(agent=ListAgent(positions=positions)), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert "nothing is left" in engine.status.reason
    assert [p.position for p in engine.state.measured] == list(positions)


def test_dose_never_exceeds_its_budget(instrument, tmp_path, locks):
    overview = OverviewSpec(fov_nm=400, pixels=64)
    one = 0.05 * 50 * 6.241509074e6
    dose = overview.time_s * 50 * 6.241509074e6 + 3.5 * one
    engine = run(plan(budget=Budget(points=6, dose_e=dose)), instrument, tmp_path / "run", locks, site=BLANKED)
    assert engine.status.ending == "completed"
    assert "dose" in engine.status.reason
    assert len(engine.state.measured) == 3
    assert engine.state.dose_e <= dose


def test_time_budget_ends_the_run(instrument, tmp_path, locks):
    slow = plan(spectrum=SpectrumSpec(exposure_s=10.0), budget=Budget(points=600, time_s=12.5))
    engine = run(slow, instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.status.reason
    assert "12.5 s" in engine.status.reason
    assert len(engine.state.measured) >= 1


def test_time_that_is_over_just_before_an_exposure_ends_the_run(instrument, tmp_path, locks):
    slow = plan(spectrum=SpectrumSpec(exposure_s=10.0), budget=Budget(points=600, time_s=12.0))
    dawdle = Stepper(ev.Exposing, lambda: time.sleep(2.1), nth=1)
    engine = run(slow, instrument, tmp_path / "run", locks, observers=(dawdle,))
    assert engine.status.ending == "completed", engine.status.reason
    assert "12 s" in engine.status.reason
    assert engine.state.exposures == 0
    assert not engine.state.pending


def test_pause_waits_for_the_point_and_resume_goes_on(instrument, tmp_path, locks):
    engine = Engine(plan(budget=Budget(points=40)), instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.status.points >= 3)
    engine.pause()
    until(lambda: engine.status.phase == "paused")
    points = engine.status.points
    assert not engine.state.pending
    time.sleep(0.05)
    assert engine.status.points == points
    engine.resume()
    assert engine.join(60)
    assert engine.status.ending == "completed"
    assert len(engine.state.measured) == 40


def test_stop_keeps_what_there_is(instrument, tmp_path, locks):
    engine = Engine(plan(budget=Budget(points=400)), instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.status.points >= 3)
    engine.stop()
    assert engine.join(60)
    assert engine.status.ending == "stopped"
    assert not engine.state.pending
    assert instrument.commands[-1][0] == "close"


def test_abort_cuts_a_long_exposure_short(instrument, tmp_path, locks):
    # 4000 s of simulated exposure last 20 s on the wall
    long = plan(spectrum=SpectrumSpec(exposure_s=59.0), budget=Budget(points=5))
    instrument._instrument.microscope.time_scale = 3
    engine = Engine(long, instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: "spectrum" in [kind for kind, _ in instrument.commands])
    begun, sent = time.monotonic(), len(instrument.commands)
    engine.abort()
    assert engine.join(60)
    assert time.monotonic() - begun < 10  # of 20
    assert engine.status.ending == "aborted"
    assert [c for c, _ in instrument.commands[sent:] if c != "abort"] == ["close"]
    assert [p.fault for p in engine.state.failed] == ["aborted"]


def test_halt_sends_nothing_more_at_all(instrument, tmp_path, locks):
    engine = Engine(plan(budget=Budget(points=400)), instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.status.points >= 3)
    engine.halt()
    assert engine.join(60)
    assert engine.status.ending == "halted"
    assert "close" not in [c for c, _ in instrument.commands]


def test_an_abort_after_a_halt_is_a_halt(instrument, tmp_path, locks):
    engine = None

    def halt_and_abort():
        instrument.set("C10", 5e-7)
        engine.halt()
        engine.abort()

    site = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6)})
    watch = (Stepper(ev.Exposing, halt_and_abort, nth=3),)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, site=site, observers=watch)
    engine.run()
    assert engine.status.ending == engine.state.finished.ending == "halted"
    assert not list(RunReader(tmp_path / "run").events(ev.Restored)), "nobody has put anything back"
    assert instrument.commands[-1] == ("set", ("C10", 5e-7))


def test_steering_rescoring_and_undo(instrument, tmp_path, locks):
    other = Window(low_eV=3.4, high_eV=4.2)
    engine = None

    def change():
        engine.steer(ev.SetScalarizer(scalarizer=other))

    def take_back():
        engine.steer(ev.Undo())

    watch = (Stepper(ev.Measured, change, nth=3), Stepper(ev.Measured, take_back, nth=5))
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, observers=watch)
    engine.run()
    reader = RunReader(tmp_path / "run")
    rescored = list(reader.events(ev.Rescored))
    assert [len(r.values) for r in rescored] == [3, 5]
    energy = engine.state.spectra.offset + engine.state.spectra.scale * np.arange(1024)
    np.testing.assert_allclose(list(rescored[0].values.values()), other.values(reader.spectra()[:3], energy), rtol=1e-6)
    assert engine.state.settings.scalarizer == plan().scalarizer
    np.testing.assert_allclose(
        [p.value for p in engine.state.measured], plan().scalarizer.values(reader.spectra(), energy), rtol=1e-6
    )


def test_steering_that_makes_no_sense_is_refused_with_the_reason(instrument, tmp_path, locks):
    engine = None
    wrong = [
        ev.SetScalarizer(scalarizer=Window(low_eV=500, high_eV=510)),
        ev.SetBudget(budget=Budget(points=1)),
        ev.RemoveRegion(id="none"),
        ev.SetAcquisition(acquisition={"kind": "maximum-variance"}),
        ev.Undo(),
    ]

    def steer():
        for command in wrong:
            engine.steer(command)

    watch = (Stepper(ev.Measured, steer, nth=3),)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, observers=watch)
    engine.run()
    steered = [r.event for r in engine.records if isinstance(r.event, ev.Steered)]
    assert len(steered) == len(wrong)
    assert all(s.refused for s in steered)
    assert engine.status.ending == "completed"


def test_a_requested_position_is_measured_next(instrument, tmp_path, locks):
    engine = None
    watch = (Stepper(ev.Measured, lambda: engine.steer(ev.MeasureHere(id="a", position=(0.25, 0.75))), nth=2),)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, observers=watch)
    engine.run()
    asked = [p for p in engine.state.measured if p.request == "a"]
    assert [p.position for p in asked] == [(0.25, 0.75)]
    assert asked[0].id <= 3
    assert len(engine.state.measured) == 6


def test_regions_are_obeyed(instrument, tmp_path, locks):
    inside = Region(id="a", kind="include", top=0.5, left=0.5, bottom=1, right=1)
    outside = Region(id="b", kind="exclude", top=0.7, left=0.7, bottom=1, right=1)
    engine = run(plan(regions=(inside, outside), budget=Budget(points=20)), instrument, tmp_path / "run", locks)
    for point in engine.state.measured:
        assert min(point.position) >= 0.5
        assert min(point.position) < 0.7


def test_a_region_that_is_asked_for_in_mid_run_is_obeyed_from_the_next_decision_on(instrument, tmp_path, locks):
    engine = None
    left = Region(id="a", kind="exclude", top=0, left=0, bottom=1, right=0.7)
    watch = (Stepper(ev.Measured, lambda: engine.steer(ev.AddRegion(region=left)), nth=3),)
    engine = Engine(plan(budget=Budget(points=12)), instrument, tmp_path / "run", lock_folder=locks, observers=watch)
    engine.run()
    events = [r.event for r in engine.records]
    (steered,) = [k for k, event in enumerate(events) if isinstance(event, ev.Steered)]
    before, after = (
        [event.position[1] for event in part if isinstance(event, ev.Decided)]
        for part in (events[:steered], events[steered:])
    )
    assert min(before) < 0.7
    assert len(after) == 12 - len(before) > 0
    assert min(after) >= 0.7
    assert not engine.state.warnings, "the agent knows of it, and need not be corrected"


def test_a_larger_budget_goes_on(instrument, tmp_path, locks):
    engine = None
    watch = (Stepper(ev.Measured, lambda: engine.steer(ev.SetBudget(budget=Budget(points=9))), nth=5),)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, observers=watch)
    engine.run()
    assert len(engine.state.measured) == 9


def test_only_one_run_at_a_time_has_the_instrument(instrument, tmp_path, locks):
    engine = Engine(plan(budget=Budget(points=400)), instrument, tmp_path / "a", lock_folder=locks, holder="Panel 1")
    engine.start()
    until(lambda: engine.status.points >= 1)
    second = run(plan(), instrument, tmp_path / "b", locks)
    assert isinstance(second.error, InstrumentBusyError)
    assert "Panel 1" in str(second.error)
    assert second.status.phase == "faulted"
    engine.stop()
    assert engine.join(60)
    assert run(plan(), instrument, tmp_path / "c", locks).status.ending == "completed"


def test_an_observer_that_raises_harms_nobody(instrument, tmp_path, locks, caplog):
    seen, told = [], []

    def bad(record, state):
        told.append(record.seq)
        raise RuntimeError("panel closed")

    engine = run(plan(), instrument, tmp_path / "run", locks, observers=(bad, lambda r, s: seen.append(r.seq)))
    assert engine.status.ending == "completed"
    assert seen == [r.seq for r in engine.records]
    assert told == [0], "it is told of nothing more"
    assert "observer" in caplog.text


def test_a_finished_run_is_not_resumed(instrument, tmp_path, locks):
    run(plan(), instrument, tmp_path / "run", locks)
    with pytest.raises(RunLogError, match="is over"):
        Engine(None, instrument, tmp_path / "run", lock_folder=locks)
    with pytest.raises(RunLogError, match="no run"):
        Engine(None, instrument, tmp_path / "empty", lock_folder=locks)


def test_an_unfinished_run_is_not_begun_anew_in_its_folder(instrument, tmp_path, locks):
    folder = a_run(tmp_path / "run")
    before = (folder / EVENTS).read_bytes()
    with pytest.raises(RunLogError, match="unfinished run"):
        Engine(plan(name="another"), instrument, folder, lock_folder=locks)
    with RunLog(folder):
        assert (folder / EVENTS).read_bytes() == before, "it is free to be resumed"


def test_controls_are_restored_or_the_run_is_faulted(instrument, tmp_path, locks):
    site = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6)})
    watch = (Stepper(ev.Measured, lambda: instrument.set("C10", 5e-7), nth=2),)
    engine = run(plan(), instrument, tmp_path / "a", locks, site=site, observers=watch)
    assert engine.status.ending == "completed"
    assert instrument.get("C10") == 0.0

    def lose():
        instrument.set("C10", 5e-7)
        instrument.stuck.add("C10")

    engine = run(plan(), instrument, tmp_path / "b", locks, site=site, observers=(Stepper(ev.Measured, lose, nth=2),))
    assert engine.status.ending == "faulted"
    assert engine.status.phase == "faulted"
    assert "C10 reads 5e-07" in engine.status.reason


def test_an_unknown_control_fails_before_anything_is_exposed(instrument, tmp_path, locks):
    site = SiteLimits(controls={"C99": ControlLimits(low=0, high=1)})
    engine = run(plan(), instrument, tmp_path / "run", locks, site=site)
    assert engine.status.ending == "faulted"
    assert "C99" in engine.status.reason
    assert not {"overview", "spectrum", "set"} & {c for c, _ in instrument.commands}


def test_a_plan_beyond_the_limits_fails_before_anything_moves(instrument, tmp_path, locks):
    site = SiteLimits(max_exposure_s=0.01)
    engine = run(plan(), instrument, tmp_path / "run", locks, site=site)
    assert engine.status.ending == "faulted"
    assert "0.01 s allowed" in engine.status.reason
    assert not instrument.commands


def test_a_dose_limit_that_could_not_be_kept_is_refused(instrument, tmp_path, locks):
    for number, (given, site) in enumerate(
        [({"budget": Budget(points=6, dose_e=1e9)}, SiteLimits()), ({}, SiteLimits(max_dose_e=1e9))]
    ):
        engine = Engine(plan(**given), instrument, tmp_path / str(number), site=site, lock_folder=locks)
        engine.run()
        assert engine.status.ending == "faulted"
        assert "beam current is not known" in engine.status.reason
    assert not instrument.commands


def test_an_unregistered_function_is_refused_before_anything_moves(instrument, tmp_path, locks):
    engine = run(plan(scalarizer={"kind": "function", "name": "unheard of"}), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "faulted"
    assert "unheard of" in engine.status.reason
    assert not instrument.commands
    assert RunReader(tmp_path / "run").records


OFF = Edge(low_eV=930, high_eV=1000, background_low_eV=800, background_high_eV=900)


def test_a_scalarizer_off_the_axis_pauses_after_the_first_spectrum(instrument, tmp_path, locks):
    engine = Engine(plan(scalarizer=OFF), instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.waits_for_help)
    assert engine.state.exposures == 1
    assert "no channel" in engine.status.reason
    assert engine.steer(ev.SetScalarizer(scalarizer=Window(low_eV=1, high_eV=2)))
    engine.resume()
    assert engine.join(60)
    assert engine.status.ending == "completed"
    assert len(engine.state.scored) == 6


def test_a_run_without_a_value_is_not_completed(instrument, tmp_path, locks):
    engine = Engine(plan(scalarizer=OFF), instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    assert insist(engine) == 1
    assert engine.status.ending == "stopped"
    assert "no spectrum gave a value" in engine.status.reason
    assert RunReader(tmp_path / "run").spectra().shape[0] == 6
    assert engine.status.best is None
    assert len(engine.state.warnings) == 1


def test_many_spectra_without_a_number_in_a_row_pause(instrument, tmp_path, locks):
    calls = []

    def only_the_first(spectra, energy):
        calls.append(len(spectra))
        return np.full(len(spectra), 1.0 if len(calls) <= 30 else np.nan)  # 24 more are for the noise

    register_scalarizer("test-only-the-first", only_the_first)
    given = plan(scalarizer=Function(name="test-only-the-first"), budget=Budget(points=45))
    engine = Engine(given, instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.waits_for_help)
    assert "gives no number" in engine.status.reason
    assert engine.state.exposures == engine.state.measured_count == 1 + BLIND_IN_A_ROW
    assert insist(engine) == 3  # this time, and after twice and four times as many
    assert engine.status.ending == "completed"


def test_an_overview_taken_before_is_used_without_a_new_exposure(instrument, tmp_path, locks):
    taken = instrument.overview(plan().overview)
    instrument.commands.clear()
    engine = run(plan(), instrument, tmp_path / "run", locks, overview=taken)
    assert engine.status.ending == "completed"
    assert "overview" not in [c for c, _ in instrument.commands]
    np.testing.assert_array_equal(RunReader(tmp_path / "run").array(engine.state.prepared.overview), taken.image)
    own = run(plan(), instrument, tmp_path / "own", locks)
    assert engine.state.dose_e == own.state.dose_e > 0  # the specimen has had it all the same


def test_decisions_are_made_during_exposures(instrument, tmp_path, locks):
    instrument._instrument.microscope.time_scale = 1
    threads = []

    def note(record, state):
        if isinstance(record.event, ev.Exposing):
            threads.append({t.name for t in threading.enumerate()})

    engine = run(plan(spectrum=SpectrumSpec(exposure_s=0.05)), instrument, tmp_path / "run", locks, observers=(note,))
    decided = [r.event for r in engine.records if isinstance(r.event, ev.Decided)]
    assert [d.pending for d in decided[1:]] == [(d.id - 1,) for d in decided[1:]]
    assert [d.known for d in decided] == [0, 0, 1, 2, 3, 4]


def test_peak_position_in_its_own_units(instrument, tmp_path, locks):
    engine = run(plan(scalarizer=PeakPosition(low_eV=3.0, high_eV=4.5)), instrument, tmp_path / "run", locks)
    assert all(3.0 <= p.value <= 4.5 for p in engine.state.measured)


BOTH = DeepKernelAgent(acquisition=ExpectedHypervolumeImprovement(second_goal="minimize"), seeds=4)
OTHER = Window(low_eV=2.0, high_eV=2.6)


def test_two_values_are_scored_and_decided_by_and_the_run_is_verified(instrument, tmp_path, locks):
    engine = run(plan(agent=BOTH, second=OTHER, budget=Budget(points=10)), instrument, tmp_path / "run", locks)
    assert engine.error is None
    reader = RunReader(tmp_path / "run")
    scores = OTHER.score(reader.spectra(), engine.state.spectra.energy, engine.state.spectra.counts_per_electron)
    np.testing.assert_allclose([p.second for p in engine.state.measured], scores.value, rtol=1e-6)
    np.testing.assert_allclose([p.second_noise for p in engine.state.measured], scores.std, rtol=1e-4)
    assert fold(reader.records) == engine.state
    checked = verify(tmp_path / "run")
    assert (checked.decisions, checked.differences) == (10, ())


def test_a_second_value_can_be_asked_for_in_mid_run_and_dropped(instrument, tmp_path, locks):
    box = []
    asks = [
        Stepper(ev.Measured, lambda: box[0].steer(ev.SetAcquisition(acquisition=BOTH.acquisition)), nth=2),
        Stepper(ev.Measured, lambda: box[0].steer(ev.SetSecond(scalarizer=OTHER)), nth=4),
        Stepper(ev.Measured, lambda: box[0].steer(ev.SetAcquisition(acquisition=BOTH.acquisition)), nth=6),
        Stepper(ev.Measured, lambda: box[0].steer(ev.SetSecond(scalarizer=None)), nth=8),
    ]
    quick = plan(agent=DeepKernelAgent(seeds=3), budget=Budget(points=10))
    engine = Engine(quick, instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0, observers=tuple(asks))
    box.append(engine)
    engine.run()
    steered = [r.event for r in engine.records if isinstance(r.event, ev.Steered)]
    assert [bool(s.refused) for s in steered] == [True, False, False, True]
    assert "give the second scalarizer too" in steered[0].refused
    assert all(np.isfinite(p.second) for p in engine.state.measured)


def test_a_compromise_needs_two_values():
    with pytest.raises(ValidationError, match="give the second scalarizer too"):
        plan(agent=BOTH)


def test_a_stopping_rule_ends_the_run_and_says_why(instrument, tmp_path, locks):
    agent = DeepKernelAgent(seeds=4, refit_every=2, stop=StopRule(within=3.0, risk=0.9))
    engine = run(plan(agent=agent, budget=Budget(points=60)), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert "the chance of anything higher than the best" in engine.status.reason
    assert len(engine.state.measured) < 60


def test_an_engine_that_cannot_be_made_leaves_the_folder_free(instrument, tmp_path, locks):
    class Nameless(FaultyInstrument):
        @property
        def identity(self):
            raise OSError("the driver is not loaded")

    with pytest.raises(OSError, match="not loaded"):
        Engine(plan(), Nameless(instrument), tmp_path / "run", lock_folder=locks)
    assert run(plan(), instrument, tmp_path / "run", locks).status.ending == "completed"


@pytest.mark.parametrize("moment", ["before", "while"])
def test_a_halt_while_things_are_put_back_is_a_halt(moment, instrument, tmp_path, locks):
    """Whatever was to end the run: it says that it was halted, and what was not put back."""
    site = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6, step=1e-8)})
    send = instrument.set

    def displace():
        send("C10", 5e-7)
        engine.stop()

    def halt(record, state):
        if moment == "before" and isinstance(record.event, ev.PhaseChanged) and record.event.phase == "finishing":
            engine.halt()

    def halt_when_it_is_on_its_way(name, value):
        send(name, value)
        if moment == "while" and value < 3e-7:
            engine.halt()

    instrument.set = halt_when_it_is_on_its_way
    observers = (Stepper(ev.Measured, displace, 2), halt)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, site=site, observers=observers)
    engine.run()
    assert engine.status.ending == engine.state.finished.ending == "halted"
    assert "halted" in engine.state.finished.reason.removeprefix("on request")
    assert "close" not in [kind for kind, _ in instrument.commands]
    assert instrument.get("C10") > 1e-7
    said = [r.event for r in RunReader(tmp_path / "run").records]
    assert not any(isinstance(event, ev.Restored) for event in said)
    assert ev.Commanded(verb="halt") in said


def test_an_empty_region_pauses_and_never_ends_a_run(instrument, tmp_path, locks):
    engines = []
    tiny = Region(id="tiny", kind="include", top=0.5, left=0.5, bottom=0.501, right=0.501)
    draw = Stepper(ev.Measured, lambda: engines[0].steer(ev.AddRegion(region=tiny)), 3)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, observers=(draw,))
    engines.append(engine)
    engine.start()
    until(lambda: engine.waits_for_help)
    assert "regions that are drawn" in engine.status.reason
    assert engine.state.exposures < 6
    engine.resume()  # nothing has changed
    until(lambda: sum(isinstance(r.event, ev.PhaseChanged) and r.event.phase == "paused" for r in engine.records) == 2)
    until(lambda: engine.waits_for_help)
    assert engine.steer(ev.RemoveRegion(id="tiny"))
    engine.resume()
    assert engine.join(60)
    assert engine.status.ending == "completed"
    assert engine.state.measured_count == 6
