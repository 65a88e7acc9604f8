"""Drift: how it is found, and that positions move with the specimen."""

from __future__ import annotations

import time

import numpy as np
import pytest
from helpers import Stepper, plan, run
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from autoexp import events as ev
from autoexp.campaigns import verify
from autoexp.drift import extrapolated, reduced, register
from autoexp.engine import Engine
from autoexp.errors import InstrumentError
from autoexp.patches import cut
from autoexp.plan import Budget, DriftCheck, GridAgent, OverviewSpec, PatchSpec
from autoexp.runlog import RunReader
from autoexp.state import fold
from autoexp.testing import FaultyInstrument


def texture(side=256, seed=0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 3) * 30


@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.integers(0, 5))
@example(0.1953125, 0.1953125, 1)
@settings(max_examples=25, deadline=None)
def test_shifts_are_found_to_a_fraction_of_a_pixel(y, x, seed):
    big = texture(512, seed)
    moved = ndimage.shift(big, (y * 128, x * 128), order=3)
    before, after = big[192:320, 192:320], moved[192:320, 192:320]
    noise = np.random.default_rng(seed).normal(size=(128, 128))
    found = register(before, after + 0.5 * noise)
    assert found.certain
    np.testing.assert_allclose(found.shift, (y, x), atol=0.5 / 128)


def test_another_field_is_not_recognised():
    for seed in range(20):
        assert not register(texture(128, seed), texture(128, 100 + seed)).certain
        assert not register(texture(128, seed), np.random.default_rng(100 + seed).normal(size=(128, 128))).certain


def test_nothing_to_see_is_not_certain():
    assert not register(np.ones((32, 32)), np.ones((32, 32))).certain
    assert not register(texture(32), np.zeros((32, 32))).certain


def test_fewer_pixels_show_the_same_field():
    image = texture(240)
    np.testing.assert_allclose(reduced(image, (60, 60)), image.reshape(60, 4, 60, 4).mean(axis=(1, 3)))
    odd = reduced(image, (50, 70))
    assert odd.shape == (50, 70)
    assert odd.mean() == pytest.approx(image.mean(), abs=0.05 * image.std())
    np.testing.assert_array_equal(reduced(image, (240, 240)), image)


def test_between_looks_drift_goes_on_as_it_went_and_no_further():
    looks = [(10.0, (0.0, 0.1)), (20.0, (0.1, 0.3))]
    assert extrapolated([], 5.0) == (0.0, 0.0)
    assert extrapolated(looks[:1], 15.0) == pytest.approx((0.0, 0.15))
    assert extrapolated(looks, 20.0) == (0.1, 0.3)
    assert extrapolated(looks, 25.0) == pytest.approx((0.15, 0.4))
    assert extrapolated(looks, 1000.0) == pytest.approx((0.2, 0.5))


def test_candidates_that_leave_the_field_are_no_more_allowed():
    candidates = cut(np.zeros((64, 64), np.float32), PatchSpec(pixels=8, stride=8))
    assert candidates.within([(0.0, 0.0)]).allowed.all()
    kept = candidates.within([(0.0, 0.0), (0.3, 0.0)]).allowed.reshape(8, 8)
    assert kept[:5].all()
    assert not kept[6:].any()


# --- in a run


FIELD = OverviewSpec(fov_nm=400, pixels=128)


def drifting(points=12, every=3, **changes):
    return plan(overview=FIELD, budget=Budget(points=points), drift=DriftCheck(every=every), **changes)


def move(instrument, y_nm, x_nm):
    instrument.set("stage_position_m.y", y_nm * 1e-9)
    instrument.set("stage_position_m.x", x_nm * 1e-9)


def test_positions_move_with_the_specimen(instrument, tmp_path, locks):
    moved = Stepper(ev.Measured, lambda: move(instrument, 12.0, -20.0), nth=5)
    engine = run(drifting(), instrument, tmp_path / "run", locks, observers=(moved,))
    assert engine.error is None
    state = engine.state
    assert [look.exposures for look in state.looks] == [3, 6, 9]
    assert all(look.certain for look in state.looks)
    np.testing.assert_allclose(np.array(state.looks[0].shift) * 400, (0, 0), atol=1.6)
    for look in state.looks[1:]:
        np.testing.assert_allclose(np.array(look.shift) * 400, (12, -20), atol=1.6)
    shifts = [r.event.shift for r in RunReader(tmp_path / "run").records if isinstance(r.event, ev.Exposing)]
    np.testing.assert_allclose(np.array(shifts[9:]) * 400, np.broadcast_to((12, -20), (3, 2)), atol=2)


