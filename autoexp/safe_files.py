"""Files of a run's folder, which may come from anybody and lie on any disk: no links are followed, names are synced.

A folder that was unpacked or shared may hold links to other files of the user, pipes and devices. Nothing but a plain
file is opened here, for reading or for writing, and nothing is ever waited for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import re
import secrets
import stat
import zlib
from collections.abc import Callable
from typing import IO

from autoexp.errors import RunLogError

BLOCK_BYTES = 1 << 20
# What Windows lacks is nothing there.
_CAREFUL = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_WRITING = os.O_WRONLY | os.O_RDWR
# File systems that cannot sync a folder say one of these.
_CANNOT_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_LEFT_OVER = re.compile(r"\..+\.[0-9a-f]{16}\.tmp|(overview|plan|prediction-\d{6})\.tmp")


def open_regular(path: pathlib.Path, flags: int = os.O_RDONLY, buffering: int = -1) -> IO[bytes]:
    """A plain file, opened without following a link and without waiting.

    Args:
        path: which.
        flags: those of :func:`os.open`.
        buffering: that of :func:`open`.

    Raises:
        RunLogError: it is a link, a pipe, a device or a folder; or it is to be written and has a second name.
        OSError: it is not there, or cannot be opened.
    """
    try:
        # looked at first, because opening a device may do something already
        _require_regular(path, os.lstat(path), flags)
    except ValueError as error:
        raise RunLogError(f"{str(path)!r} is no name of a file.") from error
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    fd = os.open(path, flags | _CAREFUL, 0o666)
    try:
        _require_regular(path, os.fstat(fd), flags)
        mode = "r+b" if flags & os.O_RDWR else "wb" if flags & os.O_WRONLY else "rb"
        return open(fd, mode, buffering=buffering)
    except BaseException:
        os.close(fd)
        raise


def _require_regular(path: pathlib.Path, found: os.stat_result, flags: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "no plain file"
        raise RunLogError(f"{path} is {what}, which a run never holds; it was not opened. Take it out of the folder.")
    if flags & _WRITING and found.st_nlink > 1:
        raise RunLogError(
            f"{path} has a second name elsewhere (a hard link), so that writing to it would change another file. Copy "
            "the run's folder, and go on in the copy."
        )


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The path of a file named in a log, which must lie in the run's own folder.

    Raises:
        RunLogError: the name leads elsewhere.
    """
    if name in ("", ".", "..") or re.search(r"[/\\:\0]", name):
        raise RunLogError(f"The run names a file outside its own folder: {name!r}.")
    return folder / name


def sync_folder(folder: pathlib.Path) -> None:
    """Make names in a folder last: without this a new or renamed file may be gone after a power cut.

    Raises:
        OSError: the disk refuses. Where folders cannot be opened or synced (Windows, some network shares), nothing.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(fd)


def make_folder(folder: pathlib.Path, exist_ok: bool = True) -> None:
    """Make a folder and those above it, so that their names last.

    Raises:
        OSError: it cannot be made, or is there and must not be.
    """
    if folder.parent != folder and not folder.parent.is_dir():
        make_folder(folder.parent)  # where somebody else makes it meanwhile, that is as good
    try:
        folder.mkdir()
    except FileExistsError:
        if not exist_ok or not folder.is_dir():
            raise
    sync_folder(folder.parent)  # also where it is there: the sync may be what failed when it was made


def replace(path: pathlib.Path, write: Callable[[IO[bytes]], object]) -> int:
    """Write a file under a random name, sync it, and give it its own name in one step.

    Returns:
        the CRC-32 of what was written.

    Raises:
        OSError: the disk refuses; an older file of that name is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            summed = _Summed(file)
            write(summed)  # type: ignore[arg-type]  # all that numpy needs of a file is write
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
    return summed.crc32


class _Summed:
    """Writes through to a file, and keeps the checksum of all that was written."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.crc32 = 0

    def write(self, data: bytes) -> int:
        self.crc32 = zlib.crc32(data, self.crc32)
        return self._file.write(data)


def crc_of(file: IO[bytes], size: int | None = None) -> int:
    """CRC-32 of the first ``size`` bytes of a file, or of all; of fewer where it is shorter."""
    left = file.seek(0, os.SEEK_END) if size is None else size
    file.seek(0)
    crc = 0
    while left > 0 and (block := file.read(min(left, BLOCK_BYTES))):
        crc = zlib.crc32(block, crc)
        left -= len(block)
    return crc


def remove_left_over(folder: pathlib.Path) -> None:
    """Remove what writers that died left under temporary names; nobody else may be writing."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if _LEFT_OVER.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
