"""Folders of runs: each has its own, and the latest is the one that began last."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest
from folders import a_run, edit

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.run_folders import began, find_run, has_end, make_run_folder
from autoexp.runlog import EVENTS, RunLog


def test_no_two_calls_get_the_same_folder(tmp_path):
    made = []
    threads = [
        threading.Thread(target=lambda: made.extend(make_run_folder(tmp_path / "a" / "runs") for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 40
    assert all(folder.is_dir() and folder.parent == tmp_path / "a" / "runs" for folder in made)


@pytest.mark.parametrize("name", ["", "実験", "../../x", "a\0b", "\udcff", "x" * 1000, "con"])
def test_any_name_makes_a_folder_below_the_runs(tmp_path, name):
    folder = make_run_folder(tmp_path, name)
    assert folder.parent == tmp_path and list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    for runs in (tmp_path / "x\0y", tmp_path / ("x" * 300), tmp_path / "file" / "runs"):
        (tmp_path / "file").write_text("")
        with pytest.raises(RunLogError, match="--runs"):
            make_run_folder(runs, "x")


def at(folder, utc):
    edit(folder, lambda records: [dict(record, utc=utc) for record in records])


def test_the_latest_began_last_whatever_the_names_say(tmp_path):
    for name, utc in {
        "20260301-130000-z": "2026-03-01T13:00:00+02:00",
        "20260301-113000-b": "2026-03-01T11:30:00+00:00",
        "20260301-063000-a": "2026-03-01T06:35:00-05:00",
    }.items():
        at(a_run(tmp_path / name), utc)
    assert find_run("latest", tmp_path).name == "20260301-063000-a"


def test_of_copies_the_one_made_last_is_the_latest(tmp_path):
    original = a_run(tmp_path / "original")
    for name in ("b", "c", "a"):
        shutil.copytree(original, tmp_path / "runs" / name)
        time.sleep(0.02)
    assert find_run("latest", tmp_path / "runs").name == "a"


def test_folders_that_cannot_be_read_are_not_the_latest(tmp_path):
    a_run(tmp_path / "good")
    broken = shutil.copytree(tmp_path / "good", tmp_path / "impossible")
    edit(broken, lambda records: [records[0], dict(records[-1])])
    for name, content in {"empty": b"", "zeros": bytes(100)}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / EVENTS).write_bytes(content)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / EVENTS).symlink_to(tmp_path / "good" / EVENTS)
    assert find_run("latest", tmp_path).name == "good"
    os.rename(tmp_path / "good" / EVENTS, tmp_path / "good" / "other")
    with pytest.raises(RunLogError):
        find_run("latest", tmp_path / "good")


def test_a_run_of_a_newer_version_is_still_the_latest(tmp_path):
    a_run(tmp_path / "old")
    newer = a_run(tmp_path / "new")
    edit(newer, lambda records: [dict(records[0], event=dict(records[0]["event"], format=99, more="x"))])
    assert find_run("latest", tmp_path).name == "new"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\udcff", "", "latest"])
def test_a_name_that_is_none_is_refused_in_words(tmp_path, name):
    with pytest.raises(RunLogError, match="There is no run"):
        find_run(name, tmp_path)
    with pytest.raises(RunLogError, match="There is no run"):
        find_run(name, tmp_path / "a\0b" if name != "latest" else tmp_path)


def test_when_a_run_began_and_whether_it_has_an_end(tmp_path):
    folder = a_run(tmp_path / "run")
    moment = began(folder)
    assert moment is not None and moment.tzinfo is not None
    assert not has_end(folder)
    with RunLog(folder) as log:
        log.append(ev.Finished(ending="completed", reason=""))
    assert has_end(folder)
    assert began(tmp_path) is None
