"""Steering with Swift's own graphics.

On the overview a rectangle whose label says so is where to measure only, or where not to; a point that the operator
adds is measured next. On the spectra an interval is the scalarizer's window. Graphics are read on the user-interface
thread once they have changed and nobody drags them any more: one drag is one change.
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
TURNED_RAD = 1e-3
TRACKING = "_DisplayPanel__mouse_tracking_transaction"
AREAS = (Graphics.RectangleGraphic, Graphics.EllipseGraphic)


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
        for name in self._turned() & seen.keys():  # as it was, until it is turned back
            self._seen.setdefault(name, seen[name])
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

    def _turned(self) -> set[str]:
        graphics = self.display_item.graphics
        return {region_id(g) for g in graphics if isinstance(g, Graphics.RectangleGraphic) and is_turned(g)}

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
            graphic.rotation = 0.0
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


def is_dragged(document_controller: typing.Any, display_item: typing.Any) -> bool:
    """Whether the mouse holds a graphic of a display item just now: Swift keeps a transaction open as long as it does.

    That of the item itself tells nothing, since the results of a run are held in one until they are written.
    """
    controller = document_controller.workspace_controller
    panels = controller.display_panels if controller is not None else ()
    return any(getattr(p, TRACKING, None) is not None for p in panels if p.display_item is display_item)


def is_visited(graphic: typing.Any) -> bool:
    """Whether a graphic marks a point that was measured."""
    return str(graphic.graphic_id or "").startswith(live_items.VISITED)


def regions_of(display_item: typing.Any) -> tuple[Region, ...]:
    """The regions that the rectangles on an overview stand for: those that are labelled so, and upright."""
    found = []
    for graphic in display_item.graphics:
        kind = region_kind(graphic)
        if kind is not None and isinstance(graphic, Graphics.RectangleGraphic) and not is_turned(graphic):
            (top, left), (height, width) = graphic.bounds
            edges = [min(1.0, max(0.0, edge)) for edge in (top, left, top + height, left + width)]
            if edges[0] < edges[2] and edges[1] < edges[3]:
                top, left, bottom, right = edges
                found.append(Region(id=region_id(graphic), kind=kind, top=top, left=left, bottom=bottom, right=right))
    return tuple(found)


def region_kind(graphic: typing.Any) -> typing.Literal["include", "exclude"] | None:
    """What a graphic's label says of measuring in it; None if nothing."""
    label = (graphic.label or "").strip().lower()
    if label.startswith(("exclud", EXCLUDE_LABEL.lower())):
        return "exclude"
    return "include" if label.startswith(("includ", "measure here only", INCLUDE_LABEL.lower())) else None


def is_turned(graphic: typing.Any) -> bool:
    """Whether a graphic is rotated."""
    return abs(math.remainder(float(getattr(graphic, "rotation", 0.0) or 0.0), math.pi)) > TURNED_RAD


def not_obeyed(display_item: typing.Any) -> str:
    """What is drawn as a region, or may be meant as one, and is none, in words; empty if nothing is."""
    areas = [g for g in display_item.graphics if isinstance(g, AREAS) and not is_visited(g)]
    if any(region_kind(g) and not isinstance(g, Graphics.RectangleGraphic) for g in areas):
        return _("Only rectangles can be regions; the other shape that is labelled as one is not in force.")
    if any(region_kind(g) and is_turned(g) for g in areas):
        return _(
            "A region cannot be rotated: that rectangle is not in force as it is drawn. Turn it back or delete it."
        )
    if any(isinstance(g, Graphics.RectangleGraphic) and region_kind(g) is None for g in areas):
        text = _("A rectangle without the label “{exclude}” or “{include}” is no region.")
        return text.format(exclude=EXCLUDE_LABEL, include=INCLUDE_LABEL)
    return ""


def described(regions: Iterable[Region]) -> str:
    """How many regions are in force, in words; empty if none is."""
    kinds = [region.kind for region in regions]
    parts = [
        _("measured only in {n}").format(n=kinds.count("include")) if "include" in kinds else "",
        _("{n} excluded").format(n=kinds.count("exclude")) if "exclude" in kinds else "",
    ]
    return _("Regions in force: {what}.").format(what=", ".join(filter(None, parts))) if kinds else ""


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


class RegionPen:
    """Makes the next rectangle that is drawn on an overview a region.

    Args:
        document_controller: Swift's window, whose rectangle tool is chosen for the operator.
    """

    def __init__(self, document_controller: typing.Any):
        self._document_controller = document_controller
        self._listener: typing.Any = None
        self._exclude = False

    def take(self, display_item: typing.Any, exclude: bool) -> None:
        """The next rectangle on an overview says where to measure only, or where not to."""
        self._exclude = exclude
        self._listener = display_item.item_inserted_event.listen(
            ReferenceCounting.weak_partial(RegionPen._on_inserted, self)
        )
        self._document_controller.tool_mode = "rectangle"

    def drop(self) -> None:
        """Nothing more is drawn with it."""
        self._listener = None

    def _on_inserted(self, key: str, value: typing.Any, index: int) -> None:
        if key == "graphics" and isinstance(value, Graphics.RectangleGraphic) and region_kind(value) is None:
            self._listener = None
            _dress(value, self._exclude)


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
