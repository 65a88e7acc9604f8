"""Reads recorded images and spectrum images from files, read-only: npz, HyperSpy, Swift. Nothing is unpickled."""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NANOMETRES = {"pm": 1e-3, "å": 0.1, "Å": 0.1, "a": 0.1, "nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "mm": 1e6, "m": 1e9}


@dataclass(frozen=True)
class Axis:
    """Calibration of one axis: the value at index i is ``offset + scale * i``, in ``units``."""

    offset: float = 0.0
    scale: float = 1.0
    units: str = ""

    @property
    def step_nm(self) -> float | None:
        """Size of a step in nm; None where the axis is no length."""
        factor = NANOMETRES.get(self.units.strip()) or NANOMETRES.get(self.units.strip().lower())
        return abs(self.scale) * factor if factor and self.scale else None


@dataclass(frozen=True)
class Signal:
    """A recorded array and its axes, one for each dimension; the energy comes last where there is one."""

    data: npt.NDArray[Any]
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        if self.data.dtype.kind not in "iuf":
            raise ValueError(f"it holds {self.data.dtype} instead of real numbers")
        if len(self.axes) != self.data.ndim:
            raise ValueError(f"{len(self.axes)} calibrations do not fit an array of shape {self.data.shape}")


def read_signals(path: pathlib.Path) -> list[Signal]:
    """All signals of a file, or of the files in a folder.

    Raises:
        ValueError: it cannot be read; the message says why.
    """
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in READERS)
        return [signal for file in files for signal in read_signals(file)]
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path.name} is of no kind that can be read; use {', '.join(sorted(READERS))}.")
    try:
        return reader(path)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error


def _read_npz(path: pathlib.Path) -> list[Signal]:
    """Keys: ``spectra`` (h, w, E), ``energy_eV`` (E,), and where there are such ``image`` (H, W) and ``pixel_nm``."""
    # Opened here, because numpy leaves a file that it cannot read open.
    with path.open("rb") as stream:
        file = np.load(stream, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is no archive of arrays")
        missing = {"spectra", "energy_eV"} - set(file.files)
        if missing:
            raise ValueError(f"it has no {' and no '.join(sorted(missing))}")
        spectra, energy = file["spectra"], np.asarray(file["energy_eV"], dtype=float)
        if spectra.ndim != 3 or energy.shape != spectra.shape[2:]:
            raise ValueError(f"spectra of shape {spectra.shape} do not go with {energy.shape} energies")
        step = Axis(scale=float(file["pixel_nm"]) if "pixel_nm" in file.files else 1.0, units="nm")
        signals = [Signal(spectra, (step, step, _even(energy)))]
        if "image" in file.files:
            image = file["image"]
            signals.append(Signal(image, tuple(Axis() for _ in image.shape)))
        return signals


def _even(energy: npt.NDArray[np.float64]) -> Axis:
    if len(energy) < 2:
        raise ValueError("a spectrum needs at least two channels")
    scale = float(energy[-1] - energy[0]) / (len(energy) - 1)
    even = energy[0] + scale * np.arange(len(energy))
    if not scale > 0 or np.abs(energy - even).max() > 0.01 * scale:
        raise ValueError("its energies do not rise in even steps; give channel numbers where they are no energies")
    return Axis(float(energy[0]), scale, "eV")


def _read_ndata(path: pathlib.Path) -> list[Signal]:
    """A Swift data item: a zip of data.npy and metadata.json."""
    with zipfile.ZipFile(path) as archive, archive.open("data.npy") as file:
        data = np.lib.format.read_array(file, allow_pickle=False)
        return [_swift_signal(data, json.loads(archive.read("metadata.json")))]


def _read_hdf5(path: pathlib.Path) -> list[Signal]:
    """A HyperSpy file, a large Swift data item, or an export of Swift items."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError("h5py is not installed; `pip install h5py` brings it") from error
    with h5py.File(path, "r") as file:
        if "Experiments" in file:
            return [_hyperspy_signal(group) for group in file["Experiments"].values()]
        found: list[Signal] = []

        def collect(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and "properties" in item.attrs:
                found.append(_swift_signal(item[...], json.loads(item.attrs["properties"])))

        file.visititems(collect)
    if not found:
        raise ValueError("it holds neither HyperSpy's nor Swift's data")
    return found


def _swift_signal(data: npt.NDArray[Any], properties: dict[str, Any]) -> Signal:
    source = properties if "dimensional_calibrations" in properties else properties.get("data_source") or {}
    axes = tuple(
        Axis(float(c.get("offset") or 0.0), float(c.get("scale") or 1.0), str(c.get("units") or ""))
        for c in source.get("dimensional_calibrations") or [{}] * data.ndim
    )
    return Signal(data, axes)


def _hyperspy_signal(group: Any) -> Signal:
    data = group["data"][...]
    axes = []
    for k in range(data.ndim):
        axis = group[f"axis-{k}"].attrs
        if "scale" not in axis:
            raise ValueError(f"its axis {k} is not evenly spaced")
        axes.append(Axis(float(axis["offset"]), float(axis["scale"]), str(axis.get("units", ""))))
    return Signal(data, tuple(axes))


READERS: dict[str, Callable[[pathlib.Path], list[Signal]]] = {
    ".npz": _read_npz,
    ".hspy": _read_hdf5,
    ".ndata": _read_ndata,
    ".h5": _read_hdf5,
}
