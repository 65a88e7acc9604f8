"""What moves and what remembers: drift of the specimen, the way of the probe, and the dose that has been taken."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from virtual_stem.geometry import ScanGeometry
from virtual_stem.maps import sample_map
from virtual_stem.specimen import Array


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
    BLOCK = 1024

    def offset_nm(self, time_s: npt.ArrayLike) -> Array:
        """Where a feature of the specimen has moved to at times (...) after the start; (..., 2) nm, (y, x).

        A positive offset moves what is seen down and right in the image.
        """
        time = np.asarray(time_s, dtype=float)
        steady = np.asarray(time[..., None] * np.asarray(self.velocity_nm_s))
        if not self.walk_nm_sqrt_s:
            return steady
        tick = time / self.TICK_S
        while len(self._walk) < tick.max() + 2:
            self._extend()
        low = tick.astype(int)
        part = (tick - low)[..., None]
        return np.asarray(steady + self._walk[low] * (1 - part) + self._walk[low + 1] * part)

    @property
    def is_still(self) -> bool:
        """Whether nothing moves."""
        return not self.walk_nm_sqrt_s and not any(self.velocity_nm_s)

    def _extend(self) -> None:
        # A block's steps depend on its number alone, so that the walk is the same however far ahead one asks.
        rng = np.random.default_rng([self.seed, 2, len(self._walk) // self.BLOCK])
        steps = self.walk_nm_sqrt_s * np.sqrt(self.TICK_S) * rng.standard_normal((self.BLOCK, 2))
        self._walk = np.concatenate([self._walk, self._walk[-1] + np.cumsum(steps, axis=0)])


class Probe:
    """Where the beam is: it settles on a new position within a time, fast at first and slow at the end.

    Args:
        settle_s: time after which it has arrived; zero moves it at once.
    """

    STEPS = 8

    def __init__(self, settle_s: float = 0.0):
        self.settle_s = settle_s
        self._from: Array | None = None
        self._to: Array | None = None
        self._since_s = 0.0

    @property
    def is_placed(self) -> bool:
        """Whether it is known where the beam is."""
        return self._to is not None

    def park(self, stage_nm: Array, time_s: float) -> None:
        """Send the probe to a position (2,); the same position again changes nothing."""
        target = np.array(stage_nm, dtype=float)
        if self._to is not None and np.array_equal(target, self._to):
            return
        self._from = target if self._to is None else self.at(time_s)
        self._to, self._since_s = target, time_s

    def place(self, stage_nm: Array) -> None:
        """The scan has left the probe here (2,); there is no way to go."""
        self._from = self._to = np.array(stage_nm, dtype=float)

    def at(self, time_s: float) -> Array:
        """Position (2,) at a time."""
        if self._to is None or self._from is None:
            raise ValueError("the probe has not been parked yet")
        left = 1 - (time_s - self._since_s) / self.settle_s if self.settle_s > 0 else 0.0
        return np.asarray(self._to + (self._from - self._to) * np.clip(left, 0, 1) ** 2)

    def way(self, start_s: float, duration_s: float) -> tuple[Array, Array, Array]:
        """Where the probe spends an exposure: positions (n, 2), shares of the exposure (n,), and their times (n,)."""
        end = start_s + duration_s
        arrival = min(max(self._since_s + self.settle_s, start_s), end)
        moving = np.any(self.at(start_s) != self.at(end)) and arrival > start_s
        steps = self.STEPS if moving else 0
        times = start_s + (arrival - start_s) * (np.arange(steps) + 0.5) / max(steps, 1)
        # of ``end - start_s``, not of ``duration_s``: beside a large time a tiny exposure is rounded
        shares = np.full(steps, (arrival - start_s) / (end - start_s) / max(steps, 1)) if moving else np.empty(0)
        if not moving or arrival < end:
            times = np.append(times, ((arrival if moving else start_s) + end) / 2)
            shares = np.append(shares, 1 - shares.sum())
        return np.stack([self.at(t) for t in times]), shares, times


class DoseMap:
    """Electrons per nm² that each place of the specimen has taken, on a square grid.

    Args:
        size_nm: side of the field.
        pixels: cells along a side.
        probe_nm: a parked probe spreads its dose over a Gaussian of this standard deviation, at least half a cell.
    """

    def __init__(self, size_nm: float, pixels: int = 1024, probe_nm: float = 0.5):
        self.size_nm = size_nm
        self.values: npt.NDArray[np.float32] = np.zeros((pixels, pixels), np.float32)
        self._cell_nm = size_nm / pixels
        self._probe_nm = max(probe_nm, self._cell_nm / 2)

    @property
    def total_electrons(self) -> float:
        """All electrons that the field has taken."""
        return float(self.values.sum(dtype=float)) * self._cell_nm**2

    def at(self, points_nm: Array) -> Array:
        """Dose (...,) at positions (..., 2), electrons per nm²; none is known, and none returned, beyond the field."""
        inside = np.all(np.abs(points_nm) <= self.size_nm / 2, axis=-1)
        return np.where(inside, sample_map(self.values, self.size_nm, points_nm), 0.0)

    def add_point(self, point_nm: Array, electrons: float) -> None:
        """Account for a parked probe."""
        reach = 4 * self._probe_nm
        rows, columns = (self._cells(p - reach, p + reach) for p in point_nm)
        away = (self._nm(cells) - p for cells, p in zip((rows, columns), point_nm, strict=True))
        y, x = (np.exp(-0.5 * (nm / self._probe_nm) ** 2) for nm in away)
        self._add(rows, columns, electrons * np.outer(y / y.sum(), x / x.sum()))

    def add_area(self, field: ScanGeometry, electrons: float) -> None:
        """Account for a scan that spreads its electrons evenly over a field, given in specimen coordinates."""
        reach = np.abs(field.axes).sum(axis=0) / 2 + self._cell_nm
        low, high = np.asarray(field.center_nm) - reach, np.asarray(field.center_nm) + reach
        edge = self.size_nm / 2
        # Beyond the map nothing is kept, so a field far larger than the map need not be gone through.
        clipped = np.any(low < -edge) or np.any(high > edge)
        rows, columns = (self._cells(max(a, -edge), min(b, edge)) for a, b in zip(low, high, strict=True))
        if not len(rows) or not len(columns):
            return
        cover = self._cover(field, self._nm(rows), self._nm(columns))
        if clipped or not cover.any():
            cover *= self._cell_nm**2 / float(np.prod(field.fov_nm))
        else:
            cover /= cover.sum()
        self._add(rows, columns, electrons * cover)

    def _cover(self, field: ScanGeometry, y: Array, x: Array) -> Array:
        """Share (h, w) of each cell that a field covers; its borders are soft over one cell."""
        axes = field.axes / np.asarray(field.fov_nm)[:, None]
        y, x = y - field.center_nm[0], x - field.center_nm[1]
        cover = np.ones((len(y), len(x)))
        for axis, side in zip(axes, field.fov_nm, strict=True):
            along = np.abs(y[:, None] * axis[0] + x[None] * axis[1])
            half = max(side, self._cell_nm) / 2
            cover *= np.clip((half - along) / self._cell_nm + 0.5, 0, 1)
        return cover

    def _cells(self, low_nm: float, high_nm: float) -> npt.NDArray[np.intp]:
        """Indices of the cells whose centres lie between two positions, also beyond the map."""
        first, last = ((p / self.size_nm + 0.5) * len(self.values) - 0.5 for p in (low_nm, high_nm))
        return np.arange(int(np.ceil(first)), int(np.floor(last)) + 1)

    def _nm(self, cells: npt.NDArray[np.intp]) -> Array:
        return ((cells + 0.5) / len(self.values) - 0.5) * self.size_nm

    def _add(self, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], electrons: Array) -> None:
        n = len(self.values)
        y, x = ((c >= 0) & (c < n) for c in (rows, columns))
        if not y.any() or not x.any():
            return
        block = np.s_[rows[y][0] : rows[y][-1] + 1, columns[x][0] : columns[x][-1] + 1]
        self.values[block] += (electrons[np.ix_(y, x)] / self._cell_nm**2).astype(np.float32)
