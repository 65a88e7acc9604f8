"""What moves and what remembers: drift of the specimen, and the dose that it has taken."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from virtual_stem.specimen import Array, sample_map


@dataclass
class Drift:
    """Specimen drift: a steady velocity and a random walk, as a function of simulated time.

    Attributes:
        velocity_nm_s: (y, x) steady drift.
        walk_nm_sqrt_s: standard deviation of the random walk after one second, per axis.
        seed: the walk is a function of it.
    """

    velocity_nm_s: tuple[float, float] = (0.0, 0.0)
    walk_nm_sqrt_s: float = 0.0
    seed: int = 0
    _walk: Array = field(default_factory=lambda: np.zeros((1, 2)), init=False, repr=False)

    TICK_S = 0.1

    def offset_nm(self, time_s: float) -> Array:
        """Where a feature of the specimen has moved to, (y, x) nm, ``time_s`` after the start."""
        steady = np.asarray(self.velocity_nm_s) * time_s
        if not self.walk_nm_sqrt_s:
            return steady
        tick = time_s / self.TICK_S
        while len(self._walk) < tick + 2:
            self._extend()
        low = int(tick)
        return steady + self._walk[low] + (tick - low) * (self._walk[low + 1] - self._walk[low])

    def _extend(self) -> None:
        block = len(self._walk)
        rng = np.random.default_rng([self.seed, 2, block])
        steps = self.walk_nm_sqrt_s * np.sqrt(self.TICK_S) * rng.standard_normal((1024, 2))
        self._walk = np.concatenate([self._walk, self._walk[-1] + np.cumsum(steps, axis=0)])


class DoseMap:
    """Electrons per nm² that each place of the specimen has taken, on a square grid.

    Args:
        size_nm: side of the field.
        pixels: cells along a side.
        probe_nm: a parked probe spreads its dose over a Gaussian of this standard deviation, at least one cell wide.
    """

    def __init__(self, size_nm: float, pixels: int = 1024, probe_nm: float = 0.5):
        self.size_nm = size_nm
        self.values: npt.NDArray[np.float32] = np.zeros((pixels, pixels), np.float32)
        self._cell_nm = size_nm / pixels
        self._probe_nm = max(probe_nm, self._cell_nm)

    @property
    def total_electrons(self) -> float:
        """All electrons that the field has taken."""
        return float(self.values.sum(dtype=float)) * self._cell_nm**2

    def at(self, points_nm: Array) -> Array:
        """Dose (...,) at positions (..., 2), electrons per nm²."""
        return sample_map(self.values, self.size_nm, points_nm)

    def add_point(self, point_nm: Array, electrons: float) -> None:
        """Account for a parked probe."""
        shape = self.values.shape[0]
        centre = (point_nm / self.size_nm + 0.5) * shape - 0.5
        reach = int(np.ceil(4 * self._probe_nm / self._cell_nm))
        rows, columns = (np.arange(int(c) - reach, int(c) + reach + 2) for c in np.round(centre))
        weight = np.exp(
            -((rows[:, None] - centre[0]) ** 2 + (columns[None] - centre[1]) ** 2)
            / (2 * (self._probe_nm / self._cell_nm) ** 2)
        )
        weight *= electrons / self._cell_nm**2 / weight.sum()
        inside = np.s_[(rows >= 0) & (rows < shape)], np.s_[(columns >= 0) & (columns < shape)]
        self.values[np.ix_(rows[inside[0]], columns[inside[1]])] += weight[np.ix_(*inside)].astype(np.float32)

    def add_area(self, points_nm: Array, electrons_per_nm2: float) -> None:
        """Account for a scan whose pixels (h, w, 2) tile an area evenly: every cell inside takes the same dose."""
        shape = self.values.shape[0]
        line = ((np.arange(shape) + 0.5) / shape - 0.5) * self.size_nm
        origin, down, across = points_nm[0, 0], points_nm[-1, 0] - points_nm[0, 0], points_nm[0, -1] - points_nm[0, 0]
        if not (np.any(down) and np.any(across)):
            return
        inverse = np.linalg.inv(np.stack([down, across], axis=1))
        offset = np.stack(np.meshgrid(line - origin[0], line - origin[1], indexing="ij"), axis=-1)
        fraction = offset @ inverse.T
        self.values[np.all((fraction >= 0) & (fraction <= 1), axis=-1)] += np.float32(electrons_per_nm2)
