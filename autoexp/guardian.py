"""The guardian: the only way to an instrument. No agent, task or panel gets past it.

It refuses rather than clips; it confirms by reading back; it pays for every exposure before that begins; it remembers
how everything was found and puts it back, never stopping at a first failure; and it waits for nobody for ever.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from autoexp.account import Account, Exposure, usable_current
from autoexp.beam import Beam, BeamState
from autoexp.controls import Controls
from autoexp.errors import BudgetError, GuardianError, InstrumentError, LimitError, PlanError
from autoexp.frames import checked_camera_frame, checked_exposure, checked_overview, checked_spectrum
from autoexp.gate import GRACE_S, Gate
from autoexp.instrument import (
    Camera,
    CameraFrame,
    Identity,
    Instrument,
    Overview,
    PlanChecker,
    Position,
    Spectrum,
    told_seconds,
)
from autoexp.limits import SiteLimits, check_controls
from autoexp.plan import AlignmentSpec, Budget, FrameSpec, OverviewSpec, Plan, SpectrumSpec, UserLimits
from autoexp.threads import Call

T = TypeVar("T", Overview, Spectrum, CameraFrame)
ABORT_S = 0.2
"""So long an instrument may take to hear of an abort before whoever asked for it goes on."""


def _nothing(*_: object) -> None:
    """Nobody wants to be told."""


class Guardian:
    """Stands before an instrument.

    Args:
        instrument: what is guarded.
        site: what the site allows.
        user: what the operator allows, within that.
        budget: when to stop.
        beam_current_pA: current for the dose account; overrides the site's. Only a finite one above zero counts.
        on_move: told of a control, its value and the one it is about to be given, before each move; if it raises,
            nothing moves, save where something is put back.
        on_expose: told of each exposure before it begins; if it raises, nothing is exposed, and nothing paid.
        on_longer: told of an image that took longer than was asked for, as the device tells, and of the time that was
            asked for, s.
        clock: monotonic seconds.
        sleep: waits.

    Attributes:
        budget: when to stop.
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
        on_move: Callable[[str, float, float], None] = _nothing,
        on_expose: Callable[[Exposure], None] = _nothing,
        on_longer: Callable[[Exposure, float], None] = _nothing,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        site = site or SiteLimits()
        self.budget = budget or Budget()
        self.expired = False
        self._instrument = instrument
        self._gate = Gate()
        self._controls = Controls(instrument, self._gate, site, user or UserLimits(), on_move, clock, sleep)
        account = Account(usable_current(beam_current_pA, site.beam_current_pA))
        self._beam = Beam(instrument, self._gate, site.blanker, account, self._controls.rest, clock)
        self._on_expose = on_expose
        self._on_longer = on_longer
        self._clock = clock
        self._opened = False
        self._restoring = threading.Lock()
        self._problems: list[str] | None = None
        self._aborting: Call[None] | None = None

    # --- what is known

    @property
    def identity(self) -> Identity:
        """Which instrument is guarded."""
        return self._instrument.identity

    @property
    def site(self) -> SiteLimits:
        """What the site allows; may be replaced."""
        return self._controls.site

    @site.setter
    def site(self, site: SiteLimits) -> None:
        self._controls.site = site

    @property
    def user(self) -> UserLimits:
        """What the operator allows, within that."""
        return self._controls.user

    @property
    def account(self) -> Account:
        """What was spent."""
        return self._beam.account

    @property
    def beam_current_pA(self) -> float | None:
        """For the account of dose; None where it is not known."""
        return self.account.current_pA

    @property
    def beam(self) -> BeamState:
        """Where the beam is, and since when."""
        return self._beam.state

    @property
    def found(self) -> dict[str, float]:
        """The controls as they were found, or as they were when they were last to be kept."""
        return self._controls.found

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is to reach the instrument but what restores it."""
        return self._gate.is_closed

    @property
    def unreturned(self) -> list[str]:
        """What nobody waits for any more, moves aside, and has not returned, in words: it may still act."""
        return self._gate.left_behind(moves=False)

    def dose_of(self, exposure_s: float) -> float:
        """Electrons of an exposure; zero where the current is not known."""
        return self.account.dose_of(exposure_s)

    # --- taking over and giving back

    def open(self) -> dict[str, float]:
        """Take the instrument over; returns the controls as they were found.

        Raises:
            InstrumentError: it cannot be used, or a control of the limits is not there or tells no number; then it was
                not taken over.
            GateClosedError: it was ended before.
        """
        self._problems = None
        self._controls.find()  # before anything is stopped or remembered: what cannot be read is left alone
        self._beam.find()
        self._opened = True  # even if it fails half way, it has to be given back
        self._gate.send(self._instrument.open, "being taken over")
        self.account.begun_s = self._clock()
        self._beam.stand()
        self._beam.take_off()
        self._beam.require_off("; nothing was exposed")
        return self.found

    def resume_account(self, dose_e: float, exposures: int, elapsed_s: float, stood_s: float = 0.0) -> None:
        """Go on with the account of a run that was begun before."""
        begun_s = self._clock() - elapsed_s
        self._beam.account = Account(self.beam_current_pA, dose_e, exposures, begun_s, stood_s=stood_s)
        if self._beam.state.on is not False:
            self._beam.stand()

    def close_gate(self) -> None:
        """End what is in flight; from here on only what restores the instrument reaches it. From any thread."""
        self._gate.close()
        if self._opened and not self._gate.is_halted:
            self._aborting = Call(self._cut_short, "autoexp-abort")
            self._aborting.wait(ABORT_S)

    def _cut_short(self) -> None:
        try:
            self._beam.blank_now()
        finally:
            self._instrument.abort()

    def halt(self) -> None:
        """From here on nothing reaches the instrument, not even what would restore it. From any thread."""
        self._gate.halt()

    def heartbeat(self) -> None:
        """Say that whoever runs this is alive, though nothing is asked of the instrument."""
        self._gate.heard_s = time.monotonic()

    @contextlib.contextmanager
    def watchdog(self, idle_s: float, on_expired: Callable[[list[str]], None] = _nothing) -> Iterator[None]:
        """Put everything back, from a thread of its own, where whoever should do so hangs.

        That is: once nothing was heard for so long and no command is in flight, or one is that does not return; and
        when the gate was closed and nobody has begun to put things back. From then on the gate is closed.

        Args:
            idle_s: how long nothing may be heard.
            on_expired: told what could not be put back.
        """
        over = threading.Event()
        self.heartbeat()

        def watch() -> None:
            while not over.wait(min(0.1, idle_s / 4)):
                if self._hangs(idle_s) and not self._restoring.locked():
                    self.expired = True
                    self.close_gate()
                    on_expired(self.restore())
                    return

        thread = threading.Thread(target=watch, name="autoexp-watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _hangs(self, idle_s: float) -> bool:
        if self._gate.is_halted or self._problems is not None:
            return False
        if self._gate.is_closed:
            return self._gate.closed_for_s > GRACE_S + 0.3
        silent_s = time.monotonic() - self._gate.heard_s
        return silent_s > idle_s and (self._gate.late or not self._gate.busy)

    def restore(self) -> list[str]:
        """Put every control, the probe, the scan and the camera back, once; returns what could not be, in words.

        It ends by itself, also if the instrument does not answer; after a halt it sends nothing.
        """
        with self._restoring:
            self._gate.begin_end()
            if self._problems is None:
                self._problems = self._give_back()
            return list(self._problems)

    def _give_back(self) -> list[str]:
        if self._gate.is_halted:
            return ["nothing was put back, since all was halted"]
        if self._aborting is not None:
            self._aborting.wait(ABORT_S)  # or it would hit whoever has the instrument next
        if self._opened:
            self._beam.take_off()
        waiting = self._gate.left_behind(moves=True)
        problems = self._controls.put_back()
        if len(self._gate.left_behind(moves=True)) < len(waiting):  # it may have acted meanwhile
            problems = self._controls.put_back()
        if self._opened:
            self._opened = False
            problems += self._close()
            self._beam.take_off()  # whatever acted meanwhile
            problems += [self._beam.trouble] if self._beam.trouble else []
        self._gate.end()
        return problems + [f"{what} had not returned and may still act" for what in self._gate.left_behind(moves=True)]

    def _close(self) -> list[str]:
        try:
            told = self._gate.send_back(self._instrument.close, "giving it back", last=True)
        except Exception as error:  # it promises not to raise, and is foreign all the same
            return [f"the instrument could not be given back: {error}"]
        return [str(problem) for problem in told] if isinstance(told, list) else []

    def release(self) -> None:
        """Forget the instrument without sending it anything (after a halt)."""
        self._opened = False
        self._gate.end()

    def put_back(self, values: Mapping[str, float]) -> list[str]:
        """Put controls back to values that they had; see :meth:`autoexp.controls.Controls.put_back`."""
        return self._controls.put_back(values)

    # --- controls

    def value(self, name: str) -> float:
        """The value of a control; see :meth:`autoexp.controls.Controls.value`."""
        return self._controls.value(name)

    def allowed_range(self, name: str) -> tuple[float, float]:
        """Lowest and highest value to which a control may be moved now, in one command."""
        return self._controls.allowed_range(name)

    def await_rate(self, name: str, value: float) -> None:
        """Wait until a control may be moved; see :meth:`autoexp.controls.Controls.await_rate`."""
        self._require_open()
        self._controls.await_rate(name, value)

    def move(self, name: str, value: float) -> None:
        """Set a control and confirm it; see :meth:`autoexp.controls.Controls.move`."""
        self._require_open()
        self._controls.move(name, value)

    def keep(self, write: Callable[[dict[str, float]], None] = _nothing) -> dict[str, float]:
        """Take the controls as they are now for those to go back to, and return them.

        Args:
            write: told of them before; if it raises, those to go back to are the same as ever.
        """
        self._controls.keep(write)
        return self.found

    def remember(self, found: Mapping[str, float]) -> None:
        """Go back to controls as a run that was cut off had found them, if that is within the limits.

        Raises:
            LimitError: it is not.
        """
        self._controls.remember(found)

    # --- what is allowed

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
        instrument = self._instrument
        if isinstance(instrument, PlanChecker):
            self._gate.send(lambda: instrument.check_plan(plan.overview, plan.spectrum), "checking the plan")

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

    def check_exposure(self, position: Position, spec: SpectrumSpec) -> None:
        """Refuse a spectrum that may not be taken; nothing moves.

        Raises:
            LimitError: the position is outside the field, or the exposure too long.
            BudgetError: dose, points or time would be exceeded.
        """
        if not all(isinstance(p, float) and math.isfinite(p) and 0 <= p <= 1 for p in position):
            raise LimitError(f"The position {position} lies outside the overview.")
        self._check_exposure_time(spec)
        if not self.account.exposures < self.budget.points:
            raise BudgetError(f"all {self.budget.points} points of the budget are taken")
        self._check_budget(spec.exposure_s)

    def _check_overview(self, spec: OverviewSpec, name: str = "The overview") -> None:
        if not spec.time_s <= self.site.max_overview_s:
            raise LimitError(
                f"{name} would take {spec.time_s:.1f} s; the site allows {self.site.max_overview_s:g} s. "
                "Take fewer pixels or a shorter dwell time."
            )

    def _check_exposure_time(self, spec: SpectrumSpec | FrameSpec) -> None:
        longest = min(self.site.max_exposure_s, self.user.max_exposure_s or math.inf)
        if not spec.exposure_s <= longest:
            raise LimitError(f"An exposure of {spec.exposure_s:g} s is longer than the {longest:g} s allowed.")

    def _check_budget(self, exposure_s: float) -> None:
        stood_e = self.account.stood_e(self._clock())
        dose = self.account.dose_e + stood_e + self.dose_of(exposure_s)
        for limit in (self.budget.dose_e, self.site.max_dose_e):
            if limit is not None and not dose <= limit:
                stood = f"; {stood_e:.3g} of them while the beam stood there" if stood_e > dose / 100 else ""
                raise BudgetError(
                    f"the next exposure would bring the dose to {dose:.3g} of {limit:.3g} electrons{stood}"
                )
        elapsed = self._clock() - self.account.begun_s + exposure_s
        for limit in (self.budget.time_s, self.site.max_time_s):
            if limit is not None and not elapsed <= limit:
                raise BudgetError(f"the next exposure would end after the {limit:g} s allowed")

    # --- exposures

    def overview(self, spec: OverviewSpec, what: str = "overview") -> Overview:
        """Take an overview, or an image of the field to see drift by, within limits and budget.

        Raises:
            LimitError, BudgetError: it may not be taken.
            InstrumentError: none came.
        """
        self._check_overview(spec)
        self._check_budget(spec.time_s)
        return self._expose(what, spec.time_s, lambda: self._instrument.overview(spec), checked_overview)

    def bind(self, spec: OverviewSpec) -> None:
        """Bind positions to the field of an earlier overview."""
        self._require_open()
        self._gate.send(lambda: self._instrument.bind(spec), "setting the scanned field")

    def check(self) -> None:
        """Make sure that a spectrum can be taken now; see :meth:`autoexp.instrument.Instrument.check`.

        Raises:
            InstrumentError: it cannot, or the beam should be blanked and is not, also when told again.
        """
        self._require_open()
        if self._beam.trouble:
            self._beam.take_off()
        self._beam.require_off(", then resume, or stop")
        self._gate.send(self._instrument.check, "a check of the instrument")

    def spectrum(
        self, position: Position, spec: SpectrumSpec, begin: Callable[[Exposure], None] | None = None
    ) -> Spectrum:
        """Take a spectrum at a position, within limits and budget, and check what came.

        Args:
            position: (y, x), fractions of the overview.
            spec: how.
            begin: told before it begins, in the place of ``on_expose``.

        Raises:
            LimitError, BudgetError: it may not be taken; nothing was exposed.
            InstrumentError: none came, or what came is none (:func:`autoexp.frames.checked_spectrum`).
        """
        self.check_exposure(position, spec)

        def act() -> Spectrum:
            return self._instrument.spectrum(position, spec)

        def count() -> None:
            self._check_budget(spec.exposure_s)  # writing it down may have taken a while
            self.account.exposures += 1

        return self._expose("spectrum", spec.exposure_s, act, checked_spectrum, begin, count, spec.settle_s, position)

    def grant_exposure(self, position: Position, spec: SpectrumSpec, park: Callable[[Position], None]) -> None:
        """Allow one exposure and account for its dose, whatever comes of it; for those that Swift itself takes.

        Args:
            position: (y, x), fractions of the overview.
            spec: how.
            park: sends the probe to a position.

        Raises:
            LimitError, BudgetError: as :meth:`check_exposure`.
            GateClosedError: the run was ended.
            InstrumentError: the probe is not where it was sent.
        """
        self.check_exposure(position, spec)
        self._require_open()
        self._pay("spectrum", spec.exposure_s, None)
        self.account.exposures += 1
        self._gate.send(lambda: park(position), "parking the probe")
        self._beam.put_on(position)

    def settle_granted(self, spec: SpectrumSpec, told_s: float | None) -> float:
        """Account for what a granted exposure really took, as the device tells, and return that, s.

        Raises:
            BadFrameError: nobody can have exposed for so long.
        """
        self._beam.take_off()
        self.account.exposed(spec.exposure_s, self._clock())
        return self._settle(spec.exposure_s, told_s)

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
        return self._expose("frame", spec.exposure_s, lambda: instrument.camera_frame(spec), checked_camera_frame)

    def _expose(
        self,
        what: str,
        exposure_s: float,
        act: Callable[[], object],
        checked: Callable[[object], T],
        begin: Callable[[Exposure], None] | None = None,
        count: Callable[[], None] = _nothing,
        besides_s: float = 0.0,
        position: Position | None = None,
    ) -> T:
        """One exposure: written down, then paid, then made, then settled by what it told, and checked."""
        self.account.last_e = 0.0
        self._require_open()
        self._pay(what, exposure_s, begin, count)
        try:
            self._beam.put_on(position)
            taken = self._gate.send(act, f"an exposure of {exposure_s:g} s", exposure_s + besides_s)
        finally:
            self._beam.take_off()
            self.account.exposed(exposure_s, self._clock())
        if isinstance(taken, Overview | Spectrum | CameraFrame):  # of anything else nothing is known
            took_s = self._settle(exposure_s, told_seconds(taken.exposed_s))
            if took_s > exposure_s and begin is None:
                self._on_longer(Exposure(what, took_s, self.account.last_e, 0.0), exposure_s)
        return checked(taken)

    def _settle(self, asked_s: float, told_s: float | None) -> float:
        """Account for what an exposure really took, as the device tells, and return that, s."""
        took_s = checked_exposure(told_s, asked_s)
        self.account.settle(asked_s, took_s)
        self.account.exposed(max(0.0, took_s - asked_s), self._clock())
        return took_s

    def _pay(
        self,
        what: str,
        exposure_s: float,
        begin: Callable[[Exposure], None] | None,
        count: Callable[[], None] = _nothing,
    ) -> None:
        stood_s = self.account.moved_on(self._clock())
        (begin or self._on_expose)(Exposure(what, exposure_s, self.dose_of(exposure_s), stood_s))
        self._gate.require()
        count()
        self.account.pay(exposure_s)

    def _require_open(self) -> None:
        self._gate.require()
        if not self._opened:
            raise GuardianError("The instrument has not been taken over.")
