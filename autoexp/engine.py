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
from autoexp.agent import Prediction
from autoexp.commands import CommandQueue
from autoexp.decider import Decider, Decision
from autoexp.errors import (
    AbortedError,
    AlignmentError,
    AutoexpError,
    BadFrameError,
    BeamLostError,
    BudgetError,
    DisconnectedError,
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
from autoexp.patches import Candidates, cut
from autoexp.plan import Plan
from autoexp.recorder import Observer, Recorder
from autoexp.state import RunState, Settings
from autoexp.status import Status
from autoexp.tasks.spectroscopy import SpectroscopyTask, SpectrumFaultError
from autoexp.tasks.upkeep import Upkeep

log = logging.getLogger(__name__)

BAD_FRAMES_IN_A_ROW = 3
PREDICTION_EVERY = 10
WAITING = ("paused", "suspended")
RESUME = "Resume when the instrument is ready again, or stop."


@dataclass(frozen=True)
class _End(Exception):  # noqa: N818 - it ends the loop, it is no error
    """The loop is to end."""

    ending: ev.Ending
    reason: str


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
        self._recorder = Recorder(folder, observers)
        try:
            self.plan = _plan_for(self._recorder, plan)
        except RunLogError:
            self._recorder.close()
            raise
        self._overview = overview
        self._guardian = Guardian(
            instrument,
            site,
            self.plan.limits,
            self.plan.budget,
            beam_current_pA=beam_current_pA,
            on_move=lambda name, now, value: self._recorder.append(ev.Moving(name=name, before=now, value=value)),
        )
        self._task = SpectroscopyTask(self._guardian, self.plan.spectrum)
        self._lock = InstrumentLock(instrument.identity, holder, lock_folder)
        self._commands = CommandQueue()
        self._upkeep = Upkeep(self._guardian, self.plan, self._recorder.append, lambda: len(self._commands) == 0)
        self._decider: Decider | None = None
        self._thread: threading.Thread | None = None
        self._bad_frames = 0
        self._dark_since: float | None = None
        self._cut_short: ev.Ending | None = None
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

    def _cut(self, ending: ev.Ending, verb: ev.Verb) -> None:
        if self._cut_short != "halted":
            self._cut_short = ending
        self._guardian.close_gate()
        self._commands.put(verb)

    # --- the run

    def run(self) -> RunState:
        """Carry the plan out on this thread, and return the final state. Never raises; see ``error``."""
        try:
            with self._lock:
                end = self._run_to_end()
                self._finish(end)
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
        if not self.state.run_id:
            self._recorder.start(self.folder.name, self.plan, self._guardian.identity.as_dict())
        self._recorder.enter("preparing")
        for scalarizer in (self._settings.scalarizer, self._settings.second):
            if scalarizer is not None:
                scalarizer.require()
        self._guardian.check_plan(self.plan, self._settings.budget)
        found = self._guardian.open()
        if not self.state.snapshot:
            self._recorder.append(ev.Snapshot(controls=found))
        elif self.state.aligning:  # it was cut off: back to where it began, and then anew
            self._guardian.remember(self.state.snapshot)
            if problems := self._guardian.put_back(self._guardian.found):
                raise InstrumentError("; ".join(problems))
        self._guardian.resume_account(self.state.dose_e, self.state.exposures, self.state.elapsed_s)
        self._guardian.budget = self._settings.budget
        self._align_first()
        candidates = self._candidates()
        self._decider = Decider(self.plan, candidates, self.state)
        self._upkeep.compare_with(candidates.image, at_once=bool(self.state.points))
        self._settle_unknown()
        self._recorder.enter("preparing", "describing the overview")
        self._decider.prepare(cancelled=lambda: len(self._commands) > 0)
        self._recorder.enter("running")

    def _align_first(self) -> None:
        """Align the beam before the overview; where a run is resumed, look soon whether it still is."""
        interrupted = self.state.aligning
        if self.state.prepared is not None and not interrupted:
            self._upkeep.hasten()
            return
        reason = "after an interruption" if interrupted else "before the overview"
        while not self._kept(lambda: self._upkeep.align(reason)):
            while self.state.phase in WAITING:
                self._wait()
            self._recorder.enter("preparing")

    @property
    def _settings(self) -> Settings:
        assert self.state.settings is not None
        return self.state.settings

    def _candidates(self) -> Candidates:
        """Laid over an overview taken now or before, or that of the run which is resumed; positions are bound to it."""
        if self.state.prepared is not None:
            self._guardian.bind(self.plan.overview)
            return cut(self._recorder.saved_overview(), self.plan.patches)
        dose = self._guardian.dose_of(self.plan.overview.time_s)
        if self._overview is not None:
            self._guardian.bind(self.plan.overview)
            overview = self._overview
            self._guardian.account.dose_e += dose  # the specimen has had it, though before the run
        else:
            overview = self._guardian.overview(self.plan.overview)
        candidates = cut(np.asarray(overview.image), self.plan.patches)
        self._recorder.overview(overview, candidates.image, len(candidates), dose)
        return candidates

    def _settle_unknown(self) -> None:
        """After an interruption: what was begun is never begun again silently."""
        for point in self.state.pending:
            exposed = point.status == "exposing"
            reason = "interrupted during the exposure; what came of it is unknown" if exposed else "interrupted before"
            dose = self._guardian.dose_of(self.plan.spectrum.exposure_s) if exposed else 0.0
            self._recorder.append(ev.Skipped(id=point.id, reason=reason, exposed=exposed, dose_e=dose))
            self._guardian.account.dose_e += dose

    def _loop(self) -> None:
        while True:
            self._obey()
            if self.state.phase in WAITING:
                self._wait()
            elif (decided := self._next()) is not None:
                self._measure(decided)

    def _wait(self) -> None:
        """Wait for a command; after a loss of the beam, if so planned, for the time to try again."""
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
        assert self._decider is not None
        if len(self.state.looks) > looks:
            self._decider.follow(self.state)
        if self.state.requests:
            return self._requested(self.state.requests[0])
        begun = time.monotonic()
        decision = self._decider.fetch(self.state, cancelled=lambda: len(self._commands) > 0)
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
        return max(self.state.points, default=-1) + 1

    def _ready(self) -> bool:
        """Whether the instrument can take a spectrum now; pauses or suspends, with the reason, if not."""
        try:
            self._guardian.check()
        except (FieldChangedError, InstrumentBusyError) as error:
            self._recorder.enter("paused", str(error))
            return False
        except DisconnectedError as error:
            self._recorder.enter("suspended", str(error))
            return False
        return True

    def _measure(self, decided: ev.Decided) -> None:
        exposure_s = self.plan.spectrum.exposure_s
        shift = self.state.drift(self._recorder.elapsed_s)
        position = decided.position[0] + shift[0], decided.position[1] + shift[1]
        if self.state.looks and not all(0 <= p <= 1 for p in position):
            self._recorder.append(decided, ev.Skipped(id=decided.id, reason="it has drifted out of the field"))
            return
        try:
            self._guardian.check_exposure(position, self.plan.spectrum)
        except BudgetError as error:
            self._recorder.append(decided, ev.Skipped(id=decided.id, reason=str(error)))
            raise _End("completed", f"budget: {error}") from error
        self._recorder.append(decided, ev.Exposing(id=decided.id, exposure_s=exposure_s, shift=shift))
        self._think_ahead()
        dose = self._guardian.dose_of(exposure_s)
        try:
            self._recorder.spectrum(decided.id, self._task.measure(position), dose)
            self._bad_frames = 0
        except BudgetError as error:  # the time was over just now
            self._recorder.append(ev.Skipped(id=decided.id, reason=str(error), exposed=False))
            raise _End("completed", f"budget: {error}") from error
        except InstrumentError as error:
            self._cope(decided.id, error, dose)
        except GateClosedError as error:
            self._cope(decided.id, AbortedError(str(error)), dose)

    def _think_ahead(self) -> None:
        """Start on the next decision while the present point is being exposed."""
        assert self._decider is not None
        if not self.state.requests and self.state.exposures < self._settings.budget.points:
            self._decider.begin(self.state)

    def _cope(self, point_id: int, error: InstrumentError, dose_e: float) -> None:
        """A point gave nothing usable: write it down, and go on, pause, suspend or end, as the fault demands."""
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
                self._recorder.enter("paused", str(error))
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
            raise _End(self._cut_short, "on request")

    def _obey_verb(self, verb: ev.Verb) -> None:
        phase = self.state.phase
        refused = None
        if verb == "pause" and phase != "running":
            refused = f"only a running experiment can pause; this one is {phase}"
        if verb == "resume" and phase not in WAITING:
            refused = f"only a paused experiment can resume; this one is {phase}"
        self._recorder.append(ev.Commanded(verb=verb, refused=refused))
        if refused:
            return
        if verb == "pause":
            self._recorder.enter("paused", "on request")
        elif verb == "resume":
            self._go_on()
        elif verb == "stop" and self._cut_short is None:
            raise _End("stopped", "on request")

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
            self._recorder.rescore()
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
            with contextlib.suppress(_End):
                self._obey()
            return _End(self._cut_short, "on request")
        self.error = error
        if not isinstance(error, AutoexpError):
            log.error("The run %s failed.", self.folder, exc_info=error)
        return _End("faulted", str(error) or type(error).__name__)

    def _finish(self, end: _End) -> None:
        """Whatever happened: put the instrument back, then write down how it ended."""
        with contextlib.suppress(RunLogError):
            self._recorder.enter("finishing", end.reason)
        problems = self._put_back(end)
        if end.ending in ("completed", "stopped"):
            self._save_last_prediction()
        self._recorder.append(ev.Restored(problems=problems))
        reason = "; ".join([end.reason, *problems])
        ending: ev.Ending = "faulted" if problems else end.ending
        self._recorder.append(ev.Finished(ending=ending, reason=reason))
        self._recorder.enter("faulted" if ending == "faulted" else "idle", reason if ending == "faulted" else "")

    def _put_back(self, end: _End) -> list[str]:
        if end.ending == "halted":
            self._guardian.release()
            return []
        return self._guardian.restore()

    def _save_last_prediction(self) -> None:
        if self._decider is None or not self.state.measured:
            return
        try:
            prediction = self._decider.predict(self.state)
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
