"""Reads a run from its folder, whatever state that is in: every line, record and array is checked before it is used.

The lines of ``events.jsonl`` are those of :mod:`autoexp.journal`. A record of ``spectra.bin`` counts only where an
event names it and its checksum fits. What makes no sense is refused with a :class:`~autoexp.errors.RunLogError`; no
other error comes from here.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import pathlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.journal import folded, read_journal
from autoexp.lost_events import LostEvents, lost_aside, lost_of
from autoexp.safe_files import crc_of, inside, open_regular
from autoexp.state import Point, RunState

SPECTRA = "spectra.bin"
MAPPED_BYTES = 1 << 26
Counts = npt.NDArray[np.float32]
Refs = dict[int, ev.RecordRef]


@dataclass(frozen=True)
class CheckedSpectra:
    """Spectra that are what was measured, and the points whose spectra are not.

    Attributes:
        points: those with a good spectrum, in the order in which they were given.
        counts: (n, E) float32, their spectra.
        damaged: those whose record is missing, short, fails its checksum, or is claimed by another point too.
    """

    points: list[Point]
    counts: Counts
    damaged: list[Point]


class RunReader:
    """A run on disk, read only; it may still be running, or have ended in any way.

    Raises:
        RunLogError: there is no run in the folder, it cannot be read, or it was written by a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = pathlib.Path(folder)
        journal = read_journal(self.folder)
        self.records, self.damaged_bytes = journal.records, journal.damaged_bytes
        self._good_bytes = journal.good_bytes
        if not self.records:
            raise RunLogError(f"{self.folder} holds no run.")

    def events(self, kind: type[Any]) -> Iterator[Any]:
        """All events of one class, in order."""
        return (record.event for record in self.records if isinstance(record.event, kind))

    @functools.cached_property
    def state(self) -> RunState:
        """The state after all events.

        Raises:
            RunLogError: the events contradict each other.
        """
        return folded(self.records, self.folder)

    @property
    def lost(self) -> LostEvents:
        """Good events that lay behind a damaged line of the journal, and are no part of the run any more."""
        if not self.damaged_bytes:
            return lost_aside(self.folder)
        return lost_of(self.folder, self.records, self._good_bytes)

    def checked(self, points: Sequence[Point]) -> CheckedSpectra:
        """The spectra of points of this run, each compared with the checksum in the journal.

        Points without a record have no spectrum and are left out.

        Raises:
            RunLogError: the file of the spectra cannot be read, or holds more than fits into memory.
        """
        opened = next(self.events(ev.SpectraOpened), None)
        return checked_spectra(self.folder, opened.channels if opened else 0, points, self._refs)

    def damaged_points(self, state: RunState) -> list[int]:
        """Ids of the points whose spectra are not on disk as they were measured.

        Raises:
            RunLogError: see :meth:`checked`.
        """
        return [point.id for point in self.checked(list(state.points.values())).damaged]

    def spectra(self) -> Counts:
        """All spectra (n, E); index them with the points' record numbers.

        A row is NaN where the record fails its checksum, or not exactly one point names it; :meth:`checked` names the
        points.

        Raises:
            RunLogError: see :meth:`checked`.
        """
        opened = next(self.events(ev.SpectraOpened), None)
        if opened is None:
            return np.empty((0, 0), np.float32)
        claimed = Counter((ref.index, ref.crc32) for ref in self._refs.values())
        named = [name for name, times in claimed.items() if times == 1]
        good, rows = _good_records(self.folder, opened.channels, named)
        whole = record_count(self.folder, opened.channels)
        try:
            spectra = np.full((min(whole, max((i + 1 for i, _ in named), default=0)), opened.channels), np.nan, "<f4")
        except MemoryError as error:
            raise RunLogError(f"The spectra of the run {self.folder} do not fit into memory.") from error
        spectra[[named[k][0] for k in good]] = rows
        return spectra

    def array(self, ref: ev.ArrayRef) -> npt.NDArray[Any]:
        """An array of the run, read only; a large one is mapped from disk.

        Raises:
            RunLogError: its name leads out of the folder, it is missing, or it is damaged.
        """
        try:
            with open_regular(inside(self.folder, ref.file)) as file:
                small = os.fstat(file.fileno()).st_size < MAPPED_BYTES
                source = io.BytesIO(file.read(MAPPED_BYTES)) if small else file
                array = _array_in(source)
                fits = crc_of(source) == ref.crc32
        except RunLogError:
            raise
        except Exception as error:  # numpy raises many things at headers that are none
            raise RunLogError(f"{ref.file} cannot be read: {error}") from error
        if not fits:
            raise RunLogError(f"{ref.file} is damaged: its checksum does not fit.")
        return array

    @functools.cached_property
    def _refs(self) -> Refs:
        return record_refs(self.records)


# --- the spectra


def record_refs(records: Iterable[ev.Record]) -> Refs:
    """Which record holds the spectrum of which point, by the points' ids, as the events name them."""
    events = (record.event for record in records)
    return {e.id: e.record for e in events if isinstance(e, ev.Measured | ev.Failed) and e.record is not None}


