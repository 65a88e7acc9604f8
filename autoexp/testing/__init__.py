"""For whoever writes an agent or an instrument: checks of both borders, and instruments to try things on."""

from autoexp.testing.checks import check_agent, check_instrument
from autoexp.testing.faulty import FaultyInstrument
from autoexp.testing.virtual import DirectInstrument

__all__ = ["DirectInstrument", "FaultyInstrument", "check_agent", "check_instrument"]
