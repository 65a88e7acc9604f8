"""What a report tells, gathered from a run's log; nothing here draws or writes."""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.agent import Evidence
from autoexp.errors import AutoexpError, RunLogError
from autoexp.export.spectra import left_out
from autoexp.patches import Candidates, check_image, cut
from autoexp.plan import Goal, Plan, VirtualInstrument
from autoexp.report import draw
from autoexp.runlog import RunReader, inside
from autoexp.state import Point, RunState

Array = npt.NDArray[np.float64]
MAX_ARRAY_BYTES = 9 << 30
"""Somewhat more than the largest overview that a plan allows takes in double precision."""
MAX_CANDIDATES = 4_000_000
"""More are not drawn on maps, which would be finer than a screen."""
MAX_MAPS = 60
"""Predictions that are read, evenly over the run and the last: enough for a curve."""


@dataclass(frozen=True)
class Map:
    """A prediction of the whole field.

    Attributes:
        after: number of points that it rests on.
        mean: (n,) in the scalarizer's units.
        std: (n,) noise of a measurement included.
        coverage: leave-one-out coverage of the 90 % interval, or None.
        evidence: what it rests on, and which kernel foresees best, or None.
    """

    after: int
    mean: Array
    std: Array
    coverage: float | None
    evidence: Evidence | None = None


@dataclass(frozen=True)
class TimeBudget:
    """Where the time went, in seconds on the clock."""

    total_s: float = 0.0
    preparing_s: float = 0.0
    exposing_s: float = 0.0
    waiting_s: float = 0.0
    paused_s: float = 0.0
    running_s: float = 0.0

    @property
    def overhead_s(self) -> float:
        """What a point costs beyond its exposure: parking the probe, reading out, writing."""
        return max(0.0, self.running_s - self.exposing_s - self.waiting_s)


@dataclass(frozen=True)
class Note:
    """One line of the run's history.

    Attributes:
        elapsed_s: when.
        kind: ``steering``, ``command``, ``phase``, ``warning``, ``failure`` or ``restored``.
        text: what.
    """

    elapsed_s: float
    kind: str
    text: str


@dataclass(frozen=True)
class Facts:
    """All that a log says about a run.

    Attributes:
        folder: the run's folder.
        state: where the run stands.
        started: its first event; None if nothing but damage was left of the log.
        began: wall-clock time of the beginning.
        overview: (h, w), or None if none was taken.
        candidates: where it could measure, or None.
        reader: what reads its spectra.
        damaged: ids of the points whose spectra are not as they were measured.
        energy: (E,) in ``energy_units``.
        maps: predictions, oldest first.
        time: where the time went.
        notes: the history.
        problems: what is missing or damaged in the folder.
    """

    folder: pathlib.Path
    state: RunState
    started: ev.Started | None
    began: str
    overview: npt.NDArray[np.floating] | None
    candidates: Candidates | None
    reader: RunReader
    damaged: tuple[int, ...]
    energy: Array
    energy_units: str
    maps: tuple[Map, ...]
    time: TimeBudget
    notes: tuple[Note, ...]
    problems: tuple[str, ...] = field(default=())

    @property
    def plan(self) -> Plan | None:
        """What was planned."""
        return self.state.plan

    @property
    def simulated(self) -> bool:
        """Whether the instrument was a simulation."""
        return bool(self.started and self.started.instrument.get("simulated"))

    @property
    def units(self) -> str:
        """Units of the values."""
        return self.state.settings.scalarizer.units if self.state.settings else ""

    @functools.cached_property
    def thumbnail(self) -> npt.NDArray[np.float32]:
        """The overview, made small enough to be shown."""
        assert self.overview is not None
        return draw.small(self.overview)

    @functools.cached_property
    def field(self) -> tuple[float, float, str]:
        """Height and width of the field and their units: nm where it is calibrated, pixels otherwise."""
        prepared = self.state.prepared
        if prepared and prepared.fov_nm and all(0 < side < math.inf for side in prepared.fov_nm):
            return *prepared.fov_nm, "nm"
        height, width = self.overview.shape if self.overview is not None else (1, 1)
        return float(height), float(width), "px"

    def spectra(self, points: Iterable[Point]) -> npt.NDArray[np.float32]:
        """The spectra (n, E) of points, those left out that are damaged."""
        return self.reader.checked(list(points)).counts

    def place_nm(self, point: Point) -> tuple[float, float] | None:
        """Where a point lies in the field, (y, x) nm from its top left corner; None where that is not calibrated."""
        return self.state.prepared.to_nm(point.position) if self.state.prepared else None

    def place_px(self, point: Point) -> tuple[float, float] | None:
        """Where a point lies in the overview, (y, x) pixels from its top left corner."""
        shape = self.state.prepared.shape if self.state.prepared else None
        return (point.position[0] * shape[0], point.position[1] * shape[1]) if shape else None

    def ranked(self) -> list[Point]:
        """Measured points, the one that serves the goal best first."""
        sign = -1.0 if self.goal == "maximize" else 1.0
        return sorted(self.state.scored, key=lambda p: sign * p.value)

    @property
    def goal(self) -> Goal:
        """Whether the best value is the largest or the smallest."""
        return self.state.settings.goal if self.state.settings else "maximize"


