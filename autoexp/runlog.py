"""The journal of a run on disk, made to survive whatever stops the program.

A run is a folder. ``events.jsonl`` holds one event a line, its CRC-32 first; a line counts only when it is whole and
its checksum fits, so a reader stops at the last good event whatever the file's end looks like. ``spectra.bin`` holds
equal records one after another; a record is synced before the event that names it. Single arrays are npy files,
written under a temporary name, synced, and renamed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import time
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from pydantic import ValidationError

from autoexp import events as ev
from autoexp.errors import RunLogError

EVENTS = "events.jsonl"
LOCK = ".lock"
SPECTRA = "spectra.bin"
MAX_LINE_BYTES = 64_000_000


class RunLog:
    """An open run: append events, spectra and arrays. One writer at a time; use as a context manager.

    Args:
        folder: the run's folder; made if it is not there.

    Raises:
        RunLogError: the folder cannot be used, belongs to a newer version, or another process writes to it.
    """

    def __init__(self, folder: str | os.PathLike[str], on_trouble: Any = None):
        self.folder = pathlib.Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # made on one thread and closed on another
            self._lock = FileLock(self.folder / LOCK, thread_local=False)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunLogError(f"Another program is writing to the run {self.folder}; close it there first.") from error
        except OSError as error:
            raise RunLogError(f"The run folder {self.folder} cannot be written: {error}") from error
        try:
            self.records = _recover(self.folder)
            self._events = open(self.folder / EVENTS, "ab", buffering=0)  # noqa: SIM115 - open for the life of the run
            self._spectra: Any = None  # opened with the first
        except BaseException:
            self._lock.release()
            raise
        self._begun = time.monotonic() - (self.records[-1].elapsed_s if self.records else 0.0)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder; nothing more can be appended."""
        self._events.close()
        if self._spectra is not None:
            self._spectra.close()
        self._lock.release()

    @property
    def elapsed_s(self) -> float:
        """Seconds of the run so far, without the time between a crash and its resumption."""
        return round(time.monotonic() - self._begun, 6)

    def append(self, *events: ev.Event) -> list[ev.Record]:
        """Write events and sync them together; when this returns, they are on disk.

        Raises:
            RunLogError: the disk refuses, for example because it is full; none of the events counts.
        """
        utc = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        elapsed_s = self.elapsed_s
        first = len(self.records)
        records = [
            ev.Record(seq=first + i, utc=utc, elapsed_s=elapsed_s, event=event) for i, event in enumerate(events)
        ]
        bodies = [record.model_dump_json().encode() for record in records]
        self._write(self._events, b"".join(b"%08x %s\n" % (zlib.crc32(body), body) for body in bodies))
        self.records.extend(records)
        return records

    def append_spectrum(self, counts: npt.NDArray[Any]) -> ev.RecordRef:
        """Write one spectrum (E,) as float32 and sync it."""
        data = np.ascontiguousarray(counts, dtype="<f4").tobytes()
        if self._spectra is None:
            self._spectra = open(self.folder / SPECTRA, "ab", buffering=0)  # noqa: SIM115
        index = os.fstat(self._spectra.fileno()).st_size // len(data)
        self._write(self._spectra, data)
        return ev.RecordRef(index=index, crc32=zlib.crc32(data))

    def save_array(self, name: str, array: npt.NDArray[Any]) -> ev.ArrayRef:
        """Write an array as npy; an older one of that name is replaced in one step."""
        path = self.folder / f"{name}.npy"
        self._replace(path, lambda file: np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False))
        return ev.ArrayRef(file=path.name, crc32=_crc_of(path))

    def save_text(self, name: str, text: str) -> None:
        """Write a text file; an older one of that name is replaced in one step."""
        self._replace(self.folder / name, lambda file: file.write(text.encode()))

    @staticmethod
    def _replace(path: pathlib.Path, write: Callable[[IO[bytes]], object]) -> None:
        temporary = path.with_suffix(".tmp")
        try:
            with open(temporary, "wb") as file:
                write(file)
                _sync(file)
            os.replace(temporary, path)
        except OSError as error:
            raise RunLogError(f"{path.name} cannot be written: {error}") from error

    def _write(self, file: Any, data: bytes) -> None:
        end = os.fstat(file.fileno()).st_size
        left = memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            # What was half written must not stand before the next good line.
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), end)
            raise RunLogError(f"The run cannot be written to {self.folder}: {error}") from error


