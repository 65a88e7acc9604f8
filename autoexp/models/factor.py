"""The large part of the posterior, V = L⁻¹ K(X, C): a row for each measured point, a column for each candidate.

It lives in the memory of the processor, or of a GPU where one is found and there are enough candidates to be worth the
way there and back. All that is left in the posterior itself is of the size of the measured points, or one number for
each candidate.

V may be kept in single precision, but is computed, and summed over, in double precision or nearly so. What is lost in a
sum over many rows is divided by the next pivot, and goes on from row to row: after 1,900 points the error of a map was
2.7 times what it should have been.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from autoexp.models.kernel import Array, Floats, Hyperparameters, covariance

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

BLOCK = 2**17
"""Kernel values computed at once by a processor: about what its own cache holds."""
AT_ONCE = 8
"""Rows of V that are summed up in its own precision, before that goes into a sum in double precision."""
GPU_BLOCK = 2**25
"""Kernel values computed at once by a GPU, several times over while the views are added up: a gigabyte or two."""
TALL = 512
"""Rows of L⁻¹ in one product: what lies above its diagonal is zero, and from twice as many rows on not multiplied."""
GPU_FROM = 50_000
"""Candidates from which a GPU is used: below, a processor is done in a few milliseconds."""
GPU_SHARE = 0.5
"""Of the GPU's free memory that V may take at first; it grows, and another is made before this one goes."""

Rows = Sequence[int] | npt.NDArray[np.intp]


class Factor(Protocol):
    """V, (n, N), of which the caller knows n. A direction is for the factor that made it."""

    def condition(self, rows: Rows, inverse: Array, beta: Array) -> tuple[Array, Array]:
        """Fill the first n rows with L⁻¹ K(X, C).

        Args:
            rows: (n,) which candidates were measured.
            inverse: (n, n) L⁻¹, lower triangular.
            beta: (n,) L⁻¹ y.

        Returns:
            Vᵀ β and Σ V² over the measured points, each (N,) float64.
        """
        ...

    def direction(self, n: int, row: int, weights: Array) -> Any:
        """k(x, C) - weights V, (N,): what a measurement of a candidate has in common with all, n being known.

        Raises:
            RuntimeError: a GPU is full or has failed, as torch calls it.
        """
        ...

    def append(self, n: int, direction: Any, pivot: float) -> Array:
        """Row n becomes a direction over the pivot; returned as (N,) float64.

        Raises:
            RuntimeError: a GPU is full or has failed, as torch calls it.
        """
        ...

    def columns(self, n: int, columns: Rows) -> Floats:
        """The first n rows of some columns, (n, m)."""
        ...


def factor(views: tuple[Floats, ...], hyper: Hyperparameters, count: int, dtype: npt.DTypeLike) -> Factor:
    """Room for about ``count`` measured points, on a GPU if one is there, has room, and is worth it."""
    if len(views[0]) >= GPU_FROM and has_gpu():
        try:
            return TorchFactor(views, hyper, count, dtype, "cuda")
        except (MemoryError, ImportError, RuntimeError) as error:
            log.info("The posterior stays on the processor: %s", error)
    return HostFactor(views, hyper, count, dtype)


