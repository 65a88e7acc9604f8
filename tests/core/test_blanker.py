"""The beam while nothing is measured: blanked where the site says how, else counted."""

import time

import pytest
from helpers import BLANKED, plan, until
from pydantic import ValidationError

from autoexp.engine import Engine
from autoexp.errors import InstrumentError
from autoexp.guardian import Guardian
from autoexp.limits import BlankerLimits, ControlLimits, SiteLimits
from autoexp.plan import Budget, OverviewSpec, SpectrumSpec
from autoexp.testing.virtual import DirectInstrument
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

ELECTRONS_PER_S = 50 * 6.241509074e6


class Watched(DirectInstrument):
    """Remembers when the beam was blanked and unblanked, and when exposures began and ended."""

    def __init__(self, time_scale=1.0):
        super().__init__(VirtualMicroscope(make_specimen("plasmonic", 0), time_scale=time_scale))
        self.log = []
        self.stuck = False
        self.on_the_way = 0
        self.current_pA = 50.0

    @property
    def beam_current_pA(self):
        return self.current_pA

    def note(self, what):
        self.log.append((what, time.monotonic()))

    def overview(self, spec):
        self.note("begin")
        try:
            return super().overview(spec)
        finally:
            self.note("end")

    def spectrum(self, position, spec):
        self.on_the_way += self.probe != position
        self.note("begin")
        try:
            return super().spectrum(position, spec)
        finally:
            self.note("end")

    def set(self, name, value):
        if not self.stuck:
            super().set(name, value)
            self.note("blank" if value else "unblank")


@pytest.fixture
def instrument():
    return Watched()


def engine_for(instrument, folder, locks, site=BLANKED, **changes):
    return Engine(plan(**changes), instrument, folder / "run", site=site, beam_current_pA=50.0, lock_folder=locks)


def pause_after(engine, points):
    engine.start()
    until(lambda: engine.status.points >= points)
    engine.pause()
    until(lambda: engine.status.phase == "paused")


def test_the_beam_is_on_for_exposures_alone(instrument, tmp_path, locks):
    engine = engine_for(instrument, tmp_path, locks, budget=Budget(points=5))
    engine.run()
    assert engine.status.ending == "completed"
    words = [what for what, _ in instrument.log]
    kept = [w for i, w in enumerate(words) if w != "blank" or i == 0 or words[i - 1] != "blank"]
    assert kept == ["blank"] + ["unblank", "begin", "end", "blank"] * 6
    assert instrument.on_the_way == 0, "the probe moved while the beam was on"
    steps = zip(instrument.log, instrument.log[1:], strict=False)
    late = [b - a for (x, a), (y, b) in steps if (x, y) == ("end", "blank")]
    assert max(late) < 0.05
    assert instrument.microscope.controls["C_Blank"] == 1.0


def test_nothing_reaches_the_specimen_while_the_run_waits(instrument, tmp_path, locks):
    engine = engine_for(instrument, tmp_path, locks, budget=Budget(points=500))
    pause_after(engine, 2)
    scope = instrument.microscope
    scope.stand()
    before, stood_s = scope.dose.total_electrons, engine._guardian.account.untold_s(time.monotonic())
    time.sleep(0.3)
    scope.stand()
    assert scope.dose.total_electrons == before
    assert engine._guardian.account.untold_s(time.monotonic()) == stood_s
    assert engine._guardian.beam.on is False
    engine.resume()
    until(lambda: engine.status.points >= 3)
    engine.abort()
    assert engine.join(60)
    assert scope.controls["C_Blank"] == 1.0


@pytest.mark.parametrize("site", [BLANKED, SiteLimits()])
def test_what_the_beam_does_besides_is_on_the_account(instrument, tmp_path, locks, site):
    engine = engine_for(instrument, tmp_path, locks, site, budget=Budget(points=400))
    pause_after(engine, 2)
    time.sleep(1.0)
    engine.resume()
    until(lambda: engine.status.points >= 4)
    engine.stop()
    assert engine.join(60)
    instrument.microscope.set_control("C_Blank", 1.0)
    taken = instrument.microscope.stood_e
    counted = engine.state.stood_s * ELECTRONS_PER_S
    assert counted >= 0.99 * taken
    if site is not BLANKED:
        assert counted == pytest.approx(taken, rel=0.05, abs=0.05 * ELECTRONS_PER_S)
        assert engine.state.stood_s > 1.0
    else:
        assert engine.state.stood_s < 0.5


