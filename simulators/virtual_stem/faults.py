"""Faults that a test can inject into the virtual microscope's devices.

A hook is armed with :meth:`FaultHooks.arm` and acts a given number of times; with nothing armed the hooks only hand
on what they get.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Literal

import numpy as np

Kind = Literal["silent", "raises", "stale", "wrong_shape", "nan", "saturated", "dark", "stuck", "disconnected"]


class DeviceError(RuntimeError):
    """What a device of the virtual microscope raises when told to fail."""


class FaultHooks:
    """A queue of faults to come."""

    def __init__(self) -> None:
        self._armed: deque[tuple[Kind, int]] = deque()
        self._last: Any = None
        self.cancelled = threading.Event()

    def arm(self, kind: Kind, times: int = 1, after: int = 0) -> None:
        """Let ``kind`` happen ``times`` times, after ``after`` good ones."""
        self._armed.extend([("", 0)] * after)  # type: ignore[list-item]
        self._armed.extend([(kind, 0)] * times)

    def clear(self) -> None:
        """Nothing more is going to fail."""
        self._armed.clear()

    def next(self) -> str:
        """The fault for this turn, or an empty string."""
        return self._armed.popleft()[0] if self._armed else ""

    def on_camera_data(self, partial: Any) -> Any:
        """Pass camera data on, or spoil it. Called when a frame of a sequence has been read."""
        if not partial.is_complete:
            return partial
        fault = self.next()
        if fault in ("raises", "disconnected"):
            raise DeviceError("detector tripped" if fault == "raises" else "camera disconnected")
        if fault == "silent":
            self.cancelled.clear()
            while not self.cancelled.is_set():
                time.sleep(0.005)
            partial.is_canceled = True
            return partial
        data = partial.xdata.data
        if fault == "stale" and self._last is not None:
            data[:] = self._last
        elif fault == "nan":
            data[..., data.shape[-1] // 3] = np.nan
        elif fault == "saturated":
            data[:] = np.float32(6.0e6)
        elif fault == "dark":
            data[:] = 0
        self._last = np.array(data)
        return partial

    def on_set_control(self, name: str, value: float) -> float:
        """The value that a control really takes."""
        return value * 0.5 if self.next() == "stuck" else value
