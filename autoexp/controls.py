"""The controls of an instrument behind their limits: one check for whatever is sent, putting back included.

Every comparison is written so that a value that is no number refuses. What is read and is not finite is no value.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping

from autoexp.errors import GateClosedError, InstrumentError, LimitError, ReadbackError
from autoexp.foreign import finite_number
from autoexp.gate import Gate
from autoexp.instrument import Instrument
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import UserLimits

REST_S = 0.1
"""So soon a wait notices that the gate was closed."""
MOST_STEPS = 1000
"""Steps in which a control is put back, at most."""
FOLLOWED_STEPS = 20
"""After so many steps, and after the first, it is seen whether a control that is put back follows."""
LAGS_S = (0.1, 0.2, 0.4)
"""So much later it is looked again."""
PUT_BACK_S = 120.0
"""Time that putting back takes, at most."""

BORN_S = time.monotonic()
"""Another process may have moved any control until this one began."""

OnMove = Callable[[str, float, float], None]
Clock = Callable[[], float]


class Controls:
    """Moves controls, and remembers how they were found.

    Args:
        instrument: whose controls.
        gate: what commands pass.
        site: what the site allows.
        user: what the operator allows, within that.
        on_move: told of a control, its value and the one it is about to be given, before each move; if it raises,
            nothing moves, save where something is put back.
        clock: monotonic seconds.
        sleep: waits.

    Attributes:
        site: what the site allows.
        user: what the operator allows.
    """

    def __init__(
        self,
        instrument: Instrument,
        gate: Gate,
        site: SiteLimits,
        user: UserLimits,
        on_move: OnMove,
        clock: Clock,
        sleep: Callable[[float], None],
    ):
        self.site = site
        self.user = user
        self._instrument = instrument
        self._gate = gate
        self._on_move = on_move
        self._clock = clock
        self._sleep = sleep
        self._found: dict[str, float] = {}
        self._last_move_s = _moved_before(instrument, clock)

    @property
    def found(self) -> dict[str, float]:
        """The controls as they were found, or as they were when they were last to be kept."""
        return dict(self._found)

    def find(self) -> None:
        """Remember how all controls are now; one that does not read as a number is read once more.

        Raises:
            InstrumentError: one is not there, or cannot be read; then the instrument is not to be taken over.
        """
        self._found = {name: self._read_twice(name) for name in self.site.controls}

    def keep(self, write: Callable[[dict[str, float]], None]) -> None:
        """Take the controls as they are now for those to go back to, once that is written down."""
        now = {name: self.value(name) for name in self._found}
        write(dict(now))
        self._found = now

    def remember(self, found: Mapping[str, float]) -> None:
        """Go back to controls as a run that was cut off had found them.

        Raises:
            LimitError: a value lies outside the site's limits, or is no number: it cannot be the instrument's own.
        """
        for name, value in found.items():
            if name in self._found and (fault := self._fault(name, value)):
                raise LimitError(f"The journal says that {name} was found at {value:g}. {fault} Nothing was moved.")
        self._found |= {name: float(value) for name, value in found.items() if name in self._found}

    def value(self, name: str) -> float:
        """The value of a control.

        Raises:
            LimitError: the site does not list it.
            InstrumentError: the instrument does not have it, or tells no finite number.
        """
        self.listed(name)
        return self._gate.send(lambda: self._read(name), f"reading {name}")

    def listed(self, name: str) -> ControlLimits:
        """The limits of a control.

        Raises:
            LimitError: the site does not list it.
        """
        limits = self.site.controls.get(name)
        if limits is None:
            known = ", ".join(sorted(self.site.controls)) or "none"
            raise LimitError(f"The site does not allow to move {name!r} (allowed: {known}).")
        return limits

    def allowed_range(self, name: str) -> tuple[float, float]:
        """Lowest and highest value to which a control may be moved now, in one command."""
        limits, now = self.listed(name), self.value(name)
        low, high = self.user.controls.get(name, (limits.low, limits.high))
        low, high = max(low, limits.low), min(high, limits.high)
        if limits.step is not None:
            low, high = max(low, now - limits.step), min(high, now + limits.step)
        return low, high

    def await_rate(self, name: str, value: float) -> None:
        """Wait until a control may be moved to a value, where the site limits its rate.

        Raises:
            GateClosedError: the run was ended meanwhile.
            LimitError: the site does not list it.
            InstrumentError: the instrument does not have it.
        """
        self._await_rate(name, abs(value - self.value(name)), self.listed(name))
        self._gate.require()

    def move(self, name: str, value: float) -> None:
        """Set a control, within its limits, and confirm it by reading back.

        Raises:
            LimitError: unknown control, not a number, outside a limit, too large a step or too fast, or it could not be
                put back afterwards; nothing moved.
            ReadbackError: it does not read back as it was set, also when read again.
            InstrumentError: it cannot be read or set.
        """
        limits = self.listed(name)
        if fault := self._fault(name, value) or self._beyond_user(name, value) or self._no_way_back(name):
            raise LimitError(fault)
        now = self.value(name)
        if fault := self._too_fast(name, value, now, limits):
            raise LimitError(fault)
        self._gate.require()
        self._on_move(name, now, value)
        self._gate.send(lambda: self._instrument.set(name, value), f"setting {name}", moves=True)
        self._last_move_s[name] = self._clock()
        self.rest(limits.settle_s)
        if not any(reads_as(self.value(name), value, limits.readback_tolerance) for _ in range(2)):
            raise ReadbackError(f"{name} was set to {value:g} but reads {self.value(name):g}.")

    def put_back(self, values: Mapping[str, float] | None = None) -> list[str]:
        """Put controls back to values that they had, as found if none are given; returns what could not be, in words.

        That passes a closed gate, but not after a halt, and the check of every command: not beyond the site's limits,
        nor in larger steps or faster. It ends after :data:`MOST_STEPS` steps of a control, and :data:`PUT_BACK_S`.
        """
        until_s = time.monotonic() + PUT_BACK_S
        left = dict(self._found if values is None else values)
        problems: dict[str, str] = {}
        for _ in range(2):
            moved = {}
            for name, value in left.items():
                try:
                    if self._goes_back(name, value, until_s):
                        moved[name] = value
                except Exception as error:  # a device may raise anything; the other controls still have their turn
                    problems[name] = f"{name} could not be set back to {value:g}: {str(error).rstrip('.')}"
            self.rest(self._gate.time_left_s(max((self.site.controls[name].settle_s for name in moved), default=0.0)))
            left = moved
        for name, value in left.items():
            try:
                now = self._read_back(name)
                if not reads_as(now, value, self.listed(name).readback_tolerance):
                    problems[name] = f"{name} reads {now:g} instead of {value:g}"
            except Exception as error:
                problems[name] = f"{name} was set back to {value:g}, but cannot be read: {str(error).rstrip('.')}"
        return list(problems.values())

    def _goes_back(self, name: str, value: float, until_s: float) -> bool:
        """Send a control back; False where it is there already."""
        limits = self.listed(name)
        now = self._read_back(name)
        if reads_as(now, value, limits.readback_tolerance):
            return False
        if fault := self._fault(name, value):
            raise LimitError(f"it reads {now:g}. {fault} Set it by hand")
        self._walk(name, now, value, limits, until_s)
        return True

    def _walk(self, name: str, now: float, value: float, limits: ControlLimits, until_s: float) -> None:
        """Go back in steps that are small enough and far enough apart in time, as long as the control follows."""
        steps = _steps(value - now, limits.step)
        if not steps <= MOST_STEPS:
            raise LimitError(f"it reads {now:g}, {steps:.3g} steps away; set it by hand")
        seen = now
        for i in range(int(steps)):
            if time.monotonic() > until_s:
                raise InstrumentError(f"it is at {self._read_back(name):g} after {PUT_BACK_S:g} s; set it by hand")
            before, wanted = (value if k == steps else now + (value - now) * k / steps for k in (i, i + 1))
            self._await_rate(name, abs(wanted - before), limits)
            if fault := self._fault(name, wanted) or self._too_fast(name, wanted, before, limits, slack=1e-9):
                raise LimitError(f"it reads {now:g}. {fault} Set it by hand")
            with contextlib.suppress(Exception):  # a full disk does not keep the instrument from being put back
                self._on_move(name, before, wanted)
            self._gate.send_back(functools.partial(self._instrument.set, name, wanted), f"setting {name}")
            self._last_move_s[name] = self._clock()
            if i % FOLLOWED_STEPS == 0 and i + 1 < steps:
                seen = self._followed(name, wanted, seen, limits)

    def _followed(self, name: str, wanted: float, seen: float, limits: ControlLimits) -> float:
        """What a control reads on its way.

        Raises:
            InstrumentError: it has not moved as far as can be told: no further step is sent.
        """
        for wait_s in (limits.settle_s, *LAGS_S):
            self.rest(self._gate.time_left_s(wait_s))
            now = self._read_back(name)
            if abs(wanted - now) < abs(wanted - seen) or abs(wanted - seen) <= 2 * limits.readback_tolerance:
                return now
        raise InstrumentError(f"it reads {now:g} and does not follow; set it by hand")

    # --- the one check

    def _fault(self, name: str, value: object) -> str:
        """Why a value may not be sent, whoever asks; empty if it may."""
        limits = self.site.controls.get(name)
        if limits is None:
            return f"The site does not list {name!r}."
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name} cannot be set to {value!r}: not a finite number."
        if not limits.low <= value <= limits.high:
            return f"{name} = {value:g} lies outside the site's limits {limits.low:g} to {limits.high:g}."
        return ""

    def _beyond_user(self, name: str, value: float) -> str:
        limits = self.site.controls[name]
        low, high = self.user.controls.get(name, (limits.low, limits.high))
        if low <= value <= high:
            return ""
        return (
            f"{name} = {value:g} lies outside your limits {low:g} to {high:g}; "
            f"you may widen them up to {limits.low:g} to {limits.high:g}."
        )

    def _no_way_back(self, name: str) -> str:
        if name not in self._found or not (fault := self._fault(name, self._found[name])):
            return ""
        return f"{name} could not be put back afterwards, so it is not moved. {fault}"

    def _too_fast(self, name: str, value: float, now: float, limits: ControlLimits, slack: float = 0.0) -> str:
        """Why a step is too large or too soon; ``slack`` is for the rounding of a way that was divided."""
        change = abs(value - now)
        if limits.step is not None and not change <= limits.step * (1 + slack):
            return f"{name} would change by {change:g} at once; at most {limits.step:g} is allowed."
        moved_s = self._moved_s(name)
        if limits.rate is not None and moved_s is not None:
            elapsed = self._clock() - moved_s
            if not change <= limits.rate * elapsed:
                return f"{name} would change by {change:g} within {elapsed:.3g} s; wait and ask again."
        return "" if math.isfinite(change) else f"{name} reads {now!r}, which is no number."

    # --- reading and waiting

    def _read(self, name: str) -> float:
        return read_control(self._instrument, name)

    def _read_twice(self, name: str) -> float:
        try:
            return self._gate.send(lambda: self._read(name), f"reading {name}")
        except GateClosedError:
            raise
        except Exception:  # reading again harms nobody
            return self._gate.send(lambda: self._read(name), f"reading {name}")

    def _read_back(self, name: str) -> float:
        return self._gate.send_back(lambda: self._read(name), f"reading {name}")

    def _await_rate(self, name: str, change: float, limits: ControlLimits) -> None:
        moved_s = self._moved_s(name)
        if limits.rate is None or moved_s is None or not math.isfinite(change):
            return
        ready_s = moved_s + change / limits.rate * (1 + 1e-9)
        self.rest(min(ready_s - self._clock(), PUT_BACK_S))

    def _moved_s(self, name: str) -> float | None:
        """When a control was last moved, as far as is known; None where that tells nothing of the clock."""
        return self._last_move_s.get(name, BORN_S if self._clock is time.monotonic else None)

    def rest(self, seconds: float) -> None:
        """Wait; no longer than until the gate is closed, save for what is put back behind it."""
        was_closed = self._gate.is_closed
        while seconds > 0 and self._gate.is_closed == was_closed and not self._gate.is_halted:
            self._sleep(min(seconds, REST_S))
            seconds -= REST_S
            self._gate.heard_s = time.monotonic()


def read_control(instrument: Instrument, name: str) -> float:
    """The value that an instrument tells of a control.

    Raises:
        InstrumentError: it does not have it, or tells no finite number.
    """
    told = instrument.get(name)
    if (value := finite_number(told)) is None:
        raise InstrumentError(f"{name} reads {told!r}, which is no number; look at the instrument.")
    return value


_moves: dict[tuple[str, Clock], dict[str, float]] = {}


def _moved_before(instrument: Instrument, clock: Clock) -> dict[str, float]:
    """When each control of an instrument was last moved, by whoever had it: the next one keeps to the rates as well."""
    return _moves.setdefault((instrument.identity.key, clock), {})


def _steps(way: float, step: float | None) -> float:
    """In how many steps to go; NaN where nobody knows."""
    if step is None:
        return 1.0 if math.isfinite(way) else math.nan
    steps = abs(way) / step
    return float(max(1, math.ceil(steps * (1 - 1e-12)))) if math.isfinite(steps) else math.nan


def reads_as(now: float, wanted: float, tolerance: float) -> bool:
    """Whether a control reads as it was set."""
    return math.isfinite(now) and abs(now - wanted) <= tolerance
