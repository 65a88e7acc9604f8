"""Linear algebra on one thread: for the small matrices of a decision, more of them only get in each other's way."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import threadpoolctl


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """While this lasts, BLAS uses one thread in the whole process.

    On two cores a refit of the model took 160 to 880 ms with two threads and 16 to 38 ms with one: Swift, the camera
    and the decision share the cores, and BLAS threads wait for each other spinning.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield
