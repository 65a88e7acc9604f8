"""``BrightFieldDisk-v0``: centring the bright-field disk, as Xu, Kumar & LeBeau (2022) gave it to a learning agent.

A camera shows the disk; its centre of mass, taken from the frame and divided into bins, is what the agent sees of it,
relative to the goal. An action shifts the disk along axes that are turned against those of the camera.

Importing this module is enough for ``gymnasium.make("BrightFieldDisk-v0")``.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from autoexp.training.instruments import PAPER_BINNING, PAPER_STEP_PX, VISIBLE_PX, observed, rotations

Reward = Literal["informative", "non-informative", "sparse"]
Observation = npt.NDArray[np.float32]

ID = "BrightFieldDisk-v0"
CAMERA_PX = 1020
"""Binned by 4 it is the paper's grid of 255 by 255 pixels; lengths without a unit are in pixels of that."""
MRAD_PER_PX = 0.565
"""Of the camera, not of the bins."""
RADIUS_PX = 64.0
COUNTS = 30.0
GOAL = (4.0, 8.0)
START_PX = VISIBLE_PX - 1
"""The paper begins on whole pixels of its grid."""


class BrightFieldDisk(gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """One disk on one camera.

    Observation (5,): dx and dy, from the goal to the disk in bins; whether each is zero; the step size.
    Action (2,): the shift along the two axes of the controls, -1 to 1, times the step size.

    Args:
        binning: camera pixels to a bin, along each axis.
        tolerance: a disk so many bins from the goal, or nearer, is there.
        step_size: how far an action can shift, in tenths of a pixel of the paper's grid, about; or a range from which
            it is drawn for each episode.
        reward: equation 1 of the paper; the same without what it says of the distance; or nothing but the end.
        rotation_deg: by how much the axes are turned; drawn for each episode if None.
        action_noise: standard deviation of a shift, relative to the larger of its parts.
        scale: times the shift of the disk by an action; an agent is not told.
        step_limit: steps after which an episode is cut off. It is a truncation: time is not observed, so that an end
            which depends on it would not be a property of the state.
        render_mode: "rgb_array" or nothing.

    Raises:
        ValueError: a setting that makes no sense.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - gymnasium's own way

    def __init__(
        self,
        binning: int = PAPER_BINNING,
        tolerance: float = 3.0,
        step_size: float | tuple[float, float] = 100.0,
        reward: Reward = "informative",
        rotation_deg: float | None = 30.0,
        action_noise: float = 0.001,
        scale: float = 1.0,
        step_limit: int = 100,
        render_mode: str | None = None,
    ):
        if binning < 1 or CAMERA_PX % binning:
            raise ValueError(f"{binning} bins do not divide a camera of {CAMERA_PX} pixels; take 1, 2 or 4.")
        if reward not in get_args(Reward):
            raise ValueError(f"There is no reward {reward!r}; there are {', '.join(get_args(Reward))}.")
        if tolerance < 0 or step_limit < 1:
            raise ValueError("The tolerance must not be negative, and at least one step has to be allowed.")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"There is no render mode {render_mode!r}; there is rgb_array.")
        low, high = step_size if isinstance(step_size, tuple) else (step_size, step_size)
        if scale <= 0:
            raise ValueError("The scale has to be above zero.")
        if not 0 < low <= high:
            raise ValueError("The step size has to be above zero, and a range has to be given from low to high.")
        self.render_mode = render_mode
        self.binning = binning
        self.tolerance = tolerance
        self.step_limit = step_limit
        self._steps_from = (float(low), float(high))
        self._reward = reward
        self._rotation_deg = rotation_deg
        self._action_noise = action_noise
        self.scale = scale
        self._goal = np.round(np.array(GOAL) * PAPER_BINNING / binning)
        reach = 2 * CAMERA_PX / binning
        bound = np.array([reach, reach, 1, 1, high], dtype=np.float32)
        self.observation_space = spaces.Box(-bound, bound, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)
        self._position = np.zeros(2)
        self._turn = np.eye(2)
        self._step_size = high
        self._taken = 0
        self._distance = 0.0

    @property
    def turn(self) -> npt.NDArray[np.float64]:
        """By which the controls' axes are turned against the camera's (2, 2); for judges, not for agents."""
        return self._turn

    @property
    def longest_px(self) -> float:
        """How far an action shifts along each axis at most, camera pixels."""
        return self.scale * PAPER_STEP_PX * PAPER_BINNING * self._step_size / 100

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A disk anywhere on the camera, at least a pixel of the paper's grid from where it is lost."""
        super().reset(seed=seed)
        random = self.np_random
        angle = np.deg2rad(random.uniform(0, 360) if self._rotation_deg is None else self._rotation_deg)
        self._turn = rotations(angle)
        self._step_size = float(random.uniform(*self._steps_from))
        self._position = random.uniform(-START_PX, START_PX, 2) * PAPER_BINNING
        self._taken = 0
        observation = self._observe()
        self._distance = self._distance_of(observation)
        return observation, self._info()

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Shift the disk, and look where it is."""
        shift = self._turn @ (np.clip(np.asarray(action, dtype=np.float64), -1, 1) * self.longest_px)
        noise = self._action_noise * np.abs(shift).max()
        self._position = self._position + shift + noise * self.np_random.standard_normal(2)
        self._taken += 1
        lost = bool((np.abs(self._position) > VISIBLE_PX * PAPER_BINNING).any())
        observation = self._observe()
        distance, before = self._distance_of(observation), self._distance
        self._distance = distance
        there = not lost and distance <= self.tolerance
        reward = self._rewarded(distance, before, lost, there)
        ended = lost or there
        return observation, reward, ended, not ended and self._taken >= self.step_limit, self._info()

    def render(self) -> npt.NDArray[np.uint8]:
        """The camera's frame, gray (h, w, 3)."""
        frame = np.zeros((CAMERA_PX, CAMERA_PX), dtype=np.uint8)
        window, corner = self._window()
        (y, x), (h, w) = corner, window.shape
        frame[y : y + h, x : x + w] = np.clip(window * 4, 0, 255)
        return np.repeat(frame[:, :, None], 3, axis=2)

    def _rewarded(self, distance: float, before: float, lost: bool, there: bool) -> float:
        if lost:
            return -100.0
        if there:
            return 100.0
        if self._reward == "sparse":
            return 0.0
        nearer = 1.0 if distance <= before else -1.0
        return nearer - (distance * self.binning / CAMERA_PX if self._reward == "informative" else 0.0)

    def _observe(self) -> Observation:
        return observed(np.round(self._measured() / self.binning) - self._goal, self._step_size)

    def _distance_of(self, observation: Observation) -> float:
        return float(np.hypot(observation[0], observation[1]))

    def _info(self) -> dict[str, Any]:
        off = self._position - self._goal * self.binning
        return {
            "distance": self._distance,
            "error_px": float(np.hypot(*off)),
            "aligned": self._distance <= self.tolerance,
        }

    def _measured(self) -> npt.NDArray[np.float64]:
        """Centre of mass of the frame, camera pixels from the middle; where there is no disk, where it would be."""
        window, corner = self._window()
        total = float(window.sum())
        if total <= 0:
            return self._position
        y, x = (np.arange(n) for n in window.shape)
        centre = np.array([window.sum(axis=1) @ y, window.sum(axis=0) @ x]) / total + corner
        return np.asarray(centre - (CAMERA_PX - 1) / 2)

    def _window(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
        """The part of the frame that holds the disk, counts, and its corner; beyond it the frame is dark."""
        middle = self._position + (CAMERA_PX - 1) / 2
        low = np.clip(np.floor(middle - RADIUS_PX - 1).astype(int), 0, CAMERA_PX)
        high = np.clip(np.ceil(middle + RADIUS_PX + 2).astype(int), 0, CAMERA_PX)
        y, x = (np.arange(a, b) - m for a, b, m in zip(low, high, middle, strict=True))
        inside = np.clip(RADIUS_PX + 0.5 - np.hypot(y[:, None], x[None]), 0, 1)
        return self.np_random.poisson(COUNTS * inside).astype(np.float64), low


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point="autoexp.training.environments:BrightFieldDisk")
