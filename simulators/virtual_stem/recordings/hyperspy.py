"""HyperSpy's own files, read directly; and what its library reads, looked at lazily before anything is loaded.

Its library makes functions of the formulas of axes, which would be code out of a file, so such axes are refused.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import json
import logging
import os
import pathlib
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from virtual_stem.recordings import hdf5, swift
from virtual_stem.recordings.access import open_file, open_zip, require_file
from virtual_stem.recordings.signals import (
    Axis,
    MissingLibraryError,
    Recording,
    RecordingError,
    Room,
    Signal,
    in_line,
    require_real,
)

HDF5 = (".emd", ".nxs")
LIBRARY = (*HDF5, ".zspy", ".dm3", ".dm4", ".msa", ".ser", ".emi", ".rpl", ".blo", ".tif", ".tiff")
"""What is read by HyperSpy's library."""
FORMULA = "an axis is given by a formula, which is never computed; call convert_to_non_uniform_axis() and save it again"
MAX_PARTS = 200_000
NO_NAME = "_None_"


def read_hdf5(path: pathlib.Path, room: Room) -> Recording:
    """HyperSpy's signals (hspy), or Swift's items."""
    with hdf5.opened(path, room) as file:
        if "Experiments" not in file:
            return swift.read_items(file, room)
        groups = [file["Experiments"][name] for name in file["Experiments"]]
        return _of_real_numbers([lambda group=group: _signal(group, room) for group in groups])


def _signal(group: Any, room: Room) -> Signal:
    dataset = hdf5.own_dataset(group, "data")
    require_real(dataset.dtype)
    axes = [_axis(group[f"axis-{k}"], room) for k in range(dataset.ndim)]
    measured = [bool(hdf5.attribute(group[f"axis-{k}"], "navigate", k < dataset.ndim - 1)) for k in range(dataset.ndim)]
    order = sorted(range(dataset.ndim), key=lambda k: not measured[k])
    return Signal(
        hdf5.read(dataset, room).transpose(order),
        tuple(axes[k] for k in order),
        measured.count(False),
        in_line(_about(group, "General", "title")),
        in_line(_about(group, "Signal", "signal_type")),
    )


def _about(group: Any, part: str, name: str) -> Any:
    """What the metadata of a signal say; None where they say nothing."""
    found = group.get("metadata")
    found = found.get(part) if found is not None and hasattr(found, "get") else None
    return hdf5.attribute(found, name, None) if found is not None and hasattr(found, "attrs") else None


def _axis(group: Any, room: Room) -> Axis:
    kind = hdf5.attribute(group, "_type", "UniformDataAxis")
    if "expression" in group.attrs or kind == "FunctionalDataAxis":
        raise RecordingError(FORMULA)
    units = str(hdf5.attribute(group, "units", ""))
    units = "" if units == NO_NAME else units
    if "scale" in group.attrs:
        offset, scale = (float(hdf5.attribute(group, name, 0.0)) for name in ("offset", "scale"))
        return Axis(offset, scale, units)
    return Axis(units=units, values=np.asarray(hdf5.read(hdf5.own_dataset(group, "axis"), room), float))


def read_by_library(path: pathlib.Path, room: Room) -> Recording:
    """Whatever HyperSpy's library reads: its maps of spectra and its images."""
    if path.suffix.lower() == ".zspy":
        _check_store(path, room)
    else:
        require_file(path, room.most)
    if path.suffix.lower() in HDF5:
        with hdf5.opened(path, room):
            pass
    with _silent(path) as api:
        try:
            loaded = api.load(glob.escape(str(path)), lazy=True)
        except NotImplementedError:  # a format of text: as numbers it is no longer than as characters, by far
            loaded = api.load(glob.escape(str(path)))
        signals = loaded if isinstance(loaded, list) else [loaded]
        return _of_real_numbers([lambda signal=signal: _loaded(signal, room) for signal in signals])


def _loaded(signal: Any, room: Room) -> Signal:
    require_real(signal.data.dtype)
    room.take(int(np.prod([int(n) for n in signal.data.shape], dtype=object)) * signal.data.dtype.itemsize)
    axes = sorted(signal.axes_manager._axes, key=lambda axis: axis.index_in_array)
    name, kind = (signal.metadata.get_item(item, "") for item in ("General.title", "Signal.signal_type"))
    dimensions = signal.axes_manager.signal_dimension
    return Signal(np.asarray(signal.data), tuple(map(_of, axes)), dimensions, in_line(name), in_line(kind))


def _of(axis: Any) -> Axis:
    units = axis.units if isinstance(axis.units, str) else ""
    if axis.is_uniform:
        return Axis(float(axis.offset), float(axis.scale), units)
    return Axis(units=units, values=np.asarray(axis.axis, dtype=float))


def _of_real_numbers(makers: list[Any]) -> Recording:
    """Those signals that are arrays of real numbers; it is an error if none is."""
    signals, trouble = [], "it holds no signal"
    for make in makers:
        try:
            signals.append(make())
        except RecordingError as error:
            if "instead of real numbers" not in str(error) and "objects" not in str(error):
                raise
            trouble = str(error)
    if not signals:
        raise RecordingError(trouble)
    return Recording(tuple(signals))


@contextlib.contextmanager
def _silent(path: pathlib.Path) -> Iterator[Any]:
    """HyperSpy's library, without its remarks on standard output, where programs may be reading."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            importlib.import_module("exspy")
            yield importlib.import_module("hyperspy.api")
        except ImportError as error:
            raise MissingLibraryError(
                f"reading {path.name} needs HyperSpy: python -m pip install hyperspy exspy zarr ({error})"
            ) from error
        finally:
            logging.disable(before)


# --- zspy: many small files in a folder or a zip, among them descriptions in JSON


def _check_store(path: pathlib.Path, room: Room) -> None:
    """Refuse a store that links elsewhere, holds too much, or would have code run or pickles loaded."""
    described = _in_folder(path, room) if path.is_dir() else _in_zip(path, room)
    for text in described:
        about = json.dumps(json.loads(text)).lower()  # written in one way, whatever escapes were used
        if "expression" in about:
            raise RecordingError(FORMULA)
        if "pickle" in about:
            raise RecordingError("it holds Python objects, which are never loaded")


def _in_folder(path: pathlib.Path, room: Room) -> Iterator[bytes]:
    total = Room(room.most)
    parts = 0
    for folder, folders, files in os.walk(path, followlinks=False):
        for name in (*folders, *files):
            part = pathlib.Path(folder) / name
            parts += 1
            if parts > MAX_PARTS or part.is_symlink():
                raise RecordingError("it has a link to another file in it, or too many parts")
        for name in files:
            with open_file(pathlib.Path(folder) / name) as file:
                total.take(os.fstat(file.fileno()).st_size)
                if _describes(name):
                    yield file.read(1_000_000)


def _in_zip(path: pathlib.Path, room: Room) -> Iterator[bytes]:
    with open_file(path) as file, open_zip(file) as archive:
        Room(room.most).take(sum(entry.file_size for entry in archive.infolist()))
        for entry in archive.infolist():
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
                raise RecordingError("it is packed in an unusual way")
            if _describes(pathlib.PurePosixPath(entry.filename).name):
                with archive.open(entry) as stream:
                    yield stream.read(1_000_000)


def _describes(name: str) -> bool:
    return name in (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")