def record_count(folder: pathlib.Path, channels: int) -> int:
    """How many whole spectra of so many channels the file of a run can hold.

    Raises:
        RunLogError: it cannot be read.
    """
    with _spectra_of(folder) as file:
        return os.fstat(file.fileno()).st_size // (4 * channels) if file else 0


def checked_spectra(
    folder: pathlib.Path, channels: int, points: Sequence[Point], refs: Refs | None = None
) -> CheckedSpectra:
    """The spectra of points, each compared with its checksum; the file is read once.

    Args:
        folder: the run's folder.
        channels: E, of each spectrum.
        points: which; those without a record are left out.
        refs: all records that the journal names, by point. Needed where the points do not know their checksums.

    Raises:
        RunLogError: the file of the spectra cannot be read, or holds more than fits into memory.
    """
    refs = refs or {}
    taken = [p for p in points if p.record is not None]
    named = [(p.record, _crc_of_point(p, refs)) for p in taken]
    claimed = Counter({p.id: name for p, name in zip(taken, named, strict=True)}.values())
    given = {p.id for p in taken}
    claimed.update((ref.index, ref.crc32) for i, ref in refs.items() if i not in given)
    alone = [k for k, name in enumerate(named) if claimed[name] == 1]
    found, counts = _good_records(folder, channels, [named[k] for k in alone])
    good = {alone[k] for k in found}
    return CheckedSpectra(
        [p for k, p in enumerate(taken) if k in good], counts, [p for k, p in enumerate(taken) if k not in good]
    )


def _crc_of_point(point: Point, refs: Refs) -> int | None:
    crc32: int | None = getattr(point, "crc32", None)
    ref = refs.get(point.id)
    return ref.crc32 if crc32 is None and ref is not None and ref.index == point.record else crc32


def _good_records(folder: pathlib.Path, channels: int, named: Sequence[tuple[Any, Any]]) -> tuple[list[int], Counts]:
    """Which of the records, given as (index, checksum), are as they were written, and their rows (n, channels).

    Each row is read and checked in the memory in which it is handed out: a map of the file could change in between,
    or end the program where the file gets shorter.
    """
    size = 4 * channels
    good: list[int] = []
    with _spectra_of(folder) as file:
        whole = os.fstat(file.fileno()).st_size // size if file and channels else 0
        wanted = [k for k, (index, crc32) in enumerate(named) if 0 <= index < whole and crc32 is not None]
        rows = np.empty((len(wanted), channels), "<f4")
        for k in wanted:
            index, crc32 = named[k]
            row = rows[len(good)].view(np.uint8)
            file.seek(index * size)  # type: ignore[union-attr]
            if file.readinto(row) == size and zlib.crc32(row) == crc32:  # type: ignore[union-attr]
                good.append(k)
        return good, rows[: len(good)].astype(np.float32, copy=False)


@contextlib.contextmanager
def _spectra_of(folder: pathlib.Path) -> Iterator[IO[bytes] | None]:
    """The file of the spectra; None where there is none."""
    try:
        with contextlib.ExitStack() as stack:
            file = None
            with contextlib.suppress(FileNotFoundError):
                file = stack.enter_context(open_regular(folder / SPECTRA, buffering=0))
            yield file
    except OSError as error:
        raise RunLogError(f"The spectra of the run {folder} cannot be read: {error}") from error
    except MemoryError as error:
        raise RunLogError(f"The spectra of the run {folder} do not fit into memory.") from error


def spectra_from(folder: pathlib.Path, channels: int, points: Iterable[Point], first: int = 0) -> Counts:
    """Spectra (n, channels) in the order of the records, from one record on, for whoever watches a run that is made.

    Args:
        folder: the run's folder.
        channels: E, of each spectrum.
        points: all of the run.
        first: the record of the first row.

    Returns:
        Rows as far as points name them; NaN where what lies there is not as it was measured.

    Raises:
        RunLogError: they cannot be read.
    """
    taken = [p for p in points if p.record is not None and p.record >= first]
    end = min(max((p.record + 1 for p in taken if p.record is not None), default=0), record_count(folder, channels))
    rows = np.full((max(end - first, 0), channels), np.nan, np.float32)
    found = checked_spectra(folder, channels, taken)
    rows[[p.record - first for p in found.points if p.record is not None]] = found.counts
    return rows


# --- arrays


def _array_in(file: IO[bytes]) -> npt.NDArray[Any]:
    """The array of an npy file, which must be as long as its head says."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"version {version} of npy files is not written by this program")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("it holds objects, which are not loaded")
    start = file.tell()
    if file.seek(0, os.SEEK_END) != start + math.prod(shape) * dtype.itemsize:
        raise ValueError("it is longer or shorter than it says")
    order: Any = "F" if fortran else "C"
    if isinstance(file, io.BytesIO):
        return np.ndarray(shape, dtype, file.getvalue(), start, order=order)
    return np.memmap(file, dtype, "r", start, shape, order)  # type: ignore[call-overload,no-any-return]
