"""The folders of runs: a new one for each, and which is the latest."""

from __future__ import annotations

import datetime
import os
import pathlib
import re
from collections.abc import Iterator

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.journal import EVENTS, MAX_LINE_BYTES, Head, checked_body, parse_line
from autoexp.run_reader import RunReader
from autoexp.safe_files import make_folder, open_regular

TAIL_BYTES = 16_384
EARLIEST = datetime.datetime.min.replace(tzinfo=datetime.UTC)


def make_run_folder(runs: pathlib.Path, name: str = "") -> pathlib.Path:
    """A new folder for a run, named after the time and the plan; no two calls ever get the same one.

    Raises:
        RunLogError: it cannot be made.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
    base = f"{stamp}-{slug}" if name else stamp
    for number in range(1, 1000):
        folder = runs / (base if number == 1 else f"{base}-{number}")
        try:
            make_folder(runs)
            make_folder(folder, exist_ok=False)
        except FileExistsError:
            if not runs.is_dir():
                raise RunLogError(f"{runs} is not a folder; name another with --runs.") from None
            continue
        except (OSError, ValueError) as error:
            raise RunLogError(f"No run folder can be made in {runs}: {error}. Name another with --runs.") from error
        return folder
    raise RunLogError(f"{runs} holds too many runs of this second.")


def find_run(name: str, runs: pathlib.Path) -> pathlib.Path:
    """The folder of a run, given as a path, as its id within ``runs``, or as ``latest``.

    The latest is the run that began last by the clock of its own journal; folders that cannot be read come after all
    that can.

    Raises:
        RunLogError: there is none.
    """
    if name == "latest":
        found = sorted(run_folders(runs), key=_age, reverse=True)
        if not found:
            raise RunLogError(f"There is no run in {runs} yet; name its folder, or start one with: autoexp demo")
        return next(filter(_makes_sense, found), found[0])
    for folder in (pathlib.Path(name), runs / name):
        if _holds_journal(folder):
            return folder
    raise RunLogError(f"There is no run {name!r}, neither as a folder nor in {runs}.")


def run_folders(runs: pathlib.Path) -> Iterator[pathlib.Path]:
    """All folders below ``runs`` that hold a journal, in no order.

    Raises:
        RunLogError: the folder cannot be looked into.
    """
    try:
        with os.scandir(runs) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise RunLogError(f"The runs in {runs} cannot be looked at: {error}") from error
    yield from filter(_holds_journal, (runs / name for name in names))


def _holds_journal(folder: pathlib.Path) -> bool:
    try:
        return os.path.isfile(folder / EVENTS)
    except (OSError, ValueError):
        return False


def began(folder: pathlib.Path) -> datetime.datetime | None:
    """When a run began, by its journal; None where that cannot be read."""
    try:
        with open_regular(folder / EVENTS) as file:
            body = checked_body(file.readline(MAX_LINE_BYTES))
    except (OSError, RunLogError):
        return None
    head = Head.of(body) if body is not None else None
    return _moment(head.utc) if head else None


def _moment(utc: str) -> datetime.datetime:
    """A point in time as a journal tells it; the earliest where it is none, UTC where it tells no offset."""
    try:
        moment = datetime.datetime.fromisoformat(utc)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return EARLIEST


def _age(folder: pathlib.Path) -> tuple[bool, datetime.datetime, int, str]:
    """Larger for younger runs. Copies begin at the same time, so that the time of the folder itself decides."""
    moment = began(folder)
    try:
        found = folder.stat()
        changed_ns = max(found.st_mtime_ns, found.st_ctime_ns)
    except OSError:
        changed_ns = 0
    return moment is not None, moment or EARLIEST, changed_ns, folder.name


def _makes_sense(folder: pathlib.Path) -> bool:
    """Whether a run can be read; one of a newer version is no less the latest, and opening it says what to do."""
    try:
        _ = RunReader(folder).state
    except RunLogError as error:
        return "newer version" in str(error)
    return True


def has_end(folder: pathlib.Path) -> bool:
    """Whether the last lines of a journal hold an end that can be read. If not, it may still lie before them.

    Raises:
        RunLogError: the journal cannot be read.
        OSError: likewise.
    """
    with open_regular(folder / EVENTS, buffering=0) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        lines = file.read(TAIL_BYTES).splitlines(keepends=True)
    likely = (line for line in reversed(lines) if b'"finished"' in line)
    return any(record is not None and isinstance(record.event, ev.Finished) for record in map(_read, likely))


def _read(line: bytes) -> ev.Record | None:
    try:
        return parse_line(line)
    except RunLogError:
        return None
