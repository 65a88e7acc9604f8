"""Nion Swift's items: a zip of an array and its properties, or an HDF5 file with the properties as an attribute."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy.typing as npt

from virtual_stem.recordings import arrays, hdf5
from virtual_stem.recordings.access import open_file, open_member, open_zip, parse_properties, read_properties
from virtual_stem.recordings.signals import Axis, Recording, RecordingError, Room, Signal, in_line

DATUM = "datum_dimension_count"


def read_ndata(path: pathlib.Path, room: Room) -> Recording:
    """The zip of data.npy and metadata.json."""
    with open_file(path) as file, open_zip(file) as archive:
        properties = read_properties(archive, "metadata.json")
        stream, size = open_member(archive, "data.npy")
        with stream:
            data = arrays.read_array(stream, size, room)
    return Recording((_signal(data, properties),))


def read_items(file: Any, room: Room) -> Recording:
    """All items of an HDF5 file that is open and checked."""
    items = [item for item in hdf5.datasets(file) if "properties" in item.attrs]
    if not items:
        raise RecordingError("it holds no Swift item and no HyperSpy signal: there are no data with properties")
    properties = [parse_properties(hdf5.attribute(item, "properties", "{}")) for item in items]
    return Recording(
        tuple(_signal(hdf5.read(item, room), about) for item, about in zip(items, properties, strict=True))
    )


def _signal(data: npt.NDArray[Any], properties: dict[str, Any]) -> Signal:
    found = _calibrations(properties) or [{}] * data.ndim
    datum = next((place[DATUM] for place in _places(properties) if type(place.get(DATUM)) is int), None)
    sequence = any(place.get("is_sequence") is True for place in _places(properties))
    about = properties.get("metadata")
    source = about.get("hardware_source") if isinstance(about, dict) else None
    kind = source.get("signal_type") if isinstance(source, dict) else None
    axes = tuple(_axis(calibration) for calibration in found)
    return Signal(data, axes, datum, in_line(properties.get("title")), in_line(kind), sequence)


def _axis(calibration: dict[str, Any]) -> Axis:
    """The scale is 0, which is of no use, where a calibration leaves it out."""
    if not calibration:
        return Axis()
    offset, scale = (_number(calibration.get(name)) for name in ("offset", "scale"))
    return Axis(offset, scale, str(calibration.get("units") or ""))


def _number(value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordingError("it has a calibration that is no number")
    return float(value)


def _calibrations(properties: dict[str, Any]) -> list[dict[str, Any]]:
    """The calibrations of the axes, wherever this version of Swift keeps them."""
    for place in _places(properties):
        for key in ("dimensional_calibrations", "spatial_calibrations"):
            found = place.get(key)
            if isinstance(found, list) and found:
                if not all(isinstance(calibration, dict) for calibration in found):
                    raise RecordingError("it has a calibration that is none")
                return found
    return []


def _places(properties: dict[str, Any]) -> list[dict[str, Any]]:
    """Where an item's description may be."""
    sources = properties.get("data_sources")
    places = [properties, properties.get("data_source"), *(sources if isinstance(sources, list) else [])]
    return [place for place in places if isinstance(place, dict)]
