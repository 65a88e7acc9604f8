"""Faults that a test can inject into the virtual microscope's devices.

Each device has :class:`Faults` of its own, with the kinds that it can show. ``arm`` queues them; each frame, or each
setting of a control, then takes its turn from the queue. With nothing armed a device just works.
"""

from __future__ import annotations

import enum
import threading
from collections import deque

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.float32]


class DeviceError(RuntimeError):
    """What a device of the virtual microscope raises when it was told to fail."""


class Fault(enum.StrEnum):
    """What can go wrong.

    ``SILENT``: no frame comes until the acquisition is cancelled. ``RAISES``, ``DISCONNECTED``: the device raises
    :class:`DeviceError` instead. ``STALE``: the last frame comes again. ``WRONG_SHAPE``: the frame lacks its last
    channel or column. ``NAN``, ``SATURATED``, ``DARK``: what the frame holds. ``STUCK``: a control accepts a value and
    stays where it is.
    """

    SILENT = "silent"
    RAISES = "raises"
    DISCONNECTED = "disconnected"
    STALE = "stale"
    WRONG_SHAPE = "wrong_shape"
    NAN = "nan"
    SATURATED = "saturated"
    DARK = "dark"
    STUCK = "stuck"


FRAME_FAULTS = frozenset(Fault) - {Fault.STUCK}
CONTROL_FAULTS = frozenset({Fault.STUCK, Fault.RAISES, Fault.DISCONNECTED})


class Faults:
    """A queue of faults to come, for one device; may be armed from any thread.

    Args:
        device: its name, for messages.
        kinds: what it can show.
    """

    def __init__(self, device: str, kinds: frozenset[Fault]):
        self._device = device
        self._kinds = kinds
        self._turns: deque[Fault | None] = deque()
        self._lasting: Fault | None = None
        self._lock = threading.Lock()

    def arm(self, fault: Fault | str, times: int | None = 1, after: int = 0) -> None:
        """Let ``fault`` happen ``times`` times, after ``after`` good turns; for good, until cleared, if None.

        Raises:
            ValueError: there is no such fault, or this device cannot show it.
        """
        kind = Fault(fault)
        if kind not in self._kinds:
            known = ", ".join(sorted(self._kinds))
            raise ValueError(f"The {self._device} cannot be {kind!s}; it can be: {known}.")
        with self._lock:
            self._turns.extend([None] * after)
            if times is None:
                self._lasting = kind
            else:
                self._turns.extend([kind] * times)

    def clear(self) -> None:
        """Nothing more is going to fail."""
        with self._lock:
            self._turns.clear()
            self._lasting = None

    def take(self) -> Fault | None:
        """The fault of this turn, if there is one.

        Raises:
            DeviceError: it is one that raises.
        """
        with self._lock:
            fault = self._turns.popleft() if self._turns else self._lasting
        if fault is Fault.RAISES:
            raise DeviceError(f"The {self._device} failed, as it was told to.")
        if fault is Fault.DISCONNECTED:
            raise DeviceError(f"The {self._device} is disconnected.")
        return fault


class Spoiler:
    """Spoils what the frames of one device hold; remembers the last one, which a stale frame repeats.

    Args:
        full_counts: what a saturated pixel holds.
        noise_counts: standard deviation of a pixel of a dark frame.
    """

    def __init__(self, full_counts: float, noise_counts: float):
        self._full_counts = full_counts
        self._noise_counts = noise_counts
        self._rng = np.random.default_rng(0)
        self._last: Frame | None = None

    def spoil(self, frame: Frame, fault: Fault | None) -> Frame:
        """The frame (..., E) as the fault leaves it; its shape is not touched."""
        if fault is Fault.STALE and self._last is not None and self._last.shape == frame.shape:
            return self._last.copy()
        if fault is Fault.NAN:
            frame = frame.copy()
            frame[..., frame.shape[-1] // 3] = np.nan
        elif fault is Fault.SATURATED:
            frame = np.full_like(frame, self._full_counts)
        elif fault is Fault.DARK:
            frame = self._rng.standard_normal(frame.shape, np.float32) * np.float32(self._noise_counts)
        self._last = frame
        return frame
