"""The beam blanker: what keeps the beam off the specimen while nothing is measured, where the site's limits name it."""

from __future__ import annotations

import time
from collections.abc import Callable

from autoexp.controls import read_control, reads_as
from autoexp.errors import ReadbackError
from autoexp.gate import Gate
from autoexp.instrument import Instrument
from autoexp.limits import BlankerLimits

READS = 3
"""So often the control is read until it tells what it was set to."""
REST_S = 0.005
"""Between two of them."""


class Blanker:
    """Blanks and unblanks the beam, and confirms it by reading back.

    Args:
        instrument: whose beam.
        gate: what commands pass.
        limits: which control, and its two values.
        rest: waits, s.
    """

    def __init__(self, instrument: Instrument, gate: Gate, limits: BlankerLimits, rest: Callable[[float], None]):
        self._instrument = instrument
        self._gate = gate
        self._limits = limits
        self._rest = rest

    def find(self) -> None:
        """Make sure that the control is there and can be read, before anything is taken over.

        Raises:
            InstrumentError: it is not, or tells no number.
        """
        self._gate.send(self._read, f"reading {self._limits.control}")

    def unblank(self) -> None:
        """Let the beam onto the specimen, and wait until it stands still.

        Raises:
            GateClosedError: the run was ended.
            InstrumentError: the control cannot be set, or does not read as it was set.
        """
        name, value = self._limits.control, self._limits.unblanked
        self._gate.send(lambda: self._instrument.set(name, value), "unblanking the beam")
        if not self._reads(value, lambda: self._gate.send(self._read, f"reading {name}")):
            raise ReadbackError(f"The beam could not be unblanked: {name} was set to {value:g} and reads otherwise.")
        self._rest(self._limits.settle_s)

    def blank(self) -> str:
        """Take the beam off the specimen, also behind a closed gate; why it could not be, in words, else empty."""
        name, value = self._limits.control, self._limits.blanked
        try:
            self._gate.send_back(lambda: self._instrument.set(name, value), "blanking the beam")
            if self._reads(value, lambda: self._gate.send_back(self._read, f"reading {name}")):
                return ""
            return f"the beam may not be blanked: {name} was set to {value:g} and reads otherwise"
        except Exception as error:  # a device raises what it likes; whoever blanks goes on to the next thing
            return f"the beam may not be blanked: {str(error).rstrip('.') or type(error).__name__}"

    def blank_now(self) -> None:
        """Send the command alone, past the gate and without waiting for what it reads: for an abort, at once."""
        self._instrument.set(self._limits.control, self._limits.blanked)

    def _reads(self, value: float, read: Callable[[], float]) -> bool:
        for again in range(READS):
            if again:
                time.sleep(REST_S)
            if reads_as(read(), value, self._limits.readback_tolerance):
                return True
        return False

    def _read(self) -> float:
        return read_control(self._instrument, self._limits.control)
