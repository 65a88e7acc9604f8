"""The Autonomous Experiment panel for Nion Swift."""

from __future__ import annotations

import gettext
import typing

from nion.swift import Workspace

from nionswift_plugin.autoexp_ui import panel as panel_module

_ = gettext.gettext


class AutonomousExperimentExtension:
    """Tells Swift about the panel and the menu."""

    extension_id = "org.autoexp.ui"

    def __init__(self, api_broker: typing.Any) -> None:
        Workspace.WorkspaceManager().register_panel(
            panel_module.AutonomousExperimentPanel,
            panel_module.PANEL_ID,
            _("Autonomous Experiment"),
            ["left", "right"],
            "right",
            {"min-width": 340, "height": 560},
        )

    def close(self) -> None:
        Workspace.WorkspaceManager().unregister_panel(panel_module.PANEL_ID)
