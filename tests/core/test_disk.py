"""A disk that refuses, once or for good, at any write of a run: nothing is lost, nothing is exposed meanwhile."""

from __future__ import annotations

import errno
import io
import os
import threading
import time

import pytest
from helpers import Stepper, plan, run, until
from rich.console import Console

from autoexp import events as ev
from autoexp.cli.live import LiveLine, follow
from autoexp.engine import Engine
from autoexp.errors import RunLogError
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import AlignmentStage, Budget, DeepKernelAgent, DriftCheck
from autoexp.runlog import RunLog, RunReader, read_events
from autoexp.state import fold
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope

POINTS = 4
LONG = int(os.environ.get("AUTOEXP_FUZZ", 0)) > 1000
GIVEN = plan(budget=Budget(points=POINTS), agent=DeepKernelAgent(seeds=2))


class Disk:
    """Lets the n-th operation of a kind fail, or that and all that follow, until it is mended."""

    def __init__(self, patch, kind, number, for_good):
        self.kind, self.number, self.for_good, self.count = kind, number, for_good, 0
        self._own = {"fsync": os.fsync, "replace": os.replace, "truncate": os.ftruncate}
        patch.setattr(os, "fsync", lambda fd: self._do("fsync", fd))
        patch.setattr(os, "replace", lambda *paths: self._do("replace", *paths))
        patch.setattr(os, "ftruncate", lambda *given: self._do("truncate", *given))
        self._write = RunLog._write
        patch.setattr(RunLog, "_write", lambda log, file, data: self._half(log, file, data))

    @property
    def fails(self):
        return self.count >= self.number if self.for_good else self.count == self.number

    def mend(self):
        self.number = 10**9

    def _do(self, name, *given):
        self.count += name == self.kind
        if self.fails and (name == self.kind or (name == "truncate" and self.kind == "write and truncate")):
            if not self.for_good:
                self.mend()
            raise OSError(errno.EIO, "Input/output error")
        return self._own[name](*given)

    def _half(self, log, file, data):
        if not self.kind.startswith("write"):
            return self._write(log, file, data)
        self.count += 1
        if not self.fails:
            return self._write(log, file, data)
        if self.kind == "write" and not self.for_good:
            self.mend()
        return self._write(log, _Full(file), data)


