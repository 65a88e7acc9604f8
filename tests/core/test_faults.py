"""The rows of the fault table that the core must survive; each test names its row."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from helpers import BLANKED, Stepper, plan, run, until

from autoexp import events as ev
from autoexp.agent import Suggestion
from autoexp.engine import Engine
from autoexp.errors import LimitError, PlanError, ReadbackError
from autoexp.guardian import Guardian
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.patches import cut
from autoexp.plan import Budget, GridAgent, OverviewSpec, PatchSpec, Plan, RandomAgent, UserLimits
from autoexp.runlog import RunReader
from autoexp.testing import DirectInstrument
from autoexp.testing.virtual import spectrum_like
from virtual_stem.microscope import VirtualMicroscope


def start(plan, instrument, folder, locks, **given):
    engine = Engine(plan, instrument, folder, lock_folder=locks, **given)
    engine.start()
    return engine


@pytest.mark.parametrize(
    ("row", "fault", "says"),
    [(1, "silent", "No frame came"), (2, "raises", "detector tripped"), (3, "disconnected", "went away")],
)
def test_a_device_that_fails_suspends_the_run_and_the_next_point_works(row, fault, says, instrument, tmp_path, locks):
    instrument.arm(None, fault)
    engine = start(plan(), instrument, tmp_path / "run", locks)
    until(lambda: engine.status.phase == "suspended")
    assert says in engine.status.reason
    assert [p.id for p in engine.state.failed] == [1]
    exposed = [c for c, _ in instrument.commands].count("spectrum")
    time.sleep(0.05)
    assert [c for c, _ in instrument.commands].count("spectrum") == exposed
    engine.resume()
    assert engine.join(60)
    assert engine.status.ending == "completed"
    assert len(engine.state.measured) == 5
    assert engine.status.progress < 1


def test_row_4_a_stale_frame_is_discarded(instrument, tmp_path, locks):
    instrument.arm(None, "stale")
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert [p.fault for p in engine.state.failed] == ["staleframe"]
    assert RunReader(tmp_path / "run").spectra().shape[0] == 5


def test_row_5_three_wrong_shapes_in_a_row_pause_the_run(instrument, tmp_path, locks):
    instrument.arm("wrong-shape", None, "wrong-shape", "wrong-shape", "wrong-shape")
    engine = start(plan(budget=Budget(points=20)), instrument, tmp_path / "run", locks)
    until(lambda: engine.status.phase == "paused")
    assert len(engine.state.failed) == 4
    assert "(2, 512)" in engine.status.reason
    engine.stop()
    assert engine.join(60)


def test_row_5_a_spectrum_of_another_length_is_refused_and_the_run_goes_on(instrument, tmp_path, locks):
    take, taken = instrument.spectrum, []

    def spectrum(position, spec):
        made = take(position, spec)
        taken.append(made)
        return spectrum_like(made, made.counts[:500]) if len(taken) == 3 else made

    instrument.spectrum = spectrum
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed", engine.error
    assert [p.fault for p in engine.state.failed] == ["badframe"]
    assert len(engine.state.measured) == 5
    stored = RunReader(tmp_path / "run").spectra()
    np.testing.assert_array_equal(stored, [t.counts for k, t in enumerate(taken) if k != 2])


def test_row_6_a_spectrum_with_nan_is_kept_and_not_learned_from(instrument, tmp_path, locks):
    instrument.arm(None, "nan")
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert engine.status.failed == 1
    (failed,) = engine.state.failed
    assert failed.fault == "nan"
    assert np.isnan(RunReader(tmp_path / "run").spectra()[failed.record]).sum() == 1
    assert [o.status for i, o in engine.state.outcomes if i == failed.id] == ["failed"]


@pytest.mark.parametrize(("row", "fault", "says"), [(7, "saturated", "Shorten the exposure"), (8, "dark", "blanked")])
def test_saturated_and_dark_spectra_suspend_before_the_next_exposure(row, fault, says, instrument, tmp_path, locks):
    instrument.arm(None, fault)
    engine = start(plan(), instrument, tmp_path / "run", locks)
    until(lambda: engine.status.phase == "suspended")
    assert says in engine.status.reason
    assert len(engine.state.points) == 2
    engine.resume()
    assert engine.join(60)
    assert engine.status.ending == "completed"


def test_dark_frames_that_are_alike_number_by_number_are_dark_and_not_old(plasmonic, tmp_path, locks):
    """A camera that counts gives nothing but zeros without a beam; its frame numbers tell that they are new."""
    instrument = DirectInstrument(VirtualMicroscope(plasmonic, time_scale=1e4))
    spectrum = instrument.spectrum
    left = [6]

    def dark_for_a_while(position, spec):
        taken = spectrum(position, spec)
        left[0] -= 1
        return replace(taken, counts=np.zeros_like(taken.counts)) if 0 <= left[0] < 4 else taken

    instrument.spectrum = dark_for_a_while
    engine = run(plan(resume_after_s=0.05), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert [p.fault for p in engine.state.points.values() if p.fault] == ["dark"] * 4


def test_row_8_resumes_by_itself_only_if_so_planned(instrument, tmp_path, locks):
    instrument.arm(None, "dark", "dark")
    engine = run(plan(resume_after_s=0.05), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert [p.fault for p in engine.state.failed] == ["dark", "dark"]


def test_row_9_pending_points_are_listed_when_the_budget_is_reached(instrument, tmp_path, locks):
    dose = 2.5 * 0.05 * 50 * 6.241509074e6 + OverviewSpec(fov_nm=400, pixels=64).time_s * 50 * 6.241509074e6
    engine = run(plan(budget=Budget(points=6, dose_e=dose)), instrument, tmp_path / "run", locks, site=BLANKED)
    assert engine.status.ending == "completed"
    assert [p.status for p in engine.state.points.values()] == ["measured", "measured", "skipped"]


def test_rows_12_13_limits_refuse_before_any_command(instrument):
    site = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6, step=4e-7)})
    guardian = Guardian(instrument, site, UserLimits(controls={"C10": (-5e-7, 5e-7)}))
    guardian.open()
    for value, says in (
        (2e-6, "site's"),
        (8e-7, "widen"),
        (4.5e-7, "at once"),
        (float("nan"), "finite"),
        ("1", "finite"),
    ):
        with pytest.raises(LimitError, match=says):
            guardian.move("C10", value)
    with pytest.raises(LimitError, match="does not allow"):
        guardian.move("EHT", 60e3)
    assert "set" not in [c for c, _ in instrument.commands]
    guardian.move("C10", 3e-7)
    assert instrument.get("C10") == 3e-7
    assert guardian.restore() == []
    assert instrument.get("C10") == 0


def test_row_14_a_control_that_reads_back_differently_is_a_failure(instrument):
    guardian = Guardian(instrument, SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6)}))
    guardian.open()
    instrument.stuck.add("C10")
    with pytest.raises(ReadbackError, match="reads 0"):
        guardian.move("C10", 1e-7)


class Scripted:
    """An agent that says what it is told to say, then fills space."""

    name = "scripted"

    def __init__(self, script, candidates):
        self.script, self.candidates, self.told = list(script), candidates, 0

    def suggest(self, n, pending=()):
        step = self.script.pop(0) if self.script else None
        if callable(step):
            step = step()
        if step is not None:
            return [step]
        taken = {s.candidate for s in pending}
        index = next(i for i in range(self.told, 1000) if i not in taken)
        self.told = index + 1
        y, x = self.candidates.positions[index]
        return [Suggestion(index, (float(y), float(x)), "scripted")]

    def ingest(self, outcomes):
        pass


def scripted(monkeypatch, *script):
    monkeypatch.setattr(
        "autoexp.decider.make_agent", lambda spec, candidates, seed, budget: Scripted(script, candidates)
    )


@pytest.mark.parametrize(
    ("suggestion", "says"),
    [
        (Suggestion(5, (float("nan"), 0.5), "why not"), "not finite"),
        (Suggestion(5, ("a", 0.5), "why not"), "not finite"),
        (Suggestion(5, (1.5, 0.5), "why not"), "outside"),
        (Suggestion(10**6, (0.5, 0.5), "why not"), "does not exist"),
        ("over there", "no suggestion"),
    ],
)
def test_rows_16_17_unusable_suggestions_are_replaced(suggestion, says, monkeypatch, instrument, tmp_path, locks):
    scripted(monkeypatch, None, suggestion, suggestion, suggestion)
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert len(engine.state.measured) == 6
    assert any(says in w for w in engine.state.warnings)
    assert [p.agent for p in engine.state.points.values()].count("space-filling") == 1


def test_row_17_an_agent_that_repeats_itself_is_asked_again(monkeypatch, instrument, tmp_path, locks):
    again = Suggestion(0, (0.0625, 0.0625), "again")
    scripted(monkeypatch, again, None, again, again)
    engine = run(plan(), instrument, tmp_path / "run", locks)
    candidates = [p.candidate for p in engine.state.measured]
    assert len(set(candidates)) == len(candidates) == 6
    assert not engine.state.warnings


@pytest.mark.parametrize("fallback", ["continue", "pause"])
def test_row_18_an_agent_that_hangs_is_set_aside(fallback, monkeypatch, instrument, tmp_path, locks):
    release = threading.Event()
    scripted(monkeypatch, None, None, release.wait)
    engine = start(plan(decision_deadline_s=0.1, fallback=fallback), instrument, tmp_path / "run", locks)
    if fallback == "pause":
        until(lambda: engine.status.phase == "paused")
        release.set()
        engine.resume()
    assert engine.join(60)
    release.set()
    assert engine.status.ending == "completed"
    assert len(engine.state.measured) == 6
    assert any("0.1 s" in w for w in engine.state.warnings)


def test_row_19_an_agent_that_raises_loses_no_observation(monkeypatch, instrument, tmp_path, locks):
    def explode():
        raise RuntimeError("singular matrix")

    scripted(monkeypatch, None, None, explode)
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert len(engine.state.measured) == 6
    assert any("singular matrix" in w for w in engine.state.warnings)


def test_row_30_an_unwritable_folder_is_refused_clearly(instrument, tmp_path, locks):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(Exception, match="cannot be written"):
        Engine(plan(), instrument, blocked, lock_folder=locks)
    odd = tmp_path / "with spaces and ünïcödé 試料"
    assert run(plan(), instrument, odd, locks).status.ending == "completed"


@pytest.mark.parametrize(("fault", "says"), [("busy", "Somebody else"), ("field-changed", "field was changed")])
def test_row_33_somebody_else_at_the_instrument_pauses_the_run(fault, says, instrument, tmp_path, locks):
    instrument.arm(None, None, fault)
    engine = start(plan(), instrument, tmp_path / "run", locks)
    until(lambda: engine.status.phase == "paused")
    assert says in engine.status.reason
    assert not engine.state.failed
    engine.resume()
    assert engine.join(60)
    assert len(engine.state.measured) == 6


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((0, 0)), "empty"),
        (np.zeros((1, 1)), "No patch"),
        (np.zeros((64, 64, 3)), "colour"),
        (np.zeros((4, 4, 4, 4)), "two-dimensional"),
        (np.full((64, 64), np.nan), "NaN"),
        (np.zeros((64, 64), complex), "real numbers"),
    ],
)
def test_row_44_what_is_no_overview_is_refused(image, says):
    with pytest.raises(PlanError, match=says):
        cut(image, PatchSpec(pixels=8))


def test_row_45_constant_image_and_constant_targets(instrument, tmp_path, locks):
    from autoexp.instrument import FrameOfReference, Overview

    flat = Overview(np.full((64, 64), 7.0, np.float32), FrameOfReference((400, 400)))
    for agent in ({"kind": "deep-kernel", "seeds": 3}, {"kind": "features"}):
        engine = run(plan(agent=agent), instrument, tmp_path / agent["kind"], locks, overview=flat)
        assert engine.status.ending == "completed", engine.error
        assert len({p.candidate for p in engine.state.measured}) == len(engine.state.measured)


def test_row_46_fewer_candidates_than_points(instrument, tmp_path, locks):
    few = plan(patches=PatchSpec(pixels=32, stride=32), agent=GridAgent(), budget=Budget(points=60))
    engine = run(few, instrument, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert len(engine.state.measured) == 4
    assert engine.status.progress == 1.0


def test_row_54_verbs_that_do_not_fit_the_phase_are_refused(instrument, tmp_path, locks):
    engine = None
    watch = (Stepper(ev.Measured, lambda: engine.resume(), nth=2),)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, observers=watch)
    engine.run()
    (command,) = [r.event for r in engine.records if isinstance(r.event, ev.Commanded)]
    assert "only a paused" in command.refused


def test_row_41_a_thousand_clicks_leave_one_command(instrument, tmp_path, locks):
    engine = None

    def click():
        for points in range(7, 1007):
            assert engine.steer(ev.SetBudget(budget=Budget(points=points)))
        engine.steer(ev.SetBudget(budget=Budget(points=8)))

    watch = (Stepper(ev.Measured, click, nth=2),)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, observers=watch)
    engine.run()
    assert len([r for r in engine.records if isinstance(r.event, ev.Steered)]) == 1
    assert len(engine.state.measured) == 8


def test_row_55_a_simulation_says_so(instrument, tmp_path, locks):
    engine = run(plan(), instrument, tmp_path / "run", locks)
    assert engine.records[0].event.instrument["simulated"] is True


def test_a_plan_is_small_and_flat():
    with pytest.raises(PlanError, match="at most"):
        Plan.from_json(" " * 5_000_000)
    with pytest.raises(PlanError, match=r"nested|JSON|plan"):
        Plan.from_json("[" * 100_000)
    with pytest.raises(PlanError, match="not JSON"):
        Plan.from_json("!!python/object")
    with pytest.raises(PlanError, match=r"budget\.points"):
        Plan.from_json('{"budget": {"points": 0}}')
    with pytest.raises(PlanError, match="nonsense"):
        Plan.from_json('{"nonsense": 1}')
    assert Plan.from_json(Plan(agent=RandomAgent()).to_json()) == Plan(agent=RandomAgent())
