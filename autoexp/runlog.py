"""The journal of a run on disk, made to survive whatever stops the program.

A run is a folder. ``events.jsonl`` holds one event a line, its CRC-32 first; a line counts only when it is whole and
its checksum fits, so a reader stops at the last good event whatever the file's end looks like. ``spectra.bin`` holds
equal records one after another; a record is synced before the event that names it, and lies where its number says.
Single arrays are npy files, written under a temporary name, synced, and renamed.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import itertools
import os
import pathlib
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.errors import DiskError, RunLogError
from autoexp.journal import EVENTS, MAX_LINE_BYTES, folded, line_of, parse_line, read_events
from autoexp.lock import is_locked, lock_run
from autoexp.run_reader import SPECTRA, CheckedSpectra, RunReader, checked_spectra, record_refs, spectra_from
from autoexp.run_recovery import recover
from autoexp.safe_files import crc_of, inside, make_folder, open_regular, replace, sync_folder

OnTrouble = Callable[[DiskError], bool]
T = TypeVar("T")


class RunLog:
    """An open run: append events, spectra and arrays. One writer at a time; use as a context manager.

    Args:
        folder: the run's folder; made if it is not there.
        on_trouble: called when the disk refuses a write, with what happened. If it returns True, the very same write
            is tried again; if False, the error is raised. It may wait; it cannot write to this log.

    Attributes:
        records: all events so far.

    Raises:
        RunLogError: the folder cannot be used, belongs to a newer version, or another process writes to it.
    """

    def __init__(self, folder: str | os.PathLike[str], on_trouble: OnTrouble | None = None):
        self.folder = pathlib.Path(folder)
        self._on_trouble = on_trouble
        self._waiting = False
        self._persist(self._make_folder, 0)
        self._lock = lock_run(self.folder)
        try:
            self._persist(self._open, 0)
        except BaseException:
            self._lock.release()
            raise

    def _make_folder(self) -> None:
        try:
            make_folder(self.folder)
        except (FileExistsError, NotADirectoryError, ValueError) as error:
            raise RunLogError(f"The run folder {self.folder} cannot be written: {error}") from error

    def _open(self) -> None:
        found = recover(self.folder)
        self.records = found.journal.records
        # what counts is known here and never asked of the disk again
        self._end, self._crc32 = found.journal.good_bytes, found.journal.crc32
        self._channels, self._next_record = found.channels, found.next_record
        self._events = open_regular(self.folder / EVENTS, os.O_RDWR | os.O_CREAT, buffering=0)
        self._spectra: Any = None  # opened with the first
        self._sound = True
        try:
            sync_folder(self.folder)
        except BaseException:
            self._events.close()
            raise
        self._begun = time.monotonic() - (self.records[-1].elapsed_s if self.records else 0.0)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder; nothing more can be appended."""
        for file in (self._events, self._spectra):
            with contextlib.suppress(OSError):  # all that counts is on disk
                if file is not None:
                    file.close()
        self._lock.release()

    @property
    def elapsed_s(self) -> float:
        """Seconds of the run so far, without the time between a crash and its resumption."""
        return round(time.monotonic() - self._begun, 6)

    def append(self, *events: ev.Event, check: Callable[[list[ev.Record]], None] | None = None) -> list[ev.Record]:
        """Write events and sync them together; when this returns, they are on disk.

        Args:
            events: what happened.
            check: given them as they will be written; if it raises, nothing is.

        Raises:
            DiskError: the disk refuses, for example because it is full; none of the events counts.
            RunLogError: an event is one that could not be read again; nothing was written.
        """
        records = self._numbered(events)
        if check is not None:
            check(records)
        data = b"".join(map(_line, records))
        self._persist(lambda: self._add(data), len(data))
        self.records.extend(records)
        for record in records:
            if isinstance(record.event, ev.SpectraOpened):
                self._channels = self._channels or record.event.channels
        return records

    def append_spectrum(self, counts: npt.NDArray[Any]) -> ev.RecordRef:
        """Write one spectrum (E,) as float32 and sync it; it counts once an event names it.

        Raises:
            DiskError: the disk refuses; the spectrum does not count.
            RunLogError: it has another number of channels than the stream.
        """
        data = _floats(counts)
        self._channels = self._channels or len(data) // 4
        if len(data) != 4 * self._channels:
            raise RunLogError(f"A spectrum of {len(data) // 4} channels does not fit a stream of {self._channels}.")
        index = self._next_record
        self._persist(lambda: self._put(data, index * len(data)), len(data))
        self._next_record += 1
        return ev.RecordRef(index=index, crc32=zlib.crc32(data))

    def save_array(self, name: str, array: npt.NDArray[Any]) -> ev.ArrayRef:
        """Write an array as npy; an older one of that name is replaced in one step.

        Raises:
            DiskError: the disk refuses; the older one is untouched.
            RunLogError: the array holds objects, or the name leads out of the folder.
        """
        array = np.asanyarray(array)
        if array.dtype.hasobject:
            raise RunLogError(f"The array {name} holds objects, which are not written to a run.")
        path = inside(self.folder, f"{name}.npy")

        def write(file: IO[bytes]) -> None:
            np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)

        try:
            crc32 = self._persist(lambda: replace(path, write), array.nbytes)
        except ValueError as error:
            raise RunLogError(f"The array {name} cannot be written: {error}") from error
        return ev.ArrayRef(file=path.name, crc32=crc32)

    def save_text(self, name: str, text: str) -> None:
        """Write a text file; an older one of that name is replaced in one step.

        Raises:
            DiskError: the disk refuses; the older one is untouched.
            RunLogError: the text cannot be written, or the name leads out of the folder.
        """
        path = inside(self.folder, name)
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise RunLogError(f"{name} holds text that cannot be written: {error}") from error
        self._persist(lambda: replace(path, lambda file: file.write(data)), len(data))

    # --- what to write

    def _numbered(self, events: Sequence[ev.Event]) -> list[ev.Record]:
        utc = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        elapsed_s, first = self.elapsed_s, len(self.records)
        try:
            return [ev.Record(seq=first + i, utc=utc, elapsed_s=elapsed_s, event=e) for i, e in enumerate(events)]
        except ValueError as error:
            raise RunLogError(f"An event is none that a journal holds; nothing was written. {error}") from error

    # --- how it is written

    def _persist(self, write: Callable[[], T], size: int) -> T:
        """Write, and again as long as whoever was told of trouble wants it."""
        if self._waiting:
            raise RunLogError("A write to the run still waits for the disk; nothing else can be written before it.")
        for tries in itertools.count(1):
            try:
                return write()
            except OSError as error:
                trouble = self._trouble(error, size)
                trouble.tries = tries
                if not self._again(trouble):
                    raise trouble from error
        raise AssertionError("there is always one more try")

    def _again(self, trouble: DiskError) -> bool:
        if self._on_trouble is None:
            return False
        self._waiting = True
        try:
            return self._on_trouble(trouble)
        finally:
            self._waiting = False

    def _trouble(self, error: OSError, size: int) -> DiskError:
        room = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(self.folder).free
                room = f" {size:,} bytes are to be written, {free:,} are free there; make room, or raise the quota."
        return DiskError(f"The run cannot be written to {self.folder}: {error}.{room}")

    def _add(self, data: bytes) -> None:
        """Put lines at the end of the journal."""
        if not self._sound or os.fstat(self._events.fileno()).st_size != self._end:
            self._mend()
        os.lseek(self._events.fileno(), self._end, os.SEEK_SET)
        self._write(self._events, data)
        self._end += len(data)
        self._crc32 = zlib.crc32(data, self._crc32)

    def _put(self, data: bytes, at: int) -> None:
        """Put a record where it belongs, whatever lies there: no event names it."""
        if self._spectra is None:
            self._spectra = open_regular(self.folder / SPECTRA, os.O_RDWR | os.O_CREAT, buffering=0)
            sync_folder(self.folder)
        os.lseek(self._spectra.fileno(), at, os.SEEK_SET)
        try:
            self._write(self._spectra, data)
        except BaseException:
            with contextlib.suppress(OSError):
                self._spectra.close()
            self._spectra = None  # opened anew: a share that went away may be back under the old name only
            raise

    def _write(self, file: Any, data: bytes) -> None:
        """Write from where the file stands, and sync; what was half written is cut off again."""
        start = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        left = memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except BaseException:
            self._cut(file, start)
            raise

    def _cut(self, file: Any, end: int) -> None:
        """Cut a file at its good end. Where that fails, nothing is appended until :meth:`_mend` has come through."""
        try:
            os.ftruncate(file.fileno(), end)
            os.fsync(file.fileno())
        except OSError:
            self._sound = False

    def _mend(self) -> None:
        """Open the journal anew, see that all that was acknowledged is there, and cut off what is not.

        Raises:
            OSError: the disk still refuses.
            RunLogError: the journal is no longer what was written.
        """
        file = open_regular(self.folder / EVENTS, os.O_RDWR, buffering=0)
        try:
            if crc_of(file, self._end) != self._crc32:
                raise RunLogError(
                    f"The journal of the run {self.folder} is no longer what was written: something else has changed "
                    "it. Nothing more is written to it."
                )
            os.ftruncate(file.fileno(), self._end)
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            raise
        with contextlib.suppress(OSError):
            self._events.close()
        self._events, self._sound = file, True


def _line(record: ev.Record) -> bytes:
    """The line of an event, which the reader takes: it is asked before anything is written."""
    try:
        line = line_of(record.model_dump_json(warnings=False).encode())
        if len(line) <= MAX_LINE_BYTES and parse_line(line, record.seq) is not None:
            return line
        reason = f"it is {len(line):,} bytes long, of {MAX_LINE_BYTES:,}"
    except (ValueError, TypeError, RecursionError, RunLogError) as error:
        reason = str(error)
    raise RunLogError(f"An event ({type(record.event).__name__}) cannot be written down: {reason}") from None


def _floats(counts: npt.NDArray[Any]) -> bytes:
    try:
        return np.ascontiguousarray(counts, dtype="<f4").tobytes()
    except (ValueError, TypeError) as error:
        raise RunLogError(f"A spectrum is none that can be written down: {error}") from error


__all__ = [
    "EVENTS",
    "SPECTRA",
    "CheckedSpectra",
    "OnTrouble",
    "RunLog",
    "RunReader",
    "checked_spectra",
    "folded",
    "inside",
    "is_locked",
    "read_events",
    "record_refs",
    "spectra_from",
]