@cache
def has_gpu() -> bool:
    """Whether a GPU can be used. Where there is no driver torch is not even imported, which takes a second."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        import torch
    except (OSError, ImportError):
        return False
    return bool(torch.cuda.is_available())


def room_for(count: int) -> int:
    """Rows to make room for: a quarter more than there are, so that a copy is rare."""
    return count + max(16, count // 4)


class HostFactor:
    """V in plain arrays. Rows that are not used yet take no memory.

    Args:
        views: (N, d_v) of all candidates, one array for each view.
        hyper: hyperparameters.
        count: measured points to make room for.
        dtype: of V.
    """

    def __init__(self, views: tuple[Floats, ...], hyper: Hyperparameters, count: int, dtype: npt.DTypeLike):
        self._views = views
        self._hyper = hyper
        self._V = np.empty((room_for(count), len(views[0])), dtype)

    def condition(self, rows: Rows, inverse: Array, beta: Array) -> tuple[Array, Array]:
        n, total = len(rows), self._V.shape[1]
        mean, explained = np.zeros(total), np.zeros(total)
        for part in _blocks(total, n, BLOCK):
            kernel = self._kernel(rows, part)
            V = np.empty_like(kernel)
            for top in range(0, n, TALL):
                below = min(top + TALL, n)
                np.matmul(inverse[top:below, :below], kernel[:below], out=V[top:below])
            mean[part] = beta @ V
            explained[part] = np.einsum("nc,nc->c", V, V)
            self._V[:n, part] = V
        return mean, explained

    def direction(self, n: int, row: int, weights: Array) -> Any:
        found = np.empty(self._V.shape[1])
        weights = weights.astype(self._V.dtype)
        for part in _blocks(len(found), 1, BLOCK):
            left = self._kernel([row], part)[0]
            for top in range(0, n, AT_ONCE):
                some = slice(top, min(top + AT_ONCE, n))
                left -= weights[some] @ self._V[some, part]
            found[part] = left
        return found

    def append(self, n: int, direction: Any, pivot: float) -> Array:
        if n == len(self._V):
            larger = np.empty((room_for(n + 1), self._V.shape[1]), self._V.dtype)
            larger[:n] = self._V
            self._V = larger
        v = np.asarray(direction / pivot)
        self._V[n] = v
        return v

    def columns(self, n: int, columns: Rows) -> Floats:
        return np.asarray(self._V[:n, columns])

    def _kernel(self, rows: Rows, part: slice) -> Floats:
        """k(x, c) between measured points and a block of candidates."""
        X = tuple(np.asarray(view[rows], dtype=np.float64) for view in self._views)
        return covariance(X, tuple(np.asarray(view[part], dtype=np.float64) for view in self._views), self._hyper)


class TorchFactor:
    """V on a torch device; otherwise as :class:`HostFactor`, which it equals to rounding.

    Raises:
        MemoryError: the device has not enough free memory.
    """

    def __init__(
        self, views: tuple[Floats, ...], hyper: Hyperparameters, count: int, dtype: npt.DTypeLike, device: str
    ):
        import torch

        self._torch = torch
        self._dtype = np.dtype(dtype)
        self._device = torch.device(device)
        self._hyper = hyper
        size = room_for(count) * len(views[0]) * self._dtype.itemsize
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            if size > GPU_SHARE * free:
                raise MemoryError(f"{size / 1e9:.1f} GB are needed on the GPU, and {free / 1e9:.1f} GB are free there")
        self._views = tuple(self._put(view) for view in views)
        self._V = self._empty(room_for(count))

    def condition(self, rows: Rows, inverse: Array, beta: Array) -> tuple[Array, Array]:
        n, total = len(rows), self._V.shape[1]
        mean, explained = np.zeros(total), np.zeros(total)
        on_device = self._put(inverse, np.float64), self._put(beta, np.float64)
        for part in _blocks(total, n, GPU_BLOCK):
            V = on_device[0] @ self._kernel(rows, part)
            self._V[:n, part] = V
            mean[part] = (on_device[1] @ V).cpu().numpy()
            explained[part] = (V * V).sum(0).cpu().numpy()
        return mean, explained

    def direction(self, n: int, row: int, weights: Array) -> Any:
        found = self._torch.empty(self._V.shape[1], dtype=self._torch.float64, device=self._device)
        on_device = self._put(weights, np.float64)
        for part in _blocks(len(found), n, GPU_BLOCK):
            found[part] = self._kernel([row], part)[0] - on_device @ self._V[:n, part].double()
        return found

    def append(self, n: int, direction: Any, pivot: float) -> Array:
        if n == len(self._V):
            larger = self._empty(room_for(n + 1))
            larger[:n] = self._V
            self._V = larger
        v = direction / pivot
        self._V[n] = v
        return np.asarray(v.cpu().numpy())

    def columns(self, n: int, columns: Rows) -> Floats:
        return np.asarray(self._V[:n][:, self._torch.as_tensor(columns, device=self._device)].cpu().numpy())

    def _kernel(self, rows: Rows, part: slice) -> torch.Tensor:
        """The covariance of ``autoexp.models.kernel``, on the device."""
        at = self._torch.as_tensor(np.asarray(rows, dtype=np.int64), device=self._device)
        total = self._torch.zeros(len(rows), part.stop - part.start, dtype=self._torch.float64, device=self._device)
        for view, variance, length in zip(self._views, self._hyper.variance, self._hyper.length, strict=True):
            x, c = view[at].double(), view[part].double()
            squared = ((x * x).sum(1)[:, None] + (c * c).sum(1)[None]).addmm_(x, c.T, alpha=-2).clamp_(min=0)
            t = squared.mul_(5 / float(length) ** 2).sqrt_()
            total += float(variance) * (1 + t + t * t / 3) * (-t).exp()
        return total

    def _put(self, array: npt.NDArray[Any], dtype: npt.DTypeLike | None = None) -> torch.Tensor:
        return self._torch.from_numpy(np.array(array, dtype=dtype or self._dtype)).to(self._device)

    def _empty(self, rows: int) -> torch.Tensor:
        return self._torch.empty((rows, len(self._views[0])), dtype=self._views[0].dtype, device=self._device)


def _blocks(total: int, n: int, values: int) -> Iterator[slice]:
    """Blocks of candidates for which about so many (n, block) kernel values are computed at once."""
    step = max(1024, values // max(n, 1))
    return (slice(start, min(start + step, total)) for start in range(0, total, step))
