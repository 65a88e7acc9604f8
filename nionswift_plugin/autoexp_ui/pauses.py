"""What would make Swift's window stand still during a run, and how it is kept short.

Swift rewrites its whole project file, and waits for the disk, whenever an item, a group, a workspace or a graphic
changes: a millisecond as a rule, a tenth of a second and more when the disk is busy, and in proportion to the project.
Each item that is drawn is drawn again on Swift's own threads, as a thumbnail and in lists, and they hold Python's
interpreter lock meanwhile. Python's garbage collector stops all threads while it looks through everything that is
alive, a quarter of a second in a Swift with the libraries of an experiment.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import typing
from collections.abc import Iterator

BREATH_S = 0.01


class ProjectFile:
    """Swift's project file, written once for several changes, and not in the same turn as they.

    Args:
        project: Swift's project.
    """

    def __init__(self, project: typing.Any):
        self._project = project
        self._held = False

    def hold(self) -> None:
        """Let the changes that follow wait; once only, however often it is called."""
        if not self._held:
            self._held = True
            self._project.enter_write_delay()

    def write(self) -> bool:
        """Write the changes that wait; whether there were any."""
        held, self._held = self._held, False
        if held:
            self._project.exit_write_delay()
            self._project.rewrite()
        return held


class HeldScan:
    """The scan's own data items, held back from the disk while a run moves the probe.

    Swift draws the probe as a graphic on the latest scan. During a run it moves with every spectrum, and where it was
    in between need not be remembered.

    Args:
        document_model: Swift's document.
        scan: the scan's hardware source.
    """

    def __init__(self, document_model: typing.Any, scan: typing.Any):
        self._document_model = document_model
        self._scan = scan
        self._transactions: dict[typing.Any, typing.Any] = {}

    def hold(self) -> None:
        """Hold what has come since the last time; called now and then."""
        for index in self._scan.get_enabled_channel_indexes():
            channel = self._scan.get_channel_id(index)
            reference = self._document_model.get_data_item_channel_reference(self._scan.hardware_source_id, channel)
            item = reference.data_item if reference else None
            if item is not None and item not in self._transactions:
                self._transactions[item] = self._document_model.item_transaction(item)

    def release(self) -> None:
        """Write what was held back."""
        while self._transactions:
            _item, transaction = self._transactions.popitem()
            transaction.close()


class QuietCollector:
    """Sets aside what is alive, so that collections during a run look only at what the run has made."""

    def __init__(self) -> None:
        self._phases: set[str] = set()

    def enter(self, phase: str) -> None:
        """Set aside what has come up to a phase of the run; once a phase, however often it is called."""
        if phase not in self._phases:
            self._phases.add(phase)
            gc.freeze()

    def end(self) -> None:
        """Back to how it was."""
        if self._phases:
            self._phases.clear()
            gc.unfreeze()


class Pace:
    """Leaves Swift time to take up one change before the next, however slow the machine.

    Args:
        share: how much of the time may go into changes.
    """

    def __init__(self, share: float = 0.3):
        self._factor = 1 / share - 1
        self._free_s = 0.0

    @property
    def rest_s(self) -> float:
        """How long to leave Swift alone from now, seconds."""
        return max(0.0, self._free_s - time.monotonic())

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Something is changed in here."""
        begun = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self._free_s = ended + self._factor * (ended - begun)

    async def through(self, steps: Iterator[None]) -> None:
        """Take steps one by one, with a rest before each."""
        more = True
        while more:
            await asyncio.sleep(max(BREATH_S, self.rest_s))
            with self.change():
                more = next(steps, self) is not self
