"""Commands on their way to the engine: a bounded queue in which the last writer wins per parameter."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from autoexp import events as ev

Command = ev.Verb | ev.Steering


class CommandQueue:
    """Holds what was asked for until the engine has time for it.

    A thousand clicks a second on one slider leave one command: a newer one of the same parameter replaces the older.

    Args:
        capacity: commands on different parameters that may wait; more are refused.
    """

    def __init__(self, capacity: int = 256):
        self._capacity = capacity
        self._waiting: OrderedDict[Hashable, Command] = OrderedDict()
        self._arrived = threading.Condition()
        self._undos = 0

    def put(self, command: Command) -> bool:
        """Add a command; False if too many are waiting already."""
        with self._arrived:
            key = self._key(command)
            if key not in self._waiting and len(self._waiting) >= self._capacity:
                return False
            self._waiting.pop(key, None)
            self._waiting[key] = command
            self._arrived.notify_all()
            return True

    def take(self, timeout_s: float = 0.0) -> Command | None:
        """The oldest waiting command; None if none comes within the time."""
        with self._arrived:
            if not self._waiting and timeout_s > 0:
                self._arrived.wait(timeout_s)
            return self._waiting.popitem(last=False)[1] if self._waiting else None

    def __len__(self) -> int:
        return len(self._waiting)

    def _key(self, command: Command) -> Hashable:
        match command:
            case str():
                return "verb", command
            case ev.AddRegion():
                return "region", command.region.id
            case ev.RemoveRegion() | ev.MeasureHere():
                return command.kind, command.id
            case ev.Undo():
                self._undos += 1
                return "undo", self._undos
        return command.kind
