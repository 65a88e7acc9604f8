"""Waiting for the disk: a write that it refuses is tried again, with all that it holds kept in memory meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from autoexp.errors import DiskError

QUIETLY = 5
"""Tries before anybody is told."""
SOON_S = 0.02
AGAIN_S = 0.5


class DiskTrouble:
    """Decides whether a write that failed is tried again. Nothing is exposed as long as it is.

    Args:
        given_up: whether nobody waits for the disk any more; asked while it is waited for.
        show: shows why nothing goes on.

    Attributes:
        patience_s: how long one write is waited for; None for as long as it takes.
    """

    def __init__(self, given_up: Callable[[], bool], show: Callable[[str], None]):
        self.patience_s: float | None = QUIETLY * SOON_S / 2
        self._given_up = given_up
        self._show = show
        self._tries = 0
        self._since_s: float | None = None  # of the first failure that has not been told
        self._write_since_s = 0.0
        self._told = ""

    @property
    def waiting(self) -> bool:
        """Whether the disk is waited for, and has been for long enough to speak of it."""
        return self._tries > QUIETLY

    def wait(self, error: DiskError) -> bool:
        """Wait a little; whether to try again."""
        now_s = time.monotonic()
        self._since_s = now_s if self._since_s is None else self._since_s
        if error.tries == 1:
            self._write_since_s = now_s
        self._tries += 1
        self._told = str(error)
        if self.patience_s is not None and now_s - self._write_since_s >= self.patience_s:
            return False
        if error.tries <= QUIETLY:
            time.sleep(SOON_S)
            return not self._given_up()
        self._show(f"{self._told.rstrip('.')}. Nothing is exposed and all is kept until it can be written.")
        until_s = time.monotonic() + AGAIN_S
        while time.monotonic() < until_s:
            if self._given_up():
                return False
            time.sleep(SOON_S)
        return True

    def over(self) -> str:
        """What there was, in words, once it is over; empty if there was nothing to speak of."""
        since_s, tries, self._since_s, self._tries = self._since_s, self._tries, None, 0
        if since_s is None or tries <= QUIETLY:
            return ""
        return (
            f"The disk could not be written for {time.monotonic() - since_s:.0f} s ({self._told.rstrip('.')}). "
            "Nothing was lost."
        )