def test_standing_uses_up_the_dose(instrument, tmp_path, locks):
    dose_e = 1.5 * ELECTRONS_PER_S
    engine = engine_for(instrument, tmp_path, locks, SiteLimits(), budget=Budget(points=400, dose_e=dose_e))
    pause_after(engine, 1)
    time.sleep(1.6)
    engine.resume()
    assert engine.join(60)
    assert engine.status.ending == "completed"
    assert "while the beam stood there" in engine.status.reason


def test_a_blanker_that_is_stuck_is_told_before_anything_is_exposed(instrument):
    instrument.stuck = True
    guardian = Guardian(instrument, BLANKED, beam_current_pA=50.0)
    with pytest.raises(InstrumentError, match="may not be blanked: C_Blank was set to 1"):
        guardian.open()
    assert any("C_Blank" in problem for problem in guardian.restore())


def test_a_blanker_that_is_not_there_keeps_the_run_away(instrument):
    site = SiteLimits(blanker=BlankerLimits(control="Nobody", blanked=1.0, unblanked=0.0))
    with pytest.raises(InstrumentError, match="no control 'Nobody'"):
        Guardian(instrument, site).open()
    assert instrument.log == []


def test_a_beam_that_stays_on_pauses_the_run_until_it_is_off(instrument, tmp_path, locks):
    engine = engine_for(instrument, tmp_path, locks, budget=Budget(points=400))
    engine.start()
    until(lambda: engine.status.points >= 2)
    until(lambda: instrument.microscope.controls["C_Blank"] == 0.0)
    instrument.stuck = True
    until(lambda: engine.status.phase == "suspended")
    assert "blank" in engine.status.reason
    points = engine.status.points
    instrument.stuck = False
    engine.resume()
    until(lambda: engine.status.points > points)
    engine.stop()
    assert engine.join(60)
    assert engine.status.ending == "stopped"


def test_an_abort_blanks_at_once(tmp_path, locks):
    instrument = Watched()
    engine = engine_for(instrument, tmp_path, locks, budget=Budget(points=4), spectrum=SpectrumSpec(exposure_s=20.0))
    engine.start()
    until(lambda: [w for w, _ in instrument.log].count("begin") == 2)
    begun = time.monotonic()
    engine.abort()
    assert instrument.microscope.controls["C_Blank"] == 1.0
    assert time.monotonic() - begun < 0.3
    assert engine.join(60)
    assert instrument.microscope.controls["C_Blank"] == 1.0
    assert engine.status.ending == "aborted"


def test_after_a_halt_nothing_is_sent_not_even_that(tmp_path, locks):
    instrument = Watched()
    engine = engine_for(instrument, tmp_path, locks, budget=Budget(points=400))
    engine.start()
    until(lambda: engine.status.points >= 2)
    engine.halt()
    assert engine.join(60)
    time.sleep(0.1)  # what was in flight ends
    sent = len(instrument.log)
    time.sleep(0.2)
    assert len(instrument.log) == sent
    assert engine.status.ending == "halted"


def test_an_overview_is_blanked_after_as_well(instrument):
    guardian = Guardian(instrument, BLANKED, beam_current_pA=50.0)
    guardian.open()
    guardian.overview(OverviewSpec(pixels=32, fov_nm=100))
    assert instrument.microscope.controls["C_Blank"] == 1.0
    assert guardian.restore() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blanked": 0.0}, "both 0"),
        ({"tolerance": 0.2}, "more than a tenth"),
        ({"settle_s": -1.0}, "settle_s"),
        ({"control": ""}, "control"),
    ],
)
def test_a_blanker_that_makes_no_sense_is_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        BlankerLimits.model_validate({"control": "C_Blank", "blanked": 1.0, "unblanked": 0.0} | changes)


def test_nobody_else_moves_the_blanker():
    with pytest.raises(ValidationError, match="C_Blank blanks the beam"):
        SiteLimits(blanker=BLANKED.blanker, controls={"C_Blank": ControlLimits(low=0, high=1)})
