"""One owner per instrument, across threads and processes."""

from __future__ import annotations

import json
import os
import pathlib
import re
from typing import Self

import platformdirs
from filelock import FileLock, Timeout

from autoexp.errors import InstrumentBusyError
from autoexp.instrument import Identity


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
        folder.mkdir(parents=True, exist_ok=True)
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
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InstrumentBusyError(
                f"{self._identity.name} is in use by {self._who()}. Wait until that run ends, or stop it there."
            ) from error
        self._note.write_text(json.dumps({"holder": self._holder, "pid": os.getpid()}), encoding="utf-8")

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def _who(self) -> str:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return f"{note['holder']} (process {note['pid']})"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return "another run"
