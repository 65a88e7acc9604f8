"""What lies under the beam: an image contrast and a spectrum at every position, known exactly."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[np.floating[Any]]
Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EnergyAxis:
    """The energy axis of the spectrometer that suits a specimen."""

    offset_eV: float
    dispersion_eV: float
    channels: int = 1024

    @property
    def energy_eV(self) -> Array:
        """Channel energies, (channels,) eV."""
        return self.offset_eV + self.dispersion_eV * np.arange(self.channels)


@dataclass(frozen=True)
class Goal:
    """What one would look for in a specimen: a scalarizer in the plan's form, and what it means in words."""

    description: str
    scalarizer: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """An overview and an exposure that show a specimen well.

    Attributes:
        fov_nm: side of the square field.
        pixels: pixels along a side.
        exposure_s: exposure of a spectrum at 50 pA.
        dwell_us: time per pixel of the overview.
    """

    fov_nm: float
    pixels: int = 512
    exposure_s: float = 0.05
    dwell_us: float = 4.0


class Specimen(abc.ABC):
    """A specimen centred on the stage origin; positions are (y, x) in nm.

    Attributes:
        name: short identifier, as typed on a command line.
        title: what it shows, in a few words.
        size_nm: side of the square field that it fills.
        axis: the energy axis on which it is best seen.
        goal: what to look for.
        view: how to look at it.
        recorded: its images and spectra are measured counts that hold their own noise, so nothing is added to them,
            and they depend neither on dwell nor on exposure nor on beam current.
    """

    name: str
    title: str
    size_nm: float
    axis: EnergyAxis
    goal: Goal
    view: View
    recorded: bool = False

    @abc.abstractmethod
    def haadf(self, points_nm: Array) -> Array:
        """Fraction of the beam that reaches the HAADF detector at each of ``points_nm`` (..., 2); shape (...,).

        Of a recorded specimen: the counts of its overview.
        """

    @abc.abstractmethod
    def spectra(self, points_nm: Array, energy_eV: Array, dose_e_nm2: Array | None = None) -> Array:
        """Noise-free spectra, electrons per incident electron and eV; of a recorded specimen counts per eV.

        Args:
            points_nm: (n, 2) positions.
            energy_eV: (E,) evenly spaced channel energies.
            dose_e_nm2: (n,) electrons per nm² that each position has taken before; None for a fresh specimen.

        Returns:
            (n, E) array.
        """


class MixtureSpecimen(Specimen):
    """A specimen whose spectra are mixtures of a fixed set of shapes, in amounts that depend on position and dose.

    Thousands of spectra are then one matrix product, and the shapes are worked out once for an energy axis.
    """

    _known: tuple[tuple[float, float, int], Array] | None = None

    @abc.abstractmethod
    def shapes(self, energy_eV: Array) -> Array:
        """The shapes (K, E) on the channels (E,), electrons per incident electron and eV for unit weight."""

    @abc.abstractmethod
    def weights(self, points_nm: Array, dose_e_nm2: Array) -> Array | sparse.csr_array:
        """How much (n, K) of each shape there is at positions (n, 2) that have taken doses (n,)."""

    def spectra(self, points_nm: Array, energy_eV: Array, dose_e_nm2: Array | None = None) -> Array:
        points = np.asarray(points_nm, dtype=float)
        dose = np.zeros(len(points)) if dose_e_nm2 is None else np.asarray(dose_e_nm2, dtype=float)
        return np.asarray(self.weights(points, dose) @ self._shapes_on(energy_eV))

    def _shapes_on(self, energy_eV: Array) -> Array:
        key = float(energy_eV[0]), float(energy_eV[-1]), len(energy_eV)
        known = self._known
        if known is None or known[0] != key:
            known = self._known = key, self.shapes(energy_eV)
        return known[1]
