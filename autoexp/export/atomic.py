"""Files that are either whole or not there.

A file is written under a random name beside its target, synced, and renamed; so whoever looks sees the old one or the
new one. The rename replaces a link that stands in the target's place and never what the link leads to.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform
import re
import secrets
import stat
import time
import zlib
from collections.abc import Iterator

from autoexp.errors import AutoexpError
from autoexp.text import clean

OURS = re.compile(r"\.autoexp-([0-9a-f]{8})-(\d+)-[0-9a-f]{16}(\.[^.]*)?")
"""Names of temporaries: the computer, the process, and chance."""
FORGOTTEN_S = 86_400.0
"""A temporary of another computer, or of a process number that is in use again, is left over after so long."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


class ExportError(AutoexpError):
    """An export was not written; whatever was there before is untouched."""


@contextlib.contextmanager
def replace_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary path beside ``path``, of the same extension, that takes its place once it is written.

    If anything fails on the way, an older file stays as it was and nothing else is left behind; what a killed process
    left in the folder is cleared away.

    Raises:
        ExportError: the target is no file, or the disk or the folder refuses.
    """
    _require_replaceable(path)
    temporary = path.with_name(_name(path.suffix))
    try:
        _clear_away(path.parent)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NOFOLLOW, 0o666))
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        # what HDF5 adds to the system's words fills a screen
        words = os.strerror(error.errno) if error.errno else str(error)
        raise ExportError(
            f"{clean(str(path))} cannot be written: {clean(words, 200)}. Whatever was there before is untouched; make "
            "room, or choose another place."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_targets(paths: list[pathlib.Path], force: bool) -> None:
    """Refuse to write over what is there, unless ``force`` is set.

    Raises:
        ExportError: a file is there, or its folder is not.
    """
    for path in paths:
        shown = clean(str(path))
        if os.path.lexists(path) and not force:
            raise ExportError(f"{shown} is there already; give --force to replace it, or name another with --output.")
        if not path.parent.is_dir():
            raise ExportError(f"There is no folder {clean(str(path.parent))}; make it first.")
        _require_replaceable(path)


def _require_replaceable(path: pathlib.Path) -> None:
    """Refuse a folder, a pipe or a device; a file or a link, even one that leads nowhere, can be replaced."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise ExportError(f"{clean(str(path))} cannot be written: {error}. Choose another place.") from error
    if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
        raise ExportError(f"{clean(str(path))} is no file but a folder, a pipe or a device; name another place.")


def _computer() -> str:
    return f"{zlib.crc32(platform.node().encode(errors='replace')):08x}"


def _name(suffix: str) -> str:
    return f".autoexp-{_computer()}-{os.getpid()}-{secrets.token_hex(8)}{suffix}"


def _clear_away(folder: pathlib.Path) -> None:
    """Remove temporaries whose process has died, or that nobody can be writing any more.

    The name tells the process, because a lock would keep the libraries that write the file from opening it.
    """
    with os.scandir(folder) as entries:
        left = [entry for entry in entries if (match := OURS.fullmatch(entry.name)) and _is_left(entry, match)]
    for entry in left:
        with contextlib.suppress(OSError):
            os.unlink(entry.path)


def _is_left(entry: os.DirEntry[str], name: re.Match[str]) -> bool:
    try:
        age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return False
    return age_s > FORGOTTEN_S or (name[1] == _computer() and not _is_alive(int(name[2])))


def _is_alive(pid: int) -> bool:
    """Whether there is such a process; where that cannot be asked without harm, there is."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDWR | _NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: pathlib.Path) -> None:
    """Let the new name outlive a power cut. If that is refused, the old file comes back after one, which is whole."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
