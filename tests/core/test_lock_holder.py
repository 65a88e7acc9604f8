"""Who holds an instrument: said as well as it is known, and given back from whichever thread."""

from __future__ import annotations

import os
import threading

import pytest

from autoexp.errors import InstrumentBusyError
from autoexp.instrument import Identity
from autoexp.lock import InstrumentLock

STEM = Identity("stem/1", "The STEM", simulated=True)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"{}", b'{"holder": "x"}', b"\xff\xfe", b"1"])
def test_a_damaged_note_hides_nothing_but_the_name(note, locks):
    with InstrumentLock(STEM, "Panel 1", locks):
        (path,) = locks.glob("*.json")
        path.write_bytes(note)
        with pytest.raises(InstrumentBusyError, match="in use by another run"):
            InstrumentLock(STEM, "Panel 2", locks).acquire()


def test_the_note_of_who_held_it_last_is_replaced(locks):
    with InstrumentLock(STEM, "Panel 1", locks):
        pass
    with (
        InstrumentLock(STEM, "Panel 2", locks),
        pytest.raises(InstrumentBusyError, match=rf"Panel 2 \(process {os.getpid()}\)"),
    ):
        InstrumentLock(STEM, "Panel 3", locks).acquire()


def test_another_thread_may_give_it_back(locks):
    lock = InstrumentLock(STEM, "Panel 1", locks)
    taking = threading.Thread(target=lock.acquire)
    taking.start()
    taking.join()
    with pytest.raises(InstrumentBusyError):
        InstrumentLock(STEM, "Panel 2", locks).acquire()
    lock.release()
    InstrumentLock(STEM, "Panel 2", locks).acquire()


def test_it_is_given_back_where_it_ends(locks):
    lock = InstrumentLock(STEM, "Panel 1", locks)
    with lock:
        pass
    InstrumentLock(STEM, "Panel 2", locks).acquire()
    del lock  # had it been thrown away before, it would have been given back in any case
