"""Many measurements summed up in few: what a posterior rests on when there are too many points for all of them.

Some of the measured points are kept as inducing points Z: greedily the one that the others explain least, which is the
Cholesky decomposition with pivots (Foster et al. 2009, "Stable and efficient Gaussian process calculations"). All
others are folded in. With φ_i = L_Z⁻¹ k(Z, x_i), what Z does not explain of a point, k(x_i, x_i) - |φ_i|², is taken for
noise of its own (FITC: Snelson & Ghahramani 2006, "Sparse Gaussian processes using pseudo-inputs"; Quiñonero-Candela &
Rasmussen 2005, section 6). With λ_i that and the point's noise, all that is known of f(Z) is then

    G = Σ_i φ_i φ_iᵀ / λ_i,   b = Σ_i φ_i y_i / λ_i

which is as if Z had been measured once, with targets L_Z G⁻¹ b and noise of covariance L_Z G⁻¹ L_Zᵀ. So the summary is
again a Gaussian process on a few measurements, and everything goes on as before. Where all points are kept nothing is
lost: the posterior is the exact one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from autoexp.models.kernel import Array, Floats, Hyperparameters, covariance

EXPLAINED = 1e-6
"""Share of the signal's variance below which a point is explained by those that are kept."""


@dataclass(frozen=True)
class Summary:
    """Measurements (n,) as if only m of their places had been measured, with noise that is correlated.

    Attributes:
        kept: (m,) which of the n points stand for all.
        L: (m, m) lower Cholesky factor of the covariance of their targets, noise included.
        beta: (m,) L⁻¹ times their targets.
        noise: (m, m) a root of the covariance of their noise.
        mean: (n,) each measured target as predicted from all others.
        std: (n,) its standard deviation, its noise included.
    """

    kept: npt.NDArray[np.intp]
    L: Array
    beta: Array
    noise: Array
    mean: Array
    std: Array


def summed_up(views: tuple[Floats, ...], hyper: Hyperparameters, y: Array, noise: Array, count: int) -> Summary:
    """Sum up n measurements in at most ``count`` of them, O(n count²).

    Args:
        views: (n, d_v) of the measured points, one array for each view.
        hyper: hyperparameters.
        y: (n,) standardised targets.
        noise: (n,) known noise variances of the targets.
        count: how many points to keep.

    Raises:
        numpy.linalg.LinAlgError: the covariance is not positive definite to working precision.
    """
    kept, phi = pivots(views, hyper, count)
    unexplained = np.maximum(hyper.signal - np.einsum("mn,mn->n", phi, phi), 0.0)
    variance = hyper.noise + noise + unexplained
    L_Z = np.tril(phi[:, kept].T)
    weighted = phi / variance
    G, b = weighted @ phi.T, weighted @ y
    known = linalg.cholesky(np.eye(len(kept)) + G, lower=True)
    theta = linalg.cho_solve((known, True), b)
    half = linalg.solve_triangular(known, phi, lower=True)
    left = np.maximum(1 - np.einsum("mn,mn->n", half, half) / variance, np.finfo(float).eps)
    told = linalg.cholesky(G, lower=True)
    C = linalg.cholesky(np.eye(len(kept)) + linalg.cho_solve((told, True), np.eye(len(kept))), lower=True)
    return Summary(
        kept=kept,
        L=L_Z @ C,
        beta=linalg.solve_triangular(C, linalg.cho_solve((told, True), b), lower=True),
        noise=linalg.solve_triangular(told, L_Z.T, lower=True).T,
        mean=y - (y - theta @ phi) / left,
        std=np.sqrt(variance / left),
    )


def pivots(views: tuple[Floats, ...], hyper: Hyperparameters, count: int) -> tuple[npt.NDArray[np.intp], Array]:
    """The points (m,) that explain most of all others, in the order of their choice, and φ = L_Z⁻¹ k(Z, X), (m, n)."""
    wide = tuple(np.asarray(view, dtype=np.float64) for view in views)
    n = len(wide[0])
    phi = np.empty((min(count, n), n))
    unexplained = np.full(n, hyper.signal)
    kept: list[int] = []
    while len(kept) < len(phi) and unexplained.max() > EXPLAINED * hyper.signal:
        m, i = len(kept), int(unexplained.argmax())
        row = covariance(tuple(view[i : i + 1] for view in wide), wide, hyper)[0] - phi[:m, i] @ phi[:m]
        row /= np.sqrt(unexplained[i])
        phi[m] = row
        unexplained -= row**2
        unexplained[i] = 0.0
        kept.append(i)
    return np.asarray(kept, dtype=np.intp), phi[: len(kept)]
