"""Good events behind a damaged line of a journal: what is known of them, though they are no part of the run any more.

A run is what its events add up to one after another, so it ends before the first line that is damaged. What lies behind
is kept, said, and counted: the specimen has had those electrons.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.journal import EVENTS, MAX_LINE_BYTES, parse_line
from autoexp.safe_files import open_regular

ASIDE = f"{EVENTS}.damaged"
MOST_ELECTRONS = 1e30
"""That an event can tell of."""


@dataclass(frozen=True)
class LostEvents:
    """What good lines behind a damaged one tell.

    Attributes:
        events: how many there are.
        spectra: how many of them tell of a spectrum that was stored.
        dose_e: electrons into the specimen of which they tell.
    """

    events: int = 0
    spectra: int = 0
    dose_e: float = 0.0

    def __str__(self) -> str:
        """A sentence; empty if there are none."""
        if not self.events:
            return ""
        events = "1 good event lies" if self.events == 1 else f"{self.events:,} good events lie"
        spectra = f", {self.spectra:,} of a stored spectrum," if self.spectra else ""
        dose = f" The {self.dose_e:.3g} electrons of which they tell count as dose." if self.dose_e else ""
        return f"The journal is damaged: {events} behind the damage{spectra} and cannot be used; they are kept.{dose}"


def lost_behind(folder: pathlib.Path, good_bytes: int) -> LostEvents:
    """What lies behind the good lines of a journal.

    Raises:
        RunLogError: it cannot be read.
    """
    return _told(folder / EVENTS, good_bytes)


def lost_aside(folder: pathlib.Path) -> LostEvents:
    """What was set aside when the run was resumed, each time.

    Raises:
        RunLogError: it cannot be read.
    """
    return _told(folder / ASIDE, 0)


def records_lost(folder: pathlib.Path, good_bytes: int) -> list[ev.Record]:
    """What was set aside when a journal was opened again, and what lies behind its good lines now.

    Raises:
        RunLogError: it cannot be read.
    """
    return _readable(folder / ASIDE, 0) + _readable(folder / EVENTS, good_bytes)


def records_aside(folder: pathlib.Path) -> list[int]:
    """Numbers of the stored spectra of which events that were set aside tell.

    Raises:
        OSError: they cannot be read.
    """
    return [index for record in _good_records(folder / ASIDE) if (index := record_of(record)) is not None]


def record_of(record: ev.Record) -> int | None:
    """The number of the stored spectrum of which an event tells."""
    event = record.event
    return event.record.index if isinstance(event, ev.Measured | ev.Failed) and event.record is not None else None


def _told(path: pathlib.Path, start: int) -> LostEvents:
    records = _readable(path, start)
    stored = sum(record_of(record) is not None for record in records)
    return LostEvents(len(records), stored, _electrons(record.event for record in records))


def _readable(path: pathlib.Path, start: int) -> list[ev.Record]:
    try:
        return _good_records(path, start)
    except OSError as error:
        raise RunLogError(f"{path} cannot be read: {error}") from error


def _good_records(path: pathlib.Path, start: int = 0) -> list[ev.Record]:
    """Lines of a file that are whole and true, whatever lies between them; none where there is no file."""
    found = []
    with contextlib.suppress(FileNotFoundError), open_regular(path) as file:
        file.seek(start)
        for line in iter(lambda: file.readline(MAX_LINE_BYTES), b""):
            with contextlib.suppress(RunLogError):
                found.append(parse_line(line))
    return [record for record in found if record is not None]


def _electrons(events: Iterable[ev.Event]) -> float:
    """Of all exposures of which events tell: of a point the most that is told, of an image what was paid or taken."""
    points: dict[int, float] = {}
    images, paid = 0.0, 0.0
    for event in events:
        match event:
            case ev.Exposing() | ev.Measured() | ev.Failed() | ev.Skipped():
                points[event.id] = max(points.get(event.id, 0.0), event.dose_e)
            case ev.ExposureBegun(dose_e=dose_e):
                images, paid = images + dose_e, dose_e
            case ev.Prepared(dose_e=dose_e) | ev.Drifted(dose_e=dose_e) | ev.Looked(dose_e=dose_e):
                images, paid = images + max(0.0, dose_e - paid), 0.0
    return min(images + sum(points.values()), MOST_ELECTRONS)
