"""Runs that were cut off: find them, and end them without touching an instrument."""

from __future__ import annotations

import datetime
import logging
import pathlib
from dataclasses import dataclass

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.recorder import Recorder
from autoexp.run_folders import EARLIEST, began, has_end, run_folders
from autoexp.runlog import RunReader, is_locked
from autoexp.state import Point, RunState

MOST_ELECTRONS = 1e30  # that an event can hold
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that has no end.

    Attributes:
        folder: where it lies.
        name: its name.
        instrument: key of the instrument on which it was made.
        points: spectra measured.
        budget_points: spectra that it was to measure.
        unknown: exposures begun of which nobody knows what came of them.
    """

    folder: pathlib.Path
    name: str
    instrument: str
    points: int
    budget_points: int
    unknown: int

    @property
    def next_action(self) -> str:
        """What resuming will do first."""
        if self.points >= self.budget_points:
            return "nothing is left to measure; it will only be closed"
        unknown = f"{self.unknown} exposure of unknown outcome is marked and not repeated; " if self.unknown else ""
        return f"{unknown}measuring goes on with spectrum {self.points + 1} of {self.budget_points}"


def find_unfinished(root: pathlib.Path) -> list[UnfinishedRun]:
    """Unfinished runs below a folder, those that began last first; those that are running now are left out.

    Nothing is written, and a run that cannot be read never hides another.

    Args:
        root: folder in which every run has its own.
    """
    try:
        found = [run for folder in run_folders(root) if (run := _unfinished(folder)) is not None]
    except RunLogError as error:
        log.warning("%s", error)
        return []
    return [run for _, run in sorted(found, key=lambda pair: (pair[0], pair[1].name), reverse=True)]


def _unfinished(folder: pathlib.Path) -> tuple[datetime.datetime, UnfinishedRun] | None:
    """An unfinished run and when it began; None if it is over, goes on just now, or cannot be read."""
    try:
        if has_end(folder) or is_locked(folder):
            return None
        run = _describe(folder)
        return None if run is None else (began(folder) or EARLIEST, run)
    except (RunLogError, OSError) as error:
        log.debug("%s", error)
    except Exception:  # whatever is wrong with one folder, the others are shown
        log.warning("The run %s cannot be looked at.", folder, exc_info=True)
    return None


def close_unfinished(folder: pathlib.Path, ending: ev.Ending) -> None:
    """Write an end into an unfinished run; what was measured stays, no instrument is touched.

    Raises:
        RunLogError: the run cannot be read or written, holds no plan, or has an end already.
    """
    if RunReader(folder).state.plan is None:
        raise RunLogError(f"{folder} holds no plan, so there is no run to end.")
    recorder = Recorder(folder)
    try:
        if recorder.state.finished is not None:
            raise RunLogError(f"The run {folder} has ended already.")
        recorder.count_lost()
        for point in recorder.state.pending:
            exposed = point.status == "exposing"
            dose = _exposure_dose(recorder.state, point) if exposed else 0.0
            reason = "the run was closed afterwards"
            recorder.append(ev.Skipped(id=point.id, reason=reason, exposed=exposed, dose_e=dose))
        recorder.append(ev.Finished(ending=ending, reason="closed afterwards by the operator"))
        recorder.enter("idle")
    finally:
        recorder.close()


def _exposure_dose(state: RunState, point: Point) -> float:
    """Electrons of an exposure of unknown outcome.

    As it was booked; or as those that were measured, or by the dose of the overview where none was.
    """
    known = [point.dose_e, *(p.dose_e for p in state.measured)]
    if not state.measured and state.plan is not None and state.prepared is not None:
        known.append(state.prepared.dose_e / max(state.plan.overview.time_s, 1e-9) * state.plan.spectrum.exposure_s)
    return min(max(known), MOST_ELECTRONS)


def _describe(folder: pathlib.Path) -> UnfinishedRun | None:
    """What there is to say of a run; None if it has an end after all.

    Raises:
        RunLogError: it cannot be read, or holds no plan.
    """
    reader = RunReader(folder)
    state = reader.state
    if state.finished is not None:
        return None
    started = next(reader.events(ev.Started), None)
    if started is None or state.plan is None or state.settings is None:
        raise RunLogError(f"{folder} holds no plan.")
    return UnfinishedRun(
        folder,
        folder.name,
        str(started.instrument.get("key", "")),
        len(state.measured),
        state.settings.budget.points,
        sum(p.status == "exposing" for p in state.points.values()),
    )
