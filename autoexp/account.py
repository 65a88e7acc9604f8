"""The account of a run: electrons into the specimen, exposures, time, and how long the beam stood there between."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from autoexp.plan import ELECTRONS_PER_PICOAMPERE_SECOND

LONGER = 1.1
"""A device that says to have exposed by more than this factor longer than it was asked to has not done as asked."""


@dataclass(frozen=True)
class Exposure:
    """One exposure that is about to begin.

    Attributes:
        what: "overview", "drift", "frame" or "spectrum".
        exposure_s: how long it is to last.
        dose_e: electrons that it is to put into the specimen; 0 where the beam current is not known.
        stood_s: how long the beam has stood on the specimen since the exposure before.
    """

    what: str
    exposure_s: float
    dose_e: float
    stood_s: float


@dataclass
class Account:
    """What a run has spent.

    Attributes:
        current_pA: beam current; None where it is not known.
        dose_e: electrons into the specimen by exposures.
        exposures: spectra exposed.
        begun_s: clock at the beginning.
        last_e: electrons of the latest exposure.
        stood_s: how long the beam has stood on the specimen besides the exposures, in all, as far as it was told.
    """

    current_pA: float | None = None
    dose_e: float = 0.0
    exposures: int = 0
    begun_s: float = 0.0
    last_e: float = 0.0
    stood_s: float = 0.0
    _standing_since: float | None = field(default=None, repr=False)
    _untold_s: float = field(default=0.0, repr=False)

    def dose_of(self, exposure_s: float) -> float:
        """Electrons of an exposure; zero where the current is not known."""
        return exposure_s * (self.current_pA or 0.0) * ELECTRONS_PER_PICOAMPERE_SECOND

    def pay(self, exposure_s: float) -> None:
        """An exposure begins."""
        self.last_e = self.dose_of(exposure_s)
        self.dose_e += self.last_e

    def settle(self, asked_s: float, told_s: float | None) -> None:
        """The exposure is over: if the device tells of a longer one than it was asked for, that is what it took."""
        if told_s is not None and math.isfinite(told_s) and told_s > asked_s:
            more = self.dose_of(told_s - asked_s)
            self.last_e += more
            self.dose_e += more

    def stand(self, now_s: float) -> None:
        """From now on the beam is on the specimen; nothing changes if it was."""
        if self._standing_since is None:
            self._standing_since = now_s

    def exposed(self, exposure_s: float, now_s: float) -> None:
        """So much of the time since :meth:`moved_on`, until now, was an exposure, which is paid for."""
        self._catch_up(now_s)
        self._untold_s = max(0.0, self._untold_s - exposure_s)

    def lift(self, now_s: float) -> None:
        """From now on the beam is off the specimen."""
        self._catch_up(now_s)
        self._standing_since = None

    def untold_s(self, now_s: float) -> float:
        """How long the beam has stood on the specimen since :meth:`moved_on`, seconds."""
        return self._untold_s + (0.0 if self._standing_since is None else max(0.0, now_s - self._standing_since))

    def stood_e(self, now_s: float) -> float:
        """Electrons into the specimen besides the exposures; zero where the current is not known."""
        return self.dose_of(self.stood_s + self.untold_s(now_s))

    def moved_on(self, now_s: float) -> float:
        """How long it stood there until now, seconds; what it stands from now on is told the next time."""
        self._catch_up(now_s)
        stood_s, self._untold_s = self._untold_s, 0.0
        self.stood_s += stood_s
        return stood_s

    def _catch_up(self, now_s: float) -> None:
        """Take in how long it has stood until now."""
        self._untold_s = self.untold_s(now_s)
        if self._standing_since is not None:
            self._standing_since = max(now_s, self._standing_since)


def usable_current(*currents_pA: object) -> float | None:
    """The first of some beam currents that is a finite number above zero; None if none is.

    Only such a current counts electrons: with any other a limit on the dose would be accepted and never reached.
    """
    return next((c for current in currents_pA if (c := _positive(current)) is not None), None)


def _positive(current: object) -> float | None:
    """A number of any kind, numpy's too, as a float above zero; None if it is none."""
    if current is None or isinstance(current, bool | str | bytes) or (isinstance(current, np.ndarray) and current.ndim):
        return None
    try:
        number = float(current)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
