"""Swift on a project for practice, opened at once: for ``autoexp simulate``, and for the window tests.

Swift's native launcher imports this file and calls :func:`main`. A fresh Swift would first ask for a project.
"""

from __future__ import annotations

import json
import os
import pathlib
import time
import typing
import uuid

import platformdirs
from nion.swift import Application, Facade
from nion.swift.model import FileStorageSystem
from nion.ui import Application as ApplicationUI

FOLDER_VARIABLE = "AUTOEXP_PRACTICE_FOLDER"
PANEL_ID = "autoexp-panel"


def practice_folder() -> pathlib.Path:
    """Where practice projects lie; nobody's real projects are touched."""
    given = os.environ.get(FOLDER_VARIABLE)
    return pathlib.Path(given) if given else platformdirs.user_data_path("autoexp", appauthor=False) / "practice"


class PracticeApplication(Application.Application):
    """Swift that opens a new project in the practice folder, with the panel in view."""

    def start(self, **kwargs: typing.Any) -> bool:
        """Open the project's window."""
        folder = practice_folder()
        folder.mkdir(parents=True, exist_ok=True)
        profile = folder / "Profile.nsproj"
        if not profile.exists():  # without one, Swift asks which projects to import
            version = FileStorageSystem.PROFILE_VERSION
            profile.write_text(json.dumps({"version": version, "uuid": str(uuid.uuid4())}), encoding="utf-8")
        self._enter_prevent_close_state()
        super().start(profile_dir=folder)
        self.create_project_reference(folder, time.strftime("Practice %Y-%m-%d %H%M%S"))
        self._exit_prevent_close_state()
        self.opened(self.windows[-1])
        return True

    def show_choose_project_dialog(self) -> None:
        """There is nothing to choose."""

    def opened(self, window: typing.Any) -> None:
        """The window is there: show the panel."""
        panel = window.find_dock_panel(PANEL_ID)
        if panel is not None:
            panel.show()


def main(
    args: typing.Sequence[str],
    bootstrap_args: typing.Mapping[str, typing.Any],
    application: type[PracticeApplication] = PracticeApplication,
) -> typing.Any:
    """What the launcher calls."""
    Facade.initialize()
    app = application(ApplicationUI.make_ui(bootstrap_args))
    app.initialize(use_root_dir=False)
    return app
