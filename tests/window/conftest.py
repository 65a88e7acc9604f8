"""A virtual display, and real Swift on it."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent
TOOLS = {"Xvfb": "xvfb", "openbox": "openbox", "xdotool": "xdotool", "import": "imagemagick"}
LAUNCHER = pathlib.Path(sys.prefix) / "bin" / "NionSwiftLauncher" / "NionSwiftLauncher"


def missing():
    """What is not there, and the line that installs it; None if all is there."""
    absent = [package for program, package in TOOLS.items() if shutil.which(program) is None]
    if absent:
        return f"the window tests need {', '.join(absent)}: apt-get install {' '.join(absent)} libxcb-cursor0 libegl1"
    if not LAUNCHER.exists():
        return "the window tests need Swift's native launcher: python -m pip install nionswift-tool"
    return None


@pytest.fixture(scope="session")
def display():
    """A display that nobody sees, with a window manager; its name."""
    reason = missing()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1920x1200x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        name = f":{pipe.readline().strip()}"
    manager = subprocess.Popen(["openbox"], env={**os.environ, "DISPLAY": name}, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    yield name
    for process in (manager, server):
        process.terminate()
        process.wait()


@pytest.fixture
def swift(display, tmp_path, request):
    """Runs a script in real Swift, in a profile of its own; returns what the script returned.

    Screenshots are kept in tests/window/out, for somebody to look at.
    """
    out = HERE / "out" / request.node.name

    def run(script, specimen="plasmonic", seconds=150):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        runtime = tmp_path / "runtime"
        runtime.mkdir(mode=0o700, exist_ok=True)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("XDG_")},
            "DISPLAY": display,
            "HOME": str(tmp_path),
            "XDG_RUNTIME_DIR": str(runtime),
            "PYTHONPATH": str(HERE),
            "AUTOEXP_VIRTUAL_STEM": specimen,
            "SWIFT_SCRIPT": str(HERE / script),
            "SWIFT_OUT": str(out),
        }
        command = [str(LAUNCHER), sys.prefix, str(HERE / "swift_app.py")]
        with open(out / "log.txt", "w") as log:
            subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=seconds, check=False)
        result_file = out / "result.json"
        assert result_file.exists(), (out / "log.txt").read_text()[-4000:]
        result = json.loads(result_file.read_text())
        assert result["ok"], result.get("error")
        assert "Traceback" not in (out / "log.txt").read_text()
        return result["result"]

    return run
