"""Threads: work beside the exposure, and linear algebra that keeps to one."""

from __future__ import annotations

import collections
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import threadpoolctl

T = TypeVar("T")
_lock = threading.Lock()
_limit = contextlib.ExitStack()
_users = 0


class Call(Generic[T]):
    """One call on a thread of its own; daemonic, since a call that hangs must not keep the program alive.

    Args:
        call: what to do.
        name: of its thread.
        start: False leaves it to somebody else to run it, as :class:`Worker` does.
    """

    def __init__(self, call: Callable[[], T], name: str = "", *, start: bool = True):
        self._call = call
        self._done = threading.Event()
        self._result: list[T] = []
        self._error: BaseException | None = None
        if start:
            threading.Thread(target=self.run, name=name, daemon=True).start()

    def run(self) -> None:
        """Do it, on this thread."""
        try:
            self._result.append(self._call())
        except BaseException as error:  # handed to whoever asks for the result
            self._error = _presentable(error)
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


def tamed(call: Callable[[], T]) -> Callable[[], T]:
    """A call of somebody's code, in which what would end the program, as ``SystemExit`` does, is a mere error."""

    def work() -> T:
        try:
            return call()
        except Exception:
            raise
        except BaseException as error:
            raise RuntimeError(f"it raised {type(error).__name__}") from error

    return work


def _presentable(error: BaseException) -> BaseException:
    """The error; another in its place where it cannot even say what it is."""
    try:
        str(error)
    except BaseException:  # a message that is somebody's code may raise anything
        return RuntimeError(f"{type(error).__name__}, which has no message that can be read")
    return error


class Worker:
    """Carries out calls one after the other, on a daemonic thread that is begun with the first of them.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str):
        self._name = name
        self._calls: queue.SimpleQueue[Call[Any] | None] | None = None
        self._changing = threading.Lock()

    def begin(self, call: Callable[[], T]) -> Call[T]:
        """Let something be done as soon as what came before it is done."""
        begun = Call(call, start=False)
        with self._changing:
            if self._calls is None:
                self._calls = queue.SimpleQueue()
                threading.Thread(target=_carry_out, args=(self._calls,), name=self._name, daemon=True).start()
            self._calls.put(begun)
        return begun

    def leave(self) -> None:
        """Let go of the thread, which ends with what it does now; the next call gets a new one."""
        with self._changing:
            calls, self._calls = self._calls, None
        if calls is not None:
            calls.put(None)


class InTurn:
    """Carries out calls one after the other, on a daemonic thread that lasts as long as there is something to do.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str):
        self._name = name
        self._calls: collections.deque[Call[Any]] = collections.deque()
        self._busy = False
        self._changing = threading.Lock()

    def begin(self, call: Callable[[], T]) -> Call[T]:
        """Let something be done as soon as what came before it is done."""
        begun = Call(call, start=False)
        with self._changing:
            self._calls.append(begun)
            if not self._busy:
                threading.Thread(target=self._carry_out, name=self._name, daemon=True).start()
                self._busy = True  # not where there is no thread to be had
        return begun

    def _carry_out(self) -> None:
        while (call := self._next()) is not None:
            call.run()

    def _next(self) -> Call[Any] | None:
        with self._changing:
            if self._calls:
                return self._calls.popleft()
            self._busy = False
            return None


def _carry_out(calls: queue.SimpleQueue[Call[Any] | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()
        del call  # what it returned is not kept until the next


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
