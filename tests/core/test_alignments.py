"""Alignments outside a run: kept or put back, undone, written down, and recovered after a kill."""

from __future__ import annotations

import datetime
import errno
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from autoexp import alignments as module
from autoexp import events as ev
from autoexp.alignments import Alignments
from autoexp.errors import (
    AbortedError,
    DisconnectedError,
    DiskError,
    InstrumentBusyError,
    InstrumentError,
    LimitError,
    RunLogError,
)
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.lock import InstrumentLock
from autoexp.plan import AlignmentSpec, FrameSpec
from autoexp.runlog import RunLog, RunReader
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope

PAIR = ("CAperture.y", "CAperture.x")
SPEC = AlignmentSpec(frame=FrameSpec(exposure_s=0.05, binning=16))
AWAY = dict(zip(PAIR, (0.03, -0.035), strict=True))

KILLED = """
import os, signal, sys, pathlib
from test_alignments import AWAY, SPEC, make_alignments
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

microscope = VirtualMicroscope(make_specimen("plasmonic", 0), seed=3, time_scale=1000)
alignments, _ = make_alignments(microscope, pathlib.Path(sys.argv[1]))
alignments.displace(AWAY)
looks = []
alignments.align(SPEC, lambda look: looks.append(look) or len(looks) < 3 or os.kill(os.getpid(), signal.SIGKILL))
"""


def make_alignments(microscope, folder, **limits):
    controls = {name: ControlLimits(low=-0.15, high=0.15, **limits) for name in PAIR}
    instrument = FaultyInstrument(DirectInstrument(microscope))
    made = Alignments(instrument, SiteLimits(controls=controls), folder, holder="a test", lock_folder=folder / "locks")
    return made, instrument


@pytest.fixture
def microscope(plasmonic):
    return VirtualMicroscope(plasmonic, seed=3, time_scale=1000)


@pytest.fixture
def alignments(microscope, tmp_path):
    made, _ = make_alignments(microscope, tmp_path)
    made.displace(AWAY)
    return made


def controls(microscope):
    return {name: microscope.controls[name] for name in PAIR}


def journal(folder):
    (log,) = folder.glob("alignments/*/*")
    return [record.event for record in RunReader(log).records]


def test_a_success_stays_until_it_is_undone(alignments, microscope):
    first = alignments.align(SPEC)
    assert first.success
    centred = controls(microscope)
    assert centred != AWAY
    alignments.displace({"CAperture.y": centred["CAperture.y"] + 0.02})
    again = alignments.align(SPEC)
    assert len(again.looks) <= len(first.looks)  # what was learned is known
    alignments.undo()
    assert microscope.controls["CAperture.y"] == centred["CAperture.y"] + 0.02
    alignments.undo()
    assert controls(microscope) == pytest.approx(AWAY)
    with pytest.raises(InstrumentError, match="no alignment to undo"):
        alignments.undo()


def test_what_is_accepted_is_not_undone(alignments):
    alignments.align(SPEC)
    alignments.accept()
    assert not alignments.entries


def test_a_look_moves_nothing(alignments, microscope):
    look = alignments.look(SPEC)
    assert look.disk is not None
    assert not look.aligned
    assert controls(microscope) == AWAY


def test_what_fails_is_put_back(microscope, tmp_path):
    alignments, instrument = make_alignments(microscope, tmp_path)
    alignments.displace(AWAY)
    found = alignments.align(SPEC.model_copy(update={"frames": 2, "tolerance_px": 1e-3}))
    assert not found.success
    assert controls(microscope) == AWAY
    assert not alignments.entries
    instrument.arm(None, "disconnected")
    with pytest.raises(DisconnectedError):
        alignments.align(SPEC)
    assert controls(microscope) == AWAY


def test_an_abort_from_another_thread_puts_it_back(alignments, microscope):
    looks = []

    def see(look):
        looks.append(look)
        if len(looks) == 2:
            alignments.abort()

    with pytest.raises(AbortedError):
        alignments.align(SPEC, see)
    assert len(looks) == 2
    assert controls(microscope) == AWAY
    assert alignments.align(SPEC).success  # and then it can be tried again


