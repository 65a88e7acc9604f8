"""What a panel or a terminal shows of a run: one frozen snapshot, so that nobody ever sees half a change."""

from __future__ import annotations

from dataclasses import dataclass

from autoexp.events import Ending, Phase, Verb
from autoexp.state import Point, RunState


@dataclass(frozen=True)
class Status:
    """A run at one moment.

    Attributes:
        phase: what the engine is doing.
        reason: why it is paused, suspended or faulted, or what is being done besides measuring; may be empty.
        run_id: name of the run's folder.
        points: spectra measured.
        failed: exposures that gave nothing usable.
        budget_points: spectra that the budget allows.
        elapsed_s: since the run began.
        left_s: estimated time to the end; None before there is a basis for it.
        dose_e: electrons into the specimen so far.
        stood_s: time that the beam stood on the specimen between exposures, in all.
        best: the best point so far.
        last: the point decided last.
        waited_s: time that the microscope waited for decisions, in all.
        warning: the latest warning.
        ending: how the run ended; None while it goes on.
        can_undo: whether there is a steering command to take back.
        remedy: a verb that would end the reason for which the run waits, beside resuming it.
    """

    phase: Phase = "idle"
    reason: str = ""
    run_id: str = ""
    points: int = 0
    failed: int = 0
    budget_points: int = 0
    elapsed_s: float = 0.0
    left_s: float | None = None
    dose_e: float = 0.0
    stood_s: float = 0.0
    best: Point | None = None
    last: Point | None = None
    waited_s: float = 0.0
    warning: str = ""
    ending: Ending | None = None
    can_undo: bool = False
    remedy: Verb | None = None

    @property
    def progress(self) -> float:
        """Share of the point budget that is measured, 0..1; it reaches 1 only when the budget is used up."""
        return min(1.0, self.points / self.budget_points) if self.budget_points else 0.0


def status_of(state: RunState, waited_s: float = 0.0) -> Status:
    """The status that a state shows."""
    settings = state.settings
    budget = settings.budget if settings else None
    done = state.exposures
    left_s = None
    if budget and state.prepared and done >= 3 and not state.finished:
        left_s = _left_s(state, budget.points, budget.time_s)
    return Status(
        phase=state.phase,
        reason=state.finished.reason if state.finished else state.phase_reason or _doing(state),
        run_id=state.run_id,
        points=state.measured_count,
        failed=state.failed_count,
        budget_points=min(budget.points, state.prepared.candidates if state.prepared else budget.points)
        if budget
        else 0,
        elapsed_s=state.elapsed_s,
        left_s=left_s,
        dose_e=state.dose_e,
        stood_s=state.stood_s,
        best=state.best(),
        last=state.points.last,
        waited_s=waited_s,
        warning=state.warnings[-1] if state.warnings else "",
        ending=state.finished.ending if state.finished else None,
        can_undo=bool(state.history),
        remedy=state.remedy,
    )


def _left_s(state: RunState, points: int, time_s: float | None) -> float:
    per_point = state.measuring_s / state.exposures
    left = per_point * max(0, points - state.exposures)
    return left if time_s is None else min(left, max(0.0, time_s - state.elapsed_s))


def _doing(state: RunState) -> str:
    return "aligning the beam" if state.aligning and state.phase in ("preparing", "running") else ""
