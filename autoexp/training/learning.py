"""Training an agent of Stable-Baselines3 on the bright-field disk, and judging what it has learned.

The settings are those of Xu, Kumar & LeBeau (2022): soft actor-critic (Haarnoja et al. 2018), two hidden layers,
20,000 steps. What is kept is the policy alone (:mod:`autoexp.training.policies`) and the course of its learning.
"""

from __future__ import annotations

import csv
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from autoexp.agents.aligner import limited
from autoexp.errors import MissingDependencyError, PlanError
from autoexp.fields import Number, Whole
from autoexp.plan import Model
from autoexp.training.controllers import Secant
from autoexp.training.policies import Policy

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from autoexp.training.environments import BrightFieldDisk

Act = Callable[[npt.NDArray[np.float32], "BrightFieldDisk"], npt.ArrayLike]
"""Takes an observation and, for those that are told the response, the environment; gives an action."""

AGENTS = {"sac": ("stable_baselines3", "SAC"), "tqc": ("sb3_contrib", "TQC"), "crossq": ("sb3_contrib", "CrossQ")}
INSTALL = "pip install 'nionswift-autoexp[rl]'"
WINDOW, SOLVED = 20, 0.9
"""Solved is a task at the first so many episodes in a row of which so many end at the goal."""


class DiskSettings(Model):
    """What kind of environment; see :class:`autoexp.training.environments.BrightFieldDisk`."""

    binning: Literal[1, 2, 4] = Field(4, description="camera pixels to a bin")
    tolerance: Number = Field(3.0, ge=0, le=50, description="bins from the goal that are near enough")
    step_size: Number = Field(
        100.0, ge=0.1, le=1000, description="longest shift, tenths of a pixel of 255 to the camera"
    )
    reward: Literal["informative", "non-informative", "sparse"] = Field("informative", description="of the paper")
    rotation_deg: Number | None = Field(
        30.0, ge=-360, le=360, description="of the axes; drawn for each episode if null"
    )
    action_noise: Number = Field(0.001, ge=0, le=1, description="of a shift, relative")
    scale: Number = Field(1.0, ge=1e-3, le=10, description="times the shift by an action; the agent is not told")
    step_limit: Whole = Field(100, ge=1, le=100_000, description="steps after which an episode is cut off")

    def make(self) -> BrightFieldDisk:
        """The environment.

        Raises:
            MissingDependencyError: gymnasium is not installed.
        """
        _import("gymnasium")
        from autoexp.training.environments import BrightFieldDisk

        return BrightFieldDisk(**self.model_dump())


class Training(Model):
    """A training, in full: the same on the same versions gives the same policy."""

    environment: DiskSettings = DiskSettings()
    agent: Literal["sac", "tqc", "crossq"] = "sac"
    steps: Whole = Field(20_000, ge=100, le=100_000_000, description="steps of the environment")
    seed: Whole = Field(0, ge=0, lt=2**32, description="of weights, exploration and environment; below 2**32")
    hidden: Whole = Field(128, ge=2, le=4096, description="neurons in each of the two hidden layers")
    checkpoint_every: Whole = Field(
        5000, ge=100, le=100_000_000, description="steps between two policies that are kept on the way"
    )


@dataclass(frozen=True)
class Episode:
    """One episode of learning: the step at which it ended, its length, its reward, and whether it reached the goal."""

    ended_at: int
    steps: int
    reward: float
    aligned: bool


@dataclass(frozen=True)
class Skill:
    """How a policy does, over many episodes.

    Attributes:
        success: share of episodes that reach the goal.
        steps: mean number of steps of those.
        steps_std: their standard deviation.
        rms_px: root mean square of the distance to the goal in the end, of those, camera pixels.
        episodes: how many.
    """

    success: float
    steps: float
    steps_std: float
    rms_px: float
    episodes: int


def train(
    training: Training,
    folder: pathlib.Path,
    start_from: Policy | None = None,
    on_step: Callable[[int], bool] = lambda step: True,
) -> tuple[Policy, list[Episode]]:
    """Train an agent, and keep its policy, checkpoints and episodes in a folder.

    Args:
        training: what and how.
        folder: where; made if need be.
        start_from: a policy to go on from, for re-learning on another environment.
        on_step: told the number of steps so far; False ends the training, and what was learned is kept.

    Returns:
        the policy, and the episodes in order.

    Raises:
        MissingDependencyError: a library is not installed.
        PlanError: the policy to go on from does not fit.
    """
    if start_from is not None:
        _check_start(training, start_from)
    trainer = Trainer(training, start_from)

    def kept(step: int) -> bool:
        if step % training.checkpoint_every == 0:
            trainer.policy().save(folder / "checkpoints" / f"{step:09d}")
        return on_step(step)

    folder.mkdir(parents=True, exist_ok=True)
    episodes = trainer.learn(training.steps, kept)
    policy = trainer.policy()
    policy.save(folder)
    write_episodes(episodes, folder / "episodes.csv")
    return policy, episodes


