"""The guardian: the only way to an instrument. No agent, task or panel gets past it.

It refuses rather than clips; it confirms by reading back; it keeps the account of dose and time; it remembers how
everything was found and puts it back, never stopping at a first failure.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from autoexp.errors import (
    BadFrameError,
    BudgetError,
    GateClosedError,
    GuardianError,
    InstrumentError,
    LimitError,
    PlanError,
    ReadbackError,
)
from autoexp.instrument import Camera, CameraFrame, Identity, Instrument, Overview, PlanChecker, Position, Spectrum
from autoexp.limits import ControlLimits, SiteLimits, check_controls
from autoexp.plan import (
    ELECTRONS_PER_PICOAMPERE_SECOND,
    AlignmentSpec,
    Budget,
    FrameSpec,
    OverviewSpec,
    Plan,
    SpectrumSpec,
    UserLimits,
)

T = TypeVar("T")
REST_S = 0.1
"""So soon a wait notices that the gate was closed."""
SMALLEST_FRAME = 8
"""Pixels that a frame of the disk has along each side, at least."""


@dataclass
class Account:
    """What a run has spent.

    Attributes:
        dose_e: electrons into the specimen.
        exposures: spectra exposed.
        begun_s: clock at the beginning.
    """

    dose_e: float = 0.0
    exposures: int = 0
    begun_s: float = 0.0


class Guardian:
    """Stands before an instrument.

    Args:
        instrument: what is guarded.
        site: what the site allows.
        user: what the operator allows, within that.
        budget: when to stop.
        beam_current_pA: current for the dose account; overrides the site's.
        on_move: told of a control, its value and the one it is about to be given, before each move; if it raises,
            nothing moves, save where something is put back.
        clock: monotonic seconds.
        sleep: waits.

    Attributes:
        site: what the site allows.
        user: what the operator allows.
        budget: when to stop.
        beam_current_pA: for the account of dose; None where it is not known.
        account: what was spent.
        expired: whether the watchdog has put everything back.
    """

    def __init__(
        self,
        instrument: Instrument,
        site: SiteLimits | None = None,
        user: UserLimits | None = None,
        budget: Budget | None = None,
        *,
        beam_current_pA: float | None = None,
        on_move: Callable[[str, float, float], None] = lambda name, now, value: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._instrument = instrument
        self.site = site or SiteLimits()
        self.user = user or UserLimits()
        self.budget = budget or Budget()
        self.beam_current_pA = beam_current_pA or self.site.beam_current_pA
        self.account = Account()
        self._on_move = on_move
        self._clock = clock
        self._sleep = sleep
        self._gate = threading.Event()
        self._gate.set()
        self._opened = False
        self._busy = 0
        self._heard_s = 0.0
        self.expired = False
        self._snapshot: dict[str, float] = {}
        self._last_move_s: dict[str, float] = {}

    # --- taking over and giving back

    @property
    def identity(self) -> Identity:
        """Which instrument is guarded."""
        return self._instrument.identity

    @property
    def found(self) -> dict[str, float]:
        """The controls as they were found, or as they were when they were last to be kept."""
        return dict(self._snapshot)

    def open(self) -> dict[str, float]:
        """Take the instrument over; returns the controls as they were found.

        Raises:
            InstrumentError: it cannot be used, or a control of the limits is not there.
        """
        self._instrument.open()
        self._opened = True
        self.account.begun_s = self._clock()
        self._snapshot = {name: self._instrument.get(name) for name in self.site.controls}
        return self.found

    def resume_account(self, dose_e: float, exposures: int, elapsed_s: float) -> None:
        """Go on with the account of a run that was begun before."""
        self.account = Account(dose_e, exposures, self._clock() - elapsed_s)

    def close_gate(self, abort: bool = True) -> None:
        """From here on no command reaches the instrument but those that restore it. Callable from any thread."""
        self._gate.clear()
        if abort and self._opened:
            self._instrument.abort()

    @contextlib.contextmanager
    def watchdog(self, idle_s: float) -> Iterator[None]:
        """Put everything back, from a thread of its own, once nothing was asked of the instrument for so long.

        So whoever decides may hang for ever, and the instrument is in order all the same. From then on the gate is
        closed. A command that takes long, as an exposure does, is not idleness.
        """
        over = threading.Event()
        self._heard_s = self._clock()

        def watch() -> None:
            while not over.wait(min(0.25, idle_s / 4)):
                if not self._busy and self._clock() - self._heard_s > idle_s:
                    self.expired = True
                    self.close_gate(abort=False)
                    self.restore()
                    return

        thread = threading.Thread(target=watch, name="autoexp-watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def restore(self) -> list[str]:
        """Put every control, the probe, the scan and the camera back; returns what could not be, in words."""
        problems = self.put_back(self._snapshot)
        if self._opened:
            problems += self._instrument.close()
            self._opened = False
        return problems

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is to reach the instrument but what restores it."""
        return not self._gate.is_set()

    def release(self) -> None:
        """Forget the instrument without sending it anything (after a halt)."""
        self._opened = False

    def put_back(self, values: Mapping[str, float]) -> list[str]:
        """Put controls back to values that they had, each in its turn; returns what could not be, in words.

        That is allowed where nothing else is any more, but not in larger steps nor faster than the site allows.
        """
        return [p for name, value in values.items() if (p := self._put_back(name, value))]

    def _put_back(self, name: str, value: float) -> str | None:
        try:
            limits = self._listed(name)
            for _ in range(2):
                now = self._instrument.get(name)
                if _close(now, value, limits.readback_tolerance):
                    return None
                self._walk(name, now, value, limits)
            now = self._instrument.get(name)
            return (
                None if _close(now, value, limits.readback_tolerance) else f"{name} reads {now:g} instead of {value:g}"
            )
        except Exception as error:  # a device may raise anything; the other controls still have their turn
            return f"{name} could not be set back to {value:g}: {error}"

    def _walk(self, name: str, now: float, value: float, limits: ControlLimits) -> None:
        """Go back in steps that are small enough and far enough apart in time."""
        way = value - now
        steps = 1 if limits.step is None or not math.isfinite(way) else max(1, math.ceil(abs(way) / limits.step - 1e-9))
        for i in range(steps):
            self._await_rate(name, abs(way) / steps, limits)
            wanted = value if i == steps - 1 else now + way * (i + 1) / steps
            with contextlib.suppress(Exception):  # a full disk does not keep the instrument from being put back
                self._on_move(name, now + way * i / steps, wanted)
            self._instrument.set(name, wanted)
            self._last_move_s[name] = self._clock()
        self._rest(limits.settle_s)

    # --- the commands

    def check_plan(self, plan: Plan, budget: Budget) -> None:
        """Refuse a plan that asks for more than is allowed, before anything moves.

        Args:
            plan: the plan.
            budget: the one in force, which may have been changed since the plan was made.

        Raises:
            LimitError: the overview, an image for drift or an exposure is too long.
            PlanError: the dose is limited and cannot be known, a control of the alignment may not be moved, or the
                instrument cannot do it.
        """
        self._check_overview(plan.overview)
        if plan.drift:
            self._check_overview(plan.drift.scan(plan.overview), "An image to see drift by")
        self._check_exposure_time(plan.spectrum)
        if plan.align:
            self.check_alignment(plan.align.spec)
        self.check_budget(budget)
        if isinstance(self._instrument, PlanChecker):
            self._instrument.check_plan(plan.overview, plan.spectrum)

    def check_alignment(self, spec: AlignmentSpec) -> None:
        """Refuse an alignment that may not be done.

        Raises:
            LimitError: the exposure is too long.
            PlanError: the site's limits do not list a control; the message says what to do.
        """
        self._check_exposure_time(spec.frame)
        check_controls(self.site, spec)

    def check_budget(self, budget: Budget) -> None:
        """Refuse a limit that could not be kept: one on the dose, where the beam current is not known.

        Raises:
            PlanError: what to do about it.
        """
        limited = budget.dose_e is not None or self.site.max_dose_e is not None
        if limited and self.beam_current_pA is None:
            raise PlanError(
                "The dose is limited, but the beam current is not known, so it cannot be counted. Give beam_current_pA "
                "in the site's limits for this instrument, or leave the dose limit out."
            )

    def _check_overview(self, spec: OverviewSpec, name: str = "The overview") -> None:
        if spec.time_s > self.site.max_overview_s:
            raise LimitError(
                f"{name} would take {spec.time_s:.1f} s; the site allows {self.site.max_overview_s:g} s. "
                "Take fewer pixels or a shorter dwell time."
            )

    def _check_exposure_time(self, spec: SpectrumSpec | FrameSpec) -> None:
        longest = min(self.site.max_exposure_s, self.user.max_exposure_s or math.inf)
        if spec.exposure_s > longest:
            raise LimitError(f"An exposure of {spec.exposure_s:g} s is longer than the {longest:g} s allowed.")

    def overview(self, spec: OverviewSpec) -> Overview:
        """Take an overview, within limits and budget."""
        self._check_overview(spec)
        self._check_budget(spec.time_s)
        overview = self._pass(lambda: self._instrument.overview(spec))
        self._pay(spec.time_s)
        return overview

    def bind(self, spec: OverviewSpec) -> None:
        """Bind positions to the field of an earlier overview."""
        self._pass(lambda: self._instrument.bind(spec))

    def check(self) -> None:
        """Make sure that a spectrum can be taken now; see :meth:`autoexp.instrument.Instrument.check`."""
        self._pass(self._instrument.check)

    def check_exposure(self, position: Position, spec: SpectrumSpec) -> None:
        """Refuse a spectrum that may not be taken; nothing moves.

        Raises:
            LimitError: the position is outside the field, or the exposure too long.
            BudgetError: dose, points or time would be exceeded.
        """
        if not all(isinstance(p, float) and math.isfinite(p) and 0 <= p <= 1 for p in position):
            raise LimitError(f"The position {position} lies outside the overview.")
        self._check_exposure_time(spec)
        if self.account.exposures >= self.budget.points:
            raise BudgetError(f"all {self.budget.points} points of the budget are taken")
        self._check_budget(spec.exposure_s)

    def spectrum(self, position: Position, spec: SpectrumSpec) -> Spectrum:
        """Take a spectrum at a position, within limits and budget, and check what came."""
        self.grant_exposure(position, spec)
        spectrum = self._pass(lambda: self._instrument.spectrum(position, spec))
        check_frame(spectrum)
        return spectrum

    def grant_exposure(self, position: Position, spec: SpectrumSpec) -> None:
        """Allow one exposure and account for its dose, whatever comes of it; for those that Swift itself takes.

        Raises:
            LimitError, BudgetError: as :meth:`check_exposure`.
            GateClosedError: the run was ended.
        """
        self.check_exposure(position, spec)
        self._require_gate()
        self._pay(spec.exposure_s)
        self.account.exposures += 1

    def camera_frame(self, spec: FrameSpec) -> CameraFrame:
        """Take a frame of the camera on which the disk is seen, within limits and budget.

        Raises:
            LimitError, BudgetError: it may not be taken.
            InstrumentError: there is no such camera, or no usable frame.
        """
        self._check_exposure_time(spec)
        self._check_budget(spec.exposure_s)
        instrument = self._instrument
        if not isinstance(instrument, Camera):
            raise InstrumentError("The instrument has no camera on which the bright-field disk is seen.")
        self._pay(spec.exposure_s)
        frame = self._pass(lambda: instrument.camera_frame(spec))
        if frame.image.ndim != 2 or min(frame.image.shape) < SMALLEST_FRAME:
            raise BadFrameError(f"The camera gave a frame of shape {frame.image.shape}; it was discarded.")
        return frame

    def value(self, name: str) -> float:
        """The value of a control.

        Raises:
            LimitError: the site does not list it.
            InstrumentError: the instrument does not have it.
        """
        self._listed(name)
        return self._instrument.get(name)

    def room(self, name: str) -> tuple[float, float]:
        """Lowest and highest value to which a control may be moved now, in one command."""
        limits, now = self._listed(name), self._instrument.get(name)
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
        self._await_rate(name, abs(value - self._instrument.get(name)), self._listed(name))
        self._require_gate()

    def keep(self) -> dict[str, float]:
        """Take the controls as they are now for those to go back to, and return them."""
        self._snapshot = {name: self._instrument.get(name) for name in self._snapshot}
        return self.found

    def remember(self, found: Mapping[str, float]) -> None:
        """Go back to controls as they were found earlier, by a run that was cut off before it could."""
        self._snapshot |= {name: value for name, value in found.items() if name in self._snapshot}

    def dose_of(self, exposure_s: float) -> float:
        """Electrons of an exposure; zero where the current is not known."""
        return exposure_s * (self.beam_current_pA or 0.0) * ELECTRONS_PER_PICOAMPERE_SECOND

    def move(self, name: str, value: float) -> None:
        """Set a control, within its limits, and confirm it by reading back.

        Raises:
            LimitError: unknown control, not a number, outside a limit, too large a step or too fast; nothing moved.
            ReadbackError: it does not read back as it was set, also when read again.
        """
        limits = self._allowed(name, value)
        now = self._instrument.get(name)
        self._check_rate(name, abs(value - now), limits)
        self._require_gate()
        self._on_move(name, now, value)
        self._pass(lambda: self._instrument.set(name, value))
        self._last_move_s[name] = self._clock()
        self._rest(limits.settle_s)
        if not any(_close(self._instrument.get(name), value, limits.readback_tolerance) for _ in range(2)):
            raise ReadbackError(f"{name} was set to {value:g} but reads {self._instrument.get(name):g}.")

    def _listed(self, name: str) -> ControlLimits:
        limits = self.site.controls.get(name)
        if limits is None:
            known = ", ".join(sorted(self.site.controls)) or "none"
            raise LimitError(f"The site does not allow to move {name!r} (allowed: {known}).")
        return limits

    def _allowed(self, name: str, value: float) -> ControlLimits:
        limits = self._listed(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise LimitError(f"{name} cannot be set to {value!r}: not a finite number.")
        if not limits.low <= value <= limits.high:
            raise LimitError(f"{name} = {value:g} lies outside the site's limits {limits.low:g} to {limits.high:g}.")
        low, high = self.user.controls.get(name, (limits.low, limits.high))
        if not low <= value <= high:
            raise LimitError(
                f"{name} = {value:g} lies outside your limits {low:g} to {high:g}; "
                f"you may widen them up to {limits.low:g} to {limits.high:g}."
            )
        return limits

    def _check_rate(self, name: str, change: float, limits: ControlLimits) -> None:
        if limits.step is not None and change > limits.step:
            raise LimitError(f"{name} would change by {change:g} at once; at most {limits.step:g} is allowed.")
        if limits.rate is not None and name in self._last_move_s:
            elapsed = self._clock() - self._last_move_s[name]
            if change > limits.rate * elapsed:
                raise LimitError(f"{name} would change by {change:g} within {elapsed:.3g} s; wait and ask again.")

    def _await_rate(self, name: str, change: float, limits: ControlLimits) -> None:
        if limits.rate is None or name not in self._last_move_s or not math.isfinite(change):
            return
        ready_s = self._last_move_s[name] + change / limits.rate * (1 + 1e-9)
        self._rest(ready_s - self._clock())

    def _rest(self, seconds: float) -> None:
        """Wait; no longer than until the gate is closed, save for what is put back behind it."""
        was_open = self._gate.is_set()
        while seconds > 0 and self._gate.is_set() == was_open:
            self._sleep(min(seconds, REST_S))
            seconds -= REST_S
            self._heard_s = self._clock()

    def _pass(self, command: Callable[[], T]) -> T:
        self._busy += 1
        try:
            self._require_gate()
            return command()
        finally:
            self._heard_s = self._clock()
            self._busy -= 1

    def _require_gate(self) -> None:
        if not self._gate.is_set():
            raise GateClosedError("The run was aborted; no further command is sent.")
        if not self._opened:
            raise GuardianError("The instrument has not been taken over.")

    def _check_budget(self, exposure_s: float) -> None:
        dose = self.account.dose_e + self.dose_of(exposure_s)
        for limit in (self.budget.dose_e, self.site.max_dose_e):
            if limit is not None and dose > limit:
                raise BudgetError(f"the next exposure would bring the dose to {dose:.3g} of {limit:.3g} electrons")
        elapsed = self._clock() - self.account.begun_s + exposure_s
        for limit in (self.budget.time_s, self.site.max_time_s):
            if limit is not None and elapsed > limit:
                raise BudgetError(f"the next exposure would end after the {limit:g} s allowed")

    def _pay(self, exposure_s: float) -> None:
        self.account.dose_e += self.dose_of(exposure_s)


def check_frame(spectrum: Spectrum) -> None:
    """Refuse what is not a spectrum.

    Raises:
        BadFrameError: wrong dimensions or type; the message names them.
    """
    counts = spectrum.counts
    if not isinstance(counts, np.ndarray) or counts.ndim != 1 or counts.dtype.kind not in "fiu":
        shape, dtype = getattr(counts, "shape", None), getattr(counts, "dtype", type(counts).__name__)
        raise BadFrameError(f"The camera returned {dtype} of shape {shape} instead of one row of numbers.")
    if not (math.isfinite(spectrum.energy.scale) and spectrum.energy.scale):
        raise BadFrameError("The camera's energy scale is not usable; calibrate it.")


def _close(now: float, wanted: float, tolerance: float) -> bool:
    return math.isfinite(now) and abs(now - wanted) <= tolerance
