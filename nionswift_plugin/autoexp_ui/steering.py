"""Steering with Swift's own graphics.

On the overview a rectangle says where to measure, or, if its label begins with "exclude", where not to; a point that
the operator adds is measured next. On the spectra an interval is the scalarizer's window. Graphics are read on the
user-interface thread whenever they change, and the panel is told once.
"""

from __future__ import annotations

import typing

from nion.swift.model import Graphics
from nion.utils import Event, ReferenceCounting

from autoexp.plan import Region
from nionswift_plugin.autoexp_ui import live_items
from nionswift_plugin.autoexp_ui.translation import translate as _

REGION = "autoexp-region-"
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


def draw_regions(document_model: typing.Any, display_item: typing.Any, regions: tuple[Region, ...]) -> None:
    """Make the rectangles on an overview those of the regions: add, move and take away what differs."""
    wanted = {r.id: r for r in regions}
    drawn = {region_id(g): g for g in display_item.graphics if isinstance(g, Graphics.RectangleGraphic)}
    with document_model.item_transaction(display_item):
        for name in drawn.keys() - wanted.keys():
            display_item.remove_graphic(drawn[name]).close()
        for name, region in wanted.items():
            bounds = ((region.top, region.left), (region.bottom - region.top, region.right - region.left))
            if name not in drawn:
                graphic = _rectangle(bounds, region.kind == "exclude")
                graphic.graphic_id = f"{REGION}{name}"
                display_item.add_graphic(graphic)
            elif region not in regions_of(display_item):
                drawn[name].bounds = bounds


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
    graphic.label = EXCLUDE_LABEL if exclude else INCLUDE_LABEL
    graphic.stroke_color = "#D55E00" if exclude else "#009E73"
    return graphic


def window_graphic(display_item: typing.Any, graphic_id: str) -> typing.Any:
    """The interval of that identifier on a spectrum plot, or None."""
    return next((g for g in display_item.graphics if g.graphic_id == graphic_id), None)


def show_window(
    document_model: typing.Any, display_item: typing.Any, graphic_id: str, label: str, interval: tuple[float, float]
) -> None:
    """Add or move the interval that stands for a window; fractions of the energy axis."""
    graphic = window_graphic(display_item, graphic_id)
    with document_model.item_transaction(display_item):
        if graphic is None:
            graphic = Graphics.IntervalGraphic()
            graphic.graphic_id = graphic_id
            graphic.interval = interval
            graphic.label = label
            display_item.add_graphic(graphic)
        elif max(abs(a - b) for a, b in zip(graphic.interval, interval, strict=True)) > 1e-6:
            graphic.interval = interval
            graphic.label = label
