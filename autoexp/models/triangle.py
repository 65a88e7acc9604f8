"""A lower triangular matrix that grows by a row at a time, where it stands."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from autoexp.models.kernel import Array


class Triangle:
    """L, of which the first n rows and columns are used, n being known to the caller.

    Args:
        L: (n, n) to begin with.
        room: rows to make room for; rows that are not used yet take no memory.
    """

    def __init__(self, L: Array, room: int):
        size = max(room, len(L))
        self._L = np.zeros((size, size))
        self._L[: len(L), : len(L)] = L

    def append(self, n: int, weights: Array, pivot: float) -> None:
        """Row n becomes ``weights`` (n,) and then ``pivot``; what was below is forgotten."""
        if n == len(self._L):
            larger = np.zeros((n + n // 2 + 16,) * 2)
            larger[:n, :n] = self._L
            self._L = larger
        self._L[n, :n] = weights
        self._L[n, n] = pivot

    def solve(self, b: Array) -> Array:
        """L⁻¹ b for b (n,)."""
        return self._solve(b, transposed=False)

    def solve_transposed(self, b: Array) -> Array:
        """L⁻ᵀ b for b (n,)."""
        return self._solve(b, transposed=True)

    def inverse(self, n: int) -> Array:
        """L⁻¹, (n, n)."""
        return np.asarray(linalg.solve_triangular(self._L[:n, :n], np.eye(n), lower=True))

    def _solve(self, b: Array, transposed: bool) -> Array:
        """By LAPACK on the memory as it is: scipy's ``solve_triangular`` would copy all of L first."""
        upper = self._L.T[:, : len(b)]
        x, info = linalg.lapack.dtrtrs(upper, b, lower=0, trans=0 if transposed else 1)
        if info:
            raise np.linalg.LinAlgError(f"the covariance is singular at row {info}")
        return np.asarray(x).reshape(len(b))