class Trainer:
    """An agent that learns, and goes on learning when its environment changes.

    Args:
        training: what and how.
        start_from: a policy to begin with instead of a random one.

    Raises:
        MissingDependencyError: a library is not installed.
        PlanError: the policy to begin with does not fit.
    """

    def __init__(self, training: Training, start_from: Policy | None = None):
        if start_from is not None:
            _check_start(training, start_from)
        library, name = AGENTS[training.agent]
        algorithm_of = getattr(_import(library), name)
        torch = _import("torch")
        torch.set_num_threads(1)
        net = {"net_arch": [training.hidden, training.hidden], "activation_fn": torch.nn.Tanh}
        environment = training.environment.make()
        self._model: BaseAlgorithm = algorithm_of(
            "MlpPolicy", environment, policy_kwargs=net, seed=training.seed, device="cpu", verbose=0
        )
        self._training = training
        self._begun = time.monotonic()
        if start_from is not None:
            _put(self._model, start_from)

    def learn(self, steps: int, on_step: Callable[[int], bool] = lambda step: True) -> list[Episode]:
        """Learn for so many steps; returns the episodes in order.

        Args:
            steps: of the environment.
            on_step: told the number of steps so far; False ends it.
        """
        episodes: list[Episode] = []

        class Recorder(_import("stable_baselines3.common.callbacks").BaseCallback):  # type: ignore[misc]
            def _on_step(self) -> bool:
                for info in self.locals["infos"]:
                    if (ended := info.get("episode")) is not None:
                        aligned = bool(info["aligned"]) and ended["r"] > 0
                        episodes.append(Episode(self.num_timesteps, int(ended["l"]), float(ended["r"]), aligned))
                return on_step(self.num_timesteps)

        self._model.learn(total_timesteps=steps, callback=Recorder())
        return episodes

    def change(self, environment: DiskSettings) -> None:
        """Go on in another environment, with what was learned and without what was seen.

        From the first step on it acts by what it knows, and does not explore at random again.
        """
        self._model.set_env(environment.make())
        buffer = getattr(self._model, "replay_buffer", None)
        if buffer is not None:
            buffer.reset()
        self._model.learning_starts = 0  # type: ignore[attr-defined]

    def policy(self) -> Policy:
        """What has been learned so far, without exploration."""
        return _policy(self._model, self._training, self._model.num_timesteps, self._begun)


def solved_at(episodes: Sequence[Episode]) -> int | None:
    """The step at the end of the first window of episodes of which enough reach the goal; None if there is none."""
    aligned = np.array([episode.aligned for episode in episodes], dtype=float)
    if len(aligned) < WINDOW:
        return None
    share = np.convolve(aligned, np.ones(WINDOW) / WINDOW, mode="valid")
    good = np.flatnonzero(share >= SOLVED - 1e-9)
    return episodes[int(good[0]) + WINDOW - 1].ended_at if len(good) else None


def judge(settings: DiskSettings, act: Act, episodes: int = 500, seed: int = 10_000) -> Skill:
    """How well something does, on episodes that depend on the seed alone as long as it does the same.

    Args:
        settings: of the environment.
        act: decides; what has a method ``begin`` is told of each new episode.
        episodes: how many.
        seed: of the first.
    """
    environment = settings.make()
    steps, errors = [], []
    begin = getattr(act, "begin", lambda: None)
    for i in range(episodes):
        begin()
        observation, info = environment.reset(seed=seed + i)
        taken, ended = 0, False
        while not ended:
            action = np.asarray(act(observation, environment), dtype=np.float32)
            observation, _, terminated, truncated, info = environment.step(action)
            taken, ended = taken + 1, terminated or truncated
        if terminated and info["aligned"]:
            steps.append(taken)
            errors.append(info["error_px"])
    if not steps:
        return Skill(0.0, float("nan"), float("nan"), float("nan"), episodes)
    rms = float(np.sqrt(np.mean(np.square(errors))))
    return Skill(len(steps) / episodes, float(np.mean(steps)), float(np.std(steps)), rms, episodes)


def by_policy(policy: Policy) -> Act:
    """What a policy does, told nothing but the observation."""
    return lambda observation, _: policy.act(observation)


def by_response(observation: npt.NDArray[np.float32], environment: BrightFieldDisk) -> npt.ArrayLike:
    """What nobody can do better: straight to the goal, by one who knows the response. The floor."""
    away = -observation[:2].astype(float) * environment.binning
    action = np.linalg.solve(environment.turn, away) / environment.longest_px
    return limited(action, 1.0)


