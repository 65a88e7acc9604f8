"""What can go wrong, as a small tree; every message says what happened and what to do next."""

from __future__ import annotations


class AutoexpError(Exception):
    """Root of all errors that this package raises on purpose."""


class PlanError(AutoexpError):
    """A plan, a setting or a file is not usable; nothing has moved."""


class ScoreError(PlanError):
    """A scalarizer gives no numbers, whatever the spectrum."""


class RunLogError(AutoexpError):
    """A run folder cannot be read or written."""


class DiskError(RunLogError):
    """The disk refused a write, which may pass: nothing of it counts, and it may be tried again.

    Attributes:
        tries: how often this very write was tried.
    """

    tries = 1


class InstrumentError(AutoexpError):
    """The instrument did not do what it was asked to."""


class FrameTimeoutError(InstrumentError):
    """No frame came before the deadline."""


class DisconnectedError(InstrumentError):
    """A device went away."""


class AxisError(InstrumentError):
    """The axis of a spectrum is no energy, or is of no use; another spectrum would have the same."""


class BadFrameError(InstrumentError):
    """A frame came with the wrong shape or type."""


class StaleFrameError(InstrumentError):
    """A frame is older than the command that asked for it."""


class AbortedError(InstrumentError):
    """The exposure in flight was cut short on request."""


class FieldChangedError(InstrumentError):
    """The scanned field is no longer the one that the overview shows."""


class BeamLostError(InstrumentError):
    """There is no disk to be seen where there was one."""


class AlignmentError(InstrumentError):
    """The beam could not be aligned; the controls are where they were before."""


class InstrumentBusyError(InstrumentError):
    """Somebody else uses the instrument."""


class GuardianError(AutoexpError):
    """The guardian refused a command; nothing was sent."""


class LimitError(GuardianError):
    """A value lies outside a limit."""


class BudgetError(GuardianError):
    """The next exposure would exceed a budget."""


class GateClosedError(GuardianError):
    """The run was aborted or halted: no further command reaches the instrument."""


class ReadbackError(GuardianError):
    """A control does not read back as it was set."""


class AgentError(AutoexpError):
    """An agent gave an answer that cannot be used, or none in time."""


class MissingDependencyError(AutoexpError):
    """An optional library is not installed; the message holds the line that installs it."""