def test_steady_drift_is_followed_between_looks(instrument, tmp_path, locks):
    rate, begun = 50.0, []

    def creep(record, state):
        if isinstance(record.event, ev.Prepared):
            begun.append(time.monotonic())
        if begun:
            move(instrument, rate * (time.monotonic() - begun[0]), 0.0)

    engine = run(drifting(points=40, every=8), instrument, tmp_path / "run", locks, observers=(creep,))
    assert engine.error is None
    exposing = [r for r in RunReader(tmp_path / "run").records if isinstance(r.event, ev.Exposing)]
    after = np.array([r.elapsed_s for r in exposing]) - engine.state.prepared_s
    error = np.array([r.event.shift[0] for r in exposing]) * 400 - rate * after
    # what a look is off by, and what happens from one point to the next, which nobody can know
    assert np.abs(error[16:]).max() < 1.6 + rate * np.diff(after).max()
    assert np.abs(error[16:]).mean() < 0.4 * rate * 8 * np.diff(after).mean()


def test_a_run_with_drift_folds_resumes_and_is_verified(instrument, tmp_path, locks):
    moved = Stepper(ev.Measured, lambda: move(instrument, 0.0, 60.0), nth=2)
    engine = run(drifting(points=14), instrument, tmp_path / "run", locks, observers=(moved,))
    assert fold(RunReader(tmp_path / "run").records) == engine.state
    checked = verify(tmp_path / "run")
    assert checked.decisions == 14
    assert checked.differences == ()


def test_it_costs_dose_and_time_and_the_plan_says_so(instrument, tmp_path, locks):
    looking, not_looking = drifting(), drifting().model_copy(update={"drift": None})
    assert looking.estimate(50).dose_e > not_looking.estimate(50).dose_e
    assert looking.estimate().time_s > not_looking.estimate().time_s
    state = run(looking, instrument, tmp_path / "run", locks).state
    image = looking.drift.scan(FIELD).time_s
    points = 12 * looking.spectrum.exposure_s
    expected = (FIELD.time_s + 3 * image + points) * 50 * 6.241509074e6
    assert state.dose_e == pytest.approx(expected)


def test_what_cannot_be_seen_is_told_and_changes_nothing(instrument, tmp_path, locks):
    blank = Stepper(ev.Measured, lambda: move(instrument, 5e5, 5e5), nth=2)
    engine = run(drifting(points=4), instrument, tmp_path / "run", locks, observers=(blank,))
    assert any("cannot be recognised" in warning for warning in engine.state.warnings)
    assert engine.state.drift(1e9) == (0.0, 0.0)


def test_images_that_take_too_long_are_refused_before_anything_moves(instrument, tmp_path, locks):
    slow = drifting(points=4).model_copy(update={"drift": DriftCheck(every=2, dwell_us=1e5)})
    engine = run(slow, instrument, tmp_path / "run", locks)
    assert "An image to see drift by would take" in str(engine.error)
    assert not engine.state.snapshot
    assert engine.state.exposures == 0


class BrokenScan(FaultyInstrument):
    """Gives one overview, and raises after that."""

    def overview(self, spec):
        if getattr(self, "scanned", False):
            raise InstrumentError("the scan unit does not answer")
        self.scanned = True
        return super().overview(spec)


def test_a_scan_that_fails_does_not_end_the_run(instrument, tmp_path, locks):
    engine = run(drifting(points=5), BrokenScan(instrument), tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert len(engine.state.measured) == 5
    assert any("Drift could not be looked for: the scan unit" in w for w in engine.state.warnings)


def test_a_request_that_has_drifted_out_is_skipped_and_said(instrument, tmp_path, locks):
    engine_box = []

    def ask():
        move(instrument, 0.0, 100.0)
        engine_box[0].steer(ev.MeasureHere(id="edge", position=(0.5, 0.95)))

    stepper = Stepper(ev.Measured, ask, nth=1)
    engine = Engine(
        drifting(points=4, every=1, agent=GridAgent()),
        instrument,
        tmp_path / "run",
        lock_folder=locks,
        beam_current_pA=50.0,
        observers=(stepper,),
    )
    engine_box.append(engine)
    engine.run()
    asked = [p for p in engine.state.points.values() if p.request == "edge"]
    assert [p.status for p in asked] == ["skipped"]
    assert "drifted out" in asked[0].fault
    assert engine.status.ending == "completed"
