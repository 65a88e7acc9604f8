"""The one check before every command, and a gate that waits for nobody: hostile values, readbacks, hanging devices."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.errors import AutoexpError, DiskError, GateClosedError, GuardianError, InstrumentError, LimitError
from autoexp.gate import Gate
from autoexp.guardian import Guardian
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import OverviewSpec, SpectrumSpec
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

LIMITS = ControlLimits(low=-1e-6, high=1e-6, step=4e-7)
SITE = SiteLimits(controls={"C10": LIMITS, "CAperture.x": ControlLimits(low=-0.01, high=0.01)})
SPECIMEN = make_specimen("plasmonic", 0)
CASES = int(os.environ.get("AUTOEXP_FUZZ", "200"))


class Lying(FaultyInstrument):
    """Reads back what it is told to, for as long as it is told to; what was really sent is in ``commands``."""

    def __init__(self):
        super().__init__(DirectInstrument(VirtualMicroscope(SPECIMEN, time_scale=1e5)))
        self.lies = []
        self.hanging = set()
        self.hung = threading.Event()
        self.leave = threading.Event()

    def hang(self, what):
        if what in self.hanging:
            self.hung.set()
            self.leave.wait(20)

    def get(self, name):
        self.hang("get")
        return self.lies.pop(0) if self.lies else super().get(name)

    def set(self, name, value):
        self.hang("set")
        super().set(name, value)

    def spectrum(self, position, spec):
        self.hang("spectrum")
        return super().spectrum(position, spec)

    def overview(self, spec):
        self.hang("overview")
        return super().overview(spec)

    def abort(self):
        self.hang("abort")
        super().abort()

    def close(self):
        self.hang("close")
        return super().close()

    def open(self):
        self.hang("open")
        super().open()

    @property
    def sent(self):
        return [what for kind, what in self.commands if kind == "set"]


@pytest.fixture
def lying():
    made = Lying()
    yield made
    made.leave.set()


numbers = st.one_of(st.floats(), st.floats(-2e-6, 2e-6), st.integers(), st.booleans(), st.text(max_size=3), st.none())
lies = st.lists(st.one_of(st.floats(), st.sampled_from([math.nan, math.inf, 1e3, None, "1", True])), max_size=4)


@settings(max_examples=CASES, deadline=None)
@given(asks=st.lists(st.tuples(st.sampled_from(["C10", "CAperture.x", "EHT"]), numbers, lies), max_size=6), end=lies)
def test_whatever_is_asked_and_read_nothing_is_sent_that_is_not_allowed(asks, end):
    instrument = Lying()
    guardian = Guardian(instrument, SITE)
    guardian.open()
    for name, value, told in asks:
        instrument.lies = list(told)
        with_error = False
        try:
            guardian.move(name, value)
        except AutoexpError:
            with_error = True
        assert with_error or math.isfinite(value)
    instrument.lies = list(end)
    problems = guardian.restore()
    for name, value in instrument.sent:
        limits = SITE.controls[name]
        assert math.isfinite(value)
        assert limits.low <= value <= limits.high
    instrument.lies = []
    left = {name: instrument.get(name) for name in SITE.controls}
    believable = any(isinstance(lie, float) and abs(lie) < 1e-9 for lie in end)  # nobody can notice such a lie
    assert problems or believable or all(abs(value) < 1e-9 for value in left.values())


@pytest.mark.parametrize("told", [math.nan, math.inf, -math.inf, None, "0", True])
def test_what_cannot_be_read_is_not_taken_over(told, lying):
    lying.lies = [told, told]
    guardian = Guardian(lying, SITE)
    with pytest.raises(InstrumentError, match="no number"):
        guardian.open()
    assert guardian.restore() == [] or not lying.sent
    assert [kind for kind, _ in lying.commands] in ([], ["close"])
    assert not lying.sent


def test_a_glitch_at_the_beginning_is_read_again(lying):
    lying.lies = [math.nan]
    guardian = Guardian(lying, SITE)
    assert guardian.open() == {"C10": 0.0, "CAperture.x": 0.0}
    assert guardian.restore() == []


def test_a_number_of_numpy_is_a_number(lying):
    lying.lies = [np.float32(0.0), np.float32(0.0)]
    Guardian(lying, SITE).open()


def test_a_control_found_outside_its_limits_is_not_moved_as_it_could_not_be_put_back(lying):
    lying._instrument.microscope.controls["C10"] = 5e-6
    guardian = Guardian(lying, SITE)
    guardian.open()
    with pytest.raises(LimitError, match="could not be put back"):
        guardian.move("C10", 1e-7)
    assert guardian.restore() == []
    assert not lying.sent


@pytest.mark.parametrize("away", [1e3, 9e-6])
def test_putting_back_is_bounded_and_names_what_is_left(away, lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    guardian.move("CAperture.x", 0.002)
    lying._instrument.microscope.controls["C10"] = away
    problems = guardian.restore()
    assert len(problems) == 1
    assert "C10" in problems[0]
    assert "by hand" in problems[0]
    assert {name for name, _ in lying.sent} == {"CAperture.x"}
    assert lying.get("CAperture.x") == 0


def test_a_way_back_of_too_many_steps_is_not_begun(lying):
    """Every step of it is allowed; nobody waits for millions of them."""
    fine = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6, step=1e-10)})
    guardian = Guardian(lying, fine)
    guardian.open()
    lying._instrument.microscope.controls["C10"] = 5e-7
    (problem,) = guardian.restore()
    assert "by hand" in problem
    assert not lying.sent


def test_what_cannot_be_written_down_is_put_back_all_the_same(lying):
    moves, full = [], threading.Event()

    def write(*move):
        if full.is_set():
            raise DiskError("no room")
        moves.append(move)

    guardian = Guardian(lying, SITE, on_move=write)
    guardian.open()
    guardian.move("C10", 3e-7)
    full.set()
    with pytest.raises(DiskError):
        guardian.move("C10", 2e-7)
    assert lying.sent == [("C10", 3e-7)], "what cannot be written down is not moved away"
    assert guardian.restore() == []
    assert lying.get("C10") == 0
    assert moves == [("C10", 0.0, 3e-7)]


def test_what_a_journal_says_passes_the_same_check(lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    for value in (1e3, math.nan, -2e-6):
        with pytest.raises(LimitError, match="journal"):
            guardian.remember({"C10": value})
        assert guardian.put_back({"C10": value})
    assert not lying.sent
    guardian.remember({"C10": 3e-7, "unknown": 5.0})
    assert guardian.found["C10"] == 3e-7
    assert guardian.restore() == []
    assert lying.sent == [("C10", 3e-7)]


def test_a_halt_ends_putting_back_and_sends_nothing_more(lying):
    slow = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6, step=1e-8, rate=1e-7)})
    guardian = Guardian(lying, slow)
    guardian.open()
    lying._instrument.microscope.controls["C10"] = 9e-7
    putting = threading.Thread(target=guardian.restore)
    putting.start()
    while not lying.sent:
        time.sleep(0.005)
    guardian.halt()
    putting.join(2)
    assert not putting.is_alive()
    sent = len(lying.commands)
    time.sleep(0.2)
    assert len(lying.commands) == sent
    assert "abort" not in [kind for kind, _ in lying.commands]
    with pytest.raises(GateClosedError):
        guardian.overview(OverviewSpec(pixels=32))


def test_after_a_halt_nothing_is_sent_by_whatever_way(lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    guardian.move("C10", 3e-7)
    sent = list(lying.commands)
    guardian.halt()
    assert "halted" in guardian.put_back({"C10": 0.0})[0]
    guardian.close_gate()
    guardian.restore()
    assert lying.commands == sent
    assert lying.get("C10") == 3e-7


def test_a_halt_in_a_step_of_the_way_back_is_the_last_of_them(lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    lying._instrument.microscope.controls["C10"] = 9e-7
    put = lying.set

    def halted(name, value):
        put(name, value)
        guardian.halt()

    lying.set = halted
    guardian.restore()
    assert len(lying.sent) == 1
    assert lying.commands[-1][0] == "set"


@pytest.mark.parametrize("what", ["get", "set", "close"])
def test_a_halt_waits_for_nothing_that_is_being_put_back(what, lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    guardian.move("C10", 3e-7)
    lying.hanging.add(what)
    told = []
    putting = threading.Thread(target=lambda: told.extend(guardian.restore()))
    putting.start()
    assert lying.hung.wait(10)
    guardian.halt()
    putting.join(5)
    assert not putting.is_alive()
    assert "halted" in told[0]


@pytest.mark.parametrize("what", ["get", "set", "close", "abort"])
def test_a_device_that_hangs_while_it_is_given_back_is_named_within_two_seconds(what, lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    guardian.move("C10", 3e-7)
    lying.hanging.add(what)
    begun = time.monotonic()
    guardian.close_gate()
    problems = guardian.restore()
    assert time.monotonic() - begun < 2.0
    assert bool(problems) == (what != "abort")
    assert guardian.restore() == problems


def test_an_exposure_that_ignores_an_abort_does_not_keep_the_instrument(lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    guardian.overview(OverviewSpec(fov_nm=300, pixels=32))
    lying.hanging.add("spectrum")
    threading.Timer(0.1, guardian.close_gate).start()
    begun = time.monotonic()
    with pytest.raises(GateClosedError):
        guardian.spectrum((0.5, 0.5), SpectrumSpec())
    assert guardian.restore() == []
    assert time.monotonic() - begun < 2.1


def test_a_command_that_never_returns_is_given_up(lying, monkeypatch):
    monkeypatch.setattr("autoexp.gate.COMMAND_S", 0.2)
    guardian = Guardian(lying, SITE)
    guardian.open()
    lying.hanging.add("get")
    with pytest.raises(InstrumentError, match="did not return"):
        guardian.value("C10")


def test_what_a_device_raises_is_an_error_of_the_instrument(lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    lying.overview = lambda spec: 1 / 0
    with pytest.raises(InstrumentError, match="division by zero"):
        guardian.overview(OverviewSpec(pixels=32))


def test_the_instruments_thread_ends_with_the_run(lying):
    before = threading.active_count()
    for _ in range(10):
        guardian = Guardian(lying, SITE)
        guardian.open()
        guardian.restore()
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_many_controls_that_hang_are_named_within_two_seconds(lying):
    many = SiteLimits(controls={f"C{k}": ControlLimits(low=-1, high=1) for k in range(60)})
    for name in many.controls:
        lying._instrument.microscope.controls[name] = 0.0
    guardian = Guardian(lying, many)
    guardian.open()
    lying.hanging.add("get")
    begun = time.monotonic()
    guardian.close_gate()
    problems = guardian.restore()
    assert time.monotonic() - begun < 2.0
    assert [problem.split()[0] for problem in problems] == list(many.controls)
    assert ("close", None) in lying.commands
    lying.leave.set()


def test_an_abort_does_not_wait_until_controls_have_settled(lying):
    slow = SiteLimits(controls={n: ControlLimits(low=-1e-6, high=1e-6, settle_s=30) for n in ("C10", "CAperture.x")})
    guardian = Guardian(lying, slow, sleep=lambda s: time.sleep(s))
    guardian.open()
    for name in slow.controls:
        lying._instrument.microscope.controls[name] = 5e-7
    begun = time.monotonic()
    guardian.close_gate()
    assert guardian.restore() == []
    assert time.monotonic() - begun < 2.0
    assert [lying._instrument.get(name) for name in slow.controls] == [0, 0]


def test_controls_settle_together(lying):
    """As they are put back, they are all sent before any is waited for."""
    waited = []
    slow = SiteLimits(controls={n: ControlLimits(low=-1e-6, high=1e-6, settle_s=5) for n in ("C10", "CAperture.x")})
    guardian = Guardian(lying, slow, sleep=waited.append)
    guardian.open()
    for name in slow.controls:
        lying._instrument.microscope.controls[name] = 5e-7
    assert guardian.restore() == []
    assert 4.9 <= sum(waited) <= 5.2


def test_a_control_that_does_not_follow_is_not_sent_a_thousand_steps(lying):
    fine = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6, step=1e-9)})
    guardian = Guardian(lying, fine)
    guardian.open()
    lying._instrument.microscope.controls["C10"] = 9.9e-7
    lying.stuck = {"C10"}
    (problem,) = guardian.restore()
    assert "does not follow" in problem
    assert len(lying.sent) == 1


def test_a_control_that_stops_following_on_its_way_is_named(lying):
    fine = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6, step=1e-9)})
    guardian = Guardian(lying, fine)
    guardian.open()
    lying._instrument.microscope.controls["C10"] = 5e-7
    send = lying.set

    def tire(name, value):
        lying.stuck = {"C10"} if len(lying.sent) > 50 else set()
        send(name, value)

    lying.set = tire
    (problem,) = guardian.restore()
    assert "does not follow" in problem
    assert len(lying.sent) < 100


class PanicException(BaseException):
    """What drivers in Rust raise."""


ODD = [SystemExit("2"), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), PanicException("unwrap")]


@pytest.mark.parametrize("error", [*ODD, BaseExceptionGroup("both", [KeyboardInterrupt()])])
@pytest.mark.parametrize("kind", ["get", "set", "close"])
def test_what_would_end_a_thread_does_not_keep_the_instrument(error, kind, lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    guardian.move("CAperture.x", 0.002)
    guardian.move("C10", 2e-7)
    right = getattr(lying, kind)

    def fail(*given):
        if kind == "close" or given[0] == "C10":
            raise error
        return right(*given)

    setattr(lying, kind, fail)
    (problem,) = guardian.restore()
    assert type(error).__name__ in problem
    assert lying._instrument.get("CAperture.x") == 0
    assert ("close", None) in lying.commands or kind == "close"


def test_an_abort_while_things_are_put_back_hurries(lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    guardian.move("C10", 2e-7)
    lying.hanging.add("get")
    told = []
    thread = threading.Thread(target=lambda: told.extend(guardian.restore()))
    thread.start()
    assert lying.hung.wait(10)
    begun = time.monotonic()
    guardian.close_gate()
    thread.join(10)
    assert time.monotonic() - begun < 2.0
    assert any("C10" in problem for problem in told)
    assert ("close", None) in lying.commands
    lying.leave.set()


def ended_in_a_move(lying):
    """A guardian whose gate was closed while a control was being set, which goes on."""
    guardian = Guardian(lying, SITE)
    guardian.open()
    lying.hanging.add("set")
    threading.Timer(0.1, guardian.close_gate).start()
    with pytest.raises(GateClosedError):
        guardian.move("C10", 2e-7)
    return guardian


def test_a_move_that_may_still_act_is_named(lying):
    guardian = ended_in_a_move(lying)
    assert guardian.restore() == ["setting C10 had not returned and may still act"]
    lying.leave.set()


def test_a_move_that_acts_late_is_taken_back(lying, monkeypatch):
    guardian = ended_in_a_move(lying)
    right = guardian._controls.put_back

    def put_back(*given):
        found = right(*given)
        if not lying.leave.is_set():
            lying.leave.set()
            time.sleep(0.2)
        return found

    monkeypatch.setattr(guardian._controls, "put_back", put_back)
    assert guardian.restore() == []
    assert lying._instrument.get("C10") == 0


def test_nothing_passes_once_the_instrument_is_given_back(lying):
    guardian = Guardian(lying, SITE)
    guardian.open()
    guardian.move("C10", 2e-7)
    guardian.restore()
    sent = len(lying.commands)
    for act in (
        lambda: guardian.move("C10", 1e-7),
        lambda: guardian.overview(OverviewSpec(pixels=32)),
        lambda: guardian.spectrum((0.5, 0.5), SpectrumSpec()),
        lambda: guardian.bind(OverviewSpec(pixels=32)),
        guardian.check,
        guardian.open,
    ):
        with pytest.raises(GuardianError):
            act()
    assert guardian.put_back({"C10": 1e-7})  # named, not done
    assert len(lying.commands) == sent


def test_the_rate_is_kept_by_whoever_has_the_instrument_next(lying):
    slow = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6, rate=1e-7)})
    now = [0.0]

    def clock():
        return now[0]

    for value in (4e-7, -4e-7):  # Swift's adapter is another object each time
        adapter = DirectInstrument(lying._instrument.microscope)
        guardian = Guardian(adapter, slow, clock=clock, sleep=lambda s: now.__setitem__(0, now[0] + s))
        guardian.open()
        guardian.await_rate("C10", value)
        guardian.move("C10", value)
        guardian.keep()
        assert guardian.restore() == []
    assert now[0] >= 8.0


def test_a_halt_shuts_the_gate():
    gate = Gate()
    gate.halt()
    sent = []
    assert gate.is_closed
    for act in (gate.send, gate.send_back):
        with pytest.raises(GateClosedError):
            act(lambda: sent.append(1), "a command")
    assert not sent