def test_who_comes_second_is_refused(alignments, microscope, tmp_path):
    identity = DirectInstrument(microscope).identity
    with (
        InstrumentLock(identity, "a run", tmp_path / "locks"),
        pytest.raises(InstrumentBusyError, match="in use by a run"),
    ):
        alignments.align(SPEC)
    assert controls(microscope) == AWAY


def test_every_move_is_in_the_journal_before_it_is_made(microscope, tmp_path):
    alignments, instrument = make_alignments(microscope, tmp_path)
    alignments.displace(AWAY)
    found = alignments.align(SPEC)
    alignments.undo()
    told = [(e.name, e.value) for e in journal(tmp_path) if isinstance(e, ev.Moving)]
    assert told == [what for kind, what in instrument.commands if kind == "set"]
    looked = [e for e in journal(tmp_path) if isinstance(e, ev.Looked)]
    assert [e.center for e in looked] == [look.disk.center for look in found.looks]
    assert sum(isinstance(e, ev.Restored) for e in journal(tmp_path)) == 3


def test_a_way_back_is_gone_in_steps_that_are_allowed(microscope, tmp_path):
    alignments, instrument = make_alignments(microscope, tmp_path, step=0.006)
    for name, value in AWAY.items():
        microscope.controls[name] = value
    assert alignments.align(SPEC.model_copy(update={"frames": 60})).success
    alignments.undo()
    assert controls(microscope) == pytest.approx(AWAY)
    for name in PAIR:
        values = [AWAY[name], *(what[1] for kind, what in instrument.commands if kind == "set" and what[0] == name)]
        assert np.abs(np.diff(values)).max() <= 0.006 + 1e-12


def test_a_killed_alignment_can_be_undone_by_the_next_one_who_comes(microscope, tmp_path, request):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=request.path.parent, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for event in journal(tmp_path):
        if isinstance(event, ev.Moving):
            microscope.controls[event.name] = event.value
    assert controls(microscope) != AWAY
    alignments, _ = make_alignments(microscope, tmp_path)
    assert alignments.recover()
    alignments.undo()
    assert controls(microscope) == pytest.approx(AWAY)
    assert not make_alignments(microscope, tmp_path)[0].recover()


def test_nothing_is_recovered_where_nothing_was_cut_off(alignments, microscope, tmp_path):
    alignments.align(SPEC)
    again, _ = make_alignments(microscope, tmp_path)
    assert not again.recover()


def test_a_limit_holds_for_displacing_too(alignments, microscope):
    with pytest.raises(LimitError):
        alignments.displace({"CAperture.y": 0.2})
    assert controls(microscope) == AWAY


def test_who_hangs_does_not_keep_the_instrument_displaced(alignments, microscope, monkeypatch):
    """The watchdog puts everything back while the one who decides still hangs, and nothing passes afterwards."""
    looks, seen = [], []

    def hang(look):
        looks.append(look)
        if len(looks) == 3:
            end = time.monotonic() + 60
            while controls(microscope) != pytest.approx(AWAY) and time.monotonic() < end:
                time.sleep(0.01)
            seen.append(controls(microscope))

    with monkeypatch.context() as patch:
        patch.setattr(module, "IDLE_S", 2.0)
        with pytest.raises(InstrumentError, match="Nothing was asked of the instrument"):
            alignments.align(SPEC, hang)
    assert seen == [pytest.approx(AWAY)]
    assert len(looks) == 3
    assert controls(microscope) == pytest.approx(AWAY)
    assert alignments.align(SPEC).success


