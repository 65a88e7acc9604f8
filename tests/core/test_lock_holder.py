"""Who holds an instrument: said as well as it is known, and given back from whichever thread."""

from __future__ import annotations

import json
import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexp.errors import InstrumentBusyError
from autoexp.instrument import Identity
from autoexp.lock import InstrumentLock, holders

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


def test_who_looks_at_the_locks_keeps_nobody_from_taking_one(locks):
    stop, looks = threading.Event(), []
    with InstrumentLock(STEM, "an old run", locks):
        pass

    def look():
        while not stop.is_set():
            looks.append(holders(locks))

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(200):
            with InstrumentLock(STEM, "a run", locks):
                pass
    finally:
        stop.set()
        for looker in lookers:
            looker.join()
    assert looks


def test_locks_are_looked_at_without_taking_or_making_anything(locks):
    assert holders(locks / "nowhere") == {}
    with InstrumentLock(STEM, "Panel 1", locks):
        assert holders(locks) == {"stem_1": f"Panel 1 (process {os.getpid()})"}
        before = sorted(locks.iterdir())
        assert holders(locks) == holders(locks)
        assert sorted(locks.iterdir()) == before
    assert holders(locks) == {}


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_locks_and_notes_that_are_no_files_are_never_waited_for(make, locks):
    locks.mkdir(exist_ok=True)
    make(locks / "strange.lock")
    assert holders(locks) == {}
    with InstrumentLock(STEM, "Panel 1", locks):
        (locks / "stem_1.json").unlink()
        make(locks / "stem_1.json")
        assert holders(locks) == {"stem_1": "another run"}


notes = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda holder, pid: json.dumps({"holder": holder, "pid": pid}).encode(),
        st.one_of(st.text(), st.none(), st.lists(st.integers()), st.just("x" * 5000)),
        st.one_of(st.integers(), st.text(), st.booleans()),
    ),
)


@given(note=notes)
def test_whatever_a_note_says_one_short_line_is_made_of_it(note, tmp_path_factory):
    folder = tmp_path_factory.mktemp("locks")
    with InstrumentLock(STEM, "Panel 1", folder):
        (folder / "stem_1.json").write_bytes(note)
        (said,) = holders(folder).values()
    assert len(said) < 300
    said.encode()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no shared lock there")
def test_two_who_look_are_not_in_each_others_way(locks):
    import fcntl

    with InstrumentLock(STEM, "Panel 1", locks):
        pass
    (path,) = locks.glob("*.lock")
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as one who looks
        assert holders(locks) == {}
