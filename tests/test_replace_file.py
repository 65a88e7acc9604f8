"""Writing what leaves a run: no link is followed, a fault or a kill leaves the old file whole and nothing beside it."""

from __future__ import annotations

import errno
import os
import pathlib
import random
import signal
import stat
import subprocess
import sys
import time

import journals
import pytest

from autoexp.export import export_csv, export_hspy
from autoexp.export.atomic import OURS, ExportError, check_targets, replace_file
from autoexp.report import write_report

KILLS = max(10, int(os.environ.get("AUTOEXP_FUZZ", "0")) // 4)


def write(path, text="new"):
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def run(tmp_path):
    """A small run."""
    return journals.small_run(tmp_path / "run")


def test_a_link_is_replaced_and_what_it_leads_to_is_not_touched(tmp_path):
    precious = tmp_path / "thesis"
    precious.write_text("precious")
    (tmp_path / "out.csv").symlink_to(precious)
    (tmp_path / "nowhere.csv").symlink_to(tmp_path / "not there")
    for name in ("out.csv", "nowhere.csv"):
        with pytest.raises(ExportError, match="there already"):
            check_targets([tmp_path / name], force=False)
        check_targets([tmp_path / name], force=True)
        write(tmp_path / name)
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert precious.read_text() == "precious"
    assert names(tmp_path) == ["nowhere.csv", "out.csv", "thesis"]


def test_report_and_exports_of_a_run_with_links_write_into_its_folder_only(run, tmp_path):
    precious = tmp_path / "thesis"
    precious.write_text("precious")
    for name in ("report.html", "run.csv", "run-spectra.csv", "run.hspy", "run-overview.hspy"):
        (run / name).symlink_to(precious)
    write_report(run)
    export_csv(run, spectra=True, force=True)
    export_hspy(run, force=True)
    assert precious.read_text() == "precious"
    assert not any(path.is_symlink() for path in run.iterdir())


def test_a_hard_link_keeps_its_content(tmp_path):
    (tmp_path / "thesis").write_text("precious")
    os.link(tmp_path / "thesis", tmp_path / "out.csv")
    write(tmp_path / "out.csv")
    assert (tmp_path / "thesis").read_text() == "precious"


def test_a_pipe_a_device_and_a_folder_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "pipe.csv", tmp_path / "folder.csv", pathlib.Path("/dev/null")):
        with pytest.raises(ExportError, match="name another place"):
            write(path)
        with pytest.raises(ExportError, match="name another place"):
            check_targets([path], force=True)
    assert stat.S_ISFIFO(os.lstat(tmp_path / "pipe.csv").st_mode)
    assert names(tmp_path) == ["folder.csv", "pipe.csv"]


def test_a_temporary_is_new_and_its_name_is_not_to_be_guessed(tmp_path):
    seen = set()
    for _ in range(3):
        with replace_file(tmp_path / "out.csv") as temporary:
            assert OURS.fullmatch(temporary.name)
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".csv"
            seen.add(temporary.name)
    assert len(seen) == 3


def test_a_temporary_that_was_put_there_before_is_not_written_to(tmp_path, monkeypatch):
    (tmp_path / "thesis").write_text("precious")
    monkeypatch.setattr("autoexp.export.atomic._name", lambda suffix: ".guessed.csv")
    (tmp_path / ".guessed.csv").symlink_to(tmp_path / "thesis")
    with pytest.raises(ExportError, match="cannot be written"):
        write(tmp_path / "out.csv")
    assert (tmp_path / "thesis").read_text() == "precious"


def test_a_temporary_that_becomes_a_link_is_not_put_in_place(tmp_path):
    (tmp_path / "thesis").write_text("precious")

    def swap():
        with replace_file(tmp_path / "out.csv") as temporary:
            temporary.unlink()
            temporary.symlink_to(tmp_path / "thesis")

    with pytest.raises(ExportError, match="cannot be written"):
        swap()
    assert names(tmp_path) == ["thesis"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "fsync", "replace", "scandir"])
