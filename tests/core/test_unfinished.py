"""Runs that were cut off, ended without an instrument."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import time

import pytest
from folders import a_run, edit
from helpers import plan, run

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.journal import line_of
from autoexp.plan import ELECTRONS_PER_PICOAMPERE_SECOND
from autoexp.runlog import EVENTS, RunLog, RunReader
from autoexp.state import fold
from autoexp.unfinished import close_unfinished, find_unfinished


@pytest.fixture
def make_cut_off(instrument, tmp_path, locks):
    """Makes a run whose log ends with the exposure of a point, as after a kill."""

    def make(point):
        folder = tmp_path / "run"
        run(plan(), instrument, folder, locks)
        kept = []
        for line, record in zip(
            (folder / EVENTS).read_bytes().splitlines(keepends=True), RunReader(folder).records, strict=True
        ):
            kept.append(line)
            if isinstance(record.event, ev.Exposing) and record.event.id == point:
                break
        (folder / EVENTS).write_bytes(b"".join(kept))
        return folder

    return make


@pytest.mark.parametrize("point", [0, 2])
def test_closing_accounts_for_an_exposure_of_unknown_outcome(make_cut_off, tmp_path, point):
    folder = make_cut_off(point)
    (found,) = find_unfinished(tmp_path)
    assert (found.points, found.unknown) == (point, 1)
    before = fold(RunReader(folder).records)
    close_unfinished(folder, "discarded")
    state = fold(RunReader(folder).records)
    assert state.finished.ending == "discarded"
    one = 50.0 * ELECTRONS_PER_PICOAMPERE_SECOND * state.plan.spectrum.exposure_s
    assert state.dose_e == pytest.approx(before.dose_e)  # it was paid for before it began
    assert state.dose_e == pytest.approx(state.prepared.dose_e + (point + 1) * one)
    assert find_unfinished(tmp_path) == []


def at(folder, utc):
    """Let a run have begun at another time."""

    def moved(records):
        return [dict(record, utc=utc) for record in records]

    edit(folder, moved)
    return folder


def names(root):
    return [run.name for run in find_unfinished(root)]


def test_an_end_is_an_event_and_no_text(tmp_path):
    a_run(tmp_path / "a", name='{"type":"finished"}')
    a_run(tmp_path / "b")
    with RunLog(tmp_path / "b") as log:
        log.append(ev.Warned(message='"type":"finished","ending":"completed"'))
    a_run(tmp_path / "c", finished=True)
    with RunLog(tmp_path / "c") as log:
        log.append(ev.Restored(problems=["x" * 20_000] * 3))
    assert sorted(names(tmp_path)) == ["a", "b"]


def test_an_end_that_cannot_be_read_is_none(tmp_path):
    folder = a_run(tmp_path / "run", finished=True)
    assert names(tmp_path) == []
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    (k,) = (n for n, line in enumerate(lines) if b'"finished"' in line)
    lines[k] = lines[k][:-4] + bytes([lines[k][-4] ^ 1]) + lines[k][-3:]
    (folder / EVENTS).write_bytes(b"".join(lines))
    assert names(tmp_path) == ["run"]


def test_all_folders_are_looked_at_in_the_order_in_which_they_began(tmp_path):
    times = {
        "a": "2026-03-01T12:00:00.000+01:00",  # 11:00 in Greenwich
        "b": "2026-03-01T11:30:00.000+00:00",
        "c": "2026-03-01T06:15:00.000-05:00",  # 11:15
        "d": "no time",
        "e": "2026-03-01T11:45:00.000",  # without an offset
    }
    original = a_run(tmp_path / "original")
    for name, utc in times.items():
        at(shutil.copytree(original, tmp_path / "runs" / name), utc)
    for k in range(30):
        at(shutil.copytree(original, tmp_path / "runs" / f"z{k}"), "2027-01-01T00:00:00+00:00")
        with RunLog(tmp_path / "runs" / f"z{k}") as log:
            log.append(ev.Finished(ending="completed", reason=""))
    assert names(tmp_path / "runs") == ["e", "b", "c", "a", "d"]


def test_one_bad_folder_hides_no_other(tmp_path, monkeypatch):
    good = a_run(tmp_path / "good")
    for name, content in {
        "empty": b"",
        "list": line_of(b"[]"),
        "deep": line_of(b"[" * 100_000),
        "newer": (good / EVENTS).read_bytes().replace(b'"format":3', b'"format":4'),
        "zeros": bytes(10_000),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / EVENTS).write_bytes(content)
    (tmp_path / "folder" / EVENTS).mkdir(parents=True)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    shutil.copytree(good, tmp_path / "\udcff surrogate")
    assert sorted(names(tmp_path)) == ["good", "\udcff surrogate"]

    def broken(folder):
        raise KeyError(folder) if folder.name == "good" else RunLogError

    monkeypatch.setattr("autoexp.unfinished._describe", broken)
    assert names(tmp_path) == []


def test_a_folder_that_is_none_holds_no_runs(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "nothing", tmp_path / "file", tmp_path / "a\0b", tmp_path / ("x" * 300)):
        assert names(root) == []


def test_many_finished_runs_are_passed_quickly(tmp_path):
    journal = (a_run(tmp_path / "one", finished=True) / EVENTS).read_bytes()
    for k in range(2000):
        (tmp_path / f"{k}").mkdir()
        (tmp_path / f"{k}" / EVENTS).write_bytes(journal)
    a_run(tmp_path / "unfinished")
    begun = time.process_time()
    assert names(tmp_path) == ["unfinished"]
    assert time.process_time() - begun < 1


def test_what_is_running_is_left_out(tmp_path):
    folder = a_run(tmp_path / "run")
    with RunLog(folder):
        assert names(tmp_path) == []
    assert names(tmp_path) == ["run"]


def test_what_is_no_run_is_not_closed(tmp_path):
    with RunLog(tmp_path / "2026-01-01") as log:
        log.append(ev.Snapshot(controls={}))
    before = (tmp_path / "2026-01-01" / EVENTS).read_bytes()
    assert names(tmp_path) == []
    with pytest.raises(RunLogError, match="no plan"):
        close_unfinished(tmp_path / "2026-01-01", "discarded")
    assert (tmp_path / "2026-01-01" / EVENTS).read_bytes() == before
    with pytest.raises(RunLogError, match="ended already"):
        close_unfinished(a_run(tmp_path / "run", finished=True), "discarded")


def test_an_account_without_bounds_is_closed_all_the_same(tmp_path):
    folder = a_run(tmp_path / "run", points=1)

    def costly(records):
        records[1]["event"]["dose_e"] = 1e30
        overview = records[0]["event"]["plan"]["overview"]
        overview.update(pixels=16, dwell_us=1e-3)
        return [r for r in records if r["event"]["type"] != "measured"]

    edit(folder, costly)
    close_unfinished(folder, "discarded")
    assert RunReader(folder).state.finished.ending == "discarded"


def test_times_that_are_none_do_not_stop_the_finder(tmp_path):
    for k, utc in enumerate(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "", "\u0000", "20260101"]):
        at(a_run(tmp_path / str(k)), utc)
    at(a_run(tmp_path / "last"), datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC).isoformat())
    assert names(tmp_path)[0] == "last"
    assert len(names(tmp_path)) == 6
    json.dumps(names(tmp_path))
