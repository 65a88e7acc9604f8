"""The exact posterior over all candidates, brought up to date in O(n N) for each spectrum.

With K + Λ = L Lᵀ over the n measured points, V = L⁻¹ K(X, C) over the N candidates gives the posterior mean Vᵀ L⁻¹ y
and variance k(c, c) - Σ V² (Rasmussen & Williams 2006, algorithm 2.1). A further point adds one row to L and to V, and
changes nothing that is there: the rank-one update of the Cholesky factor (Osborne 2010, appendix B).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from scipy import linalg

from autoexp.models.calibration import ResidualSpread
from autoexp.models.factor import Factor, HostFactor, factor
from autoexp.models.kernel import Array, Floats, Hyperparameters, covariance, leave_one_out, prior_draw

log = logging.getLogger(__name__)


class Posterior:
    """A Gaussian process conditioned on measured candidates.

    Args:
        views: (N, d_v) of all candidates, one array for each view.
        hyper: hyperparameters.
        rows: (n,) which candidates were measured; repeats are allowed.
        y: (n,) standardised targets.
        noise: (n,) known noise variances of the targets.
        dtype: in which the N-sized factor is kept; mean and variance are summed in float64. It is on a GPU if there
            is one and it helps, and comes back to the processor if that fails.

    Attributes:
        mean: (N,) of the noise-free target; replaced, never written to, when something is learned.
        variance: (N,) of the noise-free target; likewise.

    Raises:
        numpy.linalg.LinAlgError: the covariance is not positive definite to working precision.
    """

    def __init__(
        self,
        views: tuple[Floats, ...],
        hyper: Hyperparameters,
        rows: Sequence[int] | npt.NDArray[np.intp],
        y: Array,
        noise: Array,
        dtype: npt.DTypeLike = np.float32,
    ):
        self._views = views
        self._hyper = hyper
        self._dtype = np.dtype(dtype)
        self._n = len(rows)
        self._rows = list(map(int, rows))
        self._y = list(map(float, y))
        self._noise = list(map(float, noise))
        X = tuple(np.asarray(view[self._rows], dtype=np.float64) for view in views)
        K = covariance(X, X, hyper)
        K[np.diag_indices(self._n)] = hyper.signal + hyper.noise + np.asarray(noise)
        self._L = np.asarray(np.linalg.cholesky(K))
        self._beta = linalg.solve_triangular(self._L, np.asarray(self._y), lower=True)
        self._factor = factor(views, hyper, self._n, self._dtype)
        try:
            self.mean, explained = self._filled(self._factor)
        except RuntimeError as error:  # as torch calls all that can go wrong on a GPU
            self.mean, explained = self._retreat(error)
        self.variance = np.maximum(hyper.signal - explained, 0.0)

    def __len__(self) -> int:
        return self._n

    def observe(self, row: int, y: float, noise: float) -> None:
        """Learn one more standardised target, O(n N)."""
        v = self._append(row, noise)
        self._y.append(y)
        last = self._L[-1]
        beta = (y - last[:-1] @ self._beta) / last[-1]
        self._beta = np.append(self._beta, beta)
        self.mean = self.mean + beta * v
        self.variance = np.maximum(self.variance - v**2, 0.0)

    @contextmanager
    def believing(self, rows: Sequence[int], noise: float) -> Iterator[Posterior]:
        """The posterior as if each of ``rows`` had been measured and had come out as predicted.

        This is the kriging believer (Ginsbourger et al. 2010): the mean stays, the variance shrinks.
        """
        n, variance, L = self._n, self.variance, self._L
        try:
            for row in rows:
                v = self._append(row, noise)
                self.variance = np.maximum(self.variance - v**2, 0.0)
            yield self
        finally:
            self._n, self.variance, self._L = n, variance, L
            del self._rows[n:], self._noise[n:]

    @property
    def measured(self) -> list[int]:
        """The candidates (n,) that were measured, or are believed, in their order."""
        return list(self._rows)

    def best(self) -> int:
        """The candidate of the highest mean among those that were measured, or are believed."""
        return self._rows[int(self.mean[self._rows].argmax())]

    def leave_one_out(self) -> tuple[Array, Array]:
        """Mean and standard deviation (n,) of each target as predicted from all others, its noise included."""
        n = len(self._beta)
        return leave_one_out(self._L[:n, :n], self._beta, np.asarray(self._y))

    def calibration(self, deviations: float) -> tuple[ResidualSpread, float]:
        """How residuals spread over what was predicted, and how well intervals hold that take it into account.

        Args:
            deviations: half width of the intervals, standard deviations.

        Returns:
            the spread of the leave-one-out residuals, and the share of the targets inside their own leave-one-out
            interval.
        """
        (mean, std), y = self.leave_one_out(), np.asarray(self._y)
        spread = ResidualSpread.of(mean, std, y)
        return spread, float(np.mean(np.abs(y - mean) <= deviations * std * spread.factor(mean)))

    def draw(self, columns: npt.NDArray[np.intp], rng: np.random.Generator) -> Array:
        """One joint draw (m,) of the noise-free target at some candidates.

        Pathwise conditioning: a draw from the prior, corrected by what it misses at the measured points (Wilson et
        al. 2020, "Efficiently sampling functions from Gaussian process posteriors", eq. 13).
        """
        n = self._n
        points = np.concatenate([np.asarray(self._rows, dtype=np.intp), columns])
        prior = prior_draw(tuple(view[points] for view in self._views), self._hyper, rng)
        noise = np.sqrt(np.asarray(self._noise) + self._hyper.noise) * rng.standard_normal(n)
        missed = linalg.solve_triangular(self._L, prior[:n] + noise, lower=True)
        return np.asarray(self.mean[columns] + prior[n:] - missed @ self._factor.columns(n, columns))

    def _append(self, row: int, noise: float) -> Array:
        """One more row of L and V; returns the latter, (N,)."""
        n = self._n
        X = tuple(np.asarray(view[[*self._rows, row]], dtype=np.float64) for view in self._views)
        k = covariance(tuple(x[:-1] for x in X), tuple(x[-1:] for x in X), self._hyper)[:, 0]
        weights = linalg.solve_triangular(self._L, k, lower=True)
        floor = self._hyper.noise + noise
        pivot = float(np.sqrt(max(self._hyper.signal + floor - weights @ weights, floor)))
        try:
            v = self._factor.append(n, row, weights, pivot)
        except RuntimeError as error:
            self._retreat(error)
            v = self._factor.append(n, row, weights, pivot)
        self._L = np.block([[self._L, np.zeros((n, 1))], [weights, pivot]])
        self._rows.append(row)
        self._noise.append(noise)
        self._n = n + 1
        return v

    def _filled(self, factor: Factor) -> tuple[Array, Array]:
        """Condition a factor on all points: V is one product."""
        inverse = linalg.solve_triangular(self._L, np.eye(self._n), lower=True)
        beta = np.pad(self._beta, (0, self._n - len(self._beta)))  # what is believed leaves the mean as it is
        return factor.condition(self._rows, inverse, beta)

    def _retreat(self, error: RuntimeError) -> tuple[Array, Array]:
        """Make the factor anew on the processor."""
        if isinstance(self._factor, HostFactor):
            raise error
        log.warning("The GPU failed; the processor goes on: %s", error)
        self._factor = HostFactor(self._views, self._hyper, self._n, self._dtype)
        return self._filled(self._factor)
