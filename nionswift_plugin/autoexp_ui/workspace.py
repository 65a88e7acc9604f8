"""A workspace of its own for the results, so that nobody's own arrangement is disturbed."""

from __future__ import annotations

import typing

from nionswift_plugin.autoexp_ui.translation import translate as _

WORKSPACE_ID = "org.autoexp.workspace"
PLACES = ("overview", "prediction", "uncertainty", "latest", "curve")


def arrange(document_controller: typing.Any, live: typing.Any) -> None:
    """Show results that are new in their places, while the workspace for them is the one on the screen."""
    controller = document_controller.workspace_controller
    if controller is None:
        return
    if not live.arranged and live.display_item("overview") is not None:
        live.arranged = True
        controller.ensure_workspace(_("Autonomous Experiment"), _layout(), WORKSPACE_ID)
        for panel in controller.display_panels:
            panel.set_display_panel_display_item(None)
    if controller._workspace.workspace_id != WORKSPACE_ID:
        return
    panels = {panel.identifier: panel for panel in controller.display_panels}
    for key in PLACES:
        display_item = live.display_item(key)
        panel = panels.get(f"autoexp-{key}")
        if panel is not None and display_item is not None and key not in live.placed:
            live.placed.add(key)
            panel.set_display_panel_display_item(display_item)


def _layout() -> dict[str, typing.Any]:
    """The overview large, the two maps beside it one above the other, latest spectrum and learning curve below."""

    def image(key: str) -> dict[str, typing.Any]:
        return {"type": "image", "identifier": f"autoexp-{key}", "display_panel_id": f"autoexp-{key}"}

    def split(orientation: str, splits: list[float], *children: dict[str, typing.Any]) -> dict[str, typing.Any]:
        return {"type": "splitter", "orientation": orientation, "splits": splits, "children": list(children)}

    overview = {**image("overview"), "selected": True}
    return split(
        "horizontal",
        [0.62, 0.38],
        split(
            "vertical",
            [0.66, 0.34],
            overview,
            split("horizontal", [0.5, 0.5], image("prediction"), image("uncertainty")),
        ),
        split("vertical", [0.5, 0.5], image("latest"), image("curve")),
    )
