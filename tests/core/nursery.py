"""Runs in processes that may be killed, forked from one in which everything is imported already.

Imported, it is the side of the tests: `Nursery`. Started, it is the program on the other side. That reads one JSON line
for each run to begin, answers with the number of its process, then with what the run says, a line each, and with
another line once it has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

from autoexp.engine import Engine
from autoexp.errors import AutoexpError
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import Plan
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

SITE = SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15) for name in ("CAperture.y", "CAperture.x")})
REFUSED = 3


class Nursery:
    """Begins runs in other processes, one at a time."""

    def __init__(self):
        command = [sys.executable, str(pathlib.Path(__file__))]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def begin(self, **given):
        """Begin a run; the number of its process."""
        self._process.stdin.write(json.dumps(given) + "\n")
        return self._hear()

    def made(self):
        """Wait until the engine is made; False where the run has ended before that."""
        return self._hear() == "made"

    def ended(self):
        """Wait for its end: its exit code, negative if it was killed, and the last event that it acknowledged."""
        told = -1
        while not isinstance(line := self._hear(), dict):
            told = told if line == "made" else line
        return line["ended"], told

    def kill(self, child):
        with contextlib.suppress(ProcessLookupError):  # it has come to its end
            os.kill(child, signal.SIGKILL)

    def close(self):
        with self._process:
            self._process.stdin.close()

    def _hear(self):
        return json.loads(self._process.stdout.readline())


class Witness(FaultyInstrument):
    """Writes down each exposure, in seconds, before it begins: that is what reaches the specimen at most."""

    def __init__(self, microscope, path):
        super().__init__(DirectInstrument(microscope))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def _exposes(self, kind, seconds, position=None):
        os.write(self._file, (json.dumps([kind, seconds, position]) + "\n").encode())

    def overview(self, spec):
        self._exposes("overview", spec.time_s)
        return super().overview(spec)

    def spectrum(self, position, spec):
        self._exposes("spectrum", spec.exposure_s, position)
        return super().spectrum(position, spec)

    def camera_frame(self, spec):
        self._exposes("frame", spec.exposure_s)
        return super().camera_frame(spec)


def tell(record, _state):
    """Say that an event was acknowledged."""
    os.write(1, f"{record.seq}\n".encode())


def live(given, specimen):
    """One run, on the thread of this process; its exit code says how it went."""
    microscope = VirtualMicroscope(specimen, time_scale=given["time_scale"])
    instrument = Witness(microscope, given["witness"])
    plan = Plan.from_json(given["plan"]) if given["plan"] else None
    folder, locks = pathlib.Path(given["folder"]), pathlib.Path(given["locks"])
    told = (tell,) if given.get("tells") else ()
    try:
        engine = Engine(
            plan, instrument, folder, lock_folder=locks, beam_current_pA=given["pA"], site=SITE, observers=told
        )
    except AutoexpError:
        return REFUSED
    os.write(1, b'"made"\n')
    engine.run()
    return 0 if engine.error is None else REFUSED if isinstance(engine.error, AutoexpError) else 1


def main():
    """Fork a process for each line that is read."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    specimen = make_specimen("plasmonic", 0)
    for line in sys.stdin:
        given = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = live(given, specimen)
            finally:
                os._exit(code)
        os.write(1, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(1, (json.dumps({"ended": os.waitstatus_to_exitcode(status)}) + "\n").encode())


if __name__ == "__main__":
    main()
