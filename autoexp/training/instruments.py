"""Simulated instruments of which nobody knows how their controls move the disk; many at once, in plain arrays.

Each has two controls and a camera. A move u of the controls shifts the disk by J u, with a response J of any rotation
and handedness, a scale, anisotropy and shear. Around that come the troubles of real ones: noise of the deflectors, a
gain that varies over the field, lag (a part of each move comes one move late), drift, read noise, whole pixels. Lengths
are in pixels of a camera of 255 pixels, as in Xu, Kumar & LeBeau 2022, whose instrument is one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

HALF_PX = 127.0
VISIBLE_PX = 122.0
"""Farther than this from the middle, along either axis, the disk is not on the camera."""


@dataclass(frozen=True)
class Ranges:
    """Of what kind the instruments are: each property is drawn from nothing to its bound, or within it.

    Attributes:
        scale: pixels a unit of the controls, lowest and highest, drawn on a logarithmic scale.
        anisotropy: largest difference of the two axes' gains from their mean, relative.
        shear: largest shear.
        action_noise: noise of a shift, relative to its length, lowest and highest, on a logarithmic scale.
        read_noise_px: largest standard deviation of a measured position.
        drift_px: fastest drift, pixels a move.
        gain: largest change of the gain from the middle to the border.
        lag: largest part of a move that comes one move late.
        goal_px: farthest goal from the middle, along either axis.
        rotation: whether axes are turned by any angle, and mirrored or not; else by 30 degrees.
        rounded: whether measured positions are whole pixels.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    anisotropy: float = 0.0
    shear: float = 0.0
    action_noise: tuple[float, float] = (0.001, 0.001)
    read_noise_px: float = 0.0
    drift_px: float = 0.0
    gain: float = 0.0
    lag: float = 0.0
    goal_px: float = 0.0
    rotation: bool = True
    rounded: bool = True


CLEAN = Ranges()
PAPER = Ranges(rotation=False)
"""The instrument of the paper, with which moves are limited to 9.96 pixels along each axis."""
PAPER_STEP_PX = 9.96
PAPER_BINNING = 4
"""Pixels of its camera, along each axis, to one of the 255."""
MESSY = Ranges((0.5, 2.0), 0.25, 0.25, (0.001, 0.05), 0.7, 0.3, 0.25, 0.15, 60.0)
WIDE = Ranges((0.33, 3.0), 0.25, 0.25, (0.001, 0.1), 1.5, 0.8, 0.45, 0.3, 60.0)


class Properties(NamedTuple):
    """What n instruments are like; known to nobody but their simulation and those who judge by it.

    Attributes:
        response: (n, 2, 2) J, pixels a unit of the controls.
        drift: (n, 2) pixels a move.
        slope: (n, 2) change of the gain from the middle to the border.
        lag: (n,) part of a move that comes one move late.
        late: (n, 2) what is still to come, pixels.
        action_noise: (n,) noise of a shift, relative to its length.
        read_noise: (n,) standard deviation of a measured position, pixels.
    """

    response: Array
    drift: Array
    slope: Array
    lag: Array
    late: Array
    action_noise: Array
    read_noise: Array


