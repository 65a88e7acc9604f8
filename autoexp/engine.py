"""The engine: one synchronous loop that turns decisions into measurements, and obeys whoever steers.

The loop runs on one thread. Clients talk to it by commands only, and read frozen status snapshots. While a spectrum
is being exposed the next decision is computed, with the exposure in flight accounted for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from autoexp import events as ev
from autoexp.account import LONGER, Exposure
from autoexp.agent import Prediction
from autoexp.beam import BeamState
from autoexp.commands import CommandQueue
from autoexp.decider import Decider, Decision
from autoexp.disk_trouble import DiskTrouble
from autoexp.errors import (
    AbortedError,
    AlignmentError,
    AutoexpError,
    BadFrameError,
    BeamLostError,
    BudgetError,
    DiskError,
    FieldChangedError,
    GateClosedError,
    InstrumentBusyError,
    InstrumentError,
    PlanError,
    RunLogError,
    StaleFrameError,
)
from autoexp.guardian import Guardian
from autoexp.instrument import Instrument, Overview
from autoexp.limits import SiteLimits
from autoexp.lock import InstrumentLock
from autoexp.observers import Observer
from autoexp.patches import Candidates, cut
from autoexp.plan import Plan
from autoexp.recorder import Recorder
from autoexp.state import RunState, Settings
from autoexp.status import Status
from autoexp.tasks.spectroscopy import SpectroscopyTask, SpectrumFaultError
from autoexp.tasks.upkeep import Upkeep
from autoexp.text import clean

log = logging.getLogger(__name__)

BAD_FRAMES_IN_A_ROW = 3
BLIND_IN_A_ROW = 10
"""After so many spectra to which the score gives no number somebody is asked; after the first, if no other had one."""
PREDICTION_EVERY = 10
WAITING = ("paused", "suspended")
ON_REQUEST = "on request"
RESUME = "Resume when the instrument is ready again, or stop."
NOTHING_IN_REGIONS = "Nothing is left to measure in the regions that are drawn. Change or delete them, then resume."
IDLE_S = 60.0
"""A run of which nothing is heard for so long is taken to hang, and its instrument is put back."""
START_S, FINISH_S = 2.0, 10.0
"""How long the disk is waited for before anything is exposed, and once the instrument is put back."""
TOO_LATE = "the run ended before this took effect"


@dataclass(frozen=True)
class _End(Exception):  # noqa: N818 - it ends the loop, it is no error
    """The loop is to end; one that is not ``final`` leaves the run unfinished, to be resumed."""

    ending: ev.Ending
    reason: str
    final: bool = True


class Engine:
    """Carries out one plan on one instrument.

    Args:
        plan: what to do; None to resume the unfinished run in the folder.
        instrument: where to do it.
        folder: the run's folder.
        site: what the site allows.
        overview: an overview of the present field that was taken before; None to take one.
        observers: called after every event, on the engine's thread; one that raises is dropped.
        holder: who runs it, for whoever finds the instrument busy.
        beam_current_pA: beam current, for the account of dose.
        lock_folder: where instrument locks lie; in the user's state folder by default.

    Raises:
        RunLogError: the folder cannot be used, holds a run that is over, or none where one is to be resumed.
    """

    def __init__(
        self,
        plan: Plan | None,
        instrument: Instrument,
        folder: str | os.PathLike[str],
        *,
        site: SiteLimits | None = None,
        overview: Overview | None = None,
        observers: tuple[Observer, ...] = (),
        holder: str = "autoexp",
        beam_current_pA: float | None = None,
        lock_folder: pathlib.Path | None = None,
    ):
        self._commands = CommandQueue()
        self._cut_short: ev.Ending | None = None
        self._trouble = DiskTrouble(self._given_up, self._show_trouble)
        self._recorder = Recorder(folder, observers, self._trouble.wait, self._given_up)
        with contextlib.ExitStack() as undo:
            undo.callback(self._recorder.close)
            self.plan = _plan_for(self._recorder, plan)
            self._guardian = Guardian(
                instrument,
                site,
                self.plan.limits,
                self.plan.budget,
                beam_current_pA=beam_current_pA,
                on_move=lambda name, now, value: self._recorder.append(ev.Moving(name=name, before=now, value=value)),
                on_expose=self._expose,
                on_longer=self._settle,
            )
            self._lock = InstrumentLock(instrument.identity, holder, lock_folder)
            undo.pop_all()
        self._resumed = bool(self.state.run_id)
        self._begun = False
        self._overview = overview
        self._task = SpectroscopyTask(self._guardian, self.plan.spectrum)
        self._upkeep = Upkeep(self._guardian, self.plan, self._recorder.append, lambda: len(self._commands) == 0)
        self._decider: Decider | None = None
        self._thread: threading.Thread | None = None
        self._bad_frames = 0
        self._longest_s: dict[str, float] = {}
        peaks = (point.zero_loss for point in self.state.points.values())
        self._zero_loss_from = next((peak for peak in peaks if peak is not None), None)
        self._blind, self._bear_blind, self._shown_blind = 0, BLIND_IN_A_ROW, False
        self._ask_first = ""
        self._dark_since: float | None = None
        self._final_status: Status | None = None
        self.prediction: Prediction | None = None
        self.error: BaseException | None = None

    # --- what clients call, from any thread

    @property
    def folder(self) -> pathlib.Path:
        """The run's folder."""
        return self._recorder.folder

    @property
    def state(self) -> RunState:
        """The run so far; immutable."""
        return self._recorder.state

    @property
    def status(self) -> Status:
        """What to show; immutable."""
        return self._final_status or self._recorder.status

    @property
    def beam(self) -> BeamState:
        """Where the beam is, and since when, monotonic seconds."""
        return self._guardian.beam

    @property
    def records(self) -> list[ev.Record]:
        """All events so far."""
        return list(self._recorder.records)

    def start(self) -> None:
        """Run on a thread of its own; returns at once."""
        self._thread = threading.Thread(target=self.run, name="autoexp-engine")
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of a run that was started; whether it came."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def pause(self) -> None:
        """Pause after the point that is being measured."""
        self._commands.put("pause")

    def resume(self) -> None:
        """Go on after a pause or a suspension."""
        self._commands.put("resume")

    def set_back(self) -> None:
        """Let the scan show the overview's field again, and go on after a pause."""
        self._commands.put("set-back")

    def stop(self) -> None:
        """Finish the point that is being measured, put the instrument back, keep everything."""
        self._commands.put("stop")

    def abort(self) -> None:
        """Cut the exposure in flight short, put the instrument back, keep what there is, and mark the run aborted."""
        self._cut("aborted", "abort")

    def halt(self) -> None:
        """Send nothing more to the instrument, not even to put it back."""
        self._cut("halted", "halt")

    def steer(self, command: ev.Steering) -> bool:
        """Ask for a change; it enters the log before it takes effect. False if too many changes are waiting."""
        return self._commands.put(command)

    @property
    def waits_for_disk(self) -> bool:
        """Whether the run stands still because the disk refuses to be written; it goes on by itself."""
        return self._trouble.waiting

    @property
    def waits_for_help(self) -> bool:
        """Whether the run stands still until somebody resumes or stops it."""
        status = self.status
        return status.phase in WAITING and not status.ending and not self._trouble.waiting

    def _cut(self, ending: ev.Ending, verb: ev.Verb) -> None:
        if self._cut_short != "halted":
            self._cut_short = ending
        self._commands.put(verb)
        if verb == "halt":
            self._guardian.halt()
        else:
            self._guardian.close_gate()

    # --- while somebody else is waited for

    def _given_up(self) -> bool:
        """Whether nobody is to be waited for any more; whoever asks is alive."""
        guardian: Guardian | None = getattr(self, "_guardian", None)  # there is none before the plan is known
        if guardian is not None:
            guardian.heartbeat()
        return self._cut_short is not None

    def _interrupted(self) -> bool:
        """Whether a command waits; whoever asks is alive."""
        self._guardian.heartbeat()
        return len(self._commands) > 0

    def _show_trouble(self, reason: str) -> None:
        """The disk refuses: show that; a run that is to stop gives its instrument back meanwhile."""
        self._recorder.status = replace(self._recorder.status, phase="suspended", reason=reason)
        if self._commands.waits("stop"):
            self._guardian.restore()

    def _expired(self, problems: list[str]) -> None:
        """The watchdog has put the instrument back, since the run did not answer."""
        reason = "; ".join(["the run did not answer, so the instrument was put back", *problems])
        phase: ev.Phase = "faulted" if problems or not self._cut_short else "idle"
        self._final_status = replace(self.status, phase=phase, reason=reason, ending=self._cut_short or "faulted")
        self._lock.release()

    # --- the run

    def run(self) -> RunState:
        """Carry the plan out on this thread, and return the final state. Never raises; see ``error``."""
        try:
            with self._lock, self._guardian.watchdog(IDLE_S, self._expired):
                end: _End | None = None
                try:
                    end = self._run_to_end()
                finally:
                    self._finish(end or _End(self._cut_short or "faulted", "the run broke off", final=False))
        except Exception as error:
            log.exception("The run %s could not be finished.", self.folder)
            self.error = error
            self._final_status = replace(self.status, phase="faulted", reason=str(error), ending="faulted")
        finally:
            self._recorder.close()
        return self.state

    def _run_to_end(self) -> _End:
        try:
            self._prepare()
            self._loop()
        except _End as end:
            return end
        except BaseException as error:  # a fault of any kind, an interrupt too, has to leave the instrument in order
            return self._end_of(error)
        raise AssertionError("the loop only ends by raising")

    def _prepare(self) -> None:
        self._trouble.patience_s = START_S
        if not self.state.run_id:
            self._recorder.start(self.folder.name, self.plan, self._guardian.identity.as_dict())
        self._recorder.enter("preparing")
        for scalarizer in (self._settings.scalarizer, self._settings.second):
            if scalarizer is not None:
                scalarizer.require()
        self._guardian.check_plan(self.plan, self._settings.budget)
        self._take_over()
        self._trouble.patience_s = None
        self._align_first()
        candidates = self._candidates()
        self._decider = Decider(self.plan, candidates, self.state)
        self._upkeep.compare_with(candidates.image, at_once=bool(self.state.points))
        self._settle_unknown()
        self._recorder.name_damaged()
        self._recorder.score_as_today()
        self._task.axis = self._recorder.axis
        self._recorder.enter("preparing", "describing the overview")
        self._decider.prepare(cancelled=self._interrupted)
        self._recorder.enter("running")
        self._begun = True

    def _take_over(self) -> None:
        """Take the instrument over; first put back what was moved and was not to stay when it was cut off."""
        found = self._guardian.open()
        moved = {n: v for n, v in self.state.snapshot.items() if n in self.state.displaced}
        if not self.state.snapshot:
            self._recorder.append(ev.Snapshot(controls=found))
        elif moved:
            self._guardian.remember(moved)
            if problems := self._guardian.put_back({n: v for n, v in self._guardian.found.items() if n in moved}):
                raise InstrumentError("; ".join(problems))
        self._recorder.count_lost()
        state = self.state
        self._guardian.resume_account(state.dose_e, state.exposures, state.elapsed_s, state.stood_s)
        self._guardian.budget = self._settings.budget

    def _expose(self, exposure: Exposure) -> None:
        """Write an image or a frame down before it is taken."""
        self._recorder.append(ev.ExposureBegun.model_validate(vars(exposure)))

    def _settle(self, taken: Exposure, asked_s: float) -> None:
        """Write down that an image took longer than was asked for; much longer, and somebody has to say go on."""
        told = {"what": taken.what, "exposure_s": taken.exposure_s, "dose_e": taken.dose_e}
        self._recorder.append(ev.ExposureSettled.model_validate(told))
        if taken.exposure_s > LONGER * max(asked_s, self._longest_s.get(taken.what, 0.0)):
            self._longest_s[taken.what] = taken.exposure_s  # whoever resumes has seen it
            self._ask_first = (
                f"The device says that an image ({taken.what}) took {taken.exposure_s:g} s instead of {asked_s:g} s; "
                "that dose is counted."
            )

    def _align_first(self) -> None:
        """Align the beam before the overview; where a run is resumed, look soon whether it still is."""
        interrupted = self.state.aligning or bool(self.state.displaced)
        if self.state.prepared is not None and not interrupted:
            self._upkeep.hasten()
            return
        reason = "after an interruption" if interrupted else "before the overview"
        self._until_kept(lambda: self._upkeep.align(reason))

    def _until_kept(self, keep: Callable[[], bool]) -> None:
        """Before the run goes on: try what has to be, again whenever somebody has helped and resumes."""
        while True:
            self._obey()
            if self.state.phase in WAITING:
                while self.state.phase in WAITING:
                    self._wait()
                self._recorder.enter("preparing")
            if self._kept(keep):
                return

    @property
    def _settings(self) -> Settings:
        assert self.state.settings is not None
        return self.state.settings

    def _candidates(self) -> Candidates:
        """Laid over an overview taken now or before, or that of the run which is resumed; positions are bound to it."""
        if self.state.prepared is not None:
            self._guardian.bind(self.plan.overview)
            return self._saved_candidates(self.state.prepared)
        if self._overview is not None:
            self._guardian.bind(self.plan.overview)
            self._guardian.account.pay(self.plan.overview.time_s)  # the specimen has had it, though before the run
        else:
            self._until_kept(self._take_overview)
        overview = self._overview
        assert overview is not None
        dose = self._guardian.account.last_e
        candidates = cut(np.asarray(overview.image), self.plan.patches)
        self._recorder.overview(overview, candidates.image, len(candidates), dose)
        return candidates

    def _saved_candidates(self, prepared: ev.Prepared) -> Candidates:
        """Those of the run that is resumed.

        Raises:
            RunLogError: the saved overview is not the one of which the journal tells.
        """
        image = self._recorder.saved_overview()
        candidates = cut(image, self.plan.patches)
        known = (p.candidate for p in self.state.points.values() if p.candidate is not None)
        fits = image.shape == prepared.shape and len(candidates) == prepared.candidates
        if not fits or max(known, default=0) >= len(candidates):
            raise RunLogError(
                f"The overview in {self.folder}, of {' × '.join(map(str, image.shape))} pixels and {len(candidates):,} "
                "places, does not fit the journal. Put the right files back, or begin a new run."
            )
        return candidates

    def _take_overview(self) -> bool:
        self._overview = self._guardian.overview(self.plan.overview)
        return True

    def _settle_unknown(self) -> None:
        """After an interruption: what was begun is never begun again silently."""
        for point in self.state.pending:
            exposed = point.status == "exposing"
            reason = "interrupted during the exposure; what came of it is unknown" if exposed else "interrupted before"
            dose = max(point.dose_e, self._guardian.dose_of(self.plan.spectrum.exposure_s)) if exposed else 0.0
            self._recorder.append(ev.Skipped(id=point.id, reason=reason, exposed=exposed, dose_e=dose))
            self._guardian.account.dose_e += dose - point.dose_e

    def _loop(self) -> None:
        while True:
            self._obey()
            if told := self._trouble.over():
                self._recorder.append(ev.Warned(message=told))
            if self.state.phase in WAITING:
                self._wait()
            elif (decided := self._next()) is not None:
                self._measure(decided)

    def _wait(self) -> None:
        """Wait for a command; after a loss of the beam, if so planned, for the time to try again."""
        self._guardian.heartbeat()
        self._obey(timeout_s=0.1)
        patience = self.plan.resume_after_s
        if self._dark_since is not None and patience and time.monotonic() - self._dark_since >= patience:
            self._go_on()

    def _next(self) -> ev.Decided | None:
        """The next point; None where a pause or a command comes first."""
        if self.state.exposures >= self._settings.budget.points:
            raise _End("completed", f"all {self._settings.budget.points} points of the budget are measured")
        if not self._ready():
            return None
        looks = len(self.state.looks)
        if not self._kept(lambda: self._upkeep.look(self.state.exposures, self._since_overview_s)):
            return None
        if self._ask_first:
            reason, self._ask_first = self._ask_first, ""
            self._recorder.enter("suspended", f"{reason} {RESUME}")
            return None
        assert self._decider is not None
        if len(self.state.looks) > looks:
            self._decider.follow(self.state)
        if self.state.requests:
            return self._requested(self.state.requests[0])
        begun = time.monotonic()
        decision = self._decider.fetch(self.state, cancelled=self._interrupted)
        self._recorder.waited_s += time.monotonic() - begun
        return None if decision is None else self._accept(decision)

    def _kept(self, keep: Callable[[], bool]) -> bool:
        """Whether beam and specimen are in place; where that cannot be brought about, the run waits for help."""
        try:
            if keep():
                return True
        except BudgetError as error:
            raise _End("completed", f"budget: {error}") from error
        except (InstrumentError, GateClosedError) as error:
            if not self._cut_short:
                phase: ev.Phase = "paused" if isinstance(error, AlignmentError) else "suspended"
                self._dark_since = time.monotonic() if isinstance(error, BeamLostError) else None
                self._recorder.enter(phase, f"{error} {RESUME}")
        self._obey()
        return False

    def _since_overview_s(self) -> float:
        return self._recorder.elapsed_s - self.state.prepared_s

    def _accept(self, decision: Decision) -> ev.Decided | None:
        if decision.warning:
            self._recorder.append(ev.Warned(message=decision.warning))
        if decision.failed and self.plan.fallback == "pause":
            self._recorder.enter("paused", decision.warning or "")
            return None
        suggestion = decision.suggestion
        if suggestion is None and not decision.finished and self._settings.regions:
            self._recorder.enter("paused", NOTHING_IN_REGIONS)
            return None
        if suggestion is None:
            raise _End("completed", decision.finished or "nothing is left to measure")
        self._keep_prediction(decision.prediction)
        return ev.Decided(
            id=self._next_id(),
            candidate=suggestion.candidate,
            position=suggestion.position,
            reason=suggestion.reason,
            agent=decision.agent,
            mean=suggestion.mean,
            std=suggestion.std,
            acquisition=suggestion.acquisition,
            known=decision.known,
            pending=decision.pending,
            decision_s=round(decision.decision_s, 6),
        )

    def _requested(self, request: ev.MeasureHere) -> ev.Decided:
        return ev.Decided(
            id=self._next_id(),
            candidate=None,
            position=request.position,
            reason="asked for by the operator",
            agent="operator",
            request=request.id,
            known=len(self.state.outcomes),
        )

    def _next_id(self) -> int:
        return self.state.next_id

    def _ready(self) -> bool:
        """Whether the instrument can take a spectrum now; pauses or suspends, with the reason, if not."""
        try:
            self._guardian.check()
        except (FieldChangedError, InstrumentBusyError) as error:
            self._pause_for(error)
            return False
        except InstrumentError as error:
            self._recorder.enter("suspended", str(error))
            return False
        return True

    def _pause_for(self, error: InstrumentError) -> None:
        """Somebody else has the instrument, or has changed the scanned field, which can be set back."""
        self._recorder.enter("paused", str(error), "set-back" if isinstance(error, FieldChangedError) else None)

    def _measure(self, decided: ev.Decided) -> None:
        shift = self.state.drift(self._recorder.elapsed_s)
        position = decided.position[0] + shift[0], decided.position[1] + shift[1]
        if self.state.looks and not all(0 <= p <= 1 for p in position):
            self._skip(decided, "it has drifted out of the field")
            return

        def begin(exposure: Exposure) -> None:
            told = {"exposure_s": exposure.exposure_s, "dose_e": exposure.dose_e, "stood_s": exposure.stood_s}
            self._recorder.append(decided, ev.Exposing(id=decided.id, shift=shift, **told))
            self._think_ahead()

        taken = self._guardian.account.exposures
        try:
            spectrum = self._task.measure(position, begin)
            self._recorder.spectrum(decided.id, spectrum, self._guardian.account.last_e)
            self._bad_frames = 0
            self._pause_without_score()
            self._pause_when_zero_loss_moved(decided.id)
        except BudgetError as error:  # nothing was exposed
            self._skip(decided, str(error))
            raise _End("completed", f"budget: {error}") from error
        except InstrumentError as error:
            self._cope(decided.id, error)
        except GateClosedError as error:
            if self._guardian.account.exposures == taken:
                self._skip(decided, "it was ended before it was exposed")
                self._obey()
                return
            self._cope(decided.id, AbortedError(str(error)))

    def _skip(self, decided: ev.Decided, reason: str) -> None:
        """Write down that a point was not exposed, and the decision itself where that was not written yet."""
        known = () if decided.id in self.state.points else (decided,)
        self._recorder.append(*known, ev.Skipped(id=decided.id, reason=reason))

    def _pause_without_score(self) -> None:
        """Nothing is exposed for a score that hangs, or gives no number at first, or too often."""
        hung, none = self._recorder.score_hung, self._recorder.no_number
        self._blind = self._blind + 1 if none else 0
        if self._cut_short or not none:
            return
        first = self.state.best() is None and not self._shown_blind
        if hung or first or self._blind >= self._bear_blind:
            self._shown_blind = True
            self._bear_blind = 2 * max(self._blind, self._bear_blind)
            self._recorder.enter("paused", f"{hung or none} Choose another score, or resume.")

    def _pause_when_zero_loss_moved(self, point_id: int) -> None:
        """Somebody looks at a spectrometer whose zero-loss peak has moved farther than the plan allows."""
        spec = self.plan.spectrum.zero_loss
        if spec is None or spec.limit_eV is None or self.state.phase in WAITING or self._cut_short:
            return
        now = self.state.points[point_id].zero_loss
        first = self._zero_loss_from
        if now is None or first is None:
            self._zero_loss_from = first or now
            return
        moved_eV = now.position_eV - first.position_eV
        if not abs(moved_eV) <= spec.limit_eV:
            self._zero_loss_from = now  # whoever resumes has seen it
            reason = (
                f"The zero-loss peak has moved by {moved_eV:+.3g} eV, farther than the {spec.limit_eV:g} eV allowed."
            )
            self._recorder.enter("paused", f"{reason} {RESUME}")

    def _think_ahead(self) -> None:
        """Start on the next decision while the present point is being exposed."""
        assert self._decider is not None
        if not self.state.requests and self.state.exposures < self._settings.budget.points:
            self._decider.begin(self.state)

    def _cope(self, point_id: int, error: InstrumentError) -> None:
        """A point gave nothing usable: write it down, and go on, pause, suspend or end, as the fault demands."""
        dose_e = self._guardian.account.last_e
        spectrum = error.spectrum if isinstance(error, SpectrumFaultError) else None
        fault = error.fault if isinstance(error, SpectrumFaultError) else type(error).__name__.removesuffix("Error")
        self._recorder.failure(point_id, fault.lower(), str(error), dose_e, spectrum)
        match error:
            case _ if self._cut_short:
                self._obey()
            case SpectrumFaultError(suspend=False):
                pass
            case StaleFrameError() | BadFrameError():
                self._bad_frames += 1
                if self._bad_frames >= BAD_FRAMES_IN_A_ROW:
                    reason = f"{BAD_FRAMES_IN_A_ROW} unusable frames in a row; the last: {error}"
                    self._recorder.enter("paused", reason)
            case InstrumentBusyError() | FieldChangedError():
                self._pause_for(error)
            case SpectrumFaultError():
                self._dark_since = time.monotonic() if error.fault == "dark" else None
                self._recorder.enter("suspended", str(error))
            case _:
                self._recorder.enter("suspended", f"{error} {RESUME}")

    # --- commands

    def _obey(self, timeout_s: float = 0.0) -> None:
        """Carry out all commands that wait."""
        while (command := self._commands.take(timeout_s)) is not None:
            timeout_s = 0.0
            if isinstance(command, str):
                self._obey_verb(command)
            else:
                self._obey_steering(command)
        if self._cut_short:
            raise _End(self._cut_short, ON_REQUEST)

    def _obey_verb(self, verb: ev.Verb) -> None:
        phase = self.state.phase
        refused = None
        if verb == "pause" and phase not in ("preparing", "running"):
            refused = f"only a running experiment can pause; this one is {phase}"
        if verb in ("resume", "set-back") and phase not in WAITING:
            refused = f"only a paused experiment can resume; this one is {phase}"
        self._recorder.append(ev.Commanded(verb=verb, refused=refused))
        if refused:
            return
        if verb == "pause":
            self._recorder.enter("paused", ON_REQUEST)
        elif verb == "resume":
            self._go_on()
        elif verb == "set-back":
            self._set_field_back()
        elif verb == "stop" and self._cut_short is None:
            waiting = phase in WAITING and self.state.phase_reason not in ("", ON_REQUEST)
            raise _End("stopped", f"{ON_REQUEST}, while {phase}: {self.state.phase_reason}" if waiting else ON_REQUEST)

    def _set_field_back(self) -> None:
        """Let the scan show the overview's field again, and go on."""
        try:
            self._guardian.bind(self.plan.overview)
        except InstrumentError as error:
            self._recorder.enter(self.state.phase, f"The field could not be set back: {error}", "set-back")
            return
        self._go_on()

    def _go_on(self) -> None:
        self._bad_frames = 0
        self._dark_since = None
        self._upkeep.hasten()  # much may have moved meanwhile
        if self._decider is not None and self._decider.set_aside and self.plan.fallback == "pause":
            self._decider.configure(self.state)
        self._recorder.enter("running")

    def _obey_steering(self, command: ev.Steering) -> None:
        before = self._settings
        try:
            self._check_steering(command)
        except PlanError as error:
            self._recorder.append(ev.Steered(command=command, refused=str(error)))
            return
        self._recorder.append(ev.Steered(command=command))
        after = self._settings
        if (after.scalarizer, after.second) != (before.scalarizer, before.second):
            self._blind, self._bear_blind, self._shown_blind = 0, BLIND_IN_A_ROW, False
            self._recorder.rescore()
            if self._recorder.score_hung:
                self._pause_without_score()
        self._guardian.budget = after.budget
        if self._decider is not None and not after.advised_as(before):
            self._decider.configure(self.state)

    def _check_steering(self, command: ev.Steering) -> None:
        """Refuse what makes no sense here, before it enters the log as accepted.

        Raises:
            PlanError: the reason, for the operator.
        """
        if isinstance(command, ev.SetScalarizer | ev.SetSecond) and command.scalarizer is not None:
            command.scalarizer.require()
            if self.state.spectra is not None:
                command.scalarizer.check_axis(self._recorder.energy())
        if isinstance(command, ev.SetBudget):
            self._guardian.check_budget(command.budget)
            if command.budget.points < self.state.exposures:
                raise PlanError(f"{self.state.exposures} points are taken already; the budget cannot be smaller.")
        self.state.steered(command)

    # --- the end

    def _keep_prediction(self, prediction: Prediction | None) -> None:
        if prediction is None:
            return
        self.prediction = prediction
        saved = self.state.predicted.after if self.state.predicted else 0
        if prediction.after - saved >= PREDICTION_EVERY:
            self._recorder.prediction(prediction)

    def _end_of(self, error: BaseException) -> _End:
        if self._cut_short:
            with contextlib.suppress(_End, AutoexpError):  # what cannot be written down ends it all the same
                self._obey()
            return _End(self._cut_short, ON_REQUEST)
        self.error = error
        if not isinstance(error, AutoexpError):
            log.error("The run %s failed.", self.folder, exc_info=error)
        # what could not even go on, could not be written, or hung has not been decided by anybody
        final = not (self._guardian.expired or isinstance(error, DiskError) or (self._resumed and not self._begun))
        return _End("faulted", clean(str(error)) or type(error).__name__, final)

    def _finish(self, end: _End) -> None:
        """Whatever happened: put the instrument back, then write down how it ended."""
        problems = ["the instrument was not put back"]
        self._trouble.patience_s = 0.0
        try:
            with contextlib.suppress(Exception):  # nothing that cannot be written keeps the instrument
                self._recorder.enter("finishing", end.reason)
        finally:
            problems = self._put_back(end)
        if problems and self._cut_short == "halted":  # while things were put back
            end = _End("halted", ON_REQUEST, end.final)
        self._trouble.patience_s = FINISH_S
        self._final_status = None
        self._refuse_the_rest(end)
        if end.ending in ("completed", "stopped"):
            self._save_last_prediction()
        self._write_end(end, problems)

    def _write_end(self, end: _End, problems: list[str]) -> None:
        if end.ending != "halted":
            stood_s = self._guardian.account.moved_on(time.monotonic())
            self._recorder.append(ev.Restored(problems=problems, stood_s=stood_s))
        late = [f"{what} had not returned" for what in self._guardian.unreturned]
        empty = end.ending == "completed" and self.state.exposures > 0 and self.state.best() is None
        without = ["no spectrum gave a value"] if empty else []
        reason = "; ".join(dict.fromkeys([end.reason, *without, *problems, *late]))
        ending: ev.Ending = "faulted" if problems and end.ending != "halted" else "stopped" if empty else end.ending
        if end.final:
            self._recorder.append(ev.Finished(ending=ending, reason=reason))
        self._recorder.enter("faulted" if ending == "faulted" else "idle", reason if ending == "faulted" else "")
        if not end.final:
            self._final_status = replace(self.status, phase="faulted", reason=reason, ending="faulted")

    def _refuse_the_rest(self, end: _End) -> None:
        """What was asked for too late is written down as well."""
        while (command := self._commands.take()) is not None:
            if not isinstance(command, str):
                self._recorder.append(ev.Steered(command=command, refused=TOO_LATE))
            else:
                obeyed = command == "halt" and end.ending == "halted"
                self._recorder.append(ev.Commanded(verb=command, refused=None if obeyed else TOO_LATE))

    def _put_back(self, end: _End) -> list[str]:
        if end.ending == "halted":
            self._guardian.release()
            return []
        return self._guardian.restore()

    def _save_last_prediction(self) -> None:
        if self._decider is None or not self.state.measured:
            return
        try:
            prediction = self._decider.predict(self.state, cancelled=self._given_up)
        except Exception as error:  # the agent is foreign code; the data are safe without its last word
            self._recorder.append(ev.Warned(message=f"The last prediction could not be made: {error}"))
            return
        if prediction is not None:
            self.prediction = prediction
            self._recorder.prediction(prediction)


def _plan_for(recorder: Recorder, plan: Plan | None) -> Plan:
    """The plan to carry out: the given one in a new folder, the folder's own where a run is resumed."""
    state = recorder.state
    if state.finished:
        raise RunLogError(f"The run {recorder.folder} is over; it can be read, not resumed.")
    if state.plan is not None and plan is not None:
        raise RunLogError(f"{recorder.folder} holds an unfinished run; resume it, or choose another folder.")
    chosen = state.plan or plan
    if chosen is None:
        raise RunLogError(f"{recorder.folder} holds no run to resume.")
    return chosen
