"""The model: an additive Gaussian process with one isotropic Matérn-5/2 kernel per view, and priors on all of it.

    k(x, x') = Σ_v a_v² m(√5 |x_v - x'_v| / ℓ_v),   m(t) = (1 + t + t²/3) e^-t

(Rasmussen & Williams 2006, eq. 4.17; sums of kernels, section 4.2.4). Targets are standardised, so the mean is zero.
One length for a whole view, rather than one for each of its columns: with few points the latter overfits (Ober et al.
2021), and it lost nearly every comparison. ``autoexp.models.reference`` says the same in gpytorch, and tests hold the
two equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]

FREQUENCIES = 512


@dataclass(frozen=True)
class LogNormal:
    """A log-normal prior density over x > 0, given by its mode and the standard deviation of log x."""

    mode: float
    sigma: float

    @property
    def loc(self) -> float:
        """Mean of log x."""
        return float(np.log(self.mode) + self.sigma**2)

    def log_density(self, log_x: Array) -> Array:
        """Log density over x (not over log x) at exp(log_x)."""
        z = (log_x - self.loc) / self.sigma
        return np.asarray(-0.5 * z**2 - log_x - np.log(self.sigma * np.sqrt(2 * np.pi)))

    def slope(self, log_x: Array) -> Array:
        """Derivative of ``log_density`` by log x."""
        return np.asarray(-(log_x - self.loc) / self.sigma**2 - 1)


@dataclass(frozen=True)
class Hyperparameters:
    """Of a model with v views.

    Attributes:
        variance: (v,) a_v², of standardised targets.
        length: (v,) ℓ_v, in units of the standardised views.
        noise: variance of the noise that counting statistics do not explain, of standardised targets.
    """

    variance: Array
    length: Array
    noise: float

    @classmethod
    def from_log(cls, log: Array) -> Hyperparameters:
        """From (2 v + 1,) logarithms: variances, lengths, noise."""
        values, v = np.exp(log), len(log) // 2
        return cls(values[:v], values[v : 2 * v], float(values[-1]))

    @property
    def log(self) -> Array:
        """(2 v + 1,) logarithms: variances, lengths, noise."""
        return np.asarray(np.log(np.concatenate([self.variance, self.length, [self.noise]])))

    @property
    def signal(self) -> float:
        """Prior variance of the noise-free target."""
        return float(self.variance.sum())


@dataclass(frozen=True)
class Priors:
    """Priors on the hyperparameters, for standardised targets and standardised views."""

    variance: LogNormal
    length: LogNormal
    noise: LogNormal

    @classmethod
    def of(cls, views: int) -> Priors:
        """The defaults: the views share the variance of the targets, and lengths are about the views' own spread.

        They are weak, a factor of three or four each way: smooth targets want long lengths, textured ones short, and
        narrower priors cost one or the other. Wider ones make intervals too short while there are few points.
        """
        return cls(LogNormal(1 / views, 1.5), LogNormal(0.5, 1.25), LogNormal(0.05, 1.0))

    def modes(self, views: int) -> Hyperparameters:
        """The most probable hyperparameters before there are data."""
        return Hyperparameters(
            np.full(views, self.variance.mode), np.full(views, self.length.mode), float(self.noise.mode)
        )

    def log_density(self, hyper: Hyperparameters) -> float:
        """Log density of all hyperparameters together."""
        variance, length, noise = np.log(hyper.variance), np.log(hyper.length), np.log([hyper.noise])
        terms = self.variance.log_density(variance), self.length.log_density(length), self.noise.log_density(noise)
        return float(sum(term.sum() for term in terms))

    def slope(self, log: Array) -> Array:
        """Gradient of ``log_density`` by the (2 v + 1,) logarithms."""
        v = len(log) // 2
        parts = self.variance.slope(log[:v]), self.length.slope(log[v:-1]), self.noise.slope(log[-1:])
        return np.concatenate(parts)


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances (n, m) between the rows of (n, d) and (m, d); rounding never makes them negative."""
    squared = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("md,md->m", b, b)[None]
    squared -= 2 * (a @ b.T)
    return np.asarray(np.maximum(squared, 0, out=squared))


def matern(squared: Floats, variance: float, length: float) -> Floats:
    """a² m(√5 r / ℓ) from squared distances r² of any shape, which are overwritten."""
    t = np.multiply(squared, 5 / length**2, out=squared)
    np.sqrt(t, out=t)
    polynomial = t * t
    polynomial /= 3
    polynomial += t
    polynomial += 1
    np.exp(np.negative(t, out=t), out=t)
    polynomial *= t
    polynomial *= variance
    return polynomial


def covariance(a: tuple[Floats, ...], b: tuple[Floats, ...], hyper: Hyperparameters) -> Floats:
    """k(x, x') (n, m) between two sets of points, each given by its views (n, d_v) and (m, d_v)."""
    parts = zip(a, b, hyper.variance, hyper.length, strict=True)
    first, *rest = (matern(squared_distances(x, z), float(var), float(length)) for x, z, var, length in parts)
    for part in rest:
        first += part
    return first


def leave_one_out(L: Array, beta: Array, y: Array) -> tuple[Array, Array]:
    """Mean and standard deviation (n,) of each target as predicted from all others, its noise included.

    Closed form: Rasmussen & Williams 2006, eq. 5.10 to 5.12.

    Args:
        L: (n, n) lower Cholesky factor of the covariance of the targets, noise included.
        beta: (n,) L⁻¹ y.
        y: (n,) targets.
    """
    inverse = linalg.solve_triangular(L, np.eye(len(y)), lower=True)
    precision = np.einsum("ij,ij->j", inverse, inverse)
    return y - inverse.T @ beta / precision, 1 / np.sqrt(precision)


def log_density(deviation: Array, variance: Array) -> Array:
    """Log density (n,) of normal targets that deviate from what was expected."""
    return np.asarray(-0.5 * (np.log(2 * np.pi * variance) + deviation**2 / variance))


def prior_draw(points: tuple[Floats, ...], hyper: Hyperparameters, rng: np.random.Generator) -> Array:
    """One draw (n,) of the model before data, by random Fourier features (Rahimi & Recht 2007).

    The frequencies of a Matérn-5/2 kernel follow a multivariate t distribution with five degrees of freedom.

    Args:
        points: (n, d_v), one array for each view.
    """
    drawn = np.zeros(len(points[0]))
    for view, variance, length in zip(points, hyper.variance, hyper.length, strict=True):
        spread = np.sqrt(5 / rng.chisquare(5, FREQUENCIES)) / length
        phase = view @ (rng.standard_normal((view.shape[1], FREQUENCIES)) * spread).astype(view.dtype)
        weights = (rng.standard_normal((2, FREQUENCIES)) * np.sqrt(variance / FREQUENCIES)).astype(view.dtype)
        drawn += np.cos(phase) @ weights[0] + np.sin(phase) @ weights[1]
    return drawn
