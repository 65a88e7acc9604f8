"""A dock panel that finds a place with room, and comes to the front there."""

from __future__ import annotations

import typing

from nion.swift import Panel

INSPECTOR = "inspector-panel"
SHARING = (INSPECTOR, "autoexp-panel", "autoexp-alignment-panel")


class TabbedPanel(Panel.Panel):
    """Shares the place of Swift's inspector, as tabs: below it there would be little room.

    Attributes:
        placed_key: where Swift remembers that it has been brought there.
    """

    placed_key: str

    def show(self) -> None:
        """Bring the panel to the front."""
        inspector = self.document_controller.find_dock_panel(INSPECTOR)
        if inspector is None or inspector.dock_widget is None:
            super().show()
            return
        if not self.ui.get_persistent_string(self.placed_key, ""):
            self.ui.set_persistent_string(self.placed_key, "yes")
            window = self.document_controller._document_window
            window.tabify_dock_widgets(inspector.dock_widget, self.dock_widget)
        others = [widget for widget in map(self._widget, SHARING) if widget not in (None, self.dock_widget)]
        shown = [widget for widget in others if widget.toggle_action.checked]
        for widget in shown:  # of several tabs, Qt brings the one to the front that is shown first
            widget.hide()
        super().show()
        for widget in shown:
            widget.show()

    def _widget(self, panel_id: str) -> typing.Any:
        panel = self.document_controller.find_dock_panel(panel_id)
        return panel.dock_widget if panel is not None else None
