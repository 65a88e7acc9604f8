"""Plain specimens and a clock for tests, on which everything can be worked out by hand, and settings of Hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import settings

from virtual_stem.specimen import Array, EnergyAxis, Goal, Specimen, View

quick = settings(deadline=None, max_examples=30, derandomize=True)


class Slope(Specimen):
    """A smooth landscape: HAADF and spectrum are the same known function of position, and take no harm from dose."""

    name = "slope"
    title = "A smooth landscape"
    size_nm = 400.0
    axis = EnergyAxis(offset_eV=0.0, dispersion_eV=0.5, channels=64)
    goal = Goal("high ground", {"kind": "window", "low_eV": 5.0, "high_eV": 25.0})
    view = View(fov_nm=100.0, pixels=64)

    def haadf(self, points_nm: Array) -> Array:
        y, x = points_nm[..., 0], points_nm[..., 1]
        return np.asarray(0.2 + 0.1 * np.sin(y / 17) * np.cos(x / 23) + 0.0004 * x)

    def spectra(self, points_nm: Array, energy_eV: Array, dose_e_nm2: Array | None = None) -> Array:
        return self.haadf(points_nm)[:, None] * np.full(len(energy_eV), 0.01)


class Fading(Slope):
    """Fades with the dose, to a half after a million electrons per nm²."""

    def spectra(self, points_nm: Array, energy_eV: Array, dose_e_nm2: Array | None = None) -> Array:
        dose = np.zeros(len(points_nm)) if dose_e_nm2 is None else dose_e_nm2
        return super().spectra(points_nm, energy_eV) * 0.5 ** (dose[:, None] / 1e6)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
