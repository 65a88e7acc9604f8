"""The guardian against whoever asks for too much."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.errors import BadFrameError, BudgetError, GateClosedError, GuardianError, InstrumentError, LimitError
from autoexp.guardian import Guardian
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import Budget, OverviewSpec, PlanError, SpectrumSpec, UserLimits

SITE = SiteLimits(
    max_exposure_s=1.0,
    max_overview_s=2.0,
    controls={
        "C10": ControlLimits(low=-1e-6, high=1e-6, step=3e-7, rate=2e-7),
        "CAperture.x": ControlLimits(low=-0.01, high=0.01),
    },
)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        """Time passes for whoever waits."""
        self.now += seconds


anything = st.one_of(st.floats(), st.integers(), st.booleans(), st.text(), st.none(), st.floats(-2e-6, 2e-6))


@settings(max_examples=300, deadline=None)
@given(asks=st.lists(st.tuples(st.sampled_from(["C10", "CAperture.x", "EHT", ""]), anything, st.floats(0, 3))))
def test_no_control_ever_leaves_its_limits(asks, plasmonic):
    from autoexp.testing import DirectInstrument, FaultyInstrument
    from virtual_stem.microscope import VirtualMicroscope

    instrument = FaultyInstrument(DirectInstrument(VirtualMicroscope(plasmonic, time_scale=1e4)))
    clock = Clock()
    guardian = Guardian(instrument, SITE, clock=clock, sleep=clock.sleep)
    before = guardian.open()
    moves = []
    for name, value, wait in asks:
        clock.now += wait
        held = instrument.get("C10")
        try:
            guardian.move(name, value)
        except LimitError:
            continue
        if name == "C10":
            moves.append((clock.now, held, value))
    for name, value in (args for command, args in instrument.commands if command == "set"):
        limits = SITE.controls[name]
        assert limits.low <= value <= limits.high
    for t, old, new in moves:
        assert abs(new - old) <= 3e-7
        earlier = [m for m in moves if m[0] < t]
        if earlier:
            assert abs(new - old) <= 2e-7 * (t - earlier[-1][0]) * (1 + 1e-9)
    assert guardian.restore() == []
    assert {n: instrument.get(n) for n in before} == pytest.approx(before, abs=2e-11, rel=0)


def test_a_control_moves_no_faster_than_its_rate(instrument):
    clock = Clock()
    guardian = Guardian(instrument, SITE, clock=clock, sleep=clock.sleep)
    guardian.open()
    guardian.move("C10", 1e-7)
    clock.sleep(0.4)
    with pytest.raises(LimitError, match="wait and ask again"):
        guardian.move("C10", 2e-7)
    assert instrument.get("C10") == pytest.approx(1e-7)
    clock.sleep(0.2)
    guardian.move("C10", 2e-7)
    begun = clock()
    guardian.await_rate("C10", 0.0)
    assert clock() - begun == pytest.approx(1.0, rel=0.05)
    guardian.move("C10", 0.0)


def test_exposures_outside_what_is_allowed_never_reach_the_instrument(instrument):
    guardian = Guardian(instrument, SITE, UserLimits(max_exposure_s=0.5), Budget(points=2), beam_current_pA=50)
    with pytest.raises(GuardianError, match="not been taken over"):
        guardian.spectrum((0.5, 0.5), SpectrumSpec())
    guardian.open()
    guardian.overview(OverviewSpec(fov_nm=300, pixels=32))
    with pytest.raises(LimitError, match=r"0\.5 s allowed"):
        guardian.spectrum((0.5, 0.5), SpectrumSpec(exposure_s=0.6))
    for wrong in ((1.1, 0.5), (-0.1, 0.5), (math.nan, 0.5), (1, 0), ("a", 0.5)):
        with pytest.raises(LimitError, match="outside the overview"):
            guardian.spectrum(wrong, SpectrumSpec())
    with pytest.raises(LimitError, match="fewer pixels"):
        guardian.overview(OverviewSpec(pixels=2048, dwell_us=10))
    assert [c for c, _ in instrument.commands].count("spectrum") == 0
    guardian.spectrum((0.5, 0.5), SpectrumSpec())
    guardian.spectrum((0.5, 0.6), SpectrumSpec())
    with pytest.raises(BudgetError, match="2 points"):
        guardian.spectrum((0.5, 0.7), SpectrumSpec())
    assert [c for c, _ in instrument.commands].count("spectrum") == 2


def test_dose_is_paid_for_also_when_nothing_came(instrument):
    guardian = Guardian(instrument, SITE, budget=Budget(points=9, dose_e=4e7), beam_current_pA=50)
    guardian.open()
    instrument.bind(OverviewSpec(fov_nm=300))
    instrument.arm("raises")
    with pytest.raises(InstrumentError):
        guardian.spectrum((0.5, 0.5), SpectrumSpec())
    assert guardian.account.dose_e == pytest.approx(0.05 * 50 * 6.241509074e6)
    guardian.spectrum((0.5, 0.5), SpectrumSpec())
    with pytest.raises(BudgetError, match="electrons"):
        guardian.spectrum((0.5, 0.6), SpectrumSpec())


def test_after_the_gate_is_closed_only_restoring_gets_through(instrument):
    guardian = Guardian(instrument, SITE)
    guardian.open()
    guardian.move("C10", 1e-7)
    guardian.close_gate()
    for command in (
        lambda: guardian.overview(OverviewSpec(pixels=32)),
        lambda: guardian.bind(OverviewSpec()),
        lambda: guardian.spectrum((0.5, 0.5), SpectrumSpec()),
        lambda: guardian.move("C10", 2e-8),
        guardian.check,
    ):
        with pytest.raises((GateClosedError, LimitError)):
            command()
    assert guardian.restore() == []
    assert instrument.get("C10") == 0


def test_restoring_never_stops_at_a_first_failure(instrument):
    guardian = Guardian(instrument, SITE)
    guardian.open()
    guardian.move("C10", 1e-7)
    guardian.move("CAperture.x", 0.005)
    instrument.stuck.add("C10")
    instrument.close_problems = ["the camera would not start"]
    problems = guardian.restore()
    assert len(problems) == 2
    assert "C10 reads 1e-07" in problems[0]
    assert instrument.get("CAperture.x") == 0


def test_a_wrong_shape_is_named(instrument):
    guardian = Guardian(instrument, SITE)
    guardian.open()
    instrument.bind(OverviewSpec(fov_nm=300))
    instrument.arm("wrong-shape")
    with pytest.raises(BadFrameError, match=r"\(2, 512\)"):
        guardian.spectrum((0.5, 0.5), SpectrumSpec())


def test_site_files(tmp_path):
    good = tmp_path / "site.json"
    good.write_text(SITE.model_dump_json())
    assert SiteLimits.read(good) == SITE
    for text, says in (("{", "cannot be read"), ('{"max_exposure_s": -1}', "max_exposure_s"), ('{"x": 1}', "x")):
        good.write_text(text)
        with pytest.raises(PlanError, match=says):
            SiteLimits.read(good)
    with pytest.raises(PlanError, match="cannot be read"):
        SiteLimits.read(tmp_path / "none.json")


def test_an_exposure_that_swift_takes_passes_the_gate_too(instrument):
    guardian = Guardian(instrument, SITE, budget=Budget(points=9), beam_current_pA=50)
    guardian.open()
    parked = []
    guardian.grant_exposure((0.5, 0.5), SpectrumSpec(), parked.append)
    assert parked == [(0.5, 0.5)]
    assert guardian.account.exposures == 1
    paid = guardian.account.dose_e

    def fail(position):
        raise RuntimeError("no motor")

    with pytest.raises(InstrumentError, match="no motor"):
        guardian.grant_exposure((0.5, 0.6), SpectrumSpec(), fail)
    assert guardian.account.dose_e == pytest.approx(2 * paid)

    def slow(position):
        parked.append(position)
        guardian.close_gate()
        time.sleep(30)

    begun = time.monotonic()
    with pytest.raises(GateClosedError):
        guardian.grant_exposure((0.5, 0.7), SpectrumSpec(), slow)
    assert time.monotonic() - begun < 2
    with pytest.raises(GateClosedError):
        guardian.grant_exposure((0.5, 0.8), SpectrumSpec(), parked.append)
    assert len(parked) == 2


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (Budget(points=3), "3 points"),
        (Budget(points=9, dose_e=1e9 + 3.0 * 50 * 6.241509074e6 + 5e7), "while the beam stood there"),
        (Budget(points=9, time_s=100.0 + 3.1), "103.1 s allowed"),
    ],
)
def test_an_account_that_is_resumed_goes_on_where_it_stood(budget, says, instrument):
    """One more exposure fits into what the run had left when it was cut off, and no second one."""
    clock = Clock()
    clock.now = 1e4
    guardian = Guardian(instrument, SITE, budget=budget, beam_current_pA=50, clock=clock, sleep=clock.sleep)
    guardian.open()
    instrument.bind(OverviewSpec(fov_nm=300))
    guardian.resume_account(dose_e=1e9, exposures=2, elapsed_s=100.0)
    clock.sleep(3.0)
    guardian.spectrum((0.5, 0.5), SpectrumSpec(exposure_s=0.1))
    clock.sleep(0.1)
    with pytest.raises(BudgetError, match=says):
        guardian.spectrum((0.5, 0.6), SpectrumSpec(exposure_s=0.1))
    assert [c for c, _ in instrument.commands].count("spectrum") == 1
