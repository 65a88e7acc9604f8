"""Any recorded spectrum image, with the overview that was recorded with it, as the specimen.

Images and spectra are the recorded counts, interpolated in position (bilinear); at the centre of a recorded pixel they
are the recorded ones. They hold the noise that they were recorded with, and nothing is added to it.
"""

from __future__ import annotations

import pathlib

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from virtual_stem.recordings import Axis
from virtual_stem.recordings.choice import choose
from virtual_stem.recordings.dead_pixels import LARGEST, mended, mended_image
from virtual_stem.specimen import Array, EnergyAxis, Goal, Specimen, View
from virtual_stem.specimens.files import even, read_signals

FIELD_NM = 0.01, 1e6
"""Sides of a field that a microscope scans, nm."""
LARGEST_EV = 1e6
FEWEST, MOST = 16, 32768
"""Pixels along a side of an overview that can be scanned."""


class RecordedSpecimen(Specimen):
    """Specimen (e): a recorded spectrum image.

    The overview and the spectrum image span the same field, with pixels of their own. Beyond the field the values at
    its border go on.

    Args:
        spectra: (h, w, E) counts.
        energy: calibration of the last axis, eV.
        pixel_nm: (height, width) of a pixel of the spectrum image.
        image: (H, W) overview, counts; the spectra's sums where there is none.
        source: where it comes from, for its title.

    Attributes:
        field_nm: (height, width) of the recorded field; ``size_nm`` is its shorter side.

    Raises:
        ValueError: the arrays are not such.
    """

    name = "recorded"
    recorded = True

    def __init__(
        self,
        spectra: npt.NDArray[np.number],
        energy: Axis,
        pixel_nm: tuple[float, float] = (1.0, 1.0),
        image: npt.NDArray[np.number] | None = None,
        source: str = "spectrum image",
    ):
        if spectra.ndim != 3 or min(spectra.shape) < 2:
            raise ValueError(f"A spectrum image has two positions and an energy; this one has shape {spectra.shape}.")
        if not energy.scale > 0:
            raise ValueError(f"The energy must rise from channel to channel, not by {energy.scale:g} eV.")
        if not max(abs(energy.offset), energy.scale * spectra.shape[2]) <= LARGEST_EV:
            raise ValueError(f"The energies must lie within {LARGEST_EV:g} eV of zero.")
        for what, counts in (("spectra", spectra), ("image", image)):
            _check_counts(what, counts)
        if image is not None and (image.ndim != 2 or min(image.shape) < 2):
            raise ValueError(f"An overview has two dimensions; this one has shape {image.shape}.")
        self.title = f"Recorded: {source}"
        self._spectra = spectra
        self._image = np.asarray(spectra.sum(axis=2, dtype=float) if image is None else image, np.float32)
        self.field_nm = spectra.shape[0] * pixel_nm[0], spectra.shape[1] * pixel_nm[1]
        self.size_nm = min(self.field_nm)
        if not (FIELD_NM[0] <= self.size_nm and max(self.field_nm) <= FIELD_NM[1]):
            raise ValueError(
                f"The recorded field is {self.field_nm[0]:g} by {self.field_nm[1]:g} nm large, which no microscope "
                f"scans ({FIELD_NM[0]:g} to {FIELD_NM[1]:g} nm): correct the size of a pixel in the file."
            )
        self.axis = EnergyAxis(energy.offset, energy.scale, spectra.shape[2])
        ends = {"low_eV": float(self.axis.energy_eV[0]), "high_eV": float(self.axis.energy_eV[-1])}
        self.goal = Goal("up to you: all counts, until you choose a window", {"kind": "window", **ends})
        pixels = min(max(round(self._image.shape[0] * self.size_nm / self.field_nm[0]), FEWEST), MOST)
        self.view = View(fov_nm=self.size_nm, pixels=pixels)

    @classmethod
    def read(cls, path: pathlib.Path, number: int | None = None) -> RecordedSpecimen:
        """Read a file (.npz, .hspy, .ndata, .h5 and others), or a folder with a spectrum image and its overview.

        Args:
            path: where it lies.
            number: which of the signals in it is the spectrum image, counted from 1; None where that is clear.

        Raises:
            ValueError: it cannot be read, or holds no or more than one spectrum image; the message says so.
        """
        try:
            signals = read_signals(path)
            how = f"name the one that is meant, as {path.name}#1"
            choice = choose(signals, () if number is None else (number,), how=how)
            cube, image = choice.cube, choice.image
            steps = [axis.step_nm or 1.0 for axis in cube.axes[:2]]
            spectra, _, notes = mended(cube.data)
            overview, more = (None, []) if image is None else mended_image(image.data)
            about = " ".join([path.name, *(f"({note.rstrip('.')})" for note in (*notes, *more))])
            return cls(spectra, _energies(cube.axes[2]), (steps[0], steps[1]), overview, about)
        except ValueError as error:
            raise ValueError(f"{path.name} cannot be used: {error}") from error

    def haadf(self, points_nm: Array) -> Array:
        pixels = np.stack([_pixels(points_nm[..., k], self.field_nm[k], self._image.shape[k]) for k in (0, 1)])
        return np.asarray(ndimage.map_coordinates(self._image, pixels, order=1, mode="nearest", output=np.float64))

    def spectra(self, points_nm: Array, energy_eV: Array, dose_e_nm2: Array | None = None) -> Array:
        (y, y1, fy), (x, x1, fx) = (
            _neighbours(_pixels(points_nm[:, k], self.field_nm[k], self._spectra.shape[k]), self._spectra.shape[k])
            for k in (0, 1)
        )
        counts = (1 - fy) * ((1 - fx) * self._spectra[y, x] + fx * self._spectra[y, x1])
        counts += fy * ((1 - fx) * self._spectra[y1, x] + fx * self._spectra[y1, x1])
        return _resampled(counts, self.axis.energy_eV, np.asarray(energy_eV)) / self.axis.dispersion_eV


