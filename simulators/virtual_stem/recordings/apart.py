"""Files are tried first in a process of its own, where a library that hangs or crashes harms nobody.

HDF5 in particular is written in C, and a file with a few damaged bytes can keep it busy for ever, or take the whole
program with it. So the file is read there, to its end, before it is read here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from virtual_stem.recordings.signals import MissingLibraryError, RecordingError

PATIENCE_S = 30.0
"""How long a small file may take; a library that is loaded for it has to start within the same time again."""
BYTES_S = 5e6
"""For so many bytes of a file there is one second more."""
START_S = 60.0
IDLE_S = 60.0
"""So long the other process is kept for the next file."""
READY = "ready"


class Trial:
    """Reads files in another process, one at a time; it is begun when it is needed, and again when it was lost."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = threading.Lock()

    def require_readable(self, path: pathlib.Path, most: int) -> None:
        """Try to read a file.

        Args:
            path: the file.
            most: bytes of data that are read at most.

        Raises:
            RecordingError: it cannot be read, or not within a reasonable time.
            MissingLibraryError: a library is missing.
        """
        with self._one_at_a_time:
            if not self._started():
                return  # no other process can be had: whoever reads it here takes the risk
            told = self._asked(path, most)
        if told is None:
            raise RecordingError(f"{path.name} cannot be read: it is damaged, and the library for it fails on it.")
        if told["missing"]:
            raise MissingLibraryError(told["error"])
        if told["error"]:
            raise RecordingError(told["error"])

    def close(self) -> None:
        """End the other process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def _started(self) -> bool:
        if self._process is not None and self._process.poll() is None:
            return True
        self.close()
        root = str(pathlib.Path(__file__).resolve().parents[2])
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-c", "from virtual_stem.recordings import apart; apart.serve()"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths},
            )
        except OSError:
            return False
        if self._line(START_S) == READY:
            return True
        self.close()
        return False

    def _asked(self, path: pathlib.Path, most: int) -> dict[str, Any] | None:
        """What the other process says of a file; None if it says nothing, in which case it is ended."""
        process = self._process
        assert process is not None and process.stdin is not None
        size = path.stat().st_size if path.is_file() else 0
        try:
            process.stdin.write(json.dumps([os.path.abspath(path), most]).encode() + b"\n")
            process.stdin.flush()
            told = json.loads(self._line(PATIENCE_S + size / BYTES_S))
        except (OSError, ValueError):
            self.close()
            return None
        return dict(told)

    def _line(self, patience_s: float) -> str:
        """One line from the other process; empty if none comes."""
        process = self._process
        assert process is not None and process.stdout is not None
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        read: Callable[[], bytes] = process.stdout.readline
        threading.Thread(target=lambda: lines.put(read()), name="recordings-apart", daemon=True).start()
        with contextlib.suppress(queue.Empty):
            return lines.get(timeout=patience_s).decode().strip()
        return ""


TRIAL = Trial()
atexit.register(TRIAL.close)


def serve() -> None:
    """Read files until nobody asks any more: a path and a size come in on each line, what is wrong goes out."""
    from virtual_stem.recordings import read_here

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries may print
    out.write(f"{READY}\n")
    while True:
        waiting = threading.Timer(IDLE_S, os._exit, [0])
        waiting.daemon = True
        waiting.start()
        line = sys.stdin.readline()
        waiting.cancel()
        if not line:
            return
        path, most = json.loads(line)
        told = {"error": "", "missing": False}
        try:
            read_here(pathlib.Path(path), most)
        except RecordingError as error:
            told = {"error": str(error), "missing": isinstance(error, MissingLibraryError)}
        out.write(json.dumps(told) + "\n")
