"""An alignment as ordinary Swift data: the latest frame with goal, disk and path on it, and the distance from the goal.

All on the user-interface thread. The two items belong to the window and are used again by the next alignment; one that
was deleted is made anew.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.swift.model import DataItem, Graphics
from nion.utils import Event, ReferenceCounting

from autoexp.plan import AlignmentSpec
from autoexp.tasks.alignment import Look
from nionswift_plugin.autoexp_ui.translation import translate as _

WORKSPACE_ID = "org.autoexp.alignment"
MARK = "autoexp-align-"
GOAL, DISK, CENTER, PATH = (MARK + name for name in ("goal", "disk", "center", "path-"))
GREEN, BLUE, ORANGE = "#009E73", "#56B4E9", "#E69F00"


class AlignmentItems:
    """What is shown of alignments in one window.

    Args:
        document_controller: Swift's window.

    Attributes:
        goal_moved_event: the operator has dragged the goal; fired with its position (y, x), fractions of the frame.
    """

    def __init__(self, document_controller: typing.Any):
        self.goal_moved_event = Event.Event()
        self._document_controller = document_controller
        self._items: dict[str, typing.Any] = {}
        self._held: dict[str, typing.Any] = {}
        self._listener: typing.Any = None
        self._drawn = 0
        self._quiet = False

    def begin(self) -> None:
        """Another alignment: its path begins anew."""
        self._drawn = 0
        if (frame := self._display_item("frame")) is not None:
            self._remove(frame, (PATH,))

    def draw(self, looks: Sequence[Look], spec: AlignmentSpec, simulated: bool) -> None:
        """Show the latest of some frames, and the way of the disk through all of them."""
        title = _("Beam alignment") + (_(" (SIMULATED)") if simulated else "")
        metadata = {"autoexp": {"simulated": simulated, "controls": list(spec.controls)}}
        self._show("frame", title, _frame_data(looks[-1], metadata))
        self._show("tolerance", _("Wanted"), _against_frames([spec.tolerance_px] * len(looks), metadata))
        residuals = _residuals(looks)
        self._show("residual", _("Distance from the goal"), _against_frames(residuals, metadata))
        self._dress_residual(title, [*residuals, spec.tolerance_px])
        frame = self._display_item("frame")
        if frame is not None:
            with self._document_model.item_transaction(frame):
                self._draw_disk(frame, looks[-1])
                self._draw_path(frame, looks)
                self.show_goal(spec.goal)
        self._arrange()

    def show_goal(self, goal: tuple[float, float]) -> None:
        """Move the goal on the frame, if there is one."""
        frame = self._display_item("frame")
        if frame is None:
            return
        graphic = _find(frame, GOAL)
        self._quiet = True
        try:
            if graphic is None:
                graphic = _graphic(Graphics.PointGraphic, GOAL, GREEN, _("goal"), locked=False)
                graphic.position = goal
                frame.add_graphic(graphic)
                self._listener = None
            elif max(abs(a - b) for a, b in zip(graphic.position, goal, strict=True)) > 1e-6:
                graphic.position = goal
        finally:
            self._quiet = False
        if self._listener is None:
            self._listener = graphic.property_changed_event.listen(
                ReferenceCounting.weak_partial(AlignmentItems._on_goal, self)
            )

    def finish(self) -> None:
        """The alignment is over: what was held back from the disk is written."""
        while self._held:
            self._held.popitem()[1].close()

    def close(self) -> None:
        """Let go of everything."""
        self._listener = None
        self.finish()
        self._items.clear()

    # --- items

    @property
    def _document_model(self) -> typing.Any:
        return self._document_controller.document_model

    def _item(self, key: str) -> typing.Any:
        item = self._items.get(key)
        return item if item is not None and item in self._document_model.data_items else None

    def _display_item(self, key: str) -> typing.Any:
        item = self._item(key)
        return self._document_model.get_display_item_for_data_item(item) if item is not None else None

    def _show(self, key: str, title: str, xdata: typing.Any) -> None:
        item = self._item(key)
        if item is None:
            item = DataItem.new_data_item(xdata)
            item.title = title
            self._items[key] = item
            self._held.pop(key, None)
            self._document_model.append_data_item(item, auto_display=key != "tolerance")
            return
        if key not in self._held:
            self._held[key] = self._document_model.item_transaction(item)
        item.set_data_and_metadata(xdata)

    def _dress_residual(self, title: str, values: list[float]) -> None:
        display_item, wanted = self._display_item("residual"), self._item("tolerance")
        if display_item is None or wanted is None:
            return
        display_item.set_display_property("y_min", min(values) / 2 or None)
        display_item.set_display_property("y_max", max(values) * 2)
        if len(display_item.display_data_channels) > 1:
            return
        display_item.append_display_data_channel_for_data_item(wanted)
        for index, (label, color) in enumerate(((_("distance"), BLUE), (_("wanted"), GREEN))):
            display_item._set_display_layer_properties(
                index, label=label, stroke_color=color, stroke_width=2.0, fill_color=None
            )
        display_item.set_display_property("y_style", "log")
        display_item.set_display_property("legend_position", "top-right")
        display_item.title = _("Distance from the goal, ") + title

    # --- graphics

    def _on_goal(self, name: str) -> None:
        frame = self._display_item("frame")
        graphic = _find(frame, GOAL) if frame is not None else None
        if graphic is not None and not self._quiet and name == "position":
            self.goal_moved_event.fire((float(graphic.position[0]), float(graphic.position[1])))

    def _draw_disk(self, frame: typing.Any, look: Look) -> None:
        self._remove(frame, (DISK, CENTER))
        if look.disk is None:
            return
        shape = look.frame.image.shape
        y, x = _fraction(look.disk.center, shape)
        height, width = (2 * look.disk.radius / n for n in shape)
        circle = _graphic(Graphics.EllipseGraphic, DISK, BLUE)
        circle.bounds = ((y - height / 2, x - width / 2), (height, width))
        center = _graphic(Graphics.PointGraphic, CENTER, BLUE)
        center.position = (y, x)
        frame.add_graphic(circle)
        frame.add_graphic(center)

    def _draw_path(self, frame: typing.Any, looks: Sequence[Look]) -> None:
        """The legs that are new."""
        seen = [_fraction(look.disk.center, look.frame.image.shape) for look in looks if look.disk is not None]
        for i in range(max(1, self._drawn), len(seen)):
            leg = _graphic(Graphics.LineGraphic, f"{PATH}{i}", ORANGE)
            leg.start, leg.end = seen[i - 1], seen[i]
            leg.end_arrow_enabled = True
            frame.add_graphic(leg)
        self._drawn = len(seen)

    def _remove(self, frame: typing.Any, names: tuple[str, ...]) -> None:
        for graphic in [g for g in frame.graphics if str(g.graphic_id or "").startswith(names)]:
            frame.remove_graphic(graphic).close()

    # --- the place of it all

    def _arrange(self) -> None:
        """Show both where neither is on the screen: in a workspace of their own."""
        controller = self._document_controller.workspace_controller
        shown = {key: self._display_item(key) for key in ("frame", "residual")}
        if controller is None or any(
            d.display_item in shown.values() for d in controller.display_panels if d.display_item
        ):
            return
        controller.ensure_workspace(_("Beam Alignment"), _layout(), WORKSPACE_ID)
        panels = {panel.identifier: panel for panel in controller.display_panels}
        for key, display_item in shown.items():
            if (panel := panels.get(MARK + key)) is not None and display_item is not None:
                panel.set_display_panel_display_item(display_item)


def _layout() -> dict[str, typing.Any]:
    children = [
        {"type": "image", "identifier": MARK + key, "display_panel_id": MARK + key} for key in ("frame", "residual")
    ]
    return {"type": "splitter", "orientation": "horizontal", "splits": [0.6, 0.4], "children": children}


def _frame_data(look: Look, metadata: dict[str, typing.Any]) -> typing.Any:
    """The frame; angles from its middle, where the camera is calibrated."""
    mrad = look.frame.mrad_per_px
    calibrations = [
        Calibration.Calibration(-mrad * (n - 1) / 2, mrad, "mrad") if mrad else Calibration.Calibration()
        for n in look.frame.image.shape
    ]
    return DataAndMetadata.new_data_and_metadata(
        np.array(look.frame.image),
        intensity_calibration=Calibration.Calibration(units="counts"),
        dimensional_calibrations=calibrations,
        metadata=metadata,
    )


def _residuals(looks: Sequence[Look]) -> list[float]:
    """Distances from the goal; where there was no disk, to the border of the frame."""
    return [max(look.frame.image.shape) / 2 if look.residual_px is None else look.residual_px for look in looks]


def _against_frames(values: Sequence[float], metadata: dict[str, typing.Any]) -> typing.Any:
    return DataAndMetadata.new_data_and_metadata(
        np.asarray(values, np.float32),
        intensity_calibration=Calibration.Calibration(units="px"),
        dimensional_calibrations=[Calibration.Calibration(1.0, 1.0, _("frames"))],
        metadata=metadata,
    )


def _fraction(center: tuple[float, float], shape: tuple[int, ...]) -> tuple[float, float]:
    """A place in pixels of a frame as Swift's graphics have it."""
    return (center[0] + 0.5) / shape[0], (center[1] + 0.5) / shape[1]


def _find(display_item: typing.Any, graphic_id: str) -> typing.Any:
    return next((g for g in display_item.graphics if g.graphic_id == graphic_id), None)


def _graphic(kind: typing.Any, graphic_id: str, color: str, label: str = "", locked: bool = True) -> typing.Any:
    graphic = kind()
    graphic.graphic_id = graphic_id
    graphic.stroke_color = color
    graphic.is_position_locked = graphic.is_shape_locked = locked
    if label:
        graphic.label = label
    return graphic