def test_a_long_exposure_is_not_taken_for_hanging(plasmonic, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IDLE_S", 1.0)
    microscope = VirtualMicroscope(plasmonic, seed=3, time_scale=1.0)
    alignments, _ = make_alignments(microscope, tmp_path)
    look = alignments.look(SPEC.model_copy(update={"frame": FrameSpec(exposure_s=2.5, binning=16)}))
    assert look.disk is not None


def test_an_abort_does_not_wait_for_a_slow_control(microscope, tmp_path):
    alignments, _ = make_alignments(microscope, tmp_path, rate=0.5)
    alignments.displace(AWAY)
    controls_now, begun = controls(microscope), []

    def abort_soon(look):
        if not begun:
            begun.append(time.monotonic())
            threading.Timer(0.3, alignments.abort).start()

    alignments.site = SiteLimits(controls={n: ControlLimits(low=-0.15, high=0.15, rate=0.01) for n in PAIR})
    with pytest.raises(AbortedError):
        alignments.align(SPEC, abort_soon)
    assert controls(microscope) == pytest.approx(controls_now)
    assert time.monotonic() - begun[0] < 60


def cut_off(folder, microscope, name="CAperture.y", value=0.05, before=0.0):
    """What an alignment leaves behind that was killed after it had moved a control."""
    microscope.controls.update(dict.fromkeys(PAIR, before))
    with RunLog(folder / "alignments" / "direct" / datetime.date.today().isoformat()) as log:
        log.append(ev.AlignmentBegun(spec=None, reason="a test"), ev.Snapshot(controls=dict.fromkeys(PAIR, before)))
        log.append(ev.Moving(name=name, before=before, value=value))
    microscope.controls[name] = value


def recovered(microscope, folder):
    """What a new program finds to be put back."""
    made, _ = make_alignments(microscope, folder)
    return made.entries[-1] if made.recover() else {}


def events_file(folder, day=None):
    return folder / "alignments" / "direct" / (day or datetime.date.today()).isoformat() / "events.jsonl"


@pytest.mark.parametrize("torn", [b"", b"0", b"6f3a 2", b"\0" * 500])
def test_a_line_that_was_never_finished_is_not_in_the_way(torn, microscope, tmp_path):
    """It was not acknowledged, so nothing was moved."""
    cut_off(tmp_path, microscope)
    yesterday = events_file(tmp_path, datetime.date.today() - datetime.timedelta(days=1))
    yesterday.parent.mkdir()
    yesterday.write_bytes(torn)
    assert recovered(microscope, tmp_path) == {"CAperture.y": 0.0}


def test_a_journal_of_which_no_line_can_be_read_is_refused(microscope, tmp_path):
    cut_off(tmp_path, microscope)
    events_file(tmp_path).write_bytes(b"nonsense\n" * 3)
    alignments, _ = make_alignments(microscope, tmp_path)
    with pytest.raises(RunLogError, match="No line of the journal"):
        alignments.recover()


@pytest.mark.parametrize("opened_again", [False, True])
@pytest.mark.parametrize("damaged", range(5))
def test_a_damaged_line_hides_no_move_behind_it(damaged, opened_again, microscope, tmp_path, caplog):
    """What good lines behind it tell was done, whether they lie there still or were set aside."""
    with RunLog(events_file(tmp_path).parent) as journal:
        journal.append(*(ev.Restored(problems=["before"]) for _ in range(5)))
    cut_off(tmp_path, microscope)
    lines = events_file(tmp_path).read_bytes().splitlines(keepends=True)
    lines[damaged] = lines[damaged].replace(b"before", b"behind")
    events_file(tmp_path).write_bytes(b"".join(lines))
    if opened_again:
        with RunLog(events_file(tmp_path).parent) as journal:
            journal.append(ev.AlignmentBegun(spec=None, reason="the next one"))
    alignments, _ = make_alignments(microscope, tmp_path)
    assert alignments.recover()
    assert alignments.entries == [{"CAperture.y": 0.0}]
    assert "damaged" in caplog.text
    alignments.undo()
    assert recovered(microscope, tmp_path) == {}


def test_a_busy_instrument_leaves_nothing_behind_that_is_in_the_way(microscope, tmp_path):
    alignments, instrument = make_alignments(microscope, tmp_path)
    with InstrumentLock(instrument.identity, "somebody", tmp_path / "locks"), pytest.raises(InstrumentBusyError):
        alignments.displace({"CAperture.y": 0.01})
    assert recovered(microscope, tmp_path) == {}
    alignments.displace(AWAY)
    assert alignments.align(SPEC).success


def test_what_could_not_be_undone_is_not_forgotten(microscope, tmp_path):
    cut_off(tmp_path, microscope)
    alignments, instrument = make_alignments(microscope, tmp_path)
    assert alignments.recover()
    instrument.stuck = set(PAIR)
    with pytest.raises(InstrumentError, match=r"reads 0\.05"):
        alignments.undo()
    again, _ = make_alignments(microscope, tmp_path)
    assert again.recover()
    again.undo()
    assert controls(microscope) == dict.fromkeys(PAIR, 0.0)
    assert recovered(microscope, tmp_path) == {}


def test_what_was_left_is_known_whatever_is_done_before_it_is_undone(microscope, tmp_path):
    cut_off(tmp_path, microscope)
    alignments, _ = make_alignments(microscope, tmp_path)
    alignments.look(SPEC)
    assert recovered(microscope, tmp_path) == {"CAperture.y": 0.0}
    alignments.displace({"CAperture.x": 0.02})
    assert alignments.align(SPEC).success
    assert recovered(microscope, tmp_path) == {"CAperture.y": 0.0}


@pytest.mark.parametrize("moves", [1, 2])
def test_a_kill_while_undo_puts_back_loses_nothing(moves, microscope, tmp_path):
    cut_off(tmp_path, microscope)
    microscope.controls["CAperture.x"] = 0.07
    with RunLog(tmp_path / "alignments" / "direct" / datetime.date.today().isoformat()) as log:
        log.append(ev.Moving(name="CAperture.x", before=0.0, value=0.07))
    alignments, instrument = make_alignments(microscope, tmp_path)
    assert alignments.recover()
    at_that_moment = tmp_path / "killed"
    send = instrument.set

    def watched(name, value):
        if sum(kind == "set" for kind, _ in instrument.commands) == moves - 1:
            shutil.copytree(tmp_path / "alignments", at_that_moment / "alignments")
        send(name, value)

    instrument.set = watched
    alignments.undo()
    microscope.controls.update({"CAperture.y": 0.05, "CAperture.x": 0.07})  # none of that had come through
    assert recovered(microscope, at_that_moment) == {"CAperture.y": 0.0, "CAperture.x": 0.0}


def test_what_is_accepted_is_not_asked_about_again(microscope, tmp_path):
    cut_off(tmp_path, microscope)
    alignments, _ = make_alignments(microscope, tmp_path)
    assert alignments.recover()
    assert alignments.recover()
    assert len(alignments.entries) == 1
    alignments.accept()
    assert recovered(microscope, tmp_path) == {}


def test_what_was_set_back_by_hand_is_in_its_place(microscope, tmp_path):
    cut_off(tmp_path, microscope)
    microscope.controls["CAperture.y"] = 0.0
    make_alignments(microscope, tmp_path)[0].look(SPEC)
    assert recovered(microscope, tmp_path) == {}


def test_a_new_place_that_cannot_be_written_down_is_not_kept(alignments, microscope, monkeypatch):
    add = RunLog._add

    def full(log, data):
        if b'"snapshot"' in data and b'"alignment-begun"' not in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(log, data)

    monkeypatch.setattr(RunLog, "_add", full)
    with pytest.raises(DiskError):
        alignments.align(SPEC)
    assert controls(microscope) == pytest.approx(AWAY)
    assert not alignments.entries


def test_displacing_waits_for_the_rate(microscope, tmp_path):
    alignments, instrument = make_alignments(microscope, tmp_path, rate=0.1)
    sent = []
    send = instrument.set
    instrument.set = lambda name, value: (sent.append(time.monotonic()), send(name, value))
    for value in (0.05, -0.05):
        alignments.displace({"CAperture.y": value})
    assert sent[1] - sent[0] >= 1.0


def test_what_an_alignment_could_not_put_back_is_known_to_the_next_program(alignments, microscope, tmp_path):
    def stick(look):
        if controls(microscope) != AWAY:
            alignments.instrument.stuck = {"CAperture.y"}
            alignments.abort()

    with pytest.raises((AbortedError, InstrumentError)):
        alignments.align(SPEC, stick)
    assert controls(microscope)["CAperture.y"] != AWAY["CAperture.y"]
    again, _ = make_alignments(microscope, tmp_path)
    assert again.recover()
    again.undo()
    assert controls(microscope) == pytest.approx(AWAY)