def _energies(axis: Axis) -> Axis:
    """The energies in eV."""
    in_eV = axis.in_eV
    if in_eV is None:
        raise ValueError(f"its last axis is in {axis.units[:40] or 'no units'!r}, not in eV; calibrate it first")
    return in_eV if in_eV.values is None else even(in_eV.values)


def _check_counts(what: str, counts: npt.NDArray[np.number] | None) -> None:
    """Refuse numbers that are none, or with which nothing can be reckoned."""
    if counts is not None and counts.size and not -LARGEST <= counts.min() <= counts.max() <= LARGEST:
        raise ValueError(f"The {what} must be finite numbers within {LARGEST:g}; replace those that are not.")


def _pixels(position_nm: Array, field_nm: float, pixels: int) -> Array:
    """Positions in pixels; rounded a little, so that the centre of a pixel is exactly that."""
    return np.round((position_nm / field_nm + 0.5) * pixels - 0.5, 9)


def _neighbours(position: Array, pixels: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
    """The pixels (n,) on either side of positions (n,), and the weight (n, 1) of the second."""
    inside = np.clip(position, 0, pixels - 1)
    low = inside.astype(np.intp)
    return low, np.minimum(low + 1, pixels - 1), (inside - low)[:, None]


def _resampled(counts: Array, own_eV: Array, energy_eV: Array) -> Array:
    """Counts (n, E) on another axis, linear between channels; nothing was recorded beyond the ends."""
    if energy_eV.shape == own_eV.shape and np.allclose(energy_eV, own_eV, rtol=0, atol=1e-6 * (own_eV[1] - own_eV[0])):
        return counts
    position = (energy_eV - own_eV[0]) / (own_eV[1] - own_eV[0])
    low = np.clip(position.astype(np.intp), 0, len(own_eV) - 2)
    part = position - low
    known = (position >= 0) & (position <= len(own_eV) - 1)
    return np.asarray((counts[:, low] * (1 - part) + counts[:, low + 1] * part) * known)