class RunReader:
    """A run on disk, read only; it may still be running, or have ended in any way.

    Raises:
        RunLogError: there is no run in the folder, or it was written by a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = pathlib.Path(folder)
        self.records, self.damaged_bytes = read_events(self.folder)
        if not self.records:
            raise RunLogError(f"{self.folder} holds no run.")

    def events(self, kind: type[Any]) -> Iterator[Any]:
        """All events of one class, in order."""
        return (record.event for record in self.records if isinstance(record.event, kind))

    def spectra(self) -> npt.NDArray[np.float32]:
        """All spectra (n, E), mapped from disk; index it with the points' record numbers."""
        opened = next(self.events(ev.SpectraOpened), None)
        return np.empty((0, 0), np.float32) if opened is None else stored_spectra(self.folder, opened.channels)

    def checked(self, points: Any) -> Any:
        import types

        return types.SimpleNamespace(points=list(points), counts=self.spectra()[[p.record for p in points]], damaged=[])

    def array(self, ref: ev.ArrayRef) -> npt.NDArray[Any]:
        """An array of the run, mapped from disk.

        Raises:
            RunLogError: its name leads out of the folder, it is missing, or it is damaged.
        """
        path = inside(self.folder, ref.file)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise RunLogError(f"{ref.file} cannot be read: {error}") from error
        if _crc_of(path) != ref.crc32:
            raise RunLogError(f"{ref.file} is damaged: its checksum does not fit.")
        return np.asarray(array) if array.nbytes < 1 << 26 else array


def read_events(folder: pathlib.Path) -> tuple[list[ev.Record], int]:
    """All good events of a run, and how many bytes at the end are not.

    Raises:
        RunLogError: the run was written by a newer version.
    """
    path = folder / EVENTS
    records: list[ev.Record] = []
    good = 0
    if not path.exists():
        return records, 0
    with open(path, "rb") as file:
        for line in iter(lambda: file.readline(MAX_LINE_BYTES), b""):
            record = _parse(line, len(records))
            if record is None:
                break
            records.append(record)
            good += len(line)
    return records, path.stat().st_size - good


def stored_spectra(folder: pathlib.Path, channels: int) -> npt.NDArray[np.float32]:
    """All whole spectra (n, channels) of a run, mapped from disk."""
    path = folder / SPECTRA
    count = path.stat().st_size // (4 * channels) if path.exists() else 0
    if count == 0:
        return np.empty((0, channels), np.float32)
    return np.memmap(path, "<f4", "r", shape=(count, channels))


def is_locked(folder: pathlib.Path) -> bool:
    """Whether somebody is writing to a run now."""
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The path of a file named in a log, which must lie in the run's own folder.

    Raises:
        RunLogError: the name leads elsewhere.
    """
    path = (folder / name).resolve()
    if path.parent != folder.resolve() or path.name != name:
        raise RunLogError(f"The run names a file outside its own folder: {name!r}.")
    return path


def _parse(line: bytes, seq: int) -> ev.Record | None:
    """The record of a line, or None if the line is not whole and true."""
    if len(line) < 10 or line[8:9] != b" " or not line.endswith(b"\n"):
        return None
    body = line[9:-1]
    if line[:8] != b"%08x" % zlib.crc32(body):
        return None
    if seq == 0:
        _check_format(body)
    try:
        record = ev.Record.model_validate_json(body)
    except ValidationError as error:
        raise RunLogError(
            f"Event {seq} of this run is whole but means nothing to this version; nothing was changed. {error}"
        ) from error
    return record if record.seq == seq else None


def _check_format(body: bytes) -> None:
    event = json.loads(body).get("event", {})
    written = event.get("format", 0)
    if event.get("type") == "started" and written > ev.FORMAT_VERSION:
        raise RunLogError(
            f"This run was written by a newer version (format {written}; this version reads up to "
            f"{ev.FORMAT_VERSION}). Update nionswift-autoexp to open it; nothing was changed."
        )


def _recover(folder: pathlib.Path) -> list[ev.Record]:
    """Read what is good; set what is not aside as ``.damaged``, so that appending goes on after the last good event."""
    records, bad = read_events(folder)
    path = folder / EVENTS
    if bad:
        good = path.stat().st_size - bad
        with open(path, "r+b") as file:
            file.seek(good)
            tail = file.read()
            with open(folder / f"{EVENTS}.damaged", "ab") as aside:
                aside.write(tail)
                _sync(aside)
            file.truncate(good)
            _sync(file)
    _cut_spectra(folder, records)
    return records


def _cut_spectra(folder: pathlib.Path, records: list[ev.Record]) -> None:
    """Drop a record of the spectra that is not whole; whole ones stay, named by an event or not."""
    opened = next((r.event for r in records if isinstance(r.event, ev.SpectraOpened)), None)
    path = folder / SPECTRA
    if not path.exists():
        return
    size = path.stat().st_size
    whole = size // (4 * opened.channels) * 4 * opened.channels if opened else 0
    if size != whole:
        os.truncate(path, whole)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _crc_of(path: pathlib.Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc
