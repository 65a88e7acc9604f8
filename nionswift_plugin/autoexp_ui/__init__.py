"""Autonomous experiments in Nion Swift: two panels, a menu, preferences, and a mode of the Acquisition panel."""

from __future__ import annotations

import typing

from nion.swift import Workspace

from nionswift_plugin.autoexp_ui import acquisition_method, panel, preferences_pane
from nionswift_plugin.autoexp_ui.alignment import panel as alignment_panel
from nionswift_plugin.autoexp_ui.translation import translate as _

acquisition_method.register()


class AutonomousExperimentExtension:
    """Tells Swift what this plug-in brings, and takes it back."""

    extension_id = "org.autoexp.ui"

    def __init__(self, api_broker: typing.Any):
        api = api_broker.get_api(version="~1.0", ui_version="~1.0")
        self._application = api.application._application
        self._pane = preferences_pane.register()
        Workspace.WorkspaceManager().register_panel(
            panel.AutonomousExperimentPanel,
            panel.PANEL_ID,
            _("Autonomous Experiment"),
            ["left", "right"],
            "right",
            {"min-width": 340},
        )
        Workspace.WorkspaceManager().register_panel(
            alignment_panel.BeamAlignmentPanel,
            alignment_panel.PANEL_ID,
            _("Beam Alignment"),
            ["left", "right"],
            "right",
            {"min-width": 340},
        )
        if self._application is not None:
            self._application.register_menu_handler(self._build_menus)

    def close(self) -> None:
        """Swift closes."""
        if self._application is not None:
            self._application.unregister_menu_handler(self._build_menus)
        Workspace.WorkspaceManager().unregister_panel(panel.PANEL_ID)
        Workspace.WorkspaceManager().unregister_panel(alignment_panel.PANEL_ID)
        preferences_pane.unregister(self._pane)

    def _build_menus(self, document_controller: typing.Any) -> None:
        menu = document_controller.get_or_create_menu("autoexp_menu", _("Autonomous"), "window_menu")

        def show(panel_id: str) -> None:
            dock_panel = document_controller.find_dock_panel(panel_id)
            if dock_panel is not None:
                dock_panel.show()

        menu.add_menu_item(_("Show Panel"), lambda: show(panel.PANEL_ID))
        menu.add_menu_item(_("Align the Beam"), lambda: show(alignment_panel.PANEL_ID))
