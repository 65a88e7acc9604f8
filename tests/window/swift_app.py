"""Runs inside Swift's native launcher: opens real Swift on an empty project, runs a script in it, writes a result.

The launcher imports this file and calls ``main``. ``SWIFT_SCRIPT`` names the script (a file with an async ``run``),
``SWIFT_OUT`` the folder for ``result.json`` and screenshots.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import time
import traceback
import uuid


def main(args, bootstrap_args):
    from nion.swift import Application, Facade
    from nion.swift.model import FileStorageSystem
    from nion.ui import Application as ApplicationUI

    script = pathlib.Path(os.environ["SWIFT_SCRIPT"])
    out = pathlib.Path(os.environ["SWIFT_OUT"])
    out.mkdir(parents=True, exist_ok=True)

    class ScriptedApplication(Application.Application):
        def start(self, **kwargs):
            work = out / "work"
            work.mkdir(exist_ok=True)
            profile = work / "Profile.nsproj"
            if not profile.exists():  # without one, Swift asks which projects to import
                version = FileStorageSystem.PROFILE_VERSION
                profile.write_text(json.dumps({"version": version, "uuid": str(uuid.uuid4())}))
            self.show_choose_project_dialog = lambda: None
            self._enter_prevent_close_state()
            super().start(profile_dir=work)
            self.create_project_reference(work, "Window test " + time.strftime("%H%M%S"))
            self._exit_prevent_close_state()
            window = self.windows[-1]
            self.script_task = window.event_loop.create_task(self.run_script(window))
            return True

        async def run_script(self, window):
            result = {"ok": False}
            try:
                spec = importlib.util.spec_from_file_location("window_script", script)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                result["result"] = await module.run(self, window, out)
                result["ok"] = True
            except BaseException as error:
                result["error"] = "".join(traceback.format_exception(error))
                subprocess.run(["import", "-window", "root", str(out / "error.png")], check=False)
            (out / "result.json").write_text(json.dumps(result, indent=1, default=str))
            if self.windows:
                self.windows[-1].queue_request_close()
            else:
                self.ui.request_quit()

    Facade.initialize()
    app = ScriptedApplication(ApplicationUI.make_ui(bootstrap_args))
    app.initialize(use_root_dir=False)
    return app
