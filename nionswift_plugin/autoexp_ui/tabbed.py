"""A dock panel that finds a place with room."""

from __future__ import annotations

from nion.swift import Panel


class TabbedPanel(Panel.Panel):
    """Shares, the first time it is shown, the place of Swift's inspector, as tabs: below it there would be little room.

    Attributes:
        placed_key: where Swift remembers that this has been done.
    """

    placed_key: str

    def show(self) -> None:
        """Bring the panel to the front."""
        placed = self.ui.get_persistent_string(self.placed_key, "")
        inspector = self.document_controller.find_dock_panel("inspector-panel") if not placed else None
        if inspector is None or inspector.dock_widget is None:
            super().show()
            return
        self.ui.set_persistent_string(self.placed_key, "yes")
        window = self.document_controller._document_window
        window.tabify_dock_widgets(inspector.dock_widget, self.dock_widget)
        inspector.hide()  # Qt brings the one of the two to the front that is shown first
        super().show()
        inspector.show()
