"""What an axis means: each spectrum's own calibration, and its own zero-loss peak."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers import Stepper, insist, plan, run, until
from hypothesis import given
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.errors import PlanError
from autoexp.plan import Budget, ListAgent, SpectrumSpec, ZeroLossSpec
from autoexp.runlog import RunReader
from autoexp.scalarizers import Edge, PeakHeight, PeakPosition, PeakWidth, Ratio, Window
from autoexp.testing import DirectInstrument, FaultyInstrument
from autoexp.zero_loss import find_zero_loss, scored

ENERGY = -5 + 0.05 * np.arange(500)
SCORES = [
    Window(low_eV=1.1, high_eV=1.7),
    PeakHeight(low_eV=1.0, high_eV=2.2),
    PeakPosition(low_eV=1.0, high_eV=2.2),
    Ratio(numerator=Window(low_eV=1.1, high_eV=1.7), denominator=Window(low_eV=2, high_eV=3)),
]
SAME_PLACES = ListAgent(positions=tuple((0.3 + 0.03 * k, 0.4 + 0.02 * k) for k in range(8)))


def model(shift_eV, height=1e6, width_eV=0.28):
    """Spectra (n, E) with a zero-loss peak, a loss at 3 eV, and a tail."""
    energy = ENERGY - np.atleast_1d(shift_eV)[:, None]
    spread = width_eV / 2.3548
    peak = height * np.exp(-0.5 * (energy / spread) ** 2)
    return peak + 2000 * np.exp(-0.5 * ((energy - 3) / 0.4) ** 2) + 300 / (1 + np.exp(-4 * (energy - 1)))


@given(st.floats(-1.5, 1.5), st.floats(0.15, 0.6), st.floats(1e4, 1e7))
def test_the_peak_is_found_to_a_small_part_of_a_channel(shift, width, height):
    found = find_zero_loss(model(shift, height, width), ENERGY, 2.0)
    assert found.position_eV[0] == pytest.approx(shift, abs=0.005)
    assert found.width_eV[0] == pytest.approx(np.hypot(width, 2.3548 * 0.05), rel=0.05)


def test_noise_moves_it_by_little():
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 0.3, 200)
    found = find_zero_loss(rng.poisson(model(shifts, 1e4)), ENERGY, 2.0)
    assert np.abs(found.position_eV - shifts).max() < 0.01


@pytest.mark.parametrize(
    "spectrum",
    [
        np.full(500, 100.0),
        np.random.default_rng(1).poisson(20.0, 500),
        1e4 * np.exp(-ENERGY / 3),
        model(2.6)[0],
        np.zeros(500),
    ],
    ids=["flat", "noise", "a slope", "outside", "zeros"],
)
def test_where_there_is_no_peak_none_is_found(spectrum):
    assert np.isnan(find_zero_loss(spectrum, ENERGY, 2.0).position_eV[0])


def test_on_an_axis_without_zero_there_is_none():
    assert np.isnan(find_zero_loss(model(0.0), ENERGY + 400, 2.0).position_eV).all()


@pytest.mark.parametrize("score", [*SCORES, PeakWidth(low_eV=2, high_eV=4.5)], ids=lambda score: score.kind)
def test_scores_do_not_see_a_shift_that_is_known(score):
    if not isinstance(score, PeakWidth):
        score = type(score).model_validate(
            {**score.model_dump(), **({} if score.kind == "ratio" else {"low_eV": 2.4, "high_eV": 3.6})}
        )
    shifts = np.random.default_rng(0).normal(0, 0.3, 300)
    values = scored(score, model(shifts), ENERGY, None, -shifts).value
    assert values.std() / values.mean() < 0.004


def test_a_shift_that_is_not_known_gives_no_number_and_spoils_no_other():
    shifts = np.array([0.0, np.nan, 0.1, 30.0])
    found = scored(Window(low_eV=2, high_eV=4), model([0, 0, -0.1, 0]), ENERGY, 1.0, shifts)
    assert np.isfinite(found.value).tolist() == [True, False, True, False]
    with pytest.raises(PlanError, match="holds no channel"):
        scored(Window(low_eV=2, high_eV=4), model([0.0]), ENERGY, 1.0, np.array([30.0]))


class Spectrometer(FaultyInstrument):
    """Its zero-loss peak moves; ``told`` says whether its calibration does as well."""

    def __init__(self, microscope, told):
        super().__init__(DirectInstrument(microscope))
        self._microscope = microscope
        self._told = told
        self._tare = microscope.controls["ZLPtare"]
        self.moved_eV = 0.0
        self.jitter = None

    def spectrum(self, position, spec):
        if self.jitter is not None:
            self.moved_eV = float(self.jitter.normal(0, 0.3))
        self._microscope.controls["ZLPtare"] = self._tare + self.moved_eV
        taken = super().spectrum(position, spec)
        if self._told:
            return taken
        offset = taken.energy.offset - self.moved_eV
        return dataclasses.replace(taken, energy=dataclasses.replace(taken.energy, offset=offset))


def points_of(engine):
    assert engine.status.ending == "completed", engine.status.reason
    return engine.state.measured


def assert_same(points, others):
    """Each value within 1 % of the other's, beside what counting does to both."""
    value, noise = np.array([(p.value, p.noise) for p in points]).T
    other, its_noise = np.array([(p.value, p.noise) for p in others]).T
    assert (np.abs(value - other) <= 0.01 * np.abs(other) + 4 * np.hypot(noise, its_noise)).all()
    assert abs(np.median(value / other) - 1) < 0.01


