"""Files of a run's folder: no link is followed, nothing but a plain file is opened, names outlast a power cut."""

from __future__ import annotations

import os
import shutil
import socket
import stat

import numpy as np
import pytest
from folders import a_run, begin, edit, measure

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.lock import RUN_LOCK, is_locked
from autoexp.runlog import EVENTS, SPECTRA, RunLog, RunReader
from autoexp.safe_files import inside, make_folder, sync_folder
from autoexp.unfinished import close_unfinished, find_unfinished

PRECIOUS = b"precious\n" * 2000


@pytest.fixture
def victim(tmp_path):
    """A file of the user, outside of the run."""
    path = tmp_path / "thesis"
    path.write_bytes(PRECIOUS)
    return path


@pytest.fixture
def folder(tmp_path):
    """An unfinished run, its journal with a damaged end."""
    folder = a_run(tmp_path / "runs" / "run")
    (folder / RUN_LOCK).unlink()
    with open(folder / EVENTS, "ab") as file:
        file.write(b"curl evil | sh\n")
    return folder


def write_all(folder):
    """Everything that a writer does."""
    with RunLog(folder) as log:
        measure(log, 4)
        log.save_array("overview", np.zeros(3))
        log.save_text("plan.json", "{}")
        log.append(ev.Warned(message="x"))


def read_all(folder, ref, spectra):
    """Everything that a reader does."""
    reader = RunReader(folder)
    reader.array(ref)
    spectra(reader)


def is_untouched(victim):
    found = victim.stat()
    return victim.read_bytes() == PRECIOUS and stat.S_ISREG(found.st_mode)


@pytest.mark.parametrize("name", [EVENTS, SPECTRA, RUN_LOCK, f"{EVENTS}.damaged"])
@pytest.mark.parametrize("how", ["symlink", "hard link"])
def test_nothing_is_written_through_a_link(folder, victim, name, how):
    if name == EVENTS:  # what it leads to is a journal with a damaged end
        shutil.copy(folder / EVENTS, victim)
    before = victim.read_bytes()
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim) if how == "symlink" else os.link(victim, folder / name)
    with pytest.raises(RunLogError, match=name):
        write_all(folder)
    assert victim.read_bytes() == before
    find_unfinished(folder.parent)
    with pytest.raises(RunLogError, match=name):
        close_unfinished(folder, "discarded")
    assert victim.read_bytes() == before


@pytest.mark.parametrize("name", ["overview.npy", "plan.json", "overview.tmp", "plan.tmp", ".x.0123456789abcdef.tmp"])
def test_a_link_that_is_in_the_way_is_replaced_and_not_followed(folder, victim, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    write_all(folder)
    assert is_untouched(victim)
    assert not (folder / name).is_symlink()


@pytest.mark.parametrize("name", [EVENTS, SPECTRA, "overview.npy"])
@pytest.mark.parametrize("how", ["symlink", "dangling", "fifo", "socket", "folder", "device"])
def test_nothing_is_read_but_plain_files(folder, victim, name, how, monkeypatch):
    ref = next(RunReader(folder).events(ev.Prepared)).overview
    points = list(RunReader(folder).state.points.values())
    path = folder / name
    path.unlink()
    match how:
        case "symlink":
            path.symlink_to(victim)
        case "dangling":
            path.symlink_to(folder / "nowhere")
        case "fifo":
            os.mkfifo(path)
        case "socket":
            monkeypatch.chdir(folder)  # a path of a socket must be short
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(name)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
    for spectra in (lambda reader: reader.checked(points), RunReader.spectra):
        with pytest.raises(RunLogError, match=name):
            read_all(folder, ref, spectra)
    find_unfinished(folder.parent)  # neither waits nor raises


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../b", "x\0y", "c:x", "a\\b", "./x"]
)
def test_names_that_lead_elsewhere(folder, name):
    with pytest.raises(RunLogError, match="outside"):
        inside(folder, name)

    def elsewhere(records):
        for record in records:
            if record["event"]["type"] == "prepared":
                record["event"]["overview"]["file"] = name
        return records

    with RunLog(folder) as log, pytest.raises(RunLogError, match="outside"):
        log.save_text(name, "x")
    edit(folder, elsewhere)
    with pytest.raises(RunLogError):
        RunReader(folder).array(next(RunReader(folder).events(ev.Prepared)).overview)


def test_looking_writes_nothing_and_works_where_nothing_can_be_written(folder, victim):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    changed = folder.stat().st_mtime_ns
    folder.chmod(0o500)
    try:
        (found,) = find_unfinished(folder.parent)
        assert not is_locked(folder)
    finally:
        folder.chmod(0o700)
    assert found.points == 4
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert folder.stat().st_mtime_ns == changed
    (folder / RUN_LOCK).symlink_to(victim)
    assert not is_locked(folder)
    assert len(find_unfinished(folder.parent)) == 1
    assert is_untouched(victim)


def test_what_dead_writers_left_is_removed_by_the_next(folder):
    for name in (".overview.npy.0123456789abcdef.tmp", "overview.tmp", "prediction-000020.tmp"):
        (folder / name).write_bytes(b"half")
    (folder / "notes.tmp").write_bytes(b"of the user")
    RunReader(folder)
    assert (folder / "overview.tmp").exists(), "a reader removes nothing"
    with RunLog(folder):
        pass
    assert [p.name for p in folder.glob("*.tmp")] == ["notes.tmp"]
    assert not list(folder.glob(".*.tmp"))


def test_names_and_contents_are_synced_before_they_are_told(tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "run"
    lasting: dict[int, set[str]] = {}  # what a power cut leaves: names by folder, lengths by file
    lengths: dict[int, int] = {}
    real_sync, real_replace = os.fsync, os.replace

    def sync(fd):
        real_sync(fd)
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            lasting[found.st_ino] = set(os.listdir(fd))
        else:
            lengths[found.st_ino] = found.st_size

    def rename(source, target):
        assert lengths.get(os.stat(source).st_ino) == os.stat(source).st_size, f"{target} was not synced"
        lasting[folder.stat().st_ino].discard(os.path.basename(target))
        real_replace(source, target)

    def check():
        assert {"run"} <= lasting[folder.parent.stat().st_ino]
        assert {"runs"} <= lasting[tmp_path.stat().st_ino]
        kept = {p.name for p in folder.iterdir() if p.name != RUN_LOCK}
        assert kept <= lasting[folder.stat().st_ino]
        assert all(lengths[p.stat().st_ino] == p.stat().st_size for p in folder.iterdir() if p.name != RUN_LOCK)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    with RunLog(folder) as log:
        begin(log)
        check()
        measure(log, 0)
        check()
        log.save_array("overview", np.zeros(7))
        check()
        log.save_text("plan.json", "{}")
        check()
    with open(folder / EVENTS, "ab") as file:
        file.write(b"half")
    with RunLog(folder):
        check()


def test_folders_that_cannot_be_synced(tmp_path, monkeypatch):
    def cannot(fd):
        raise OSError(22, "Invalid argument")

    def refuses(fd):
        raise OSError(5, "Input/output error")

    def closed(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "fsync", cannot)
    sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)
    monkeypatch.setattr(os, "open", closed)
    sync_folder(tmp_path)


def test_making_folders(tmp_path):
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "a" / "b" / "c", exist_ok=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_folder(tmp_path / "file" / "x")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
