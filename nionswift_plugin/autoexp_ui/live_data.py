"""A run's results as ordinary Swift data, while it goes on: grouped, calibrated, and fluid.

Swift writes to disk whenever an item changes, which takes tens of milliseconds, and a window must not stand still that
long. So one item is drawn at a time, each no oftener than it needs, and those that can be made again from the run's
own folder are written once, at the end. Only the spectra are written as they come: they are also safe in Swift's
project if the power fails. Everything here runs on the user-interface thread; an item that the user deletes is simply
not drawn any more.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Iterator

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.swift.model import DataGroup, DataItem

from autoexp.agent import Prediction
from autoexp.instrument import Overview
from autoexp.state import RunState
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


class LiveData:
    """The data items of one run.

    Args:
        document_controller: Swift's window.
        title: name of the run, in the items' titles.
        simulated: whether the run is a simulation; said in every title and in the metadata.
        folder: the run's folder.

    Attributes:
        arranged: whether the workspace for the results has been opened.
        placed: keys of the items that have been given their place in it.
    """

    def __init__(self, document_controller: typing.Any, title: str, simulated: bool, folder: typing.Any):
        from nionswift_plugin.autoexp_ui import live_items

        self.document_model = document_controller.document_model
        self.folder = folder
        self.arranged = False
        self.placed: set[str] = set()
        self._title = title + (_(" (SIMULATED)") if simulated else "")
        self._simulated = simulated
        self._group: typing.Any = None
        self._items: dict[str, typing.Any] = {}
        self._transactions: dict[str, typing.Any] = {}
        self._released: set[str] = set()
        self._ungrouped: list[typing.Any] = []
        self._drawn_s: dict[LiveItem, float] = {}
        self._parts: list[LiveItem] = live_items.parts(self)

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
        """Draw what has waited longest, if anything is due; whether something was drawn.

        Args:
            state: the run so far.
            prediction: the model's latest prediction.
            hurry: draw whatever is stale, due or not.
        """
        if state.prepared is None:
            return False
        if self._ungrouped:
            self._group_one()
            return True
        view = View(state, prediction)
        now = time.monotonic()
        waited = {part: now - self._drawn_s.get(part, 0.0) for part in self._parts}
        due = [p for p in self._parts if (hurry or waited[p] >= p.interval_s) and p.stale(view)]
        if not due:
            return False
        part = max(due, key=lambda p: waited[p])
        part.draw(view)
        self._drawn_s[part] = time.monotonic()
        return True

    def finish(self, state: RunState) -> Iterator[None]:
        """Once the run is over, write everything down; a generator, so that the window can breathe in between."""
        for key in list(self._items):
            item = self.item(key)
            if item is not None:
                with item.data_item_changes():
                    item.metadata = {**item.metadata, "autoexp": self.metadata(state)}
                yield
            self._release(key)
            yield

    def close(self) -> None:
        """Let go of everything, written or not."""
        for key in list(self._items):
            self._release(key)

    # --- what the parts use

    def show(self, key: str, title: str, xdata: typing.Any) -> bool:
        """Show data under a key; whether its item is new. Nothing happens if the user has deleted it."""
        if key in self._items:
            item = self.item(key)
            if item is not None:
                with item.data_item_changes():
                    item.set_data_and_metadata(xdata, item.data_modified)  # a newer date would re-sort Swift's lists
            return False
        item = DataItem.new_data_item(xdata)
        item.title = f"{title}, {self._title}"
        self.document_model.append_data_item(item)
        self.adopt(key, item)
        return True

    def reserve(self, key: str, title: str, shape: tuple[int, ...], descriptor: typing.Any, large: bool) -> None:
        """An item that is written as it grows."""
        item = DataItem.DataItem(large_format=large)
        item.title = f"{title}, {self._title}"
        self.document_model.append_data_item(item)
        item.reserve_data(data_shape=shape, data_dtype=np.dtype(np.float32), data_descriptor=descriptor)
        self.adopt(key, item, written_at_once=True)

    def adopt(self, key: str, item: typing.Any, written_at_once: bool = False) -> None:
        """Make an item part of the run's group; unless it is written at once, its changes wait for the end."""
        self._items[key] = item
        self._ungrouped.append(self.document_model.get_display_item_for_data_item(item))
        self.document_model.begin_data_item_live(item)
        if not written_at_once:
            self._transactions[key] = self.document_model.item_transaction(item)

    def titled(self, title: str) -> str:
        """A title with the name of the run."""
        return f"{title}, {self._title}"

    def space(self, state: RunState, shape: tuple[int, ...]) -> list[typing.Any]:
        """Calibrations of an image of the whole field."""
        fov = state.prepared.fov_nm if state.prepared else None
        if fov is None:
            return [Calibration.Calibration() for _axis in shape]
        return [Calibration.Calibration(0.0, f / n, "nm") for f, n in zip(fov, shape, strict=True)]

    def metadata(self, state: RunState, brief: bool = False) -> dict[str, typing.Any]:
        """What a spectrum's own metadata do not hold: where it was taken, its dose, and what all this is about."""
        taken = [p for p in state.points.values() if p.record is not None]
        told = {
            "run": state.run_id,
            "simulated": self._simulated,
            "dose_e": state.dose_e,
            "positions": [list(p.position) for p in taken],
            "values": [p.value if np.isfinite(p.value) else None for p in taken],
        }
        if brief:
            return told
        plan, settings = state.plan, state.settings
        points = [
            {
                "id": p.id + 1,
                "record": p.record,
                "position": list(p.position),
                "position_nm": list(place) if state.prepared and (place := state.prepared.to_nm(p.position)) else None,
                "value": p.value if np.isfinite(p.value) else None,
                "noise": p.noise,
                "dose_e": p.dose_e,
                "status": p.status,
                "reason": p.reason,
            }
            for p in taken
        ]
        return {
            **told,
            "plan": plan.model_dump(mode="json") if plan else {},
            "scalarizer": settings.scalarizer.model_dump(mode="json") if settings else {},
            "points": points,
        }

    def _release(self, key: str) -> None:
        """End what holds an item back from the disk, and its mark of being live."""
        item = self.item(key)
        transaction = self._transactions.pop(key, None)
        if transaction is not None and item is not None:
            transaction.close()
        if item is not None and key not in self._released:
            self.document_model.end_data_item_live(item)
        self._released.add(key)

    def _group_one(self) -> None:
        display_item = self._ungrouped.pop(0)
        if display_item not in self.document_model.display_items:
            return
        if self._group is None or self._group not in self.document_model.data_groups:
            self._group = DataGroup.DataGroup()
            self._group.title = self._title
            self.document_model.insert_data_group(0, self._group)
        self._group.append_display_item(display_item)


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
