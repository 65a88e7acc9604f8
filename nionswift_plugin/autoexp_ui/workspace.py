"""A workspace of its own for the results, so that nobody's own arrangement is disturbed."""

from __future__ import annotations

import typing

from nionswift_plugin.autoexp_ui.translation import translate as _

WORKSPACE_ID = "org.autoexp.workspace"
PLACES = ("overview", "latest", "curve", "prediction", "uncertainty", "features")


def arrange(document_controller: typing.Any, live: typing.Any) -> bool:
    """Open the workspace, or show one new result in its place, while it is on the screen; whether there was anything.

    One at a time, since each takes Swift tens of milliseconds.
    """
    controller = document_controller.workspace_controller
    if controller is None:
        return False
    if not live.arranged and live.display_item("overview") is not None:
        live.arranged = True
        live.project_file.hold()
        controller.ensure_workspace(_("Autonomous Experiment"), _layout(), WORKSPACE_ID)
        return True
    if controller._workspace is None or controller._workspace.workspace_id != WORKSPACE_ID:
        return False
    panels = {panel.identifier: panel for panel in controller.display_panels}
    for key in PLACES:
        display_item, panel = live.display_item(key), panels.get(f"autoexp-{key}")
        if panel is not None and display_item is not None and key not in live.placed:
            live.placed.add(key)
            live.project_file.hold()
            panel.set_display_panel_display_item(display_item)
            return True
    return False


def bring_up(document_controller: typing.Any, display_item: typing.Any, instead_of: list[typing.Any]) -> None:
    """Put an overview on the screen, if it is not: where an older one is shown, else where results go.

    Args:
        document_controller: Swift's window.
        display_item: the overview.
        instead_of: older ones, whose place it takes.
    """
    controller = document_controller.workspace_controller
    if controller is None:
        return
    panels = list(controller.display_panels)
    shown = next((panel for panel in panels if panel.display_item is display_item), None)
    place: typing.Any = shown or next((panel for panel in panels if panel.display_item in instead_of), None)
    place = place or next((panel for panel in panels if panel.identifier == "autoexp-overview"), None)
    place = place or document_controller.next_result_display_panel() or next(iter(panels), None)
    if place is None:
        return
    if place is not shown:
        place.set_display_panel_display_item(display_item)
    place.request_focus()


def _layout() -> dict[str, typing.Any]:
    """The overview large, the two maps and the feature space below it, latest spectrum and learning curve beside.

    None of the panels is selected: Swift would build its inspector anew for every result.
    """

    def image(key: str) -> dict[str, typing.Any]:
        return {"type": "image", "identifier": f"autoexp-{key}", "display_panel_id": f"autoexp-{key}"}

    def split(orientation: str, splits: list[float], *children: dict[str, typing.Any]) -> dict[str, typing.Any]:
        return {"type": "splitter", "orientation": orientation, "splits": splits, "children": list(children)}

    maps = split("horizontal", [1 / 3] * 3, image("prediction"), image("uncertainty"), image("features"))
    return split(
        "horizontal",
        [0.62, 0.38],
        split("vertical", [0.66, 0.34], image("overview"), maps),
        split("vertical", [0.5, 0.5], image("latest"), image("curve")),
    )
