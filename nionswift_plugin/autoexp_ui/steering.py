"""Steering with Swift's own graphics.

On the overview a rectangle says where to measure, or, if its label begins with "exclude", where not to; a point that
the operator adds is measured next. On the spectra an interval is the scalarizer's window. Graphics are read on the
user-interface thread whenever they change, and the panel is told once.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Collection, Iterable, Mapping

from nion.swift.model import Graphics
from nion.utils import Event, ReferenceCounting

from autoexp import events as ev
from autoexp.plan import Region
from nionswift_plugin.autoexp_ui import live_items
from nionswift_plugin.autoexp_ui.translation import translate as _

Interval = tuple[float, float]

REGION = "autoexp-region-"
WINDOW = "autoexp-window"
SECOND_WINDOW = "autoexp-second-window"
OTHER_WINDOW = "autoexp-other-window"
WINDOWS = (WINDOW, SECOND_WINDOW, OTHER_WINDOW)
INCLUDE_LABEL = _("measure here only")
EXCLUDE_LABEL = _("exclude")


class GraphicsWatch:
    """Tells when the graphics of a display item come, go, move or are renamed.

    Args:
        display_item: whose graphics.
    """

    def __init__(self, display_item: typing.Any):
        self.display_item = display_item
        self.changed_event = Event.Event()
        self._inserted = display_item.item_inserted_event.listen(
            ReferenceCounting.weak_partial(GraphicsWatch._on_inserted, self)
        )
        self._removed = display_item.item_removed_event.listen(
            ReferenceCounting.weak_partial(GraphicsWatch._on_removed, self)
        )
        self._listeners: dict[typing.Any, typing.Any] = {}
        for graphic in display_item.graphics:
            self._watch(graphic)

    def close(self) -> None:
        """Stop watching."""
        self._inserted = self._removed = None
        self._listeners.clear()

    def _watch(self, graphic: typing.Any) -> None:
        if not is_visited(graphic):
            self._listeners[graphic.uuid] = graphic.property_changed_event.listen(
                ReferenceCounting.weak_partial(GraphicsWatch._on_changed, self)
            )

    def _on_inserted(self, key: str, value: typing.Any, index: int) -> None:
        if key == "graphics":
            self._watch(value)
            if not is_visited(value):
                self.changed_event.fire()

    def _on_removed(self, key: str, value: typing.Any, index: int) -> None:
        if key == "graphics" and not is_visited(value):
            self._listeners.pop(value.uuid, None)
            self.changed_event.fire()

    def _on_changed(self, name: str) -> None:
        self.changed_event.fire()


class DrawnRegions:
    """The rectangles on one overview. Only what the operator does to them counts: a region that is drawn nowhere stays.

    Args:
        document_model: Swift's document.
        display_item: the overview.
        known: identifiers of the regions in force; a rectangle that stands for none of them is new.
    """

    def __init__(self, document_model: typing.Any, display_item: typing.Any, known: Collection[str]):
        self.display_item = display_item
        self._document_model = document_model
        self._seen = {name: region for name, region in self._drawn().items() if name in known}

    def changes(self) -> list[ev.Steering]:
        """What was drawn, moved, renamed and deleted since they were last looked at or shown."""
        seen, self._seen = self._seen, self._drawn()
        gone = [ev.RemoveRegion(id=name) for name in seen.keys() - self._seen.keys()]
        new = [ev.AddRegion(region=r) for name, r in self._seen.items() if not _alike(seen.get(name), r)]
        return [*gone, *new]

    def show(self, regions: Iterable[Region]) -> None:
        """Make the rectangles those of the regions: add, move and take away what differs."""
        wanted, drawn = {r.id: r for r in regions}, self._drawn()
        rectangles = {region_id(g): g for g in self.display_item.graphics if isinstance(g, Graphics.RectangleGraphic)}
        differing = {name: region for name, region in wanted.items() if not _alike(drawn.get(name), region)}
        if not differing and drawn.keys() <= wanted.keys():
            return
        with self._document_model.item_transaction(self.display_item):
            for name in drawn.keys() - wanted.keys():
                self.display_item.remove_graphic(rectangles[name]).close()
            for name, region in differing.items():
                self._draw(rectangles.get(name), region)
        self._seen = self._drawn()

    def _drawn(self) -> dict[str, Region]:
        return {r.id: r for r in regions_of(self.display_item)}

    def _draw(self, graphic: typing.Any, region: Region) -> None:
        bounds = ((region.top, region.left), (region.bottom - region.top, region.right - region.left))
        if graphic is None:
            graphic = _rectangle(bounds, region.kind == "exclude")
            graphic.graphic_id = f"{REGION}{region.id}"
            self.display_item.add_graphic(graphic)
        else:
            graphic.bounds = bounds
            _dress(graphic, region.kind == "exclude")


class DrawnWindows:
    """The intervals on one spectrum plot that stand for energy windows.

    Args:
        document_model: Swift's document.
        display_item: the plot.
    """

    def __init__(self, document_model: typing.Any, display_item: typing.Any):
        self.display_item = display_item
        self._document_model = document_model
        self._seen: dict[str, Interval] = {}

    def show(self, windows: Mapping[str, tuple[str, Interval]]) -> None:
        """Make the intervals those of the windows: label and ends, fractions of the axis, each under its identifier."""
        graphics = {g.graphic_id: g for g in self.display_item.graphics if g.graphic_id in WINDOWS}
        gone = graphics.keys() - windows.keys()
        differing = [name for name, window in windows.items() if not _stands_for(graphics.get(name), *window)]
        self._seen = {name: interval for name, (_label, interval) in windows.items()}
        if not gone and not differing:
            return
        with self._document_model.item_transaction(self.display_item):
            for name in gone:
                self.display_item.remove_graphic(graphics[name]).close()
            for name in differing:
                self._draw(graphics.get(name), name, *windows[name])

    def dragged(self, least: float) -> dict[str, tuple[float | None, float | None]]:
        """The ends that the operator has dragged by at least so much; None for one that stands where it was shown."""
        found = {}
        for graphic in self.display_item.graphics:
            seen = self._seen.get(str(graphic.graphic_id))
            if seen is not None:
                low, high = (
                    now if abs(now - old) > least else None for now, old in zip(graphic.interval, seen, strict=True)
                )
                if low is not None or high is not None:
                    found[str(graphic.graphic_id)] = low, high
                    self._seen[str(graphic.graphic_id)] = graphic.interval
        return found

    def _draw(self, graphic: typing.Any, name: str, label: str, interval: Interval) -> None:
        drawn = graphic or Graphics.IntervalGraphic()
        drawn.interval, drawn.label = interval, label
        if graphic is None:
            drawn.graphic_id = name
            self.display_item.add_graphic(drawn)


def is_visited(graphic: typing.Any) -> bool:
    """Whether a graphic marks a point that was measured."""
    return str(graphic.graphic_id or "").startswith(live_items.VISITED)


def regions_of(display_item: typing.Any) -> tuple[Region, ...]:
    """The regions that the rectangles on an overview stand for."""
    found = []
    for graphic in display_item.graphics:
        if isinstance(graphic, Graphics.RectangleGraphic):
            (top, left), (height, width) = graphic.bounds
            edges = [min(1.0, max(0.0, edge)) for edge in (top, left, top + height, left + width)]
            if edges[0] < edges[2] and edges[1] < edges[3]:
                excluded = (graphic.label or "").strip().lower().startswith(("exclud", EXCLUDE_LABEL.lower()))
                kind = "exclude" if excluded else "include"
                found.append(
                    Region(
                        id=region_id(graphic), kind=kind, top=edges[0], left=edges[1], bottom=edges[2], right=edges[3]
                    )
                )
    return tuple(found)


def region_id(graphic: typing.Any) -> str:
    """The region that a rectangle stands for."""
    name = str(graphic.graphic_id or "")
    return name.removeprefix(REGION) if name.startswith(REGION) else str(graphic.uuid)


def requested_points(display_item: typing.Any) -> dict[str, tuple[float, float]]:
    """Points that the operator has added to an overview: identifier and position."""
    return {
        str(g.uuid): (float(g.position[0]), float(g.position[1]))
        for g in display_item.graphics
        if isinstance(g, Graphics.PointGraphic)
        and not is_visited(g)
        and 0 <= g.position[0] <= 1
        and 0 <= g.position[1] <= 1
    }


def add_region(document_model: typing.Any, display_item: typing.Any, exclude: bool) -> None:
    """Add a rectangle in the middle of an overview, for the operator to drag."""
    with document_model.item_transaction(display_item):
        display_item.add_graphic(_rectangle(((0.35, 0.35), (0.3, 0.3)), exclude))


def _rectangle(bounds: typing.Any, exclude: bool) -> typing.Any:
    graphic = Graphics.RectangleGraphic()
    graphic.bounds = bounds
    _dress(graphic, exclude)
    return graphic


def _dress(graphic: typing.Any, exclude: bool) -> None:
    graphic.label = EXCLUDE_LABEL if exclude else INCLUDE_LABEL
    graphic.stroke_color = "#D55E00" if exclude else "#009E73"


def _alike(one: Region | None, other: Region) -> bool:
    """Whether two are the same but for rounding: a rectangle holds its height, not its lower edge."""
    if one is None or one.kind != other.kind:
        return False
    edges = ("top", "left", "bottom", "right")
    return all(math.isclose(getattr(one, edge), getattr(other, edge), abs_tol=1e-9) for edge in edges)


def _stands_for(graphic: typing.Any, label: str, interval: Interval) -> bool:
    """Whether an interval is there and shows a window."""
    if graphic is None or graphic.label != label:
        return False
    return all(abs(a - b) <= 1e-6 for a, b in zip(graphic.interval, interval, strict=True))
