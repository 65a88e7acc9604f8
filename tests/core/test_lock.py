"""One owner per instrument, also across processes; a holder that died holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from autoexp.errors import InstrumentBusyError, InstrumentError
from autoexp.instrument import Identity
from autoexp.lock import InstrumentLock

STEM = Identity("stem/1", "The STEM", simulated=True)

CHILD = """
import pathlib, sys, time
from autoexp.instrument import Identity
from autoexp.lock import InstrumentLock
with InstrumentLock(Identity("stem/1", "The STEM", True), "another Swift", pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_sees_who_holds_it(locks):
    with InstrumentLock(STEM, "Panel 1", locks):
        with pytest.raises(InstrumentBusyError, match=r"The STEM is in use by Panel 1 \(process \d+\)"):
            InstrumentLock(STEM, "Panel 2", locks).acquire()
        with InstrumentLock(Identity("other", "Other", True), "Panel 2", locks):
            pass
    with InstrumentLock(STEM, "Panel 2", locks):
        pass


def test_another_process_and_its_death(locks):
    with subprocess.Popen([sys.executable, "-c", CHILD, str(locks)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(InstrumentBusyError, match="another Swift"):
            InstrumentLock(STEM, "Panel", locks).acquire()
        child.send_signal(signal.SIGKILL)
        child.wait()
        with InstrumentLock(STEM, "Panel", locks):
            pass


def test_a_lock_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InstrumentError, match="The STEM cannot be locked"):
        InstrumentLock(STEM, "Panel", tmp_path / "file").acquire()


@pytest.mark.parametrize("note", ["", "[]", "3", "{}", "[" * 100_000, '{"holder": 1}'])
def test_a_note_that_says_nothing(locks, note):
    with InstrumentLock(STEM, "Panel 1", locks):
        next(locks.glob("*.json")).write_text(note)
        with pytest.raises(InstrumentBusyError, match="in use by another run"):
            InstrumentLock(STEM, "Panel 2", locks).acquire()


def test_a_note_that_cannot_be_written_costs_no_run(locks):
    with InstrumentLock(STEM, "Panel 1", locks):
        pass
    (note,) = locks.glob("*.json")
    note.unlink()
    note.mkdir()
    with InstrumentLock(STEM, "Panel 1", locks), pytest.raises(InstrumentBusyError, match="another run"):
        InstrumentLock(STEM, "Panel 2", locks).acquire()
