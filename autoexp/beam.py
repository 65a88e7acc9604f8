"""Where the beam is while a run has the instrument: on the specimen, and at which place, or blanked; and what it costs.

Without a blanker in the site's limits the beam stays on the specimen between exposures, at the place measured last. All
time that it is there besides the exposures goes on the account.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoexp.account import Account
from autoexp.blanker import Blanker
from autoexp.errors import InstrumentError
from autoexp.gate import Gate
from autoexp.instrument import Instrument, Parker, Position
from autoexp.limits import BlankerLimits


@dataclass(frozen=True)
class BeamState:
    """Where the beam is.

    Attributes:
        on: whether it is on the specimen; None before the instrument was taken over.
        position: where the probe is parked, fractions of the overview; None where nobody knows.
        since_s: since when, by the guardian's clock.
    """

    on: bool | None = None
    position: Position | None = None
    since_s: float = 0.0


class Beam:
    """Puts the beam on the specimen for an exposure, and takes it off after.

    Args:
        instrument: whose beam.
        gate: what commands pass.
        limits: what blanks it; None: nothing does.
        account: where the time that the beam stands is counted.
        rest: waits, s.
        clock: monotonic seconds.

    Attributes:
        account: as above; may be replaced.
        state: where it is.
        trouble: why it may be on though it should be blanked, in words; empty if all is well.
    """

    def __init__(
        self,
        instrument: Instrument,
        gate: Gate,
        limits: BlankerLimits | None,
        account: Account,
        rest: Callable[[float], None],
        clock: Callable[[], float],
    ):
        self.account = account
        self.state = BeamState()
        self.trouble = ""
        self._instrument = instrument
        self._gate = gate
        self._blanker = Blanker(instrument, gate, limits, rest) if limits else None
        self._clock = clock

    def find(self) -> None:
        """Make sure that the blanker can be read; see :meth:`autoexp.blanker.Blanker.find`."""
        if self._blanker:
            self._blanker.find()

    def stand(self, position: Position | None = None) -> None:
        """From now on the beam is on the specimen."""
        now_s = self._clock()
        self.account.stand(now_s)
        if not self.state.on or self.state.position != position:
            self.state = BeamState(True, position, now_s)

    def put_on(self, position: Position | None) -> None:
        """Let the beam onto the specimen for an exposure, at the place where it will be wanted.

        Args:
            position: (y, x), fractions of the overview; None for an image.

        Raises:
            GateClosedError: the run was ended.
            InstrumentError: it is not there.
        """
        instrument = self._instrument
        if self._blanker and position is not None and isinstance(instrument, Parker):  # on its way nothing is exposed
            self._gate.send(lambda: instrument.park(position), "parking the probe")
        self.stand(position)  # from before the command, for the command may do more than is known
        if self._blanker:
            self._blanker.unblank()

    def take_off(self) -> None:
        """The exposure is over: blank the beam, where that can be done."""
        if self._blanker is None or self._gate.is_halted:
            return
        self.trouble = self._blanker.blank()
        if not self.trouble:
            now_s = self._clock()
            self.account.lift(now_s)
            if self.state.on is not False:
                self.state = BeamState(False, self.state.position, now_s)

    def require_off(self, advice: str) -> None:
        """Refuse to go on while the beam should be blanked and may not be.

        Raises:
            InstrumentError: why, with the advice.
        """
        if self.trouble:
            raise InstrumentError(f"{self.trouble[0].upper()}{self.trouble[1:]}. Look at the blanker{advice}.")

    def blank_now(self) -> None:
        """Blank it at once, from any thread, while something else may be in flight."""
        if self._blanker:
            self._blanker.blank_now()
