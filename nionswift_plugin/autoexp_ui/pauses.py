"""What would make Swift's window stand still during a run, and how it is kept short.

Swift rewrites its whole project file, and waits for the disk, whenever an item, a group, a workspace or a graphic
changes: a millisecond as a rule, a tenth of a second and more when the disk is busy, and in proportion to the project.
Python's garbage collector stops all threads while it looks through everything that is alive, a quarter of a second in
a Swift with the libraries of an experiment.
"""

from __future__ import annotations

import contextlib
import gc
import typing
from collections.abc import Iterator


@contextlib.contextmanager
def written_once(project: typing.Any) -> Iterator[None]:
    """Whatever changes in here is written to the project file together, at the end."""
    before = project.modified_count
    project.enter_write_delay()
    try:
        yield
    finally:
        project.exit_write_delay()
        if project.modified_count != before:
            project.rewrite()


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
    """Sets aside what is alive at the beginning of a run, so that collections during it look at what is new only."""

    def __init__(self) -> None:
        self._set_aside = False

    def begin(self) -> None:
        """Set aside; once only, however often it is called."""
        if not self._set_aside:
            self._set_aside = True
            gc.freeze()

    def end(self) -> None:
        """Back to how it was."""
        if self._set_aside:
            self._set_aside = False
            gc.unfreeze()