class Instruments:
    """n instruments, each with its disk somewhere on its camera.

    Args:
        ranges: what they are like.
        n: how many.
        seed: draws them, and all their noise.

    Attributes:
        response: (n, 2, 2) J, pixels a unit of the controls.
        drift: (n, 2) pixels a move.
        goals: (n, 2) where the disks should be.
        positions: (n, 2) where they are.
        moves: (n,) moves so far.
    """

    def __init__(self, ranges: Ranges, n: int, seed: int):
        self.ranges = ranges
        self._rng = rng = np.random.default_rng([seed, 31])
        self._starts = np.random.default_rng([seed, 37])  # the same, however many moves were made before
        angle = rng.uniform(0, 2 * np.pi, n) if ranges.rotation else np.full(n, np.pi / 6)
        handedness = rng.choice([-1.0, 1.0], n) if ranges.rotation else np.ones(n)
        scale = _logarithmic(rng, ranges.scale, n)
        anisotropy = rng.uniform(-ranges.anisotropy, ranges.anisotropy, n)
        shear = rng.uniform(-ranges.shear, ranges.shear, n)
        shape = np.zeros((n, 2, 2))
        shape[:, 0, 0], shape[:, 1, 1] = 1 + anisotropy, (1 - anisotropy) * handedness
        shape[:, 0, 1] = shear
        self.response = scale[:, None, None] * rotations(angle) @ shape
        self._action_noise = _logarithmic(rng, ranges.action_noise, n)
        self._read_noise = rng.uniform(0, ranges.read_noise_px, n)
        self.drift = rng.uniform(0, ranges.drift_px, n)[:, None] * _directions(rng, n)
        self._slope = rng.uniform(0, ranges.gain, n)[:, None] * _directions(rng, n)
        self._lag = rng.uniform(0, ranges.lag, n)
        self._late = np.zeros((n, 2))
        self.moves = np.zeros(n, int)
        self.goals = np.zeros((n, 2))
        self.positions = np.zeros((n, 2))
        self.start()

    def __len__(self) -> int:
        return len(self.goals)

    @property
    def properties(self) -> Properties:
        """What they are like now."""
        return Properties(
            self.response, self.drift, self._slope, self._lag, self._late, self._action_noise, self._read_noise
        )

    def start(self) -> None:
        """Another alignment: goals and disks anywhere; the instruments stay as they are."""
        n, goal = len(self), self.ranges.goal_px
        # the paper's goal lies a little off the middle
        self.goals = self._starts.uniform(-goal, goal, (n, 2)) if goal else np.tile([4.0, 8.0], (n, 1))
        self.positions = self._starts.uniform(-VISIBLE_PX, VISIBLE_PX, (n, 2))
        self._late[:] = 0.0
        self.moves[:] = 0

    def change(self, scale: float = 1.0, turn_deg: float = 0.0) -> None:
        """Something happens to the instruments: their scale changes, or their axes turn."""
        turn = rotations(np.full(len(self), np.deg2rad(turn_deg)))
        self.response = scale * turn @ self.response

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Which disks (n,) are on their cameras."""
        return np.asarray((np.abs(self.positions) < VISIBLE_PX).all(axis=1))

    def measure(self) -> Array:
        """Positions (n, 2) as the cameras show them; NaN where there is no disk."""
        found = self.positions + self._read_noise[:, None] * self._rng.standard_normal((len(self), 2))
        if self.ranges.rounded:
            found = np.round(found)
        return np.where(self.seen[:, None], found, np.nan)

    def move(self, moves: Array, which: npt.NDArray[np.bool_]) -> None:
        """Move the controls of some instruments by (n, 2), in their own units."""
        asked = np.einsum("nij,nj->ni", self.response, moves)
        gain = 1 + np.einsum("ni,ni->n", self._slope, np.clip(self.positions / HALF_PX, -1, 1))
        noise = self._action_noise * np.linalg.norm(asked, axis=1)
        shift = gain[:, None] * asked + noise[:, None] * self._rng.standard_normal((len(self), 2))
        now = (1 - self._lag)[:, None] * shift + self._late
        late = self._lag[:, None] * shift
        self.positions = np.where(which[:, None], self.positions + now + self.drift, self.positions)
        self._late = np.where(which[:, None], late, self._late)
        self.moves = self.moves + which


def observed(away: Array, step_size: float) -> npt.NDArray[np.float32]:
    """What the paper's agent sees (..., 5) of disks that are so many bins (..., 2) away from their goals."""
    size = np.full((*away.shape[:-1], 1), step_size)
    return np.concatenate([away, away == 0, size], axis=-1).astype(np.float32)


def rotations(angle: npt.ArrayLike) -> Array:
    """Rotations (..., 2, 2) by angles (...) in rad."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2)


def _logarithmic(rng: np.random.Generator, bounds: tuple[float, float], n: int) -> Array:
    low, high = np.log(bounds)
    return np.asarray(np.exp(rng.uniform(low, high, n)))


def _directions(rng: np.random.Generator, n: int) -> Array:
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
