"""The beam is aligned before a run's overview, and again when the disk has moved."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from helpers import BLANKED, Stepper, plan, run, until

from autoexp import events as ev
from autoexp import gate
from autoexp.engine import Engine
from autoexp.errors import LimitError
from autoexp.guardian import Guardian
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import AlignmentSpec, AlignmentStage, Budget, FrameSpec
from autoexp.runlog import RunReader
from autoexp.state import fold
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.optics import Optics

PAIR = ("CAperture.y", "CAperture.x")
SITE = SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15) for name in PAIR})
SPEC = AlignmentSpec(frame=FrameSpec(exposure_s=0.05, binning=16))
STAGE = AlignmentStage(spec=SPEC, every=3)
AWAY = dict(zip(PAIR, (0.03, -0.035), strict=True))


@pytest.fixture
def microscope(plasmonic):
    made = VirtualMicroscope(plasmonic, optics=Optics.hidden(3), time_scale=200)
    made.controls.update(AWAY)
    return made


def aligned(points=8, stage=STAGE, **changes):
    return plan(budget=Budget(points=points), align=stage, **changes)


def tilt(microscope, y, x):
    """The disk moves on its own, rad."""
    now = np.add(microscope.optics.misalignment_rad, (y, x)).tolist()
    microscope.optics = dataclasses.replace(microscope.optics, misalignment_rad=tuple(now))


def disk_mrad(microscope):
    deflector = np.array([microscope.controls[name] for name in PAIR])
    return 1e3 * float(np.hypot(*microscope.optics.disk_centre(deflector)))


def kinds(folder, *wanted):
    return [r.event for r in RunReader(folder).records if isinstance(r.event, wanted)]


def test_align_then_overview_then_spectra(microscope, instrument, tmp_path, locks):
    engine = run(aligned(stage=AlignmentStage(spec=SPEC)), instrument, tmp_path / "run", locks, site=SITE)
    assert engine.error is None
    state = engine.state
    assert state.finished.ending == "completed"
    assert disk_mrad(microscope) < 2
    (found,) = state.alignments
    assert found.success
    order = [type(r.event).__name__ for r in engine.records]
    assert order.index("Aligned") < order.index("Prepared") < order.index("Decided")
    looked = kinds(tmp_path / "run", ev.Looked)
    assert len(looked) == found.frames
    assert looked[0].values == tuple(AWAY.values())
    assert looked[-1].aligned
    assert state.dose_e == pytest.approx(engine._guardian.account.dose_e), (
        "what the camera's frames cost is in the run's account"
    )
    assert sum(e.dose_e for e in looked) > 0
    assert fold(RunReader(tmp_path / "run").records) == state


def test_every_move_is_written_down_before_it_is_made(instrument, tmp_path, locks):
    run(aligned(), instrument, tmp_path / "run", locks, site=SITE)
    told = [(e.name, e.value) for e in kinds(tmp_path / "run", ev.Moving)]
    assert told == [what for kind, what in instrument.commands if kind == "set"]
    assert len(told) >= 4


def test_when_the_disk_has_moved_the_beam_is_aligned_again(microscope, instrument, tmp_path, locks):
    moved = Stepper(ev.Measured, lambda: tilt(microscope, 0.02, 0.03), nth=4)
    engine = run(aligned(12), instrument, tmp_path / "run", locks, site=SITE, observers=(moved,))
    assert engine.state.finished.ending == "completed"
    first, again = engine.state.alignments
    assert first.success
    assert again.success
    assert again.frames <= 4  # the response is known
    begun = kinds(tmp_path / "run", ev.AlignmentBegun)
    assert begun[0].reason == "before the overview"
    assert "from its goal" in begun[1].reason
    assert disk_mrad(microscope) < 2
    assert len(engine.state.measured) == 12


def test_a_disk_that_stays_is_left_alone(instrument, tmp_path, locks):
    engine = run(aligned(12), instrument, tmp_path / "run", locks, site=SITE)
    assert len(engine.state.alignments) == 1
    looks = len(kinds(tmp_path / "run", ev.Looked)) - engine.state.alignments[0].frames
    assert looks == 3  # after 3, 6, 9 spectra


def start(instrument, folder, locks, the_plan, **given):
    engine = Engine(the_plan, instrument, folder, lock_folder=locks, beam_current_pA=50.0, site=SITE, **given)
    engine.start()
    return engine


def test_what_cannot_be_aligned_is_put_back_and_waits_for_help(microscope, instrument, tmp_path, locks):
    hopeless = AlignmentStage(spec=SPEC.model_copy(update={"frames": 2, "tolerance_px": 1e-3}))
    engine = start(instrument, tmp_path / "run", locks, aligned(stage=hopeless))
    until(lambda: engine.status.phase == "paused")
    assert "could not be aligned" in engine.status.reason
    assert {name: microscope.controls[name] for name in PAIR} == pytest.approx(AWAY)
    assert engine.state.prepared is None
    engine.resume()  # somebody thinks it will be better now
    until(lambda: len(engine.state.alignments) == 2)
    until(lambda: engine.status.phase == "paused")
    engine.stop()
    assert engine.join(60)
    assert engine.state.finished.ending == "stopped"


def test_a_beam_that_is_lost_suspends_and_comes_back(microscope, instrument, tmp_path, locks):
    def dark():
        microscope.controls["BeamCurrent"] = 0.0

    lost = Stepper(ev.Measured, dark, nth=3)
    engine = start(instrument, tmp_path / "run", locks, aligned(6), observers=(lost,))
    until(lambda: engine.status.phase == "suspended")
    assert "No disk is to be seen" in engine.status.reason
    microscope.controls["BeamCurrent"] = 50e-12
    engine.resume()
    assert engine.join(60)
    assert engine.state.finished.ending == "completed"
    assert len(engine.state.measured) == 6


@pytest.mark.parametrize("fault", ["disconnected", "raises"])
def test_a_fault_on_the_way_suspends_puts_back_and_can_be_resumed(microscope, instrument, tmp_path, locks, fault):
    failing = Stepper(ev.Moving, lambda: instrument.arm(fault), nth=2)
    engine = start(instrument, tmp_path / "run", locks, aligned(), observers=(failing,))
    until(lambda: engine.status.phase == "suspended")
    assert {name: microscope.controls[name] for name in PAIR} == pytest.approx(AWAY)
    engine.resume()
    assert engine.join(60)
    assert engine.state.finished.ending == "completed"
    assert disk_mrad(microscope) < 2


@pytest.mark.parametrize("verb", ["abort", "halt", "stop"])
def test_an_end_while_aligning(microscope, instrument, tmp_path, locks, verb):
    engines = []
    ending = Stepper(ev.Moving, lambda: getattr(engines[0], verb)(), nth=2)
    engine = Engine(
        aligned(), instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0, site=SITE, observers=(ending,)
    )
    engines.append(engine)
    engine.run()
    state = engine.state
    assert state.finished.ending == {"abort": "aborted", "halt": "halted", "stop": "stopped"}[verb]
    now = {name: microscope.controls[name] for name in PAIR}
    if verb == "halt":
        sets = [what for kind, what in instrument.commands if kind == "set"]
        assert now != pytest.approx(AWAY)
        assert len(sets) == 1  # the second was written down, and never sent
    else:
        assert now == pytest.approx(AWAY)


def test_a_pause_while_aligning_again_is_obeyed(microscope, instrument, tmp_path, locks):
    engines = []

    def pause():
        if not engines[0].state.prepared:
            return
        engines[0].pause()

    moved = Stepper(ev.Measured, lambda: tilt(microscope, 0.02, 0.03), nth=3)
    pausing = Stepper(ev.AlignmentBegun, pause, nth=2)
    engine = Engine(aligned(6), instrument, tmp_path / "run", lock_folder=locks, site=SITE, observers=(moved, pausing))
    engines.append(engine)
    engine.start()
    until(lambda: engine.status.phase == "paused")
    assert len(engine.state.measured) == 3
    engine.resume()
    assert engine.join(60)
    assert engine.state.finished.ending == "completed"
    assert disk_mrad(microscope) < 2


def test_a_run_cut_off_while_aligning_goes_back_to_where_it_began(microscope, tmp_path, locks, monkeypatch):
    monkeypatch.setattr(gate, "tamed", lambda call: call)  # nothing of the program survives the end of its process

    class Killed(BaseException):
        pass

    class Mortal(FaultyInstrument):
        def close(self):
            raise Killed

        def set(self, name, value):
            super().set(name, value)
            if sum(kind == "set" for kind, _ in self.commands) == 3:
                raise Killed

    folder = tmp_path / "run"
    engine = Engine(aligned(), Mortal(DirectInstrument(microscope)), folder, lock_folder=locks, site=SITE)
    engine._guardian.restore = engine._guardian.put_back = lambda *_: (_ for _ in ()).throw(Killed())
    with pytest.raises(Killed):
        engine.run()
    assert {name: microscope.controls[name] for name in PAIR} != pytest.approx(AWAY)
    instrument = FaultyInstrument(DirectInstrument(microscope))
    resumed = Engine(None, instrument, folder, lock_folder=locks, site=SITE)
    resumed.run()
    assert resumed.state.finished.ending == "completed"
    looked = kinds(folder, ev.AlignmentBegun, ev.Looked)
    again = next(i for i, e in enumerate(looked) if getattr(e, "reason", "") == "after an interruption")
    assert looked[again + 1].values == pytest.approx(tuple(AWAY.values()))
    assert disk_mrad(microscope) < 2


def test_an_interrupted_run_is_resumed_with_a_look(microscope, instrument, tmp_path, locks):
    folder = tmp_path / "run"
    engine = run(aligned(12), instrument, folder, locks, site=SITE)
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(r.seq for r in engine.records if isinstance(r.event, ev.Measured) and r.event.id == 4)
    (folder / "events.jsonl").write_bytes(b"".join(lines[: cut + 1]))
    tilt(microscope, 0.02, -0.03)
    resumed = Engine(None, instrument, folder, lock_folder=locks, site=SITE)
    resumed.run()
    assert resumed.state.finished.ending == "completed"
    assert len(resumed.state.alignments) == 2
    assert disk_mrad(microscope) < 2


def test_controls_that_may_not_be_moved_are_refused_before_anything_moves(instrument, tmp_path, locks):
    engine = run(aligned(), instrument, tmp_path / "run", locks, site=SiteLimits())
    assert engine.state.finished.ending == "faulted"
    assert "do not list CAperture.y" in engine.state.finished.reason
    assert not instrument.commands


def test_a_budget_of_dose_counts_the_frames_too(instrument, tmp_path, locks):
    site = SITE.model_copy(update={"blanker": BLANKED.blanker})
    free = run(aligned(6), instrument, tmp_path / "free", locks, site=site).state
    budget = Budget(points=6, dose_e=0.6 * free.dose_e)
    engine = run(aligned().model_copy(update={"budget": budget}), instrument, tmp_path / "run", locks, site=site)
    assert "budget" in engine.state.finished.reason
    assert engine.state.dose_e <= 0.6 * free.dose_e


def test_the_estimate_counts_the_frames():
    without, once, often = (
        p.estimate(50.0) for p in (plan(budget=Budget(points=60)), aligned(60, AlignmentStage(spec=SPEC)), aligned(60))
    )
    assert once.time_s - without.time_s == pytest.approx(5 * 0.05)
    assert often.time_s - once.time_s == pytest.approx(20 * 0.05)
    assert often.dose_e > once.dose_e > without.dose_e


def test_a_rate_that_the_site_limits_is_kept_by_waiting(microscope):
    now = [0.0]
    limits = {name: ControlLimits(low=-0.15, high=0.15, rate=0.01) for name in PAIR}
    guardian = Guardian(
        DirectInstrument(microscope),
        SiteLimits(controls=limits),
        clock=lambda: now[0],
        sleep=lambda s: now.__setitem__(0, now[0] + s),
    )
    guardian.open()
    guardian.move("CAperture.y", 0.035)
    with pytest.raises(LimitError, match="wait and ask again"):
        guardian.move("CAperture.y", 0.045)
    guardian.await_rate("CAperture.y", 0.045)
    guardian.move("CAperture.y", 0.045)
    assert now[0] == pytest.approx(1.0)
    assert guardian.restore() == []
    assert now[0] == pytest.approx(2.5)


def test_a_kill_in_a_second_alignment_puts_back_what_the_first_has_moved(microscope, tmp_path, locks):
    """An alignment that was interrupted leaves the controls on their way; where they were found is not forgotten."""
    at_that_moment, begun = tmp_path / "killed", []

    def watch(record, state):
        if isinstance(record.event, ev.AlignmentBegun):
            begun.append({name: microscope.controls[name] for name in PAIR})
            if len(begun) == 2:
                shutil.copytree(tmp_path / "run", at_that_moment)

    def interrupt():
        engine.steer(ev.SetBudget(budget=Budget(points=5)))

    observers = (Stepper(ev.Moving, interrupt, 2), watch)
    instrument = DirectInstrument(microscope)
    given = {"lock_folder": locks, "beam_current_pA": 50.0, "site": SITE}
    engine = Engine(aligned(), instrument, tmp_path / "run", observers=observers, **given)
    engine.run()
    assert begun[1] != AWAY
    microscope.controls.update(begun[1])
    again = tmp_path / "killed again"

    def kill():  # before anything that the resumption sends has come through
        shutil.copytree(at_that_moment, again)

    Engine(None, instrument, at_that_moment, observers=(Stepper(ev.Moving, kill, 1),), **given).run()
    microscope.controls.update(begun[1])
    shutil.rmtree(at_that_moment)
    again.rename(at_that_moment)
    resumed = Engine(
        None, instrument, at_that_moment, observers=(Stepper(ev.Moving, lambda: resumed.abort(), 1),), **given
    )
    resumed.run()
    assert resumed.state.finished.ending == "aborted"
    assert {name: microscope.controls[name] for name in PAIR} == pytest.approx(AWAY)


def test_an_alignment_that_fails_after_one_that_was_interrupted_goes_back_to_what_was_found(
    microscope, tmp_path, locks
):
    def interrupt():
        engine.steer(ev.SetBudget(budget=Budget(points=5)))

    def lose(record, state):
        if isinstance(record.event, ev.AlignmentBegun) and engine.state.displaced:
            microscope.controls["BeamCurrent"] = 0.0

    instrument = DirectInstrument(microscope)
    given = {"lock_folder": locks, "beam_current_pA": 50.0, "site": SITE}
    observers = (Stepper(ev.Moving, interrupt, 2), lose)
    engine = Engine(aligned(), instrument, tmp_path / "run", observers=observers, **given)
    engine.start()
    until(lambda: engine.state.phase in ("paused", "suspended"))
    assert {name: microscope.controls[name] for name in PAIR} == pytest.approx(AWAY)
    engine.stop()
    assert engine.join(60)


@pytest.mark.parametrize("moves", [1, 3])
def test_a_pause_before_the_overview_is_obeyed_before_it(moves, microscope, instrument, tmp_path, locks):
    engines = []
    pausing = Stepper(ev.Moving, lambda: engines[0].pause(), moves)
    engine = Engine(aligned(), instrument, tmp_path / "run", lock_folder=locks, site=SITE, observers=(pausing,))
    engines.append(engine)
    engine.start()
    until(lambda: engine.waits_for_help)
    assert engine.status.phase == "paused"
    assert engine.state.prepared is None
    engine.resume()
    assert engine.join(60)
    assert engine.state.finished.ending == "completed"
    assert disk_mrad(microscope) < 2
