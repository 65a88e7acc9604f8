"""How good a campaign was: what it found, how soon, and how well its model knows the rest.

``truth`` (n,) holds the value of every candidate; ``measured`` the indices in the order in which they were measured.
Candidates whose truth is not a number are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from autoexp.plan import Goal

Array = npt.NDArray[np.float64]
TOP = 0.01
Z90 = 1.6448536269514722  # half width of the central 90 % of a normal distribution, in standard deviations


def goal_of(agent: Any) -> Goal:
    """What an agent is after; policies without a goal of their own are judged as if they sought the maximum."""
    return "minimize" if getattr(agent, "goal", "maximize") == "minimize" else "maximize"


def best_so_far(values: npt.ArrayLike, goal: Goal = "maximize") -> Array:
    """The best value after each point (m,); NaN before the first number."""
    values = np.asarray(values, dtype=float)
    better: Any = np.fmax if goal == "maximize" else np.fmin
    return np.asarray(better.accumulate(values)) if len(values) else values


def share_of_best(values: npt.ArrayLike, truth: Array, goal: Goal = "maximize") -> Array:
    """The best value after each point (m,), 0 for the median of all candidates and 1 for the best of them.

    One minus this is the normalised simple regret.
    """
    extreme = np.nanmax(truth) if goal == "maximize" else np.nanmin(truth)
    median = float(np.nanmedian(truth))
    best = best_so_far(values, goal)
    if extreme == median:
        return np.ones(len(best))
    return np.asarray((best - median) / (extreme - median))


def points_to(share: Array, level: float) -> int | None:
    """Points until the share of the best value reaches a level; None if it never does."""
    reached = np.flatnonzero(share >= level)
    return int(reached[0]) + 1 if len(reached) else None


def top_candidates(truth: Array, goal: Goal = "maximize", fraction: float = TOP) -> npt.NDArray[np.intp]:
    """Indices of the best candidates, best first; at least one."""
    worst = -np.inf if goal == "maximize" else np.inf
    ranked = np.nan_to_num(truth, nan=worst, posinf=worst, neginf=worst) * (-1 if goal == "maximize" else 1)
    count = max(1, round(fraction * int(np.isfinite(truth).sum())))
    return np.argsort(ranked, kind="stable")[:count]


def recall(measured: Sequence[int], truth: Array, goal: Goal = "maximize", fraction: float = TOP) -> Array:
    """Share of the best candidates that have been measured, after each point (m,)."""
    top = top_candidates(truth, goal, fraction)
    return np.asarray(np.cumsum(np.isin(np.asarray(measured, dtype=int), top)) / len(top))


@dataclass(frozen=True)
class MapQuality:
    """How well a model knows what was not measured.

    Attributes:
        error: root mean square error over the standard deviation of the truth.
        coverage: share of candidates inside their 90 % interval.
        nlpd: negative log predictive density, mean, for values standardised by the truth's deviation.
    """

    error: float
    coverage: float
    nlpd: float


def map_quality(
    mean: Array, std: Array, truth: Array, measured: Sequence[int], noise: Array | None = None
) -> MapQuality | None:
    """Judge a prediction on the candidates that were not measured; None if there are none.

    Args:
        mean: (n,) prediction.
        std: (n,) its standard deviation, the noise of a measurement included.
        truth: (n,) values; those of a recording carry their noise already.
        measured: indices that the model has seen.
        noise: (n,) standard deviation of a measurement, where the truth is free of noise; the expected quality over
            measurements is then given.
    """
    left = np.isfinite(truth)
    left[np.asarray(measured, dtype=int)] = False
    if not left.any():
        return None
    spread = float(np.nanstd(truth)) or 1.0
    mean, std, value = mean[left], np.maximum(std[left], 1e-12 * spread), truth[left]
    extra = np.zeros(len(value)) if noise is None else np.asarray(noise)[left]
    inside = _probability_inside(mean, std, value, extra)
    z2 = ((value - mean) ** 2 + extra**2) / std**2
    nlpd = 0.5 * (np.log(2 * np.pi * (std / spread) ** 2) + z2)
    return MapQuality(
        error=float(np.sqrt(np.mean((value - mean) ** 2)) / spread),
        coverage=float(inside.mean()),
        nlpd=float(nlpd.mean()),
    )


def _probability_inside(mean: Array, std: Array, value: Array, noise: Array) -> Array:
    """Probability (n,) that a measurement, value plus noise, lies in the 90 % interval."""
    low, high = mean - Z90 * std - value, mean + Z90 * std - value
    exact = ((low <= 0) & (high >= 0)).astype(float)
    scale = np.where(noise > 0, noise, 1.0)
    return np.where(noise > 0, special.ndtr(high / scale) - special.ndtr(low / scale), exact)
