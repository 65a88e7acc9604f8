"""The exact posterior over all candidates, brought up to date in O(n N) for each spectrum.

With K + Λ = L Lᵀ over the n measured points, V = L⁻¹ K(X, C) over the N candidates gives the posterior mean Vᵀ L⁻¹ y
and variance k(c, c) - Σ V² (Rasmussen & Williams 2006, algorithm 2.1). A further point adds one row to L and to V, and
changes nothing that is there: the rank-one update of the Cholesky factor (Osborne 2010, appendix B).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from scipy import linalg

from autoexp.models.calibration import ResidualSpread
from autoexp.models.kernel import Array, Floats, Hyperparameters, covariance, leave_one_out, prior_draw

BLOCK = 2**18
"""Kernel values computed at once: about what a processor's own cache holds."""


class Posterior:
    """A Gaussian process conditioned on measured candidates.

    Args:
        views: (N, d_v) of all candidates, one array for each view.
        hyper: hyperparameters.
        rows: (n,) which candidates were measured; repeats are allowed.
        y: (n,) standardised targets.
        noise: (n,) known noise variances of the targets.
        dtype: in which the N-sized factor is kept; mean and variance are summed in float64.

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
        self._L = np.empty((0, 0))
        self._V = np.empty((0, len(views[0])), self._dtype)
        self._reserve(self._n)
        self._beta = np.empty(0)
        self.mean = np.zeros(len(views[0]))
        self.variance = np.full(len(views[0]), hyper.signal)
        self._condition()

    def __len__(self) -> int:
        return self._n

    def observe(self, row: int, y: float, noise: float) -> None:
        """Learn one more standardised target, O(n N)."""
        v = self._append(row, noise)
        self._y.append(y)
        last = self._L[self._n - 1, : self._n]
        beta = (y - last[:-1] @ self._beta) / last[-1]
        self._beta = np.append(self._beta, beta)
        self.mean = self.mean + beta * v
        self.variance = np.maximum(self.variance - v.astype(np.float64) ** 2, 0.0)

    @contextmanager
    def believing(self, rows: Sequence[int], noise: float) -> Iterator[Posterior]:
        """The posterior as if each of ``rows`` had been measured and had come out as predicted.

        This is the kriging believer (Ginsbourger et al. 2010): the mean stays, the variance shrinks.
        """
        n, variance = self._n, self.variance
        try:
            for row in rows:
                v = self._append(row, noise)
                self.variance = np.maximum(self.variance - v.astype(np.float64) ** 2, 0.0)
            yield self
        finally:
            self._n, self.variance = n, variance
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
        missed = linalg.solve_triangular(self._L[:n, :n], prior[:n] + noise, lower=True)
        return np.asarray(self.mean[columns] + prior[n:] - missed @ self._V[:n, columns])

    def _condition(self) -> None:
        """Factorise over all points at once."""
        n, rows = self._n, self._rows
        X = tuple(np.asarray(view[rows], dtype=np.float64) for view in self._views)
        K = covariance(X, X, self._hyper)
        K[np.diag_indices(n)] = self._hyper.signal + self._hyper.noise + np.asarray(self._noise)
        L = self._L[:n, :n] = np.linalg.cholesky(K)
        self._beta = linalg.solve_triangular(L, np.asarray(self._y), lower=True)
        inverse = linalg.solve_triangular(L, np.eye(n), lower=True).astype(self._dtype)  # so that V is one product
        beta = self._beta.astype(self._dtype)
        for part in self._blocks(n):
            V = np.matmul(inverse, self._kernel(rows, part), out=self._V[:n, part])
            self.mean[part] = beta @ V
            self.variance[part] = np.maximum(self._hyper.signal - np.einsum("nc,nc->c", V, V), 0.0)

    def _append(self, row: int, noise: float) -> Floats:
        """One more row of L and V; returns the latter, (N,)."""
        n = self._n
        self._reserve(n + 1)
        X = tuple(np.asarray(view[[*self._rows, row]], dtype=np.float64) for view in self._views)
        k = covariance(tuple(x[:-1] for x in X), tuple(x[-1:] for x in X), self._hyper)[:, 0]
        row_of_L = linalg.solve_triangular(self._L[:n, :n], k, lower=True)
        floor = self._hyper.noise + noise
        pivot = np.sqrt(max(self._hyper.signal + floor - row_of_L @ row_of_L, floor))
        weights = row_of_L.astype(self._dtype)
        for part in self._blocks(1):
            v = self._kernel([row], part)[0]
            v -= weights @ self._V[:n, part]
            v /= pivot
            self._V[n, part] = v
        self._L[n, :n], self._L[n, n] = row_of_L, pivot
        self._rows.append(row)
        self._noise.append(noise)
        self._n = n + 1
        return np.asarray(self._V[n])

    def _kernel(self, rows: Sequence[int], part: slice) -> Floats:
        """k(x, c) between measured points and a block of candidates."""
        X = tuple(np.asarray(view[rows], dtype=self._dtype) for view in self._views)
        return covariance(X, tuple(np.asarray(view[part], dtype=self._dtype) for view in self._views), self._hyper)

    def _blocks(self, n: int) -> Iterator[slice]:
        """Blocks of candidates for which (n, block) kernel values are computed at once."""
        step = max(1024, BLOCK // max(n, 1))
        total = len(self._views[0])
        return (slice(start, min(start + step, total)) for start in range(0, total, step))

    def _reserve(self, count: int) -> None:
        """Room for ``count`` rows and for a quarter more, so that a copy is rare; what is not used takes no memory."""
        held = len(self._L)
        if count <= held:
            return
        room = count + max(16, count // 4)
        L, V = np.zeros((room, room)), np.empty((room, self._V.shape[1]), self._dtype)
        L[:held, :held], V[:held] = self._L, self._V
        self._L, self._V = L, V