class BySecant:
    """Broyden's method, told nothing; what it learns of the response is kept from one episode to the next."""

    def __init__(self) -> None:
        self._secant: Secant | None = None

    def begin(self) -> None:
        """Another episode."""
        if self._secant is not None:
            self._secant.begin()

    def __call__(self, observation: npt.NDArray[np.float32], environment: BrightFieldDisk) -> npt.ArrayLike:
        """The action by which it would be at the goal, as far as it knows."""
        nominal_px = environment.longest_px / environment.scale
        self._secant = self._secant or Secant(1, nominal_px)
        position = observation[None, :2].astype(float) * environment.binning
        moves = self._secant.next_moves(position, np.zeros((1, 2)), np.ones(1, dtype=bool))
        return np.asarray(moves[0] / nominal_px)


def draw_learning(episodes: Sequence[Episode], floor: Skill, title: str, path: pathlib.Path) -> None:
    """Length and reward of the episodes against steps, with the floor, as a figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    lengths, rewards = figure.subplots(2, 1, sharex=True)
    at = [episode.ended_at for episode in episodes]
    for axes, name, values in (
        (lengths, "steps of an episode", [float(episode.steps) for episode in episodes]),
        (rewards, "reward of an episode", [episode.reward for episode in episodes]),
    ):
        axes.plot(at, values, ".", ms=3, color="0.7")
        axes.plot(at, smooth(values), color="tab:blue")
        axes.set_ylabel(name)
    lengths.set_yscale("log")
    lengths.axhline(floor.steps, color="tab:green", ls="--", label=f"told the response: {floor.steps:.1f}")
    solved = solved_at(episodes)
    if solved is not None:
        for axes in (lengths, rewards):
            axes.axvline(solved, color="tab:orange", ls=":", label=f"solved: {solved:,} steps")
    lengths.legend(frameon=False)
    lengths.set_title(title)
    rewards.set_xlabel("steps of learning")
    figure.savefig(path, dpi=150)


def smooth(values: Sequence[float], window: int = 25) -> npt.NDArray[np.float64]:
    """Exponentially weighted mean with the paper's window."""
    weight, smooth = 2 / (window + 1), list[float]()
    for value in values:
        smooth.append(value if not smooth else (1 - weight) * smooth[-1] + weight * value)
    return np.asarray(smooth, dtype=np.float64)


def _policy(model: BaseAlgorithm, training: Training, steps: int, begun: float) -> Policy:
    """The deterministic part of what was learned, out of the library's network."""
    torch = _import("torch")
    actor: Any = model.policy.actor
    layers: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    scale, offset = np.float32(1), np.float32(0)
    for module in [*actor.latent_pi, actor.mu]:
        if hasattr(module, "ra_mean"):  # CrossQ's normalisation, at rest a scale and an offset for the layer behind it
            scale = _array(module.scale) / np.sqrt(_array(module.ra_var) + module.eps)
            offset = _array(module.bias) - scale * _array(module.ra_mean)
        elif isinstance(module, torch.nn.Linear):
            weight = _array(module.weight)
            layers.append((weight * scale, _array(module.bias) + (weight * offset).sum(axis=1)))
            scale, offset = np.float32(1), np.float32(0)
    card = {
        "training": training.model_dump(),
        "steps": steps,
        "wall_s": round(time.monotonic() - begun, 1),
        "versions": {name: metadata.version(name) for name in ("stable_baselines3", "torch", "gymnasium", "numpy")},
    }
    return Policy(tuple(layers), "tanh", card)


def _check_start(training: Training, policy: Policy) -> None:
    """Refuse a policy from which this training cannot go on.

    Raises:
        PlanError: why.
    """
    if training.agent == "crossq":
        raise PlanError("CrossQ normalises what its layers see, so it cannot go on from a policy; take sac or tqc.")
    sizes = [len(bias) for _, bias in policy.layers]
    if sizes[:-1] != [training.hidden] * 2:
        raise PlanError(
            f"The policy to go on from has hidden layers of {sizes[:-1]} neurons; give --hidden {sizes[0]}."
        )


def _put(model: BaseAlgorithm, policy: Policy) -> None:
    """Begin with the weights of a policy instead of random ones."""
    torch = _import("torch")
    actor: Any = model.policy.actor
    linear = [module for module in [*actor.latent_pi, actor.mu] if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for module, (weight, bias) in zip(linear, policy.layers, strict=True):
            module.weight.copy_(torch.from_numpy(np.array(weight)))
            module.bias.copy_(torch.from_numpy(np.array(bias)))


def _array(tensor: Any) -> npt.NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)


def _import(name: str) -> Any:
    """A library of the extra.

    Raises:
        MissingDependencyError: with the line that installs it.
    """
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"Training needs {name.split('.')[0]}, which cannot be imported ({error}). Install it with: {INSTALL}"
        ) from error


def write_episodes(episodes: Sequence[Episode], path: pathlib.Path) -> None:
    """Write episodes as a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["ended_at", "steps", "reward", "aligned"])
        writer.writeheader()
        writer.writerows(asdict(episode) for episode in episodes)
