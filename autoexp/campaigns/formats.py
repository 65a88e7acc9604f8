"""Reads the files that datasets come in. Nothing is unpickled, and sizes are checked before anything is loaded."""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.errors import MissingDependencyError, PlanError
from autoexp.export.quiet import hyperspy

MAX_BYTES = 8 << 30
HYPERSPY = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".nxs", ".msa", ".ser", ".emi", ".rpl", ".blo", ".tif", ".tiff")


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
        names = ("image", "spectra", "energy_eV", "coords", "scalar")
        return ", ".join(name for name in names if getattr(self, name) is not None) or "nothing that is known"


def read(path: pathlib.Path) -> Raw:
    """Read a file by its extension.

    Raises:
        DatasetError: it is missing, too large, damaged, or of no known form.
        MissingDependencyError: a library that its format needs is not installed.
    """
    if not path.is_file():
        raise DatasetError(f"There is no file {path}.")
    reader = _reader(path.suffix.lower())
    if reader is None:
        raise DatasetError(f"{path.name} is of no known form: give npz, a Swift item (ndata, h5) or a HyperSpy file.")
    _require_size(path.stat().st_size, path)
    try:
        return reader(path)
    except (DatasetError, MissingDependencyError):
        raise
    except Exception as error:  # a damaged file can make a reader raise anything
        raise DatasetError(f"{path.name} cannot be read: {error}") from error


def _reader(suffix: str) -> Callable[[pathlib.Path], Raw] | None:
    readers = {".npz": _npz, ".ndata": _ndata, ".ndata1": _ndata, ".h5": _swift_h5, ".hdf5": _swift_h5, ".npy": _npy}
    return readers.get(suffix, _hyperspy if suffix in HYPERSPY else None)


def _npz(path: pathlib.Path) -> Raw:
    with zipfile.ZipFile(path) as archive:
        _require_size(sum(entry.file_size for entry in archive.infolist()), path)
    with np.load(path, allow_pickle=False) as arrays:
        names = ("image", "spectra", "energy_eV", "coords", "scalar")
        try:
            return Raw(**{name: arrays[name] for name in names if name in arrays.files})
        except ValueError as error:  # numpy refuses pickled objects with this
            raise DatasetError(f"{path.name} holds what is not plain arrays, which is never loaded: {error}") from error


def _npy(path: pathlib.Path) -> Raw:
    array = np.load(path, allow_pickle=False)
    return Raw(image=array) if array.ndim == 2 else Raw(spectra=array)


def _ndata(path: pathlib.Path) -> Raw:
    """Swift's zip of an array and its properties."""
    with zipfile.ZipFile(path) as archive:
        _require_size(sum(entry.file_size for entry in archive.infolist()), path)
        with archive.open("data.npy") as file:
            data = np.lib.format.read_array(file, allow_pickle=False)
        properties = json.loads(archive.read("metadata.json").decode("utf-8", errors="replace"))
    return _swift_item(data, properties, path)


def _swift_h5(path: pathlib.Path) -> Raw:
    """Swift's HDF5 form: one array with its properties as an attribute in JSON."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(f"Reading {path.name} needs h5py: python -m pip install h5py") from error
    with h5py.File(path, "r") as file:
        if "data" not in file or "properties" not in file["data"].attrs:
            raise DatasetError(f"{path.name} is no Swift item: it has no data with properties.")
        _require_size(file["data"].nbytes, path)
        return _swift_item(file["data"][()], json.loads(file["data"].attrs["properties"]), path)


def _swift_item(data: npt.NDArray[Any], properties: dict[str, Any], path: pathlib.Path) -> Raw:
    if data.ndim == 2:
        return Raw(image=data)
    if data.ndim != 3:
        raise DatasetError(f"{path.name} has the shape {data.shape}; a spectrum image (h, w, E) or an image is needed.")
    calibration = _calibrations(properties)[-1:]
    if not calibration or calibration[0].get("units") != "eV":
        raise DatasetError(f"{path.name}: the last axis is not calibrated in eV; calibrate the item in Swift first.")
    offset, scale = float(calibration[0].get("offset", 0.0)), float(calibration[0].get("scale", 1.0))
    return Raw(spectra=data, energy_eV=offset + scale * np.arange(data.shape[-1]))


def _calibrations(properties: dict[str, Any]) -> list[dict[str, Any]]:
    """The calibrations of the axes, wherever this version of Swift keeps them."""
    sources = [properties.get("data_source"), *(properties.get("data_sources") or [])]
    places = [properties, *(source for source in sources if isinstance(source, dict))]
    for place in places:
        for key in ("dimensional_calibrations", "spatial_calibrations"):
            found = place.get(key)
            if isinstance(found, list) and found:
                return [c for c in found if isinstance(c, dict)]
    return []


def _hyperspy(path: pathlib.Path) -> Raw:
    """Any file that HyperSpy reads: the largest spectrum image in it, and the largest image as the overview."""
    with hyperspy(f"Reading {path.name}") as api:
        loaded = api.load(str(path))
    signals = loaded if isinstance(loaded, list) else [loaded]
    for signal in signals:
        _require_size(int(signal.data.nbytes), path)
    cubes = [s for s in signals if s.axes_manager.signal_dimension == 1 and s.axes_manager.navigation_dimension == 2]
    images = [s for s in signals if _is_image(s)]
    cube = max(cubes, key=lambda s: s.data.size, default=None)
    image = max(images, key=lambda s: s.data.size, default=None)
    raw = Raw(image=None if image is None else np.asarray(image.data))
    if cube is None:
        return raw
    axis = cube.axes_manager.signal_axes[0]
    if axis.units not in ("eV", "keV"):
        raise DatasetError(f"{path.name}: the signal axis is in {axis.units!r}, not in eV; set its units first.")
    raw.spectra = np.asarray(cube.data)
    raw.energy_eV = np.asarray(axis.axis, dtype=float) * (1000.0 if axis.units == "keV" else 1.0)
    return raw


def _is_image(signal: Any) -> bool:
    manager = signal.axes_manager
    return (manager.signal_dimension, manager.navigation_dimension) in ((2, 0), (0, 2))


def _require_size(size: int, path: pathlib.Path) -> None:
    if size > MAX_BYTES:
        raise DatasetError(f"{path.name} holds {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} GiB can be replayed.")
