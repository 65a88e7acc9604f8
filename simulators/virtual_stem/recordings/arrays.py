"""NumPy's files: one array (npy), or several by name (npz). The header is read first, and nothing is unpickled."""

from __future__ import annotations

import math
import pathlib
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from virtual_stem.recordings.access import open_file, open_member, open_zip
from virtual_stem.recordings.signals import Axis, Recording, RecordingError, Room, Signal, require_real

NAMES = ("image", "spectra", "energy_eV", "coords", "scalar", "pixel_nm")
"""What is read from an archive; whatever else is in it stays there."""
MAX_HEADER = 10_000
BLOCK = 1 << 24
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: pathlib.Path, room: Room) -> Recording:
    """A single array, without calibrations."""
    with open_file(path) as file:
        data = read_array(file, path.stat().st_size, room)
    return Recording((Signal(data, tuple(Axis() for _ in data.shape)),))


def read_npz(path: pathlib.Path, room: Room) -> Recording:
    """Arrays by name."""
    with open_file(path) as file, open_zip(file) as archive:
        there = set(archive.namelist())
        Room(room.most).take(sum(entry.file_size for entry in archive.infolist()))
        found = {name: _member(archive, f"{name}.npy", room) for name in NAMES if f"{name}.npy" in there}
    return Recording(arrays=found)


def _member(archive: Any, name: str, room: Room) -> npt.NDArray[Any]:
    stream, size = open_member(archive, name)
    with stream:
        return read_array(stream, size, room)


def read_array(stream: IO[bytes], size: int, room: Room) -> npt.NDArray[Any]:
    """An array in NumPy's format.

    Args:
        stream: where it begins.
        size: bytes that are there, header included, as far as is known.
        room: what may still be read.

    Raises:
        RecordingError: it is larger than that, not what its header says, or holds anything but real numbers.
    """
    shape, fortran, dtype = _header(stream)
    require_real(dtype)
    if any(length < 0 for length in shape):
        raise RecordingError(f"it has the impossible shape {shape}")
    wanted = math.prod(shape) * dtype.itemsize
    room.take(wanted)
    if wanted > size:
        raise RecordingError(f"its header speaks of {wanted:,} bytes; there are {size:,}")
    data = np.empty(math.prod(shape), dtype)
    _fill(stream, data)
    return data.reshape(shape[::-1]).T if fortran else data.reshape(shape)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
    if version not in _HEADERS:
        raise RecordingError(f"it is in version {version} of NumPy's format, which is for structured arrays only")
    shape, fortran, dtype = _HEADERS[version](stream, max_header_size=MAX_HEADER)  # type: ignore[no-untyped-call]
    return shape, fortran, dtype


def _fill(stream: IO[bytes], data: npt.NDArray[Any]) -> None:
    """Read an array's bytes; the end of the stream, where an archive checks its sum, included."""
    bytes_ = data.view(np.uint8) if data.size else np.empty(0, np.uint8)
    at = 0
    while at < len(bytes_):
        block = stream.read(min(BLOCK, len(bytes_) - at))
        if not block:
            raise RecordingError(f"it ends after {at:,} of {len(bytes_):,} bytes")
        bytes_[at : at + len(block)] = np.frombuffer(block, np.uint8)
        at += len(block)
    if stream.read(1):
        raise RecordingError("it is longer than its header says")
