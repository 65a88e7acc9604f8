"""Hyperparameters by maximum a posteriori, with analytic gradients, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

from autoexp.models.kernel import Array, Hyperparameters, Priors, covariance

LOG_BOUND = 7.0
NOISE_FLOOR = 1e-4
STARTS = ((0.0, 0.0, 0.0), (0.0, -1.0, 1.5), (0.0, 1.0, -1.0))


class Objective:
    """Minus the log posterior of the hyperparameters, and its gradient.

    Args:
        r: (v, n, n) distances between the measured candidates, for each view.
        y: (n,) standardised targets.
        noise: (n,) known noise variances.
        priors: of the hyperparameters.
    """

    def __init__(self, r: Array, y: Array, noise: Array, priors: Priors):
        self._r5 = np.sqrt(5.0) * r
        self._y = y
        self._noise = noise
        self._priors = priors

    def __call__(self, log: Array) -> tuple[float, Array]:
        """At the logarithms (2 v + 1,) of variances, lengths and noise (Rasmussen & Williams eq. 5.8, 5.9)."""
        hyper = Hyperparameters.from_log(log)
        v, n = len(hyper.variance), len(self._y)
        t = self._r5 / hyper.length[:, None, None]
        decay = hyper.variance[:, None, None] * np.exp(-t)
        slope = t * t
        parts = slope / 3
        parts += t
        parts += 1
        parts *= decay
        K = parts.sum(axis=0)
        K.flat[:: n + 1] += self._noise + hyper.noise
        L, info = linalg.lapack.dpotrf(K, lower=1)
        if info:
            return np.inf, np.zeros_like(log)
        alpha = linalg.lapack.dpotrs(L, self._y, lower=1)[0]
        inverse = linalg.lapack.dpotri(L, lower=1)[0]
        inverse += np.tril(inverse, -1).T - np.triu(inverse, 1)
        W = np.multiply.outer(alpha, alpha) - inverse
        t += 1
        slope *= t
        slope *= decay
        slope /= 3
        flat = W.ravel()
        gradient = np.empty(2 * v + 1)
        gradient[:v] = parts.reshape(v, -1) @ flat / 2
        gradient[v:-1] = slope.reshape(v, -1) @ flat / 2
        gradient[-1] = hyper.noise * W.trace() / 2
        value = -0.5 * self._y @ alpha - np.log(L.diagonal()).sum() - n / 2 * np.log(2 * np.pi)
        return -(value + self._log_prior(log)), -(gradient + self._prior_slope(log))

    def _split(self, log: Array):
        v = len(log) // 2
        p = self._priors
        return zip((p.variance, p.length, p.noise), (log[:v], log[v:-1], log[-1:]), strict=True)

    def _log_prior(self, log: Array) -> float:
        return float(sum(prior.log_density(part).sum() for prior, part in self._split(log)))

    def _prior_slope(self, log: Array) -> Array:
        return np.concatenate([prior.slope(part) for prior, part in self._split(log)])


def fit(r: Array, y: Array, noise: Array, priors: Priors) -> Hyperparameters:
    objective = Objective(r, y, noise, priors)
    v = len(r)
    modes = np.log([priors.variance.mode] * v + [priors.length.mode] * v + [priors.noise.mode])
    best = None
    for a, l, s in STARTS:
        start = modes + np.array([a] * v + [l] * v + [s])
        found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(m - LOG_BOUND, m + LOG_BOUND) for m in modes], options={"maxiter": 60, "ftol": 1e-6})
        if best is None or found.fun < best.fun:
            best = found
    return Hyperparameters.from_log(best.x)


@dataclass(frozen=True)
class LeaveOneOut:
    mean: Array
    std: Array
    def coverage(self, y, level=1.6448536): return float(np.mean(np.abs(y-self.mean) <= level*self.std))
