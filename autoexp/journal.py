"""The lines of a journal: what they hold, which of them count, and what they add up to.

A line counts only when it is whole, its checksum fits and its number follows; reading stops before the first that does
not. What is whole but makes no sense is refused with a :class:`~autoexp.errors.RunLogError`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.fields import explain
from autoexp.safe_files import open_regular
from autoexp.state import RunState, fold
from autoexp.text import clean

EVENTS = "events.jsonl"
MAX_LINE_BYTES = 64_000_000


@dataclass
class Journal:
    """The good events of a run, and where they end in the file.

    Attributes:
        records: the events.
        good_bytes: length of their lines.
        damaged_bytes: what follows and is none.
        torn: what follows begins with a line that was never finished, of which nobody was told that it was written.
        crc32: checksum of their lines, one after another.
    """

    records: list[ev.Record] = field(default_factory=list)
    good_bytes: int = 0
    damaged_bytes: int = 0
    torn: bool = False
    crc32: int = 0


def read_events(folder: pathlib.Path) -> tuple[list[ev.Record], int]:
    """All good events of a run, and how many bytes at the end are not.

    Raises:
        RunLogError: it cannot be read, it holds what this version does not know, or it was written by a newer one.
    """
    journal = read_journal(folder)
    return journal.records, journal.damaged_bytes


def read_journal(folder: pathlib.Path) -> Journal:
    """The journal of a run; an empty one where there is none.

    Raises:
        RunLogError: see :func:`read_events`.
    """
    journal = Journal()
    try:
        with open_regular(folder / EVENTS) as file, _without_collecting():
            for line in iter(lambda: file.readline(MAX_LINE_BYTES), b""):
                record = parse_line(line, len(journal.records))
                if record is None:
                    journal.torn = not line.endswith(b"\n")
                    break
                journal.records.append(record)
                journal.good_bytes += len(line)
                journal.crc32 = zlib.crc32(line, journal.crc32)
            journal.damaged_bytes = max(0, os.fstat(file.fileno()).st_size - journal.good_bytes)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RunLogError(f"The journal of the run {folder} cannot be read: {error}") from error
    return journal


def parse_line(line: bytes, seq: int | None = None) -> ev.Record | None:
    """The record of a line, or None if the line is not whole and true, or not the one that comes next.

    Args:
        line: with its checksum and its end.
        seq: the number that it must have; None for any.

    Raises:
        RunLogError: the line is whole and true, but means nothing to this version.
    """
    body = checked_body(line)
    if body is None:
        return None
    if seq == 0:
        _require_known(Head.of(body))
    try:
        record = ev.Record.model_validate_json(body)
    except (ValueError, RecursionError) as error:
        said = explain(error) if isinstance(error, ValidationError) else clean(str(error), 1000)
        raise RunLogError(
            f"Event {seq} of this run is whole but means nothing to this version; nothing was changed.\n{said}"
        ) from error
    if isinstance(record.event, ev.Started):
        _require_known(Head(utc=record.utc, format=record.event.format))
    return record if seq is None or record.seq == seq else None


def checked_body(line: bytes) -> bytes | None:
    """What a line says, if it is whole and its checksum fits."""
    if len(line) < 10 or line[8:9] != b" " or not line.endswith(b"\n"):
        return None
    body = line[9:-1]
    return body if line[:8] == b"%08x" % zlib.crc32(body) else None


def line_of(body: bytes) -> bytes:
    """The line that says something."""
    return b"%08x %s\n" % (zlib.crc32(body), body)


class _HeadEvent(BaseModel):
    format: int = 0


class _HeadRecord(BaseModel):
    utc: str
    event: _HeadEvent


@dataclass(frozen=True)
class Head:
    """What the first line of a journal tells of any version.

    Attributes:
        utc: wall-clock time with offset.
        format: the version of the journal; 0 where it tells none.
    """

    utc: str
    format: int

    @classmethod
    def of(cls, body: bytes) -> Head | None:
        """The head in the first event, whatever else that holds; None if it is none."""
        try:
            record = _HeadRecord.model_validate_json(body)
        except ValidationError:
            return None
        return cls(record.utc, record.event.format)


def _require_known(head: Head | None) -> None:
    if head is not None and head.format > ev.FORMAT_VERSION:
        raise RunLogError(
            f"This run was written by a newer version (format {head.format}; this version reads up to "
            f"{ev.FORMAT_VERSION}). Update nionswift-autoexp to open it; nothing was changed."
        )


def folded(records: Iterable[ev.Record], folder: pathlib.Path) -> RunState:
    """The state after all events of a run.

    Raises:
        RunLogError: they contradict each other.
    """
    try:
        with _without_collecting():
            return fold(records)
    except RunLogError:
        raise
    except Exception as error:  # a journal may have been edited or mixed up in any way
        raise RunLogError(
            f"The events of the run {folder} contradict each other, so nothing can be made of it: {error!r}"
        ) from error


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Without the garbage collector, which takes twice the time of the reading itself to look through what was read."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
