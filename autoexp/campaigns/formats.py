"""Reads the files that datasets come in, by the one reader of recorded data, :mod:`virtual_stem.recordings`."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.documents import shown
from autoexp.errors import MissingDependencyError, PlanError
from autoexp.text import clean
from virtual_stem import recordings
from virtual_stem.recordings import MissingLibraryError, Recording, RecordingError, Signal
from virtual_stem.recordings.choice import choose, choose_image

MAX_BYTES = 8 << 30


class DatasetError(PlanError):
    """A dataset cannot be used."""


@dataclass
class Raw:
    """What a file holds, unchecked.

    Attributes:
        image: (H, W) overview.
        spectra: (h, w, E).
        energy_eV: (E,).
        coords: (n, 2) pixel positions (y, x).
        scalar: (n,).
        note: what a reader should know.
    """

    image: npt.NDArray[Any] | None = None
    spectra: npt.NDArray[Any] | None = None
    energy_eV: npt.NDArray[Any] | None = None
    coords: npt.NDArray[Any] | None = None
    scalar: npt.NDArray[Any] | None = None
    note: str = ""

    def found(self) -> str:
        """The names of what is there."""
        return ", ".join(name for name in NAMES if getattr(self, name) is not None) or "nothing that is known"


NAMES = ("image", "spectra", "energy_eV", "coords", "scalar")


def read(path: pathlib.Path, numbers: Sequence[int] = (), with_image: bool = True) -> Raw:
    """Read a map of spectra and its overview, or recorded values, from a file by its extension.

    Args:
        path: the file.
        numbers: which of the signals in it are meant, counted from 1; none for all.
        with_image: whether its overview is wanted too.

    Raises:
        DatasetError: it is missing, too large, damaged, of no known form, or it is not clear what is meant.
        MissingDependencyError: a library that its format needs is not installed.
    """
    found = _recording(path)
    if not found.signals:
        get = found.arrays.get
        image = get("image") if with_image else None
        return Raw(image, get("spectra"), get("energy_eV"), get("coords"), get("scalar"))
    with _named(path):
        choice = choose(found.signals, numbers, with_image)
    image = None if choice.image is None else choice.image.data
    energy = None if path.suffix.lower() == ".npy" else _energies(choice.cube, path)
    return Raw(image, choice.cube.data, energy, note=" ".join(map(clean, choice.notes)))


def read_image(path: pathlib.Path) -> npt.NDArray[Any]:
    """Read an overview from a file of its own.

    Raises:
        DatasetError: see :func:`read`; or it holds no image, or several.
        MissingDependencyError: a library that its format needs is not installed.
    """
    found = _recording(path)
    if not found.signals:
        if "image" not in found.arrays:
            raise DatasetError(f"{shown(path)} holds no image; it holds {', '.join(found.arrays) or 'nothing known'}.")
        return found.arrays["image"]
    with _named(path):
        return choose_image(found.signals).data


def _recording(path: pathlib.Path) -> Recording:
    if not os.path.exists(path):
        raise DatasetError(f"There is no file {shown(path)}.")
    if path.suffix.lower() not in recordings.READERS:
        raise DatasetError(
            f"{shown(path.name)} is of no known form: give npz, a Swift item (ndata, ndata1, h5, nhdf) or a HyperSpy "
            "file."
        )
    try:
        return recordings.read(path, MAX_BYTES)
    except MissingLibraryError as error:
        raise MissingDependencyError(clean(str(error))) from error
    except RecordingError as error:
        raise DatasetError(clean(str(error))) from error


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except RecordingError as error:
        raise DatasetError(clean(f"{shown(path.name)} cannot be used: {error}.")) from error


def _energies(cube: Signal, path: pathlib.Path) -> npt.NDArray[np.float64]:
    axis = cube.axes[-1].in_eV
    if axis is None:
        units = clean(cube.axes[-1].units, 40)
        raise DatasetError(
            f"{shown(path.name)}: the last axis is not calibrated in eV, but in {units or 'no units'!r}; "
            "calibrate it first."
        )
    return axis.at(cube.data.shape[-1])
