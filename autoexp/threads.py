"""Threads: work beside the exposure, and linear algebra that keeps to one."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import threadpoolctl

T = TypeVar("T")
_lock = threading.Lock()
_limit = contextlib.ExitStack()
_users = 0


class Call(Generic[T]):
    """One call on a thread of its own; daemonic, since a call that hangs must not keep the program alive."""

    def __init__(self, call: Callable[[], T], name: str):
        self._call = call
        self._done = threading.Event()
        self._result: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        try:
            self._result.append(self._call())
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error
        finally:
            self._done.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether the call has ended, waiting at most so long."""
        return self._done.wait(timeout_s)

    def result(self) -> T:
        """What the call returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result[0]


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """While this lasts, on whichever threads at once, BLAS uses one thread in the whole process.

    On two cores a refit of the model took 160 to 880 ms with two threads and 16 to 38 ms with one: Swift, the camera
    and the decision share the cores, and BLAS threads wait for each other spinning.
    """
    global _users
    with _lock:
        if not _users:
            _limit.enter_context(_controller().limit(limits=1, user_api="blas"))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limit.close()
