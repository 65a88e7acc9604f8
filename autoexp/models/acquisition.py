"""Acquisition functions: how much a measurement is worth, given mean and standard deviation of the noise-free target.

All are pure functions, for a target that is to be maximised; to minimise one, flip the sign of the target. Improvement
is in logarithms, since the thing itself underflows a few standard deviations below the best and then says nothing about
where to look (Ament et al. 2023, "Unexpected improvements to expected improvement").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from autoexp.models.kernel import Array
from autoexp.models.posterior import Posterior

TINY = 1e-12
SAMPLED = 20_000


def log_expected_improvement(mean: Array, std: Array, best: float, xi: float = 0.0) -> Array:
    """Logarithm of E[max(f - best - xi, 0)] (Jones et al. 1998, eq. 15; Ament et al. 2023, eq. 9).

    Args:
        mean: (n,) expected target.
        std: (n,) its standard deviation; zero is allowed.
        best: the value to improve on.
        xi: improvement asked for beyond that.
    """
    sigma = np.maximum(std, TINY)
    return np.asarray(log_h((mean - best - xi) / sigma) + np.log(sigma))


def log_h(z: Array) -> Array:
    """log(φ(z) + z Φ(z)) without cancellation for any z (Ament et al. 2023, appendix A).

    Below -1 it is -z²/2 - log √2π + log(1 - |z| √(π/2) erfcx(|z|/√2)); below -1e4, where that difference is lost in
    rounding, its limit -z²/2 - log √2π - 2 log|z|.
    """
    z = np.asarray(z, dtype=np.float64)
    near, far = np.maximum(z, -1.0), np.clip(-z, 1.0, 1e4)
    body = np.log(np.exp(-(near**2) / 2) / np.sqrt(2 * np.pi) + near * special.ndtr(near))
    rest = np.log1p(-far * np.sqrt(np.pi / 2) * special.erfcx(far / np.sqrt(2)))
    rest = np.where(far < 1e4, rest, -2 * np.log(np.maximum(-z, 1.0)))
    return np.asarray(np.where(z > -1, body, rest - np.minimum(z, 0.0) ** 2 / 2 - np.log(2 * np.pi) / 2))


def log_probability_of_improvement(mean: Array, std: Array, best: float, xi: float = 0.0) -> Array:
    """Logarithm of P(f > best + xi) (Kushner 1964)."""
    return np.asarray(special.log_ndtr((mean - best - xi) / np.maximum(std, TINY)))


def log_expected_hypervolume_improvement(mean: Array, std: Array, front: Array, reference: Array) -> Array:
    """Logarithm of the expected growth of the area that two targets dominate (Emmerich et al. 2011).

    That area grows by what lies below the new point and is not dominated yet. For independent targets it is the sum,
    over the strips between neighbouring points of the front, of one target's expected improvement within the strip
    times the other's above it; in logarithms, so that it does not underflow.

    Args:
        mean: (2, n) expected targets, both to be maximised.
        std: (2, n) their standard deviations.
        front: (m, 2) targets that are known; those that others dominate do not matter.
        reference: (2,) the corner from which the area is counted.
    """
    front = np.asarray(front, dtype=float).reshape(-1, 2)
    front = front[(front > reference).all(axis=1)]
    front = front[undominated(front)]
    front = front[np.argsort(-front[:, 0])]  # from there on the second one rises
    edges = np.concatenate([front[:, 0], reference[:1]])
    heights = np.concatenate([reference[1:], front[:, 1]])
    above = np.full(mean.shape[1], -np.inf)
    strips = []
    for edge, height in zip(edges, heights, strict=True):
        beyond = log_expected_improvement(mean[0], std[0], edge)
        with np.errstate(divide="ignore"):  # a strip without width is worth nothing
            within = beyond + np.log1p(-np.exp(np.minimum(above - beyond, 0.0)))
        strips.append(within + log_expected_improvement(mean[1], std[1], height))
        above = beyond
    return np.asarray(special.logsumexp(strips, axis=0))


def undominated(points: Array) -> npt.NDArray[np.bool_]:
    """Which of some points (m, 2) are best compromises: no other is at least as good in both; of equals, the first."""
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    seconds = points[order, 1]
    before = np.maximum.accumulate(np.concatenate([[-np.inf], seconds]))[: len(points)]
    kept = np.zeros(len(points), bool)
    kept[order] = seconds > before
    return kept


def thinned(front: Array, count: int) -> Array:
    """A front of compromises (m, 2), or if it has more points than ``count``, so many in even steps along it."""
    if len(front) <= count:
        return front
    along = front[np.argsort(front[:, 0])]
    return np.asarray(along[np.linspace(0, len(front) - 1, count).astype(int)])


def upper_confidence_bound(mean: Array, std: Array, beta: float = 2.0) -> Array:
    """Mean plus ``beta`` standard deviations (Srinivas et al. 2010, with β of theirs being the square of this)."""
    return mean + beta * std


def thompson_sample(posterior: Posterior, free: npt.NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """One joint draw of the target (n,) from the posterior (Thompson 1933); -inf where none was made.

    With more than ``SAMPLED`` candidates to choose from, the draw is made at that many of them, chosen at random: the
    maximum over so many hardly differs from that over all.

    Args:
        posterior: over all n candidates.
        free: (n,) where one may measure.
        rng: draws it.
    """
    columns = np.flatnonzero(free)
    if len(columns) > SAMPLED:
        columns = np.sort(rng.choice(columns, SAMPLED, replace=False))
    values = np.full(len(free), -np.inf)
    values[columns] = posterior.draw(columns, rng)
    return values


def maximum_variance(std: Array) -> Array:
    """Standard deviation: what a measurement would teach about its own place (MacKay 1992)."""
    return std
