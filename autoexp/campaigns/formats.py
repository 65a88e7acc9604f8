"""Reads the files that datasets come in, by the one reader of recorded data, :mod:`virtual_stem.recordings`."""

from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.documents import shown
from autoexp.errors import MissingDependencyError, PlanError
from autoexp.text import clean
from virtual_stem import recordings
from virtual_stem.recordings import MissingLibraryError, RecordingError, Signal

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


def read(path: pathlib.Path) -> Raw:
    """Read a file by its extension.

    Raises:
        DatasetError: it is missing, too large, damaged, or of no known form.
        MissingDependencyError: a library that its format needs is not installed.
    """
    if not os.path.exists(path):
        raise DatasetError(f"There is no file {shown(path)}.")
    if path.suffix.lower() not in recordings.READERS:
        raise DatasetError(
            f"{shown(path.name)} is of no known form: give npz, a Swift item (ndata, h5) or a HyperSpy file."
        )
    try:
        found = recordings.read(path, MAX_BYTES)
    except MissingLibraryError as error:
        raise MissingDependencyError(clean(str(error))) from error
    except RecordingError as error:
        raise DatasetError(clean(str(error))) from error
    if not found.signals:
        get = found.arrays.get
        return Raw(get("image"), get("spectra"), get("energy_eV"), get("coords"), get("scalar"))
    return _of_signals(found.signals, path)


def _of_signals(signals: tuple[Signal, ...], path: pathlib.Path) -> Raw:
    """The largest spectrum image, and the largest image as the overview."""
    cubes = [s for s in signals if s.data.ndim == 3 and s.datum in (1, None)]
    images = [s for s in signals if s.data.ndim == 2 and s.datum != 1]
    cube = max(cubes, key=lambda s: s.data.size, default=None)
    image = max(images, key=lambda s: s.data.size, default=None)
    if cube is None and image is None:
        shapes = ", ".join(str(s.data.shape) for s in signals[:5])
        raise DatasetError(
            f"{shown(path.name)} has the shape {shapes}; a spectrum image (h, w, E) or an image is needed."
        )
    raw = Raw(image=None if image is None else image.data)
    if cube is not None:
        raw.spectra = cube.data
        raw.energy_eV = None if path.suffix.lower() == ".npy" else _energies(cube, path)
    return raw


def _energies(cube: Signal, path: pathlib.Path) -> npt.NDArray[np.float64]:
    axis = cube.axes[-1].in_eV
    if axis is None:
        units = clean(cube.axes[-1].units, 40)
        raise DatasetError(
            f"{shown(path.name)}: the last axis is not calibrated in eV, but in {units!r}; calibrate it first."
        )
    return axis.at(cube.data.shape[-1])
