"""Opens files, and parts of archives, without trusting what they say of themselves."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import zipfile
from typing import IO, Any, BinaryIO

from virtual_stem.recordings.signals import RecordingError

MAX_TEXT_BYTES = 8_000_000
"""Of metadata in JSON."""
MAX_DIRECTORY_BYTES = 1_000_000
"""Of the list of what is in an archive: ten thousand names."""
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: pathlib.Path) -> BinaryIO:
    """A regular file for reading; a pipe or a device is not waited for.

    Raises:
        RecordingError: it is no regular file.
        OSError: it cannot be opened.
    """
    file = open(os.open(path, _READ), "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise RecordingError("it is not a regular file")
    return file


def require_file(path: pathlib.Path, most: int) -> None:
    """Refuse what is no regular file, or is larger than all that may be read.

    Raises:
        RecordingError: it is not such.
        OSError: it cannot be opened.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size > most + MAX_TEXT_BYTES:
        raise RecordingError(f"it is {size:,} bytes long; at most {most:,} can be read")


class _Directory:
    """A file of which the list at its end may not be endless."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(min(size, MAX_DIRECTORY_BYTES + 1) if size >= 0 else MAX_DIRECTORY_BYTES + 1)
        if len(content) > MAX_DIRECTORY_BYTES:
            raise RecordingError("its list of contents is too long")
        return content


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """An archive whose list of contents is not too long.

    Raises:
        RecordingError: it is.
        zipfile.BadZipFile: it is no archive.
    """
    archive = zipfile.ZipFile(_Directory(file))  # type: ignore[arg-type]
    archive.fp = file
    return archive


def open_member(archive: zipfile.ZipFile, name: str) -> tuple[IO[bytes], int]:
    """A file in an archive for reading, and how long it says that it is. It is read where it is, never unpacked.

    Raises:
        RecordingError: there is none, or it is encrypted or packed in an unusual way.
    """
    try:
        entry = archive.getinfo(name)
    except KeyError as error:
        raise RecordingError(f"it has no {name}") from error
    if entry.flag_bits & 1:
        raise RecordingError("it is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RecordingError(f"it is compressed by a method ({entry.compress_type}) that is not read; save it as npz")
    return archive.open(entry), entry.file_size


def read_properties(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """The metadata in an archive.

    Raises:
        RecordingError: there are none, or they are none.
    """
    stream, _ = open_member(archive, name)
    with stream:
        return parse_properties(stream.read(MAX_TEXT_BYTES + 1))


def parse_properties(text: bytes | str) -> dict[str, Any]:
    """Metadata from JSON.

    Raises:
        RecordingError: they are too long, too deep, or none.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise RecordingError(f"its metadata are longer than {MAX_TEXT_BYTES:,} bytes")
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise RecordingError("its metadata are nested too deeply") from error
    except ValueError as error:
        raise RecordingError(f"its metadata are not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RecordingError("its metadata are no properties")
    return found
