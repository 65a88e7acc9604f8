"""The gate before an instrument: commands pass it while it is open, and nobody waits for one that never returns.

Commands are carried out on a thread of the instrument's own. So a device that hangs keeps neither the run nor whoever
wants to end it: an abort closes the gate, is told to the instrument, and gives what is in flight a second to end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from autoexp.errors import AutoexpError, FrameTimeoutError, GateClosedError, InstrumentError
from autoexp.threads import Call, Worker, tamed

T = TypeVar("T")
POLL_S = 0.02
COMMAND_S = 30.0
"""A command that exposes nothing has failed if it has not returned after so long."""
GRACE_S = 0.8
"""So long after an abort what is in flight may take to end."""
RETURN_S = 1.8
"""So long after an abort the instrument is given back, or what could not be is named."""


class Gate:
    """Lets commands through to one instrument, for one run.

    Attributes:
        heard_s: monotonic time at which something was last asked or heard.
    """

    def __init__(self) -> None:
        self._worker = Worker("autoexp-instrument")
        self._closed = threading.Event()
        self._halted = threading.Event()
        self._ending = False
        self._ended = False
        self._hung = False
        self._closed_s = 0.0
        self._due_s: float | None = None
        self._left: list[tuple[Call[Any], str, bool]] = []
        self.heard_s = time.monotonic()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is to reach the instrument but what restores it."""
        return self._closed.is_set()

    @property
    def is_halted(self) -> bool:
        """Whether nothing more is to reach the instrument at all."""
        return self._halted.is_set()

    @property
    def closed_for_s(self) -> float:
        """For how long it has been closed; 0 while it is open."""
        return time.monotonic() - self._closed_s if self.is_closed else 0.0

    @property
    def late(self) -> bool:
        """Whether a command has been in flight for longer than it may take."""
        due_s = self._due_s
        return due_s is not None and time.monotonic() > due_s

    @property
    def busy(self) -> bool:
        """Whether a command is in flight."""
        return self._due_s is not None

    def close(self) -> None:
        """From here on only what restores the instrument passes. Callable from any thread."""
        if not self._closed.is_set():
            self._closed_s = time.monotonic()
            self._closed.set()

    def halt(self) -> None:
        """From here on nothing passes. Callable from any thread."""
        self._halted.set()
        self.close()

    def begin_end(self) -> None:
        """From here on only what restores the instrument passes, however long it takes: it is about to be given back.

        Whoever was waiting for something else meanwhile, a disk for example, comes too late.
        """
        self._ending = True

    def end(self) -> None:
        """From here on nothing passes: the instrument is given back. Lets go of its thread."""
        self._ending = self._ended = True
        self._worker.leave()

    def left_behind(self, moves: bool) -> list[str]:
        """Commands, in words, for which nobody waits any more and that have not returned: they may still act.

        Args:
            moves: True for those that move something, False for all others.
        """
        return [what for call, what, moved in self._left if moved == moves and not call.wait(0)]

    def require(self) -> None:
        """Refuse once it is closed, or the instrument is being given back.

        Raises:
            GateClosedError: it is.
        """
        if self.is_closed:
            raise GateClosedError("The run was aborted; no further command is sent.")
        if self._ending:
            raise GateClosedError("The instrument was given back; no further command is sent.")

    def time_left_s(self, wanted_s: float) -> float:
        """So much of a wait, for something that restores the instrument, there is time for after an abort."""
        return max(0.0, min(wanted_s, RETURN_S - self.closed_for_s)) if self.is_closed else wanted_s

    def send(self, command: Callable[[], T], what: str, expected_s: float = 0.0, *, moves: bool = False) -> T:
        """Carry a command out, and wait for what comes of it.

        Args:
            command: what to do with the instrument.
            what: the same in words, for messages.
            expected_s: how long it takes if all is well.
            moves: whether it moves a control.

        Raises:
            GateClosedError: the gate is closed, or was closed meanwhile and the instrument does not answer.
            FrameTimeoutError: it has not returned long after it should have.
        """
        self.require()
        call = self._begin(command, expected_s)
        try:
            while not call.wait(POLL_S):
                if self.closed_for_s > GRACE_S or self.is_halted:
                    self._leave(call, what, moves)
                    raise GateClosedError(f"The run was ended; {what} had not returned.")
                if self.late:
                    self._leave(call, what, moves)
                    raise FrameTimeoutError(f"The instrument did not return from {what}; does it still answer?")
        finally:
            self._due_s = None
            self.heard_s = time.monotonic()
        try:
            return call.result()
        except AutoexpError:
            raise
        except Exception as error:  # a device raises what it likes
            raise InstrumentError(f"The device failed in {what}: {error or type(error).__name__}.") from error

    def send_back(self, command: Callable[[], T], what: str, *, last: bool = False) -> T:
        """Carry out a command that restores the instrument; it passes a closed gate, but not after a halt.

        Args:
            command: what to do with the instrument.
            what: the same in words, for messages.
            last: whether all of the time that is left after an abort is for this one; else there are others.

        Raises:
            GateClosedError: all was halted, or the instrument is given back already.
            InstrumentError: it has not returned in time, or others before it have not and there is no time left.
        """
        if self.is_halted:
            raise GateClosedError("all was halted")
        if self._ended:
            raise GateClosedError("the instrument was given back")
        left_s = RETURN_S - self.closed_for_s if self.is_closed else 2 * COMMAND_S
        if self._hung and self.is_closed and left_s <= 0 and not last:
            raise InstrumentError("the instrument does not answer")
        call, begun_s = self._begin(command, 0.0), time.monotonic()
        try:
            while not call.wait(POLL_S):
                if self.is_halted:
                    raise GateClosedError("all was halted")
                if time.monotonic() > self._until_s(begun_s, last):
                    self._hung = True
                    raise InstrumentError(f"{what} had not returned after {time.monotonic() - begun_s:.1f} s")
        except (GateClosedError, InstrumentError):
            self._leave(call, what, moves=False)  # who asked says so
            raise
        finally:
            self._due_s = None
            self.heard_s = time.monotonic()
        return call.result()

    def _until_s(self, begun_s: float, last: bool) -> float:
        """Until when to wait for a command that restores the instrument; an abort meanwhile shortens that."""
        if not self.is_closed:
            return begun_s + COMMAND_S
        hurried_s = max(begun_s, self._closed_s)
        left_s = self._closed_s + RETURN_S - hurried_s
        return hurried_s + min(COMMAND_S, max(0.1, left_s if last else left_s / 2))

    def _leave(self, call: Call[Any], what: str, moves: bool) -> None:
        """Wait for a command no longer; what it does afterwards is not under control."""
        self._worker.leave()
        self._left.append((call, what, moves))

    def _begin(self, command: Callable[[], T], expected_s: float) -> Call[T]:
        self.heard_s = time.monotonic()
        self._due_s = self.heard_s + COMMAND_S + 1.5 * expected_s
        return self._worker.begin(tamed(command))