class _Full:
    """A file on a disk that has room for half of what is written."""

    def __init__(self, file):
        self._file, self._begun = file, False

    def fileno(self):
        return self._file.fileno()

    def write(self, data):
        if self._begun:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._begun = True
        return self._file.write(bytes(data[: max(1, len(data) // 2)]))


def operations(kind, instrument, tmp_path, locks):
    """How many operations of a kind a run has, with nothing in its way."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, kind, 10**9, False)
        run(GIVEN, instrument, tmp_path / "whole", locks)
    return disk.count


def positions(count):
    """All of them, or those at the beginning, in the middle and at the end."""
    some = {1, 2, 3, 4, count // 3, count // 2, count - 3, count - 1, count}
    return range(1, count + 1) if LONG else sorted(some - {0})


KINDS = ["write", "fsync", "replace", "write and truncate"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_one_passing_error_costs_nothing(kind, instrument, tmp_path, locks):
    for number in positions(operations(kind, instrument, tmp_path, locks)):
        instrument.commands.clear()
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, kind, number, False)
            engine = run(GIVEN, instrument, tmp_path / f"run{number}", locks)
        assert engine.error is None, (number, engine.error)
        assert engine.status.ending == "completed", (number, engine.status.reason)
        state = fold(RunReader(engine.folder).records)
        assert state.finished.ending == "completed"
        assert len(state.measured) == POINTS
        assert [kind for kind, _ in instrument.commands].count("spectrum") == POINTS
        assert len(RunReader(engine.folder).checked(state.measured).points) == POINTS


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_full_for_good_loses_nothing_and_exposes_nothing(kind, instrument, tmp_path, locks):
    count = operations(kind, instrument, tmp_path, locks)
    for number in positions(count):
        instrument.commands.clear()
        acknowledged = []
        folder = tmp_path / f"run{number}"
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, kind, number, True)
            try:
                engine = Engine(
                    GIVEN,
                    instrument,
                    folder,
                    lock_folder=locks,
                    beam_current_pA=50.0,
                    observers=(lambda record, state, told=acknowledged: told.append(record),),
                )
            except RunLogError:
                continue  # refused before anything moved
            engine.start()
            until(lambda: engine.join(0) or engine.waits_for_disk, 30)  # noqa: B023
            exposed = sum(what == "spectrum" for what, _ in instrument.commands)
            time.sleep(0.05)
            assert sum(what == "spectrum" for what, _ in instrument.commands) == exposed
            engine.abort()
            assert engine.join(20)
            opened = ("open", None) in instrument.commands
            assert not opened or ("close", None) in instrument.commands
        records, _ = read_events(folder)
        assert records[: len(acknowledged)] == acknowledged, number
        if not records or any(isinstance(r.event, ev.Finished) for r in records):
            continue
        resumed = run(None, instrument, folder, locks)
        assert resumed.status.ending in ("completed", "aborted"), resumed.error
        positions_exposed = [where for what, where in instrument.commands if what == "spectrum"]
        assert len(set(positions_exposed)) == len(positions_exposed), number


def test_a_run_waits_for_room_and_goes_on_by_itself(instrument, tmp_path, locks):
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, "write", 14, True)
        engine = Engine(GIVEN, instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0)
        engine.start()
        until(lambda: engine.status.phase == "suspended", 30)
        assert "No space left" in engine.status.reason
        assert "free there" in engine.status.reason
        assert engine.waits_for_disk
        disk.mend()
        assert engine.join(30)
    assert engine.status.ending == "completed"
    assert len(engine.state.measured) == POINTS
    assert any("could not be written" in warning for warning in engine.state.warnings)


@pytest.mark.parametrize("interactive", [True, False])
def test_whoever_watches_from_a_terminal_waits_for_the_disk_too(interactive, instrument, tmp_path, locks):
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, "write", 14, True)
        engine = Engine(GIVEN, instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0)
        threading.Timer(2.0, disk.mend).start()
        line = LiveLine(Console(file=told, width=200), simulated=True)
        given_up = follow(engine, line, interactive, lambda reason: pytest.fail(f"asked: {reason}"))
    assert not given_up
    assert engine.status.ending == "completed"
    assert told.getvalue().count("waiting: The run cannot be written") == 1


def test_a_stop_while_the_disk_is_full_gives_the_instrument_back_and_waits(instrument, tmp_path, locks):
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, "write", 14, True)
        engine = Engine(GIVEN, instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0)
        engine.start()
        until(lambda: engine.waits_for_disk, 30)
        engine.stop()
        until(lambda: ("close", None) in instrument.commands, 10)
        assert not engine.join(0.3)
        disk.mend()
        assert engine.join(30)
    assert engine.status.ending == "stopped"
    exposed = [p for p in engine.state.points.values() if p.exposed]
    assert len(engine.state.measured) == len(exposed) > 0


def test_an_abort_while_the_disk_is_full_gives_the_instrument_back(instrument, tmp_path, locks):
    site = SiteLimits(controls={"C10": ControlLimits(low=-1e-6, high=1e-6)})
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, "write", 14, True)
        engine = Engine(GIVEN, instrument, tmp_path / "run", lock_folder=locks, site=site)
        engine.start()
        until(lambda: engine.waits_for_disk, 30)
        instrument.set("C10", 5e-7)
        engine.abort()
        assert engine.join(30)
    assert instrument.get("C10") == 0
    assert instrument.commands[-1] == ("close", None)


def test_a_resume_that_cannot_begin_ends_nothing(instrument, tmp_path, locks):
    folder = tmp_path / "run"
    engine = run(GIVEN, instrument, folder, locks)
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(r.seq for r in engine.records if isinstance(r.event, ev.Measured) and r.event.id == 1)
    (folder / "events.jsonl").write_bytes(b"".join(lines[: cut + 1]))
    overview = (folder / "overview.npy").read_bytes()
    (folder / "overview.npy").unlink()
    failed = run(None, instrument, folder, locks)
    assert failed.status.ending == "faulted"
    assert "overview" in failed.status.reason
    assert fold(RunReader(folder).records).finished is None
    (folder / "overview.npy").write_bytes(overview)
    again = run(None, instrument, folder, locks)
    assert again.status.ending == "completed"
    assert len(again.state.measured) == POINTS


@pytest.mark.parametrize("line", [b'"exposing"', b'"moving"', b'"exposure-begun"'])
def test_what_waited_for_the_disk_is_not_done_once_the_instrument_is_given_back(
    line, plasmonic, tmp_path, locks, monkeypatch
):
    """Stop gives the instrument back while the disk is still full; when there is room again, nothing is sent."""
    full = threading.Event()
    add = RunLog._add

    def refuse(log, data):
        if full.is_set() and line in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(log, data)

    monkeypatch.setattr(RunLog, "_add", refuse)
    names = ("CAperture.y", "CAperture.x")
    site = SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15) for name in names})
    instrument = FaultyInstrument(DirectInstrument(VirtualMicroscope(plasmonic, time_scale=1e4)))
    for name, value in zip(names, (0.03, -0.04), strict=True):
        instrument.set(name, value)
    stage = AlignmentStage() if line == b'"moving"' else None
    kind = ev.Looked if stage else ev.Measured
    given = plan(align=stage, drift=DriftCheck(every=2, pixels=32))
    engine = Engine(
        given,
        instrument,
        tmp_path / "run",
        lock_folder=locks,
        beam_current_pA=50.0,
        site=site,
        observers=(Stepper(kind, full.set, 1),),
    )
    engine.start()
    until(lambda: engine.waits_for_disk)
    engine.stop()
    until(lambda: ("close", None) in instrument.commands)
    sent = len(instrument.commands)
    full.clear()
    assert engine.join(60)
    assert instrument.commands[sent:] == []
    assert [instrument.get(name) for name in names] == pytest.approx([0.03, -0.04])
    assert engine.state.finished.ending == "stopped"
    assert engine.state.exposures == sum(kind == "spectrum" for kind, _ in instrument.commands)
