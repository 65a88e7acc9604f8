"""Hyperparameters by maximum a posteriori, with analytic gradients, in float64."""

from __future__ import annotations

import numpy as np
from scipy import linalg, optimize

from autoexp.models.kernel import (
    Array,
    Floats,
    Hyperparameters,
    Priors,
    covariance,
    leave_one_out,
    log_density,
    squared_distances,
)

REACH = 7.0
"""How far the search may go from the prior's modes, in natural logarithms: a factor of a thousand."""
STARTS = ((0.0, 0.0, 0.0), (0.0, 1.5, 1.0), (0.0, -2.0, 0.0))
"""Where it starts, from the modes of variance, length and noise: there, at a smooth field under noise, at a rough one.

Together they led to the best of all maxima that were found in each of 96 fits; each alone missed it one time in ten."""


Starts = tuple[tuple[float, float, float], ...]


class Objective:
    """Minus the log posterior density of the hyperparameters, and its gradient.

    Pairs of points are kept once, so that an evaluation costs half of what full matrices would; and it works in memory
    that is used again and stays in the cache, which makes it twice as fast. One thread may call it at a time.

    Args:
        views: (n, d_v) of the measured points, one array for each view.
        y: (n,) standardised targets.
        noise: (n,) known noise variances of the targets.
        priors: on the hyperparameters.
    """

    def __init__(self, views: tuple[Floats, ...], y: Array, noise: Array, priors: Priors):
        n = len(y)
        self._y = np.asarray(y, dtype=np.float64)
        self._noise = noise
        self._priors = priors
        self._i, self._j = lower = np.tril_indices(n, -1)
        wide = [np.asarray(view, dtype=np.float64) for view in views]
        self._r5 = np.stack([np.sqrt(5 * squared_distances(view, view)[lower]) for view in wide])
        self._parts, self._slopes = np.empty_like(self._r5), np.empty_like(self._r5)
        self._scratch = np.empty((2, len(self._i)))
        self._matrix = np.zeros((n, n), order="F")
        self._flat = self._matrix.reshape(-1, order="F")  # the same memory
        self._at = self._i + n * self._j

    def __call__(self, log: Array) -> tuple[float, Array]:
        """At the (2 v + 1,) logarithms of variances, lengths and noise (Rasmussen & Williams eq. 5.8 and 5.9)."""
        hyper = Hyperparameters.from_log(log)
        parts, slopes = self._kernels(hyper)
        pairs, inverses = self._scratch
        self._flat[self._at] = parts.sum(axis=0, out=pairs)
        self._flat[:: len(self._y) + 1] = hyper.signal + hyper.noise + self._noise
        L, info = linalg.lapack.dpotrf(self._matrix, lower=1, clean=0, overwrite_a=1)
        if info:
            return np.inf, np.zeros_like(log)
        alpha = linalg.lapack.dpotrs(L, self._y, lower=1)[0]
        value = -self._y @ alpha / 2 - np.log(L.diagonal()).sum() - len(self._y) / 2 * np.log(2 * np.pi)
        linalg.lapack.dpotri(L, lower=1, overwrite_c=1)
        trace = float(alpha @ alpha - self._matrix.trace())
        np.multiply(alpha[self._i], alpha[self._j], out=pairs)
        pairs -= np.take(self._flat, self._at, out=inverses)
        gradient = np.concatenate(
            [parts @ pairs + hyper.variance * trace / 2, slopes @ pairs, [hyper.noise * trace / 2]]
        )
        return -float(value + self._priors.log_density(hyper)), -(gradient + self._priors.slope(log))

    def _kernels(self, hyper: Hyperparameters) -> tuple[Array, Array]:
        """For each view (v, pairs): its kernel, and a² t² (1 + t)/3 e^-t, its derivative by the log of its length.

        The arrays are overwritten by the next call.
        """
        t, decay = self._scratch
        views = zip(self._r5, self._parts, self._slopes, hyper.variance, hyper.length, strict=True)
        for r5, part, slope, variance, length in views:
            np.multiply(r5, 1 / length, out=t)
            np.exp(np.negative(t, out=decay), out=decay)
            decay *= variance
            np.multiply(t, t, out=part)
            part /= 3
            t += 1
            np.multiply(part, t, out=slope)
            slope *= decay
            part += t
            part *= decay
        return self._parts, self._slopes


def fit_map(
    views: tuple[Floats, ...], y: Array, noise: Array, priors: Priors | None = None, starts: Starts = STARTS
) -> Hyperparameters:
    """The most probable hyperparameters: a function of its arguments alone, from fixed starts.

    Args:
        views: (n, d_v) of the measured points, one array for each view.
        y: (n,) standardised targets.
        noise: (n,) known noise variances of the targets.
        priors: on the hyperparameters; by default those of the model.
        starts: where to start from, logarithms of variance, length and noise relative to the modes.
    """
    v = len(views)
    priors = priors or Priors.of(v)
    objective = Objective(views, y, noise, priors)
    modes = priors.modes(v).log
    bounds = list(zip(modes - REACH, modes + REACH, strict=True))
    found = [
        optimize.minimize(
            objective, modes + np.repeat(start, (v, v, 1)), jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-5
        )
        for start in starts
    ]
    return Hyperparameters.from_log(min(found, key=lambda result: float(result.fun)).x)


def leave_one_out_density(views: tuple[Floats, ...], hyper: Hyperparameters, y: Array, noise: Array) -> float:
    """Mean log density, in nats a point, of each target as predicted from all others.

    Args:
        views: (n, d_v) of the measured points, one array for each view.
        hyper: hyperparameters, fitted to all of the targets.
        y: (n,) standardised targets.
        noise: (n,) known noise variances of the targets.
    """
    wide = tuple(np.asarray(view, dtype=np.float64) for view in views)
    K = covariance(wide, wide, hyper)
    K[np.diag_indices(len(y))] = hyper.signal + hyper.noise + noise
    L = np.asarray(np.linalg.cholesky(K), dtype=np.float64)
    mean, std = leave_one_out(L, linalg.solve_triangular(L, y, lower=True), y)
    return float(log_density(y - mean, std**2).mean())
