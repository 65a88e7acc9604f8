"""Recorded spectrum images and their overviews as specimens, from a file or a folder of such."""

from __future__ import annotations

import dataclasses
import pathlib
import stat

import numpy as np
import numpy.typing as npt

from virtual_stem import recordings
from virtual_stem.recordings import Axis, Recording, RecordingError, Signal

MAX_BYTES = 2 << 30
"""Of data in a specimen; it is held in memory."""
MAX_FILES = 100
READERS = {suffix: reader for suffix, reader in recordings.READERS.items() if suffix != ".npy"}
"""Files that can be a specimen; a single array of NumPy's does not say what its energies are."""
IN_FOLDERS = (".npz", ".hspy", ".ndata", ".ndata1", ".h5", ".nhdf")
"""Files that are read from a folder; what else is there may be pictures of all kinds."""


def read_signals(path: pathlib.Path) -> list[Signal]:
    """All signals of a file, or of the files in a folder; links in a folder are not followed.

    Raises:
        ValueError: it cannot be read; the message says why.
    """
    if path.is_dir() and path.suffix.lower() != ".zspy":
        return _read_folder(path)
    if path.suffix.lower() not in READERS:
        raise RecordingError(f"{path.name} is of no kind that can be read; use {', '.join(sorted(READERS))}.")
    return _read_file(path, MAX_BYTES)


def _read_folder(path: pathlib.Path) -> list[Signal]:
    try:
        there = [f for f in path.iterdir() if f.suffix.lower() in IN_FOLDERS and stat.S_ISREG(f.lstat().st_mode)]
    except OSError as error:
        raise RecordingError(f"{path.name} cannot be read: {error}") from error
    if len(there) > MAX_FILES:
        raise RecordingError(f"{path.name} holds {len(there)} files of data; name one of them.")
    found: list[Signal] = []
    for file in sorted(there):
        read = _read_file(file, MAX_BYTES - sum(signal.data.nbytes for signal in found))
        found += [dataclasses.replace(signal, name=signal.name or file.name) for signal in read]
    return found


def _read_file(path: pathlib.Path, most: int) -> list[Signal]:
    recording = recordings.read(path, most)
    try:
        return list(recording.signals) or _of_arrays(recording)
    except (ValueError, TypeError) as error:
        raise RecordingError(f"{path.name} cannot be read: {error}") from error


def _of_arrays(recording: Recording) -> list[Signal]:
    """Keys: ``spectra`` (h, w, E), ``energy_eV`` (E,), and where there are such ``image`` (H, W) and ``pixel_nm``."""
    arrays = recording.arrays
    missing = {"spectra", "energy_eV"} - set(arrays)
    if missing:
        raise RecordingError(f"it has no {' and no '.join(sorted(missing))}")
    spectra, energy = arrays["spectra"], np.asarray(arrays["energy_eV"], dtype=float)
    if spectra.ndim != 3 or energy.shape != spectra.shape[2:]:
        raise RecordingError(f"spectra of shape {spectra.shape} do not go with {energy.shape} energies")
    pixel = arrays.get("pixel_nm", np.ones(()))
    if pixel.size != 1:
        raise RecordingError(f"pixel_nm is one number, not an array of shape {pixel.shape}")
    if not pixel.item() > 0:
        raise RecordingError(f"pixel_nm must be a length above 0, not {pixel.item():g}")
    step = Axis(scale=float(pixel.item()), units="nm")
    signals = [Signal(spectra, (step, step, even(energy)), datum=1)]
    if "image" in arrays:
        image = arrays["image"]
        signals.append(Signal(image, tuple(Axis() for _ in image.shape), datum=2))
    return signals


def even(energy: npt.NDArray[np.float64]) -> Axis:
    """The axis of energies (E,), eV, that rise in even steps.

    Raises:
        RecordingError: they do not.
    """
    if len(energy) < 2:
        raise RecordingError("a spectrum needs at least two channels")
    with np.errstate(over="ignore", invalid="ignore"):
        scale = float(energy[-1] - energy[0]) / (len(energy) - 1)
        off = np.abs(energy - (energy[0] + scale * np.arange(len(energy)))).max()
    if not (scale > 0 and off <= 0.01 * scale):
        raise RecordingError("its energies do not rise in even steps; give channel numbers where they are no energies")
    return Axis(float(energy[0]), scale, "eV")