def gather(folder: str | pathlib.Path) -> Facts:
    """Read a run.

    Raises:
        RunLogError: there is no run, or it was written by a newer version.
    """
    reader = RunReader(folder)
    state = reader.state
    problems: list[str] = []
    if reader.damaged_bytes:
        problems.append(f"The last {reader.damaged_bytes:,} bytes of the log are damaged and were left out.")
    if (lost := str(reader.lost)) and lost not in state.warnings:
        problems.append(lost)
    damaged = tuple(reader.damaged_points(state))
    problems += [left_out(damaged)] if damaged else []
    overview = _overview(reader, state, problems)
    candidates = _candidates(overview, state, problems)
    opened = state.spectra
    return Facts(
        folder=reader.folder,
        state=state,
        started=next(reader.events(ev.Started), None),
        began=reader.records[0].utc,
        overview=overview,
        candidates=candidates,
        reader=reader,
        damaged=damaged,
        energy=opened.energy if opened else np.empty(0),
        energy_units=opened.units if opened else "eV",
        maps=_maps(reader, len(candidates) if candidates else 0, problems),
        time=_time(reader.records, state),
        notes=tuple(_notes(reader.records)),
        problems=tuple(problems),
    )


def _overview(reader: RunReader, state: RunState, problems: list[str]) -> npt.NDArray[np.floating] | None:
    if state.prepared is None:
        return None
    try:
        return check_image(_array(reader, state.prepared.overview))
    except (AutoexpError, OSError, ValueError) as error:
        problems.append(f"The overview cannot be shown: {error}")
        return None


def _array(reader: RunReader, ref: ev.ArrayRef) -> npt.NDArray[Any]:
    size = inside(reader.folder, ref.file).stat().st_size
    if size > MAX_ARRAY_BYTES:  # its checksum alone would take minutes
        raise RunLogError(f"{ref.file} holds {size:,} bytes, and no plan asks for so many.")
    return reader.array(ref)


def _candidates(overview: npt.NDArray[np.floating] | None, state: RunState, problems: list[str]) -> Candidates | None:
    if overview is None or state.plan is None or state.settings is None:
        return None
    rows, columns = state.plan.patches.grid(overview.shape)
    if not 0 < rows * columns <= MAX_CANDIDATES:
        problems.append(f"The candidates cannot be shown on maps: there are {rows * columns:,}.")
        return None
    return cut(overview, state.plan.patches).restricted(state.settings.regions)


