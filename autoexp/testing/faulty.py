"""An instrument that fails when told to: wraps any other one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

import numpy as np

from autoexp.errors import (
    AbortedError,
    DisconnectedError,
    FieldChangedError,
    FrameTimeoutError,
    InstrumentBusyError,
    InstrumentError,
)
from autoexp.instrument import Camera, CameraFrame, Identity, Instrument, Overview, PlanChecker, Position, Spectrum
from autoexp.plan import FrameSpec, OverviewSpec, SpectrumSpec
from autoexp.testing.virtual import spectrum_like

Fault = Literal[
    "silent", "raises", "disconnected", "stale", "wrong-shape", "nan", "saturated", "dark", "busy", "field-changed"
]
FAULTS: tuple[Fault, ...] = (
    "silent",
    "raises",
    "disconnected",
    "stale",
    "wrong-shape",
    "nan",
    "saturated",
    "dark",
    "busy",
    "field-changed",
)


class FaultyInstrument:
    """Hands everything on to another instrument, but for the faults that were armed.

    Faults of spectra are taken one a spectrum, in the order in which they were armed; ``busy`` and ``field-changed``
    show when the instrument is checked. Everything that was commanded is written down in ``commands``, so that a test
    can see what really reached the instrument.

    Args:
        instrument: the one that works.
    """

    def __init__(self, instrument: Instrument):
        self._instrument = instrument
        self._faults: deque[Fault | None] = deque()
        self._last: Spectrum | None = None
        self._cut = threading.Event()
        self.stuck: set[str] = set()
        self.close_problems: list[str] = []
        self.commands: list[tuple[str, object]] = []

    def arm(self, *faults: Fault | None) -> None:
        """Let these happen, one a spectrum; None is a spectrum without fault."""
        self._faults.extend(faults)

    def check_plan(self, overview: OverviewSpec, spectrum: SpectrumSpec) -> None:
        """As the instrument says, if it says anything."""
        if isinstance(self._instrument, PlanChecker):
            self._instrument.check_plan(overview, spectrum)

    @property
    def identity(self) -> Identity:
        """Which instrument it pretends to be."""
        return self._instrument.identity

    def open(self) -> None:
        """Take over."""
        self._cut.clear()
        self.commands.append(("open", None))
        self._instrument.open()

    def close(self) -> list[str]:
        """Give back; says what ``close_problems`` holds."""
        self.commands.append(("close", None))
        return [*self._instrument.close(), *self.close_problems]

    def check(self) -> None:
        """Fail if ``busy`` or ``field-changed`` is next."""
        self._instrument.check()
        if self._faults and self._faults[0] in ("busy", "field-changed"):
            fault = self._faults.popleft()
            if fault == "busy":
                raise InstrumentBusyError("Somebody else has started a scan. Stop it, then resume.")
            raise FieldChangedError("The scanned field was changed. Set it back, then resume.")

    def abort(self) -> None:
        """Cut short what is in flight, also a camera that never answers."""
        self.commands.append(("abort", None))
        self._cut.set()
        self._instrument.abort()

    def bind(self, spec: OverviewSpec) -> None:
        """Set the field."""
        self.commands.append(("bind", spec))
        self._instrument.bind(spec)

    def overview(self, spec: OverviewSpec) -> Overview:
        """Take an overview."""
        self.commands.append(("overview", spec))
        return self._instrument.overview(spec)

    def spectrum(self, position: Position, spec: SpectrumSpec) -> Spectrum:
        """Take a spectrum, or fail as armed."""
        self.commands.append(("spectrum", position))
        fault = self._faults.popleft() if self._faults else None
        if fault in _RAISES:
            raise _RAISES[fault]()
        spectrum = self._instrument.spectrum(position, spec)
        if fault == "silent":
            if self._cut.wait(0.05):
                raise AbortedError("The exposure was cut short.")
            raise FrameTimeoutError("No frame came within 0.05 s.")
        if fault == "stale" and self._last is not None:
            return self._last
        self._last = spectrum
        return spectrum_like(spectrum, _SPOILS[fault](spectrum.counts)) if fault in _SPOILS else spectrum

    def camera_frame(self, spec: FrameSpec) -> CameraFrame:
        """Take a frame of the camera, or fail as armed."""
        self.commands.append(("frame", spec))
        fault = self._faults.popleft() if self._faults else None
        if fault in _RAISES:
            raise _RAISES[fault]()
        assert isinstance(self._instrument, Camera)
        frame = self._instrument.camera_frame(spec)
        return CameraFrame(_SPOILS[fault](frame.image), frame.mrad_per_px) if fault in _SPOILS else frame

    def get(self, name: str) -> float:
        """The value of a control."""
        return self._instrument.get(name)

    def set(self, name: str, value: float) -> None:
        """Set a control; one that is ``stuck`` stays where it is and says nothing."""
        self.commands.append(("set", (name, value)))
        if name not in self.stuck:
            self._instrument.set(name, value)


_noise = np.random.default_rng(0)


def _with_nan(counts: np.ndarray) -> np.ndarray:
    spoilt = counts.copy()
    spoilt[len(counts) // 3] = np.nan
    return spoilt


_RAISES: dict[str | None, Callable[[], InstrumentError]] = {
    "raises": lambda: InstrumentError("The device failed: detector tripped."),
    "disconnected": lambda: DisconnectedError("The camera went away. Connect it again, then resume."),
}
_SPOILS: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    "wrong-shape": lambda counts: counts.reshape(2, -1),
    "nan": _with_nan,
    "saturated": lambda counts: np.full_like(counts, 1e12),
    "dark": lambda counts: _noise.normal(0, 3, counts.shape).astype(np.float32),
}
