"""The posterior over all candidates, brought up to date in O(n N) for each spectrum.

With K + Λ = L Lᵀ over the n measured points, V = L⁻¹ K(X, C) over the N candidates gives the posterior mean Vᵀ L⁻¹ y
and variance k(c, c) - Σ V² (Rasmussen & Williams 2006, algorithm 2.1). A further point adds one row to L and to V, and
changes nothing that is there: the rank-one update of the Cholesky factor (Osborne 2010, appendix B).

That is exact. Where it would grow too large it begins with a summary of the points instead, m measurements that stand
for all of them, and goes on exactly from there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from autoexp.models.calibration import ResidualSpread
from autoexp.models.factor import Factor, HostFactor, factor
from autoexp.models.kernel import Array, Floats, Hyperparameters, covariance, prior_draw
from autoexp.models.summary import Summary, summed_up
from autoexp.models.triangle import Triangle

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
        keep: of more points than these, so many are kept, and the others are folded into them; by default all are kept.
        more: points to be learned or believed that room is made for; room for others is made when they come.

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
        keep: int | None = None,
        more: int = 0,
    ):
        self._views = views
        self._hyper = hyper
        self._dtype = np.dtype(dtype)
        self._measured = np.asarray(rows, dtype=np.intp)
        self._y = np.asarray(y, dtype=np.float64)
        X = tuple(np.asarray(view[self._measured], dtype=np.float64) for view in views)
        summed = keep is not None and keep < len(self._measured)
        self._summary = summed_up(X, hyper, self._y, np.asarray(noise), keep or 0) if summed else None
        L = self._conditioned(X, np.asarray(noise), self._summary)
        self._n = len(L)
        self._L = Triangle(L, self._n + more)
        inverse = linalg.solve_triangular(L, np.eye(self._n), lower=True)
        self._alpha, self._precision = inverse.T @ self._beta, np.einsum("ij,ij->j", inverse, inverse)
        self._ahead: tuple[int, int, Array, Any] | None = None
        self._factor = factor(views, hyper, self._n + more, self._dtype)
        try:
            self.mean, explained = self._filled(self._factor, inverse)
        except RuntimeError as error:  # as torch calls all that can go wrong on a GPU
            self.mean, explained = self._retreat(error)
        self.variance = np.maximum(hyper.signal - explained, 0.0)

    def _conditioned(self, X: tuple[Array, ...], noise: Array, summary: Summary | None) -> Array:
        """L, and with it what it rests on: the points that are kept, the noise of the others, and L⁻¹ y."""
        if summary is not None:
            self._rows = self._measured[summary.kept].tolist()
            self._noise: list[float] = []
            self._beta = summary.beta
            return summary.L
        self._rows = self._measured.tolist()
        self._noise = list(map(float, noise))
        K = covariance(X, X, self._hyper)
        K[np.diag_indices(len(noise))] = self._hyper.signal + self._hyper.noise + noise
        L = np.asarray(np.linalg.cholesky(K))
        self._beta = linalg.solve_triangular(L, self._y, lower=True)
        return L

    def __len__(self) -> int:
        return len(self._measured)

    @property
    def size(self) -> int:
        """Points that it rests on: those that were measured or are believed, or fewer that stand for them."""
        return self._n

    def observe(self, row: int, y: float, noise: float) -> None:
        """Learn one more standardised target, O(n N)."""
        weights, v, pivot = self._append(row, noise)
        beta = (y - weights @ self._beta) / pivot
        back = self._L.solve_transposed(weights)
        self._alpha = np.append(self._alpha - back * (beta / pivot), beta / pivot)
        self._precision = np.append(self._precision + (back / pivot) ** 2, 1 / pivot**2)
        self._y = np.append(self._y, y)
        self._beta = np.append(self._beta, beta)
        self.mean = self.mean + beta * v
        self.variance = np.maximum(self.variance - v**2, 0.0)

    @contextmanager
    def believing(self, rows: Sequence[int], noise: float) -> Iterator[Posterior]:
        """The posterior as if each of ``rows`` had been measured and had come out as predicted.

        This is the kriging believer (Ginsbourger et al. 2010): the mean stays, the variance shrinks.
        """
        n, variance, measured, diagonal = self._n, self.variance, self._measured, len(self._noise)
        try:
            for row in rows:
                _, v, _ = self._append(row, noise)
                self.variance = np.maximum(self.variance - v**2, 0.0)
            yield self
        finally:
            self._n, self.variance, self._measured = n, variance, measured
            del self._rows[n:], self._noise[diagonal:]

    @property
    def measured(self) -> list[int]:
        """The candidates (n,) that were measured, or are believed, in their order."""
        return list(map(int, self._measured))

    def best(self) -> int:
        """The candidate of the highest mean among those that were measured, or are believed."""
        return int(self._measured[self.mean[self._measured].argmax()])

    def leave_one_out(self) -> tuple[Array, Array]:
        """Mean and standard deviation (n,) of each target as predicted from all others, its noise included.

        Closed form: Rasmussen & Williams 2006, eq. 5.10 to 5.12. For points that were summed up it is of the time when
        they were, and of what the summary knows.
        """
        summary = self._summary
        summed, kept = (len(summary.mean), len(summary.kept)) if summary else (0, 0)
        alpha, precision = self._alpha[kept:], self._precision[kept:]
        mean, std = self._y[summed:] - alpha / precision, 1 / np.sqrt(precision)
        if summary is None:
            return mean, std
        return np.concatenate([summary.mean, mean]), np.concatenate([summary.std, std])

    def calibration(self, deviations: float) -> tuple[ResidualSpread, float]:
        """How residuals spread over what was predicted, and how well intervals hold that take it into account.

        Args:
            deviations: half width of the intervals, standard deviations.

        Returns:
            the spread of the leave-one-out residuals, and the share of the targets inside their own leave-one-out
            interval.
        """
        (mean, std), y = self.leave_one_out(), self._y
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
        missed = self._L.solve(prior[:n] + self._noise_draw(rng))
        return np.asarray(self.mean[columns] + prior[n:] - missed @ self._factor.columns(n, columns))

    def _noise_draw(self, rng: np.random.Generator) -> Array:
        """Noise (n,) of what the posterior rests on."""
        drawn = rng.standard_normal(self._n)
        kept = self._n - len(self._noise)
        each = np.sqrt(np.asarray(self._noise) + self._hyper.noise) * drawn[kept:]
        return each if self._summary is None else np.concatenate([self._summary.noise @ drawn[:kept], each])

    def _append(self, row: int, noise: float) -> tuple[Array, Array, float]:
        """One more row of L, ``weights`` and a pivot, and of V, (N,); returns weights, row of V, pivot."""
        n = self._n
        weights, direction = self._direction(row)
        floor = self._hyper.noise + noise
        pivot = float(np.sqrt(max(self._hyper.signal + floor - float(weights @ weights), floor)))
        try:
            v = self._factor.append(n, direction, pivot)
        except RuntimeError as error:
            self._retreat(error)
            v = self._factor.append(n, self._factor.direction(n, row, weights), pivot)
        self._L.append(n, weights, pivot)
        self._rows.append(row)
        self._measured = np.append(self._measured, row)
        self._noise.append(noise)
        self._n = n + 1
        return weights, v, pivot

    def _direction(self, row: int) -> tuple[Array, Any]:
        """What a candidate has in common with the points, (n,), and beyond that with all others, as the factor has it.

        The first that is believed is as a rule the next that is learned, so what was found for it is kept.
        """
        n, settled = self._n, self._n == len(self._beta)
        if settled and self._ahead is not None and self._ahead[:2] == (n, row):
            return self._ahead[2], self._ahead[3]
        X = tuple(np.asarray(view[[*self._rows, row]], dtype=np.float64) for view in self._views)
        k = covariance(tuple(x[:-1] for x in X), tuple(x[-1:] for x in X), self._hyper)[:, 0]
        weights = self._L.solve(np.asarray(k, dtype=np.float64))
        try:
            direction = self._factor.direction(n, row, weights)
        except RuntimeError as error:
            self._retreat(error)
            direction = self._factor.direction(n, row, weights)
        if settled:
            self._ahead = n, row, weights, direction
        return weights, direction

    def _filled(self, factor: Factor, inverse: Array) -> tuple[Array, Array]:
        """Condition a factor on all points: V is one product."""
        beta = np.pad(self._beta, (0, self._n - len(self._beta)))  # what is believed leaves the mean as it is
        return factor.condition(self._rows, inverse, beta)

    def _retreat(self, error: RuntimeError) -> tuple[Array, Array]:
        """Make the factor anew on the processor."""
        if isinstance(self._factor, HostFactor):
            raise error
        log.warning("The GPU failed; the processor goes on: %s", error)
        self._ahead = None
        self._factor = HostFactor(self._views, self._hyper, self._n, self._dtype)
        return self._filled(self._factor, self._L.inverse(self._n))
