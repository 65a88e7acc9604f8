"""Recorded images and spectrum images in files of somebody else, read-only: one reader for whoever wants them.

Every file is taken for what it may be: broken, endless, or made to mislead. So its size is known from its header before
anything is loaded, it is a regular file that refers to no other, and nothing in it is run. What a library in C reads is
tried in another process first (:mod:`virtual_stem.recordings.apart`). A new format is a module with a function
``(path, room) -> Recording``, entered in :data:`READERS`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from virtual_stem.recordings.apart import TRIAL
from virtual_stem.recordings.arrays import read_npy, read_npz
from virtual_stem.recordings.hyperspy import LIBRARY, read_by_library, read_hdf5
from virtual_stem.recordings.signals import Axis, MissingLibraryError, Recording, RecordingError, Room, Signal, in_words
from virtual_stem.recordings.swift import read_ndata

READERS: dict[str, Callable[[pathlib.Path, Room], Recording]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".ndata": read_ndata,
    ".ndata1": read_ndata,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".nhdf": read_hdf5,
    ".hspy": read_hdf5,
    **dict.fromkeys(LIBRARY, read_by_library),
}
BY_OTHERS = {suffix for suffix, reader in READERS.items() if reader in (read_hdf5, read_by_library)}
"""What is read by libraries that are not Python's or NumPy's own."""


def read(path: pathlib.Path, most: int) -> Recording:
    """All that a file holds.

    Args:
        path: the file; or a folder, if it is a store of HyperSpy (zspy).
        most: bytes of data that are read at most; memory beyond that is taken for a part of them at a time.

    Raises:
        RecordingError: it is of no known kind, too large, damaged, refers to other files or would have code run; the
            message says why. Nothing else is raised, whatever the file holds.
    """
    if path.suffix.lower() in BY_OTHERS:
        TRIAL.require_readable(path, most)
    return read_here(path, most)


def read_here(path: pathlib.Path, most: int) -> Recording:
    """As :func:`read`, with the libraries in this process from the beginning."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise RecordingError(f"{path.name} is of no kind that can be read; use {', '.join(sorted(READERS))}.")
    try:
        found = reader(path, Room(most))
        if found.signals and not any(signal.data.size for signal in found.signals):
            raise RecordingError("there are no numbers in it")
        return found
    except MissingLibraryError as error:
        raise MissingLibraryError(f"{path.name} cannot be read: {error}") from error
    except MemoryError as error:
        raise RecordingError(f"{path.name} cannot be read: it does not fit into this computer's memory.") from error
    except RecursionError as error:
        raise RecordingError(f"{path.name} cannot be read: it is nested too deeply.") from error
    except Exception as error:  # a damaged file can make a library raise anything
        raise RecordingError(f"{path.name} cannot be read: {_said(error)}") from error


def _said(error: Exception) -> str:
    """What an error says, on one line and not for ever."""
    text = " ".join(str(error).split()) or type(error).__name__
    shown = "".join(c if c.isprintable() else "?" for c in text)[:500]
    return shown if isinstance(error, RecordingError) else f"it is damaged, or not what its name says ({shown})"


__all__ = [
    "READERS",
    "Axis",
    "MissingLibraryError",
    "Recording",
    "RecordingError",
    "Room",
    "Signal",
    "in_words",
    "read",
    "read_here",
]
