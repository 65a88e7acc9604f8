"""Whoever watches a run: told of every event in turn, and left behind if that fails or takes too long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from autoexp import events as ev
from autoexp.state import RunState
from autoexp.threads import Worker, tamed

Observer = Callable[[ev.Record, RunState], None]
PATIENCE_S = 5.0
HURRIED_S = 0.5
POLL_S = 0.02
log = logging.getLogger(__name__)


class Observers:
    """Tells observers, on a thread of its own, so that one that hangs does not keep the run.

    Args:
        observers: called after every event; one that raises, or does not return in time, is dropped.
        hurried: whether there is no more time to wait for anybody.
    """

    def __init__(self, observers: Iterable[Observer], hurried: Callable[[], bool] = lambda: False):
        self._observers = list(observers)
        self._hurried = hurried
        self._worker = Worker("autoexp-observers")

    def tell(self, record: ev.Record, state: RunState) -> None:
        """Tell everybody of an event, and wait until they know."""
        for observer in list(self._observers):
            try:
                self._tell(observer, record, state)
            except Exception:
                self._observers.remove(observer)
                log.exception("An observer of the run failed and is no longer told.")

    def append(self, observer: Observer) -> None:
        """From now on tell one more."""
        self._observers.append(observer)

    def close(self) -> None:
        """Nobody is told any more."""
        self._observers.clear()
        self._worker.leave()

    def _tell(self, observer: Observer, record: ev.Record, state: RunState) -> None:
        call = self._worker.begin(tamed(lambda: observer(record, state)))
        until_s = time.monotonic() + PATIENCE_S
        while not call.wait(POLL_S):
            if time.monotonic() > until_s or (self._hurried() and not call.wait(HURRIED_S)):
                self._worker.leave()
                raise TimeoutError("It has not returned.")
        call.result()
