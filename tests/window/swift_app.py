"""Runs inside Swift's native launcher: opens real Swift on an empty project, runs a script in it, writes a result.

``SWIFT_SCRIPT`` names the script (a file with an async ``run``), ``SWIFT_OUT`` the folder for ``result.json`` and
screenshots.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import os
import pathlib
import subprocess
import traceback

from autoexp.swift import practice


class ScriptedApplication(practice.PracticeApplication):
    def opened(self, window):
        out = pathlib.Path(os.environ["SWIFT_OUT"])
        self.stacks = open(out / "stacks.txt", "w")  # noqa: SIM115 - open as long as Swift
        faulthandler.dump_traceback_later(float(os.environ["SWIFT_SECONDS"]), file=self.stacks)
        self.script_task = window.event_loop.create_task(self.run_script(window, out))

    async def run_script(self, window, out):
        result = {"ok": False}
        try:
            spec = importlib.util.spec_from_file_location("window_script", os.environ["SWIFT_SCRIPT"])
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


def main(args, bootstrap_args):
    return practice.main(args, bootstrap_args, ScriptedApplication)
