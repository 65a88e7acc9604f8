"""Commands on their way to the engine: a bounded queue in which the last writer wins per parameter."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import get_args

from autoexp import events as ev

Command = ev.Verb | ev.Steering
URGENT: tuple[ev.Verb, ...] = ("halt", "abort", "stop", "pause")
"""Verbs that overtake whatever waits, the most urgent first."""
OPPOSITES: dict[Hashable, Hashable] = {("verb", "pause"): ("verb", "resume"), ("verb", "resume"): ("verb", "pause")}


class CommandQueue:
    """Holds what was asked for until the engine has time for it.

    A thousand clicks a second on one slider leave one command: a newer one of the same parameter replaces the older.
    An Undo stands between: what was asked for before it is not replaced by what comes after it, or it would take back
    something else than what the operator saw. Verbs always find room, and the urgent ones overtake the rest; of Pause
    and Resume the one that was given last counts.

    Args:
        capacity: steering commands on different parameters that may wait; more are refused.
    """

    def __init__(self, capacity: int = 256):
        self._capacity = capacity
        self._waiting: OrderedDict[Hashable, Command] = OrderedDict()
        self._arrived = threading.Condition()
        self._undos = 0

    def put(self, command: Command) -> bool:
        """Add a command; False if too many changes are waiting already, which never happens to a verb.

        Raises:
            ValueError: a text that is no verb.
        """
        if isinstance(command, str) and command not in get_args(ev.Verb):
            raise ValueError(f"There is no verb {command!r}.")
        with self._arrived:
            key = self._key(command)
            if not isinstance(command, str) and key not in self._waiting and self._changes() >= self._capacity:
                return False
            for replaced in (key, OPPOSITES.get(key)):
                self._waiting.pop(replaced, None)
            self._waiting[key] = command
            self._arrived.notify_all()
            return True

    def take(self, timeout_s: float = 0.0) -> Command | None:
        """The command that is next; None if none comes within the time."""
        with self._arrived:
            if not self._waiting and timeout_s > 0:
                self._arrived.wait(timeout_s)
            for verb in URGENT:
                if ("verb", verb) in self._waiting:
                    return self._waiting.pop(("verb", verb))
            return self._waiting.popitem(last=False)[1] if self._waiting else None

    def waits(self, *verbs: ev.Verb) -> bool:
        """Whether one of some verbs is waiting."""
        with self._arrived:
            return any(("verb", verb) in self._waiting for verb in verbs)

    def __len__(self) -> int:
        return len(self._waiting)

    def _changes(self) -> int:
        return sum(not isinstance(command, str) for command in self._waiting.values())

    def _key(self, command: Command) -> Hashable:
        match command:
            case str():
                return "verb", command
            case ev.AddRegion():
                return "region", command.region.id, self._undos
            case ev.RemoveRegion() | ev.MeasureHere():
                return command.kind, command.id, self._undos
            case ev.Undo():
                self._undos += 1
        return command.kind, self._undos