def _maps(reader: RunReader, candidates: int, problems: list[str]) -> tuple[Map, ...]:
    events = list(reader.events(ev.Predicted))
    chosen = sorted({round(i) for i in np.linspace(0, len(events) - 1, MAX_MAPS)}) if events else []
    maps = []
    for event in (events[i] for i in chosen):
        try:
            array = _array(reader, event.array)
        except (AutoexpError, OSError, ValueError) as error:
            problems.append(f"A prediction cannot be shown: {error}")
            continue
        if array.shape == (2, candidates) and array.dtype.kind in "fiu":
            mean, std = np.asarray(array, dtype=float)
            maps.append(Map(event.after, mean, std, event.coverage, event.evidence))
    return tuple(maps)


def _time(records: list[ev.Record], state: RunState) -> TimeBudget:
    spent: dict[str, float] = {}
    exposing = waiting = waited = 0.0
    phase, since = "idle", 0.0
    for record in records:
        event = record.event
        spent[phase] = spent.get(phase, 0.0) + max(0.0, record.elapsed_s - since)
        since = record.elapsed_s
        if isinstance(event, ev.PhaseChanged):
            phase = event.phase
        elif isinstance(event, ev.Exposing):
            exposing += event.exposure_s
        elif isinstance(event, ev.Measured) and math.isfinite(event.waited_s):
            # The engine counts from its own start, so after a resume the count begins anew.
            waiting += event.waited_s - waited if event.waited_s >= waited else event.waited_s
            waited = event.waited_s
    instrument = state.plan.instrument if state.plan else None
    pace = instrument.time_scale if isinstance(instrument, VirtualInstrument) else 1.0
    return TimeBudget(
        total_s=records[-1].elapsed_s,
        preparing_s=spent.get("preparing", 0.0),
        exposing_s=exposing / max(pace, 1e-9),
        waiting_s=waiting,
        paused_s=spent.get("paused", 0.0) + spent.get("suspended", 0.0),
        running_s=spent.get("running", 0.0),
    )


def _notes(records: list[ev.Record]) -> list[Note]:
    notes = [_note(record.elapsed_s, record.event) for record in records]
    return [note for note in notes if note is not None]


def _note(at: float, event: ev.Event) -> Note | None:
    match event:
        case ev.Steered():
            refused = f"; refused: {event.refused}" if event.refused else ""
            return Note(at, "steering", steering_in_words(event.command) + refused)
        case ev.Commanded():
            refused = f"; refused: {event.refused}" if event.refused else ""
            return Note(at, "command", event.verb + refused)
        case ev.PhaseChanged() if event.phase in ("paused", "suspended", "faulted"):
            return Note(at, "phase", f"{event.phase}: {event.reason}")
        case ev.Warned():
            return Note(at, "warning", event.message)
        case ev.Failed():
            return Note(at, "failure", f"point {event.id + 1} ({event.fault}): {event.message}")
        case ev.Skipped():
            return Note(at, "failure", f"point {event.id + 1} skipped: {event.reason}")
        case ev.Restored() if event.problems:
            return Note(at, "restored", "; ".join(event.problems))
    return None


def steering_in_words(command: ev.Steering) -> str:
    """A steering command as a sentence without a subject."""
    match command:
        case ev.SetScalarizer():
            return f"look for {command.scalarizer.describe()}"
        case ev.SetSecond():
            words = f"and for {command.scalarizer.describe()}" if command.scalarizer else "and for nothing else"
            return f"{words}; let the {command.agent.kind} agent decide" if command.agent else words
        case ev.SetAgent():
            return f"let the {command.agent.kind} agent decide"
        case ev.SetAcquisition():
            return f"choose by {command.acquisition.kind.replace('-', ' ')}"
        case ev.SetBudget():
            return f"take {command.budget.points} points"
        case ev.AddRegion():
            what = "measure only in" if command.region.kind == "include" else "leave out"
            return f"{what} the region {command.region.id}"
        case ev.RemoveRegion():
            return f"forget the region {command.id}"
        case ev.MeasureHere():
            y, x = command.position
            return f"measure at ({y:.3f}, {x:.3f}) next"
    return "take the last change back"
