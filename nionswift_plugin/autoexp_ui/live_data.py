"""A run's results as ordinary Swift data, while it goes on: grouped, calibrated, and fluid.

Swift writes to disk whenever an item changes, which takes tens of milliseconds, and a window must not stand still that
long. So one item is drawn at a time, each no oftener than it needs, and is written once, at the end: whatever happens
until then, it can be made again from the run's own folder. Only a large stack of spectra is written as it grows.
Everything here runs on the user-interface thread; an item that the user deletes is simply not drawn any more.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Callable, Iterator

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.swift.model import DataGroup, DataItem, DisplayItem

from autoexp.agent import Prediction
from autoexp.instrument import Overview
from autoexp.state import RunState
from nionswift_plugin.autoexp_ui.pauses import ProjectFile
from nionswift_plugin.autoexp_ui.translation import translate as _


class View(typing.NamedTuple):
    """What there is to show."""

    state: RunState
    prediction: Prediction | None


class LiveItem(typing.Protocol):
    """One thing to show, in one data item or two."""

    interval_s: float

    def stale(self, view: View) -> bool:
        """Whether there is something new to draw."""
        ...

    def draw(self, view: View) -> None:
        """Draw it, quickly."""
        ...

    @property
    def busy(self) -> bool:
        """Whether something is being computed that is still to be drawn."""
        return False

    def close(self) -> None:
        """Nothing more is drawn; end what is done beside."""
        return


class LiveData:
    """The data items of one run.

    Args:
        document_controller: Swift's window.
        title: name of the run, in the items' titles.
        simulated: whether the run is a simulation; said in every title and in the metadata.
        folder: the run's folder.
        parts: makes what is shown, each part given these live data.

    Attributes:
        project_file: for whoever changes what is in Swift's project; written with one of the next updates.
        arranged: whether the workspace for the results has been opened.
        placed: keys of the items that have been given their place in it.
    """

    def __init__(
        self,
        document_controller: typing.Any,
        title: str,
        simulated: bool,
        folder: typing.Any,
        parts: Callable[[LiveData], list[LiveItem]],
    ):
        self.document_model = document_controller.document_model
        self._project = document_controller.project
        self.project_file = ProjectFile(self._project)
        self.folder = folder
        self.arranged = False
        self.placed: set[str] = set()
        self._title = title + (_(" (SIMULATED)") if simulated else "")
        self._simulated = simulated
        self._group: typing.Any = None
        self._items: dict[str, typing.Any] = {}
        self._transactions: dict[str, typing.Any] = {}
        self._released: set[str] = set()
        self._begun_s = time.monotonic()
        self._drawn_s: dict[LiveItem, float] = {}
        self._steps: list[Callable[[], None]] = []
        self._parts = parts(self)

    def shown(self, key: str) -> bool:
        """Whether there is, or was, a data item of that key."""
        return key in self._items

    def item(self, key: str) -> typing.Any:
        """The data item of that key, or None if there is none (any more)."""
        item = self._items.get(key)
        return item if item is not None and item in self.document_model.data_items else None

    def display_item(self, key: str) -> typing.Any:
        """The display item of that key, or None."""
        item = self.item(key)
        return self.document_model.get_display_item_for_data_item(item) if item is not None else None

    def update(self, state: RunState, prediction: Prediction | None, hurry: bool = False) -> bool:
        """Draw what is most overdue, if anything is; whether something was drawn.

        Args:
            state: the run so far.
            prediction: the model's latest prediction.
            hurry: draw whatever is stale, due or not.
        """
        if state.prepared is None:
            return False
        view, now = View(state, prediction), time.monotonic()
        late = {part: (now - self._drawn_s.get(part, self._begun_s)) / part.interval_s for part in self._parts}
        due = [p for p in self._parts if (hurry or late[p] >= 1) and p.stale(view)]
        overdue = [p for p in due if p in self._drawn_s and late[p] >= 2]
        if self._steps and not overdue:
            self._steps.pop(0)()
            return True
        if not overdue and self.project_file.write():
            return True
        if not due:
            return False
        part = max(overdue or due, key=lambda p: late[p])
        part.draw(view)
        self._drawn_s[part] = time.monotonic()
        return True

    @property
    def busy(self) -> bool:
        """Whether something is being computed that is still to be drawn."""
        return any(part.busy for part in self._parts)

    def finish(self) -> Iterator[None]:
        """Once the run is over, write everything down; a generator, so that the window can breathe in between."""
        self.project_file.hold()
        for key in list(self._items):
            self._write(key)
            yield
            self._end_live(key)
            yield
        self.project_file.write()

    def close(self) -> None:
        """Let go of everything, written or not."""
        for part in self._parts:
            part.close()
        while self._steps:
            self._steps.pop(0)()
        for key in list(self._items):
            self._write(key)
            self._end_live(key)
        self.project_file.write()

    # --- what the parts use

    def show(
        self,
        key: str,
        title: str,
        xdata: typing.Any,
        dress: Callable[[typing.Any], None] | None = None,
        displayed: bool = True,
    ) -> None:
        """Show data under a key. Nothing happens if the user has deleted its item.

        Args:
            key: what it is.
            title: title of its data item, to which the name of the run is added.
            xdata: the data.
            dress: what to do with a new display item before Swift draws it the first time.
            displayed: whether it has a display item of its own.
        """
        if key not in self._items:
            item = DataItem.new_data_item(xdata)
            item.title = self.titled(title)
            self._append(key, item, dress, displayed)
        elif (item := self.item(key)) is not None:
            with item.data_item_changes():
                item.set_data_and_metadata(xdata, item.data_modified)  # a newer date would re-sort Swift's lists

    def reserve(self, key: str, title: str, shape: tuple[int, ...], descriptor: typing.Any) -> None:
        """A large item, in HDF5, that is written as it grows."""
        item = DataItem.DataItem(large_format=True)
        item.title = self.titled(title)
        self._append(key, item, held=False)
        item.reserve_data(data_shape=shape, data_dtype=np.dtype(np.float32), data_descriptor=descriptor)

    def adopt(self, key: str, item: typing.Any) -> None:
        """Make an item that is there already part of the run."""
        self._items[key] = item
        self._transactions[key] = self.document_model.item_transaction(item)
        self.document_model.begin_data_item_live(item)
        self._group_display(self.document_model.get_display_item_for_data_item(item))

    def titled(self, title: str) -> str:
        """A title with the name of the run."""
        return f"{title}, {self._title}"

    def space(self, state: RunState, shape: tuple[int, ...]) -> list[typing.Any]:
        """Calibrations of an image of the whole field."""
        fov = state.prepared.fov_nm if state.prepared else None
        if fov is None:
            return [Calibration.Calibration() for _axis in shape]
        return [Calibration.Calibration(0.0, f / n, "nm") for f, n in zip(fov, shape, strict=True)]

    def about(self, state: RunState, **more: typing.Any) -> dict[str, typing.Any]:
        """Metadata that say which run data belong to. Brief: Swift copies them whenever it draws."""
        return {"autoexp": {"run": state.run_id, "simulated": self._simulated, "dose_e": state.dose_e, **more}}

    def _append(
        self,
        key: str,
        item: typing.Any,
        dress: Callable[[typing.Any], None] | None = None,
        displayed: bool = True,
        held: bool = True,
    ) -> None:
        """Give Swift a new item, its display with the next updates, since each takes Swift some time.

        Both are made ready first: each change afterwards would be drawn, and written to disk, by itself.
        """
        model = self.document_model
        self._items[key] = item
        if held:
            self._transactions[key] = model.item_transaction(item)
        model.begin_data_item_live(item)
        self.project_file.hold()
        model.append_data_item(item, auto_display=False)
        if displayed:
            self._steps.append(lambda: self._append_display(key, dress))

    def _append_display(self, key: str, dress: Callable[[typing.Any], None] | None) -> None:
        item = self.item(key)
        if item is None:
            return
        display_item = DisplayItem.DisplayItem(data_item=item)
        if dress is not None:
            dress(display_item)
        display_item.session_id = self.document_model.session_id
        self._project.append_display_item(display_item)  # the document's own method also draws it, at once
        self._steps.append(lambda: self._draw_display(display_item))

    def _draw_display(self, display_item: typing.Any) -> None:
        if display_item in self.document_model.display_items:
            with display_item.display_item_changes():
                self._group_display(display_item)

    def _group_display(self, display_item: typing.Any) -> None:
        if self._group is None or self._group not in self.document_model.data_groups:
            self._group = DataGroup.DataGroup()
            self._group.title = self._title
            self.document_model.insert_data_group(0, self._group)
        self._group.append_display_item(display_item)

    def _write(self, key: str) -> None:
        """End what holds an item back from the disk."""
        transaction = self._transactions.pop(key, None)
        if transaction is not None and self.item(key) is not None:
            transaction.close()

    def _end_live(self, key: str) -> None:
        """End the mark of an item's being live."""
        item = self.item(key)
        if item is not None and key not in self._released:
            self.document_model.end_data_item_live(item)
        self._released.add(key)


def overview_item(overview: Overview, simulated: bool) -> typing.Any:
    """A data item that shows an overview taken before the start."""
    frame = overview.frame
    shape = overview.image.shape
    calibrations = [
        Calibration.Calibration(0.0, f / n, "nm") if frame else Calibration.Calibration()
        for f, n in zip(frame.fov_nm if frame else shape, shape, strict=True)
    ]
    item = DataItem.new_data_item(
        DataAndMetadata.new_data_and_metadata(
            overview.image,
            intensity_calibration=Calibration.Calibration(units="counts"),
            dimensional_calibrations=calibrations,
            metadata={**overview.metadata, "autoexp": {"simulated": simulated}},
        )
    )
    item.title = _("Overview") + (_(" (SIMULATED)") if simulated else "")
    return item