def test_what_the_system_refuses_is_said_and_the_old_file_stays(run, monkeypatch, call, code):
    (run / "run.csv").write_text("old")
    before = names(run)

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"autoexp.export.atomic.os.{call}", refuse)
    with pytest.raises(ExportError, match=os.strerror(code)):
        write(run / "run.csv")
    monkeypatch.undo()
    assert (run / "run.csv").read_text() == "old"
    assert names(run) == before


FULL = """
import resource, signal, sys
from autoexp.export import export_csv, export_hspy
from autoexp.export.atomic import ExportError
from autoexp.report import write_report
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
given = [dict(spectra=True, force=True), dict(force=True)]
for most in (0, 100, 2000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    for make, options in ((export_csv, given[0]), (export_hspy, given[1]), (write_report, {})):
        try:
            make(sys.argv[1], **options)
        except ExportError as error:
            assert "\\n" not in str(error)
        else:
            raise SystemExit(f"{make.__name__} with {most} bytes of room")
"""


def test_a_disk_that_is_full_leaves_everything_as_it_was(run):
    """Every write beyond some bytes is refused by the system itself."""
    for name in ("run.csv", "run-spectra.csv", "run.hspy", "run-overview.hspy", "report.html"):
        (run / name).write_text("old")
    before = names(run)
    done = subprocess.run([sys.executable, "-c", FULL, run], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert names(run) == before
    # the table of points takes less room than that of the spectra, and may be new; nothing is torn
    torn = [n for n in before if n.endswith((".csv", ".hspy", ".html")) and (run / n).read_text() != "old"]
    assert torn in ([], ["run.csv"])


def test_a_folder_that_cannot_be_synced_does_not_undo_what_is_written(tmp_path, monkeypatch):
    real = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "no")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write(tmp_path / "out.csv")
    assert names(tmp_path) == ["out.csv"]


def test_the_file_and_then_its_folder_are_synced(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda d: synced.append(os.fstat(d).st_ino) or real(d))
    write(tmp_path / "out.csv")
    assert synced == [(tmp_path / "out.csv").stat().st_ino, tmp_path.stat().st_ino]


def test_what_the_dead_left_is_cleared_away_and_nothing_else(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with replace_file(tmp_path / "a.csv") as temporary:
        mine = temporary.name
        left = mine.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
        elsewhere = f".autoexp-00000000-{dead.pid}-{'0' * 16}.csv"
        for name in (left, elsewhere, ".autoexp-notes.csv", ".b.csv"):
            (tmp_path / name).write_text("x")
        write(tmp_path / "b.csv")
        assert names(tmp_path) == sorted([mine, elsewhere, ".autoexp-notes.csv", ".b.csv", "b.csv"])
        temporary.write_text("whole")
    os.utime(tmp_path / elsewhere, (time.time() - 1e6,) * 2)
    write(tmp_path / "b.csv")
    assert names(tmp_path) == [".autoexp-notes.csv", ".b.csv", "a.csv", "b.csv"]


def test_killed_at_any_moment_the_files_are_whole_and_the_next_export_clears_up(run):
    rng = random.Random(1)
    write_report(run)
    export_csv(run, spectra=True)
    before = names(run)
    tables = {name: (run / name).read_text() for name in ("run.csv", "run-spectra.csv")}
    killed = 0
    for number in range(KILLS):
        child = os.fork()
        if child == 0:
            try:
                if number % 2:
                    write_report(run)
                else:
                    while True:
                        export_csv(run, spectra=True, force=True)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, 0.8 if number % 2 else 0.15))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert (run / "report.html").read_text().endswith("</html>\n")
        assert {name: (run / name).read_text() for name in tables} == tables
    assert killed >= KILLS // 2
    export_csv(run, force=True)
    assert names(run) == before
