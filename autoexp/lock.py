"""One owner per instrument and one writer per run, across threads and processes."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import sys
from typing import Self

import platformdirs
from filelock import FileLock, Timeout

from autoexp.documents import read_json
from autoexp.errors import InstrumentBusyError, InstrumentError, PlanError, RunLogError
from autoexp.instrument import Identity
from autoexp.safe_files import open_regular
from autoexp.text import clean

RUN_LOCK = ".lock"
PATIENCE_S = 0.5
NOTE_BYTES = 10_000


def default_folder() -> pathlib.Path:
    """Where locks lie, in the user's state folder."""
    return pathlib.Path(platformdirs.user_state_dir("autoexp", appauthor=False)) / "locks"


class InstrumentLock:
    """Holds an instrument for one run; a context manager.

    The lock is the operating system's, so it ends with the process however that ends: there are no stale locks, only
    a stale note of who held it last.

    Args:
        identity: which instrument.
        holder: who wants it, in words; shown to whoever comes second.
        folder: where locks lie; in the user's state folder by default.
    """

    def __init__(self, identity: Identity, holder: str, folder: pathlib.Path | None = None):
        folder = folder or default_folder()
        name = re.sub(r"[^A-Za-z0-9_-]", "_", identity.key)
        self._identity = identity
        self._note = folder / f"{name}.json"
        self._holder = holder
        self._lock = FileLock(folder / f"{name}.lock", thread_local=False)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            InstrumentBusyError: somebody else has it; the message says who.
            InstrumentError: the file of the lock cannot be made.
        """
        try:
            self._note.parent.mkdir(parents=True, exist_ok=True)
            _take(self._lock)
        except Timeout as error:
            holder = _holder(self._note)
            raise InstrumentBusyError(
                f"{self._identity.name} is in use by {holder}. Wait until that run ends, or stop it there."
            ) from error
        except OSError as error:
            raise InstrumentError(f"{self._identity.name} cannot be locked for this run: {error}") from error
        with contextlib.suppress(OSError):  # a courtesy to whoever comes second, not worth a run
            self._note.write_text(json.dumps({"holder": self._holder, "pid": os.getpid()}), encoding="utf-8")

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


def holders(folder: pathlib.Path | None = None) -> dict[str, str]:
    """The instruments that are in use now, and by whom; nothing is made, changed or kept, and no run is refused for it.

    Args:
        folder: where locks lie; in the user's state folder by default.

    Returns:
        Names of locks, which are those of the instruments' keys, with who holds each as far as that is known.
    """
    folder = folder or default_folder()
    try:
        locks = sorted(path for path in folder.iterdir() if path.suffix == ".lock")
    except OSError:
        return {}
    return {clean(path.stem, 200): _holder(path.with_suffix(".json")) for path in locks if _is_taken(path)}


def _holder(note: pathlib.Path) -> str:
    """Who holds a lock, by the note beside it; it may say anything or nothing."""
    try:
        told = read_json(note, "The note", NOTE_BYTES, follow=False)
        return f"{clean(str(told['holder']), 200)} (process {clean(str(told['pid']), 20)})"
    except (PlanError, LookupError, TypeError):
        return "another run"


def lock_run(folder: pathlib.Path) -> FileLock:
    """The lock of a run's folder, taken; it ends with the process however that ends.

    Raises:
        RunLogError: another process writes there, or the lock cannot be taken.
    """
    path = folder / RUN_LOCK
    lock = FileLock(path, thread_local=False)  # made on one thread and closed on another
    try:
        with contextlib.suppress(FileNotFoundError):
            open_regular(path, os.O_RDWR).close()  # a link is refused, and named, before anything opens it
        _take(lock)
    except Timeout as error:
        raise RunLogError(f"Another program is writing to the run {folder}; close it there first.") from error
    except OSError as error:
        raise RunLogError(f"The run folder {folder} cannot be written: {error}") from error
    return lock


def is_locked(folder: pathlib.Path) -> bool:
    """Whether somebody is writing to a run now; found out without making, changing or keeping anything."""
    return _is_taken(folder / RUN_LOCK)


def _take(lock: FileLock) -> None:
    """Take a lock.

    Whoever only looks whether it is held (:func:`_is_taken`) may have it for some microseconds, so it is asked for
    again and again for half a second before it counts as taken.

    Raises:
        Timeout: somebody else has it.
        OSError: its file cannot be made.
    """
    lock.acquire(timeout=PATIENCE_S, poll_interval=0.002)


def _is_taken(path: pathlib.Path) -> bool:
    """Whether somebody holds the lock of a file."""
    try:
        with open_regular(path) as file:
            return _is_held(path, file.fileno())
    except (OSError, RunLogError):
        return False  # no lock, or none that anybody could have taken


if sys.platform == "win32":

    def _is_held(path: pathlib.Path, fd: int) -> bool:
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

else:
    import fcntl

    def _is_held(path: pathlib.Path, fd: int) -> bool:
        # filelock locks with flock. F_GETLK would look without touching but does not see such locks, and /proc/locks
        # neither knows other systems nor names the devices of all file systems. A shared lock is tried instead, on a
        # descriptor for reading, which also works where nothing can be written; it ends when that is closed. Those
        # who look never get in each other's way, and a writer asks again until they have gone.
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        return False
