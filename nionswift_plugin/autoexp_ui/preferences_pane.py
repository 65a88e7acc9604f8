"""The page in Swift's Preferences."""

from __future__ import annotations

import asyncio
import typing

from nion.ui import Declarative, PreferencesDialog
from nion.utils import Model

from autoexp.swift import preferences
from nionswift_plugin.autoexp_ui.translation import translate as _


class Handler(Declarative.Handler):
    """Reads the preferences, and writes each change at once."""

    def __init__(self) -> None:
        from virtual_stem.specimens import SPECIMENS  # Swift starts faster without it

        super().__init__()
        now = preferences.load()
        self._specimens = ["", *sorted(SPECIMENS)]
        known = now.virtual_stem in self._specimens
        self.specimen_index = Model.PropertyModel[int](self._specimens.index(now.virtual_stem) if known else 0)
        self.runs_folder = Model.PropertyModel[str](now.runs_folder)
        self.armed = Model.PropertyModel[bool](now.arm_hardware)
        for model in (self.specimen_index, self.runs_folder, self.armed):
            model.on_value_changed = self._save
        u = Declarative.DeclarativeUI()
        self.ui_view = u.create_column(
            u.create_row(
                u.create_label(text=_("Virtual microscope"), width=140),
                u.create_combo_box(
                    items=[_("None"), *sorted(SPECIMENS)],
                    current_index="@binding(specimen_index.value)",
                    tool_tip=_("Registered when Swift starts, beside whatever instrument there is; marked SIMULATED."),
                ),
                u.create_label(text=_("from the next start of Swift")),
                u.create_stretch(),
                spacing=8,
            ),
            u.create_row(
                u.create_label(text=_("Folder of the runs"), width=140),
                u.create_line_edit(
                    text="@binding(runs_folder.value)",
                    placeholder_text=str(preferences.Preferences().runs),
                    width=320,
                    tool_tip=_("Each run keeps a journal here, from which it can be resumed; on a local disk."),
                ),
                u.create_stretch(),
                spacing=8,
            ),
            u.create_check_box(
                text=_("Allow experiments on a real instrument"),
                checked="@binding(armed.value)",
                tool_tip=_("Until this is on, experiments run on virtual microscopes only."),
            ),
            u.create_row(
                u.create_label(
                    text=_("The site's limits are read from {folder}.").format(folder=now.site),
                    word_wrap=True,
                    width=480,
                ),
                u.create_stretch(),
            ),
            u.create_stretch(),
            spacing=8,
        )

    def close(self) -> None:
        """The dialog closes."""
        for model in (self.specimen_index, self.runs_folder, self.armed):
            model.on_value_changed = None
            model.close()
        super().close()

    def _save(self, _value: typing.Any) -> None:
        now = preferences.load()
        preferences.save(
            now.model_copy(
                update={
                    "virtual_stem": self._specimens[self.specimen_index.value or 0],
                    "runs_folder": (self.runs_folder.value or "").strip(),
                    "arm_hardware": bool(self.armed.value),
                }
            )
        )


class PreferencesPane:
    """What Swift's preferences dialog asks of a page."""

    identifier = "org.autoexp.preferences"
    label = _("Autonomous Experiment")

    def build(
        self, ui: typing.Any, event_loop: asyncio.AbstractEventLoop | None = None, **kwargs: typing.Any
    ) -> Declarative.DeclarativeWidget:
        """The page's widget."""
        return Declarative.DeclarativeWidget(ui, event_loop or asyncio.get_event_loop(), Handler())


def register() -> PreferencesPane:
    """Add the page; hand the result to :func:`unregister` later."""
    pane = PreferencesPane()
    PreferencesDialog.PreferencesManager().register_preference_pane(pane)
    return pane


def unregister(pane: PreferencesPane) -> None:
    """Take the page away."""
    PreferencesDialog.PreferencesManager().unregister_preference_pane(pane)
