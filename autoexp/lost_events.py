"""Good events behind a damaged line of a journal: what is known of them, though they are no part of the run any more.

A run is what its events add up to one after another, so it ends before the first line that is damaged. What lies behind
is kept, said, and counted: the specimen has had those electrons. Each time that a run is resumed, what lies behind is
set aside under a heading, which says what the good events before had paid for already.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.journal import EVENTS, MAX_LINE_BYTES, parse_line
from autoexp.safe_files import open_regular

ASIDE = f"{EVENTS}.damaged"
HEADING = b"set aside, paid for before: "
MOST_ELECTRONS = 1e30
"""That an event can tell of."""
Paid = dict[str, float]
"""Electrons of exposures that are not over, by the point's number, or by the kind of image."""


@dataclass(frozen=True)
class LostEvents:
    """What good lines behind a damaged one tell.

    Attributes:
        events: how many there are.
        spectra: how many of them tell of a spectrum that was stored.
        dose_e: electrons into the specimen of which they alone tell.
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


@dataclass
class _Part:
    """What was lost at one time."""

    paid: Paid = field(default_factory=dict)
    records: list[ev.Record] = field(default_factory=list)


def lost_of(folder: pathlib.Path, good: Iterable[ev.Record], good_bytes: int) -> LostEvents:
    """All that was lost of a run: what was set aside when it was resumed, and what lies behind its good lines now.

    Args:
        folder: the run's folder.
        good: its good events.
        good_bytes: length of their lines.

    Raises:
        RunLogError: it cannot be read.
    """
    return _told(_readable(folder / ASIDE, 0, {}) + _readable(folder / EVENTS, good_bytes, paid_for(good)))


def lost_aside(folder: pathlib.Path) -> LostEvents:
    """What was set aside when the run was resumed, each time.

    Raises:
        RunLogError: it cannot be read.
    """
    return _told(_readable(folder / ASIDE, 0, {}))


def records_lost(folder: pathlib.Path, good_bytes: int) -> list[ev.Record]:
    """What was set aside when a journal was opened again, and what lies behind its good lines now.

    Raises:
        RunLogError: it cannot be read.
    """
    parts = _readable(folder / ASIDE, 0, {}) + _readable(folder / EVENTS, good_bytes, {})
    return [record for part in parts for record in part.records]


def records_aside(folder: pathlib.Path) -> list[int]:
    """Numbers of the stored spectra of which events that were set aside tell.

    Raises:
        OSError: they cannot be read.
    """
    records = (record for part in _parts(folder / ASIDE, 0, {}) for record in part.records)
    return [index for record in records if (index := record_of(record)) is not None]


def record_of(record: ev.Record) -> int | None:
    """The number of the stored spectrum of which an event tells."""
    event = record.event
    return event.record.index if isinstance(event, ev.Measured | ev.Failed) and event.record is not None else None


def paid_for(records: Iterable[ev.Record]) -> Paid:
    """What the exposures of which no end is told have been paid for."""
    paid: Paid = {}
    for record in records:
        match record.event:
            case ev.Exposing(id=i, dose_e=dose_e):
                paid[str(i)] = dose_e
            case ev.Measured(id=i) | ev.Failed(id=i) | ev.Skipped(id=i):
                paid.pop(str(i), None)
            case ev.ExposureBegun(what=what, dose_e=dose_e) | ev.ExposureSettled(what=what, dose_e=dose_e):
                paid[what] = dose_e
            case ev.Prepared() | ev.Drifted() | ev.Looked() as image:
                paid.pop(_IMAGES[image.type], None)
    return paid


def heading(paid: Paid) -> bytes:
    """The line under which what is lost is set aside."""
    return b"\n" + HEADING + json.dumps(paid).encode() + b"\n"


# --- reading them


_IMAGES = {"prepared": "overview", "drifted": "drift", "looked": "frame"}


def _told(parts: list[_Part]) -> LostEvents:
    records = [record for part in parts for record in part.records]
    stored = sum(record_of(record) is not None for record in records)
    return LostEvents(len(records), stored, min(sum(map(_electrons, parts)), MOST_ELECTRONS))


def _readable(path: pathlib.Path, start: int, paid: Paid) -> list[_Part]:
    try:
        return _parts(path, start, paid)
    except OSError as error:
        raise RunLogError(f"{path} cannot be read: {error}") from error


def _parts(path: pathlib.Path, start: int, paid: Paid) -> list[_Part]:
    """Lines of a file that are whole and true, whatever lies between them, by the time at which they were lost."""
    parts = [_Part(paid)]
    with contextlib.suppress(FileNotFoundError), open_regular(path) as file:
        file.seek(start)
        for line in _lines(file):
            if line.startswith(HEADING):
                parts.append(_Part(_paid_in(line)))
                continue
            with contextlib.suppress(RunLogError):
                record = parse_line(line)
                if record is not None:
                    last = parts[-1].records[-1:]
                    if last and record.seq <= last[0].seq:  # as versions before 3 of the format set them aside
                        parts.append(_Part())
                    parts[-1].records.append(record)
    return parts


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.readline(MAX_LINE_BYTES), b"")


def _paid_in(line: bytes) -> Paid:
    """What a heading says; nothing where it is damaged, so that rather too much dose is counted."""
    try:
        told = json.loads(line.removeprefix(HEADING))
        return {str(name): float(dose_e) for name, dose_e in told.items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _electrons(part: _Part) -> float:
    """Of all exposures of which a part tells: what they took beyond what had been paid before."""
    points: dict[str, float] = {}
    images, paid = 0.0, {name: max(0.0, dose_e) for name, dose_e in part.paid.items()}
    for record in part.records:
        match record.event:
            case ev.Exposing() | ev.Measured() | ev.Failed() | ev.Skipped() as event:
                points[str(event.id)] = max(points.get(str(event.id), 0.0), event.dose_e)
            case ev.ExposureBegun(what="lost"):
                pass  # it stands for a part that was lost before, and is here too
            case ev.ExposureBegun(what=what, dose_e=dose_e):
                images, paid[what] = images + dose_e, dose_e
            case ev.ExposureSettled(what=what, dose_e=dose_e):
                images, paid[what] = images + max(0.0, dose_e - paid.get(what, 0.0)), dose_e
            case ev.Prepared() | ev.Drifted() | ev.Looked() as image:
                images += max(0.0, image.dose_e - paid.pop(_IMAGES[image.type], 0.0))
    return images + sum(max(0.0, dose_e - paid.get(name, 0.0)) for name, dose_e in points.items())
