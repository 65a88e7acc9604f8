"""The model: an additive Gaussian process with one isotropic Matérn-5/2 kernel per view, and priors on all of it.

    k(x, x') = Σ_v a_v² m(√5 |x_v - x'_v| / ℓ_v),   m(t) = (1 + t + t²/3) e^-t

(Rasmussen & Williams 2006, eq. 4.17; sums of kernels, section 4.2.4). Targets are standardised, so the mean is zero.
The same model is written in gpytorch in ``autoexp.models.reference``, and tests hold the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoexp.models.features import Views

Array = npt.NDArray[np.float64]


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
class Priors:
    """Priors on the hyperparameters of standardised targets and standardised views."""

    variance: LogNormal
    length: LogNormal
    noise: LogNormal

    @classmethod
    def of(cls, views: int) -> Priors:
        """The defaults: the views share the variance of one, lengths are about the spread of the candidates."""
        return cls(LogNormal(1 / views, 1.0), LogNormal(1.0, 0.75), LogNormal(0.02, 1.0))


@dataclass(frozen=True)
class Hyperparameters:
    """Of a model with v views.

    Attributes:
        variance: (v,) a_v², of standardised targets.
        length: (v,) ℓ_v, in units of the standardised views.
        noise: variance of the noise that no counting statistics explain, of standardised targets.
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
        return np.log(np.concatenate([self.variance, self.length, [self.noise]]))

    @property
    def signal(self) -> float:
        """Prior variance of the noise-free target."""
        return float(self.variance.sum())


def distances(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Array:
    """Euclidean distances (n, m) between the rows of (n, d) and (m, d)."""
    difference = a[:, None].astype(np.float64) - b[None]
    return np.asarray(np.sqrt(np.einsum("nmd,nmd->nm", difference, difference)))


def view_distances(views: Views, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp] | None = None) -> Array:
    """Distances (v, n, m) between candidates, for each view."""
    columns = rows if columns is None else columns
    return np.stack([distances(view[rows], view[columns]) for view in views.arrays])


def covariance(r: Array, hyper: Hyperparameters) -> Array:
    """k(x, x') (n, m) from distances (v, n, m)."""
    t = np.sqrt(5.0) * r / hyper.length[:, None, None]
    return np.asarray(np.einsum("v,vnm->nm", hyper.variance, (1 + t + t**2 / 3) * np.exp(-t)))
