"""The engine: one synchronous loop that turns decisions into measurements, and obeys whoever steers.

The loop runs on one thread. Clients talk to it by commands only, and read frozen status snapshots. While a spectrum
is being exposed the next decision is computed, with the exposure in flight accounted for.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import pathlib
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoexp import events as ev
from autoexp.commands import CommandQueue
from autoexp.decider import Decider, Decision
from autoexp.errors import (
    AbortedError,
    AutoexpError,
    BudgetError,
    DisconnectedError,
    FieldChangedError,
    GateClosedError,
    InstrumentBusyError,
    InstrumentError,
    PlanError,
    RunLogError,
    StaleFrameError,
    BadFrameError,
)
from autoexp.guardian import Guardian, SiteLimits
from autoexp.instrument import Instrument, Overview, Spectrum
from autoexp.lock import InstrumentLock
from autoexp.patches import check_image, cut
from autoexp.plan import Plan
from autoexp.runlog import RunLog, RunReader
from autoexp.state import RunState, fold
from autoexp.status import Status, status_of
from autoexp.tasks.spectroscopy import SpectroscopyTask, SpectrumFaultError

Observer = Callable[[ev.Record, RunState], None]
log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3
PREDICTION_EVERY = 10


@dataclass(frozen=True)
class _End(Exception):  # noqa: N818 - it ends the loop, it is no error
    """The loop is to end."""

    ending: ev.Ending
    reason: str


class Engine:
    """Carries out one plan on one instrument.

    Args:
        plan: what to do; ignored where the folder holds an unfinished run, which is then resumed.
        instrument: where to do it.
        folder: the run's folder.
        site: what the site allows.
        observers: called after every event, on the engine's thread; one that raises is dropped.
        holder: who runs it, for whoever finds the instrument busy.
        lock_folder: where instrument locks lie; in the user's state folder by default.

    Raises:
        RunLogError: the folder cannot be used, or the run in it is over.
        PlanError: the plan asks for more than the site allows.
    """

    def __init__(
        self,
        plan: Plan | None,
        instrument: Instrument,
        folder: str | os.PathLike[str],
        *,
        site: SiteLimits | None = None,
        observers: tuple[Observer, ...] = (),
        holder: str = "autoexp",
        beam_current_pA: float | None = None,
        lock_folder: pathlib.Path | None = None,
    ):
        self._log = RunLog(folder)
        self.folder = self._log.folder
        self.state = fold(self._log.records)
        self._resumed = self.state.plan is not None
        if self.state.finished or not (self._resumed or plan):
            self._log.close()
            raise RunLogError(f"The run {self.folder} is over." if self.state.finished else "There is no plan to run.")
        self.plan = self.state.plan or plan
        assert self.plan is not None
        self._guardian = Guardian(
            instrument, site, self.plan.limits, self.plan.budget, beam_current_pA=beam_current_pA
        )
        self._lock = InstrumentLock(instrument.identity, holder, lock_folder)
        self._commands = CommandQueue()
        self._observers = list(observers)
        self._thread: threading.Thread | None = None
        self._decider: Decider | None = None
        self._task = SpectroscopyTask(self._guardian, self.plan.spectrum)
        self._bad_frames = 0
        self._waited_s = 0.0
        self._cut_short: ev.Ending | None = None
        self._stopping = False
        self.status: Status = status_of(self.state)
        self.error: BaseException | None = None

    # --- what clients call, from any thread

    def start(self) -> None:
        """Run on a thread of its own; returns at once."""
        self._thread = threading.Thread(target=self.run, name="autoexp-engine")
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def pause(self) -> None:
        """Pause after the point that is being measured."""
        self._commands.put("pause")

    def resume(self) -> None:
        """Go on after a pause or a suspension."""
        self._commands.put("resume")

    def stop(self) -> None:
        """Finish the point that is being measured, put the instrument back, keep everything."""
        self._stopping = True
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

    def predict(self) -> object:
        """The model's present prediction, or None."""
        return self._decider.predict() if self._decider else None

    def _cut(self, ending: ev.Ending, verb: ev.Verb) -> None:
        if self._cut_short != "halted":
            self._cut_short = ending
        self._guardian.close_gate()
        self._commands.put(verb)

    # --- the run

    def run(self) -> RunState:
        """Carry the plan out on this thread, and return the final state. Never raises; see ``error``."""
        end = _End("faulted", "")
        try:
            with self._lock:
                try:
                    self._prepare()
                    self._loop()
                except _End as reached:
                    end = reached
                except BaseException as error:
                    end = self._end_of(error)
                finally:
                    self._finish(end)
        except BaseException as error:
            self.error = error
            log.error("The run %s ended badly: %s", self.folder, error)
            self.status = _faulted(self.status, str(error))
        finally:
            self._log.close()
        return self.state

    def _prepare(self) -> None:
        plan = self.plan
        if not self._resumed:
            self._append(
                ev.Started(
                    run_id=self.folder.name,
                    plan=plan,
                    software=software(),
                    instrument=self._guardian.identity.as_dict(),
                )
            )
        self._enter("preparing")
        found = self._guardian.open()
        if not self._resumed or not self.state.snapshot:
            self._append(ev.Snapshot(controls=found))
        self._guardian.account.dose_e = self.state.dose_e
        self._guardian.account.exposures = self.state.exposures
        self._guardian.account.begun_s = time.monotonic() - self.state.elapsed_s
        image = self._field()
        assert self.state.settings is not None
        self._guardian.budget = self.state.settings.budget
        self._decider = Decider(plan, cut(image, plan.patches), self.state.settings)
        self._settle_unknown()
        self._enter("running")

    def _field(self) -> np.ndarray:
        """The overview: taken now, or that of the run which is resumed, to whose field positions are bound again."""
        if self.state.prepared is not None:
            self._guardian.bind(self.plan.overview)
            return RunReader(self.folder).array(self.state.prepared.overview)
        overview: Overview = self._guardian.overview(self.plan.overview)
        image = check_image(np.asarray(overview.image))
        frame = overview.frame
        self._append(
            ev.Prepared(
                overview=self._log.save_array("overview", image),
                shape=(image.shape[0], image.shape[1]),
                fov_nm=frame.fov_nm if frame else None,
                center_nm=frame.center_nm if frame else (0.0, 0.0),
                rotation_rad=frame.rotation_rad if frame else 0.0,
                candidates=len(cut(image, self.plan.patches)),
                dose_e=self._guardian.dose_of(self.plan.overview.time_s),
                metadata=dict(overview.metadata),
            )
        )
        return image

    def _settle_unknown(self) -> None:
        """After an interruption: what was begun is never begun again silently."""
        for point in self.state.pending:
            exposed = point.status == "exposing"
            reason = "interrupted during the exposure; what came of it is unknown" if exposed else "interrupted before"
            dose = self._guardian.dose_of(self.plan.spectrum.exposure_s) if exposed else 0.0
            self._append(ev.Skipped(id=point.id, reason=reason, exposed=exposed, dose_e=dose))
            self._guardian.account.dose_e += dose

    def _loop(self) -> None:
        while True:
            self._obey()
            if self.state.phase in ("paused", "suspended"):
                self._obey(timeout_s=0.1)
                continue
            decided = self._next()
            if decided is not None:
                self._measure(decided)

    def _next(self) -> ev.Decided | None:
        """The next point, decided and logged; None where a pause or a command comes first."""
        assert self._decider is not None and self.state.settings is not None
        budget = self.state.settings.budget
        if self.state.exposures >= budget.points:
            raise _End("completed", f"all {budget.points} points of the budget are measured")
        if not self._ready():
            return None
        requested = self.state.requests
        if requested:
            request = requested[0]
            suggestion_id = self._next_id()
            return self._decide(
                ev.Decided(
                    id=suggestion_id,
                    candidate=None,
                    position=request.position,
                    reason="asked for by the operator",
                    agent="operator",
                    request=request.id,
                    known=len(self.state.outcomes),
                )
            )
        begun = time.monotonic()
        decision = self._decider.fetch(self.state, cancelled=lambda: len(self._commands) > 0)
        if decision is None:
            return None
        self._waited_s += time.monotonic() - begun
        if decision.warning:
            self._append(ev.Warned(message=decision.warning))
        if decision.failed and self.plan.fallback == "pause":
            self._enter("paused", decision.warning or "the agent failed")
            return None
        if decision.suggestion is None:
            raise _End("completed", "nothing is left to measure")
        return self._decide(self._decided(decision))

    def _decided(self, decision: Decision) -> ev.Decided:
        s = decision.suggestion
        assert s is not None
        return ev.Decided(
            id=self._next_id(),
            candidate=s.candidate,
            position=s.position,
            reason=s.reason,
            agent=decision.agent,
            mean=s.mean,
            std=s.std,
            acquisition=s.acquisition,
            known=decision.known,
            pending=decision.pending,
            decision_s=round(decision.decision_s, 6),
        )

    def _decide(self, decided: ev.Decided) -> ev.Decided:
        self._append(decided)
        return decided

    def _ready(self) -> bool:
        """Whether the instrument can take a spectrum now; pauses or suspends, with the reason, if not."""
        try:
            self._guardian.check()
        except (FieldChangedError, InstrumentBusyError) as error:
            self._enter("paused", str(error))
            return False
        except DisconnectedError as error:
            self._enter("suspended", str(error))
            return False
        return True

    def _measure(self, decided: ev.Decided) -> None:
        assert self._decider is not None
        spec = self.plan.spectrum
        try:
            self._guardian.check_exposure(decided.position, spec)
        except BudgetError as error:
            self._append(ev.Skipped(id=decided.id, reason=str(error)))
            raise _End("completed", f"budget: {error}") from error
        self._append(ev.Exposing(id=decided.id, exposure_s=spec.exposure_s))
        if not self.state.requests and self.state.exposures < self.state.settings.budget.points:  # type: ignore[union-attr]
            self._decider.begin(self.state)
        dose = self._guardian.dose_of(spec.exposure_s)
        try:
            spectrum = self._task.measure(decided.position)
        except SpectrumFaultError as fault:
            self._save_failed(decided.id, fault.fault, str(fault), dose, fault.spectrum)
            if fault.suspend:
                self._enter("suspended", str(fault))
        except (StaleFrameError, BadFrameError) as error:
            kind = "stale" if isinstance(error, StaleFrameError) else "bad-frame"
            self._save_failed(decided.id, kind, str(error), dose)
            self._bad_frames += 1
            if self._bad_frames >= FAILURES_IN_A_ROW:
                self._bad_frames = 0
                self._enter("paused", f"{FAILURES_IN_A_ROW} unusable frames in a row; the last: {error}")
        except (AbortedError, GateClosedError) as error:
            self._save_failed(decided.id, "aborted", str(error), dose)
            self._obey()
            raise _End(self._cut_short or "aborted", "cut short on request") from error
        except InstrumentError as error:
            self._save_failed(decided.id, type(error).__name__.removesuffix("Error").lower(), str(error), dose)
            if self._cut_short is None:
                self._enter("suspended", f"{error} Resume when the instrument is ready again, or stop.")
        else:
            self._bad_frames = 0
            self._save(decided.id, spectrum, dose)

    def _save(self, point_id: int, spectrum: Spectrum, dose_e: float) -> None:
        opened = self._opened(spectrum)
        ref = self._log.append_spectrum(spectrum.counts)
        energy = spectrum.energy.axis(len(spectrum.counts))
        assert self.state.settings is not None
        scalarizer = self.state.settings.scalarizer
        if self.state.measured == []:
            self._check_scalarizer(energy)
        scores = scalarizer.score(spectrum.counts[None], energy, opened.counts_per_electron or 1.0)
        value = float(scores.value[0])
        if not np.isfinite(value):
            message = f"The scalarizer gives no number for this spectrum ({value})."
            self._append(ev.Failed(id=point_id, fault="unscored", message=message, record=ref, dose_e=dose_e))
            return
        noise = float(np.nan_to_num(scores.std[0]))
        self._append(
            ev.Measured(
                id=point_id, record=ref, value=value, noise=noise, dose_e=dose_e, waited_s=round(self._waited_s, 6)
            )
        )
        if len(self.state.measured) % PREDICTION_EVERY == 0:
            self._save_prediction()

    def _check_scalarizer(self, energy: np.ndarray) -> None:
        assert self.state.settings is not None
        try:
            self.state.settings.scalarizer.check_axis(energy)
        except PlanError as error:
            self._append(ev.Warned(message=str(error)))
            self._enter("paused", f"{error} Set another scalarizer, then resume.")

    def _save_failed(
        self, point_id: int, fault: str, message: str, dose_e: float, spectrum: Spectrum | None = None
    ) -> None:
        record = None
        if spectrum is not None:
            self._opened(spectrum)
            record = self._log.append_spectrum(spectrum.counts)
        self._append(ev.Failed(id=point_id, fault=fault, message=message, record=record, dose_e=dose_e))

    def _opened(self, spectrum: Spectrum) -> ev.SpectraOpened:
        """The stream of spectra; a spectrum that does not fit it is refused."""
        opened = self.state.spectra
        channels = len(spectrum.counts)
        if opened is None:
            energy = spectrum.energy
            self._append(
                ev.SpectraOpened(
                    file="spectra.bin",
                    channels=channels,
                    offset=energy.offset,
                    scale=energy.scale,
                    units=energy.units,
                    counts_per_electron=spectrum.counts_per_electron,
                )
            )
            opened = self.state.spectra
            assert opened is not None
        if opened.channels != channels:
            raise BadFrameError(f"The camera returned {channels} channels; this run holds {opened.channels}.")
        return opened

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
        if verb == "resume" and phase not in ("paused", "suspended"):
            refused = f"only a paused experiment can resume; this one is {phase}"
        self._append(ev.Commanded(verb=verb, refused=refused))
        if refused:
            return
        match verb:
            case "pause":
                self._enter("paused", "on request")
            case "resume":
                self._bad_frames = 0
                self._enter("running")
            case "stop":
                raise _End("stopped", "on request")

    def _obey_steering(self, command: ev.Steering) -> None:
        assert self.state.settings is not None
        before = self.state.settings
        try:
            self._check_steering(command)
            self.state.apply(ev.Record(seq=0, utc="", elapsed_s=0.0, event=ev.Steered(command=command)))
        except PlanError as error:
            self._append(ev.Steered(command=command, refused=str(error)))
            return
        self._append(ev.Steered(command=command))
        after = self.state.settings
        if after.scalarizer != before.scalarizer:
            self._rescore()
        if after.budget != before.budget:
            self._guardian.budget = after.budget
        changed = (after.scalarizer, after.agent, after.regions) != (before.scalarizer, before.agent, before.regions)
        if changed and self._decider is not None:
            self._decider.configure(after)

    def _check_steering(self, command: ev.Steering) -> None:
        if isinstance(command, ev.SetScalarizer) and self.state.spectra is not None:
            command.scalarizer.check_axis(self._energy())
        if isinstance(command, ev.SetBudget) and command.budget.points < self.state.exposures:
            raise PlanError(f"{self.state.exposures} points are taken already; the budget cannot be smaller.")

    def _energy(self) -> np.ndarray:
        opened = self.state.spectra
        assert opened is not None
        return opened.offset + opened.scale * np.arange(opened.channels)

    def _rescore(self) -> None:
        """Score all measured spectra with the scalarizer now in force."""
        points = self.state.measured
        if not points or self.state.spectra is None or self.state.settings is None:
            return
        spectra = RunReader(self.folder).spectra()[[p.record for p in points]]
        gain = self.state.spectra.counts_per_electron or 1.0
        value, noise = self.state.settings.scalarizer.score(spectra, self._energy(), gain)
        ids = [p.id for p in points]
        self._append(
            ev.Rescored(
                values={i: float(v) for i, v in zip(ids, value, strict=True)},
                noises={i: float(s) for i, s in zip(ids, np.nan_to_num(noise), strict=True)},
            )
        )

    # --- bookkeeping

    def _next_id(self) -> int:
        return max(self.state.points, default=-1) + 1

    def _enter(self, phase: ev.Phase, reason: str = "") -> None:
        self._append(ev.PhaseChanged(phase=phase, reason=reason))

    def _append(self, event: ev.Event) -> None:
        record = self._log.append(event)
        self.state = self.state.apply(record)
        self.status = status_of(self.state, self._waited_s)
        for observer in list(self._observers):
            try:
                observer(record, self.state)
            except Exception:
                self._observers.remove(observer)
                log.exception("An observer of the run failed and is no longer told.")

    def _save_prediction(self) -> None:
        assert self._decider is not None
        prediction = self._decider.predict()
        if prediction is None:
            return
        array = np.stack([prediction.mean, prediction.std]).astype(np.float32)
        ref = self._log.save_array(f"prediction-{prediction.after:06d}", array)
        self._append(ev.Predicted(after=prediction.after, array=ref, coverage=prediction.coverage))

    def _end_of(self, error: BaseException) -> _End:
        self.error = error
        if self._cut_short:
            self.error = None
            return _End(self._cut_short, "on request")
        if not isinstance(error, AutoexpError):
            log.exception("Unexpected error in the run %s", self.folder)
        return _End("faulted", str(error) or type(error).__name__)

    def _finish(self, end: _End) -> None:
        """Whatever happened: put the instrument back, write down how it ended."""
        with contextlib.suppress(RunLogError):
            self._enter("finishing", end.reason)
        if end.ending in ("completed", "stopped"):
            with contextlib.suppress(Exception):
                self._save_prediction()
        if end.ending == "halted":
            self._guardian.release()
            problems: list[str] = []
        else:
            problems = self._guardian.restore()
        self._append(ev.Restored(problems=problems))
        reason = "; ".join([end.reason, *problems])
        faulted = bool(problems) or end.ending == "faulted"
        self._append(ev.Finished(ending="faulted" if faulted else end.ending, reason=reason))
        self._enter("faulted" if faulted else "idle", reason if faulted else "")


def software() -> dict[str, str]:
    """Versions of what a run was made with."""
    names = ("nionswift-autoexp", "nionswift", "nionswift-instrumentation", "numpy", "scipy", "torch", "gpytorch")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _faulted(status: Status, reason: str) -> Status:
    from dataclasses import replace

    return replace(status, phase="faulted", reason=reason, ending="faulted")
