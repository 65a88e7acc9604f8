"""Runs that were cut off: find them, and end them without touching an instrument."""

from __future__ import annotations

import contextlib
import pathlib
from dataclasses import dataclass

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.recorder import Recorder
from autoexp.runlog import EVENTS, RunReader, is_locked
from autoexp.state import RunState, fold

TAIL_BYTES = 16_384


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


def find_unfinished(root: pathlib.Path, newest: int = 20) -> list[UnfinishedRun]:
    """Unfinished runs below a folder, newest first; those that are running now are left out.

    Args:
        root: folder in which every run has its own.
        newest: how many run folders to look at.
    """
    if not root.is_dir():
        return []
    folders = sorted((p for p in root.iterdir() if (p / EVENTS).is_file()), key=lambda p: p.name, reverse=True)
    found = []
    for folder in folders[:newest]:
        with contextlib.suppress(RunLogError, OSError):
            if not _has_end(folder) and not is_locked(folder):
                found.append(_describe(folder))
    return found


def close_unfinished(folder: pathlib.Path, ending: ev.Ending) -> None:
    """Write an end into an unfinished run; what was measured stays, no instrument is touched.

    Raises:
        RunLogError: the run cannot be written, or has an end already.
    """
    recorder = Recorder(folder)
    try:
        if recorder.state.finished is not None:
            raise RunLogError(f"The run {folder} has ended already.")
        for point in recorder.state.pending:
            exposed = point.status == "exposing"
            dose = _exposure_dose(recorder.state) if exposed else 0.0
            reason = "the run was closed afterwards"
            recorder.append(ev.Skipped(id=point.id, reason=reason, exposed=exposed, dose_e=dose))
        recorder.append(ev.Finished(ending=ending, reason="closed afterwards by the operator"))
        recorder.enter("idle")
    finally:
        recorder.close()


def _exposure_dose(state: RunState) -> float:
    """Electrons of one exposure: as those that were measured, or by the dose of the overview where none was."""
    if state.measured:
        return max(p.dose_e for p in state.measured)
    if state.plan is None or state.prepared is None:
        return 0.0
    return state.prepared.dose_e / state.plan.overview.time_s * state.plan.spectrum.exposure_s


def _has_end(folder: pathlib.Path) -> bool:
    path = folder / EVENTS
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return b'"type":"finished"' in file.read()


def _describe(folder: pathlib.Path) -> UnfinishedRun:
    reader = RunReader(folder)
    state = fold(reader.records)
    if state.plan is None or state.settings is None:
        raise RunLogError(f"{folder} holds no plan.")
    started = next(reader.events(ev.Started))
    unknown = sum(p.status == "exposing" for p in state.points.values())
    return UnfinishedRun(
        folder,
        folder.name,
        str(started.instrument.get("key", "")),
        len(state.measured),
        state.settings.budget.points,
        unknown,
    )