def a_plan(score, **spectrum):
    taken = SpectrumSpec(exposure_s=1.0, **spectrum)
    return plan(scalarizer=score, agent=SAME_PLACES, spectrum=taken, budget=Budget(points=8))


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.kind)
def test_an_offset_that_moves_in_mid_run_is_followed(score, microscope, tmp_path, locks):
    still = points_of(run(a_plan(score), Spectrometer(microscope, True), tmp_path / "still", locks))
    moving = Spectrometer(microscope, True)
    move = Stepper(ev.Measured, lambda: setattr(moving, "moved_eV", 0.5), 4)
    engine = run(a_plan(score), moving, tmp_path / "moving", locks, observers=(move,))
    assert_same(points_of(engine), still)
    assert [p.shift_eV for p in engine.state.measured] == pytest.approx([0] * 4 + [0.5] * 4)
    assert any("moved by +0.5 eV" in warning for warning in engine.state.warnings)
    again = RunReader(tmp_path / "moving").state
    assert [p.shift_eV for p in again.measured] == [p.shift_eV for p in engine.state.measured]


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.kind)
def test_jitter_of_the_zero_loss_peak_is_taken_out(score, microscope, tmp_path, locks):
    zero_loss = ZeroLossSpec(within_eV=1.5)
    still = points_of(run(a_plan(score), Spectrometer(microscope, False), tmp_path / "still", locks))
    jittering = Spectrometer(microscope, False)
    jittering.jitter = np.random.default_rng(0)
    engine = run(a_plan(score, zero_loss=zero_loss), jittering, tmp_path / "jitter", locks)
    assert_same(points_of(engine), still)
    places = [p.zero_loss.position_eV for p in engine.state.measured]
    assert np.std(places) > 0.1
    assert all(0 < p.zero_loss.width_eV < 0.5 for p in engine.state.measured)


def test_spectra_are_scored_anew_on_their_own_axes(microscope, tmp_path, locks):
    first, second = SCORES[0], PeakPosition(low_eV=1.0, high_eV=2.2)
    still = points_of(run(a_plan(second), Spectrometer(microscope, False), tmp_path / "still", locks))
    jittering, engines = Spectrometer(microscope, False), []
    jittering.jitter = np.random.default_rng(0)
    other = Stepper(ev.Measured, lambda: engines[0].steer(ev.SetScalarizer(scalarizer=second)), 8)
    given = a_plan(first, zero_loss=ZeroLossSpec(within_eV=1.5)).model_copy(update={"budget": Budget(points=8)})
    engine = Engine(given, jittering, tmp_path / "run", lock_folder=locks, observers=(other,))
    engines.append(engine)
    engine.run()
    assert_same(points_of(engine), still)


def test_without_a_peak_there_is_no_number_and_the_run_pauses(microscope, tmp_path, locks):
    away = Spectrometer(microscope, False)
    away.moved_eV = 3.0
    engine = Engine(a_plan(SCORES[0], zero_loss=ZeroLossSpec()), away, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.waits_for_help)
    assert "no zero-loss peak within 2 eV" in engine.status.reason
    assert engine.state.exposures == 1
    away.moved_eV = 0.0
    engine.resume()
    assert engine.join(60)
    assert [np.isfinite(p.value) for p in engine.state.measured] == [False] + [True] * 7


def test_a_peak_that_moves_too_far_pauses(microscope, tmp_path, locks):
    moving = Spectrometer(microscope, False)
    move = Stepper(ev.Measured, lambda: setattr(moving, "moved_eV", 0.7), 3)
    given = a_plan(SCORES[0], zero_loss=ZeroLossSpec(limit_eV=0.5))
    engine = Engine(given, moving, tmp_path / "run", lock_folder=locks, observers=(move,))
    engine.start()
    until(lambda: engine.waits_for_help)
    assert "moved by -0.7 eV" in engine.status.reason
    assert engine.state.exposures == 4
    assert insist(engine) == 1
    points_of(engine)


def test_an_edge_is_on_its_own_axis_too():
    energy = 400 + 0.5 * np.arange(240)
    shifts = np.random.default_rng(0).normal(0, 0.3, 100)
    own = energy - shifts[:, None]
    spectra = 1e5 * (own / 400) ** -3 + 3e3 * (1 + np.tanh((own - 456) / 1.5)) / 2
    edge = Edge(low_eV=460, high_eV=475, background_low_eV=420, background_high_eV=450)
    values = scored(edge, spectra, energy, None, -shifts).value
    assert values.std() / values.mean() < 0.004
