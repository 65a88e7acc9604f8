"""A virtual display, and real Swift on it; for the window tests and the benchmarks."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
TOOLS = {"Xvfb": "xvfb", "openbox": "openbox", "xdotool": "xdotool", "import": "imagemagick"}
LAUNCHER = pathlib.Path(sys.prefix) / "bin" / "NionSwiftLauncher" / "NionSwiftLauncher"


def missing():
    """What is not there, and the line that installs it; None if all is there."""
    absent = [package for program, package in TOOLS.items() if shutil.which(program) is None]
    if absent:
        return f"a window needs {', '.join(absent)}: apt-get install {' '.join(absent)} libxcb-cursor0 libegl1"
    if not LAUNCHER.exists():
        return "a window needs Swift's native launcher: python -m pip install nionswift-tool"
    return None


@contextlib.contextmanager
def display():
    """A display that nobody sees, with a window manager; its name."""
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1920x1200x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        name = f":{pipe.readline().strip()}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    manager = subprocess.Popen(["openbox"], env={**os.environ, "DISPLAY": name}, **quiet)
    time.sleep(0.5)
    try:
        yield name
    finally:
        for process in (manager, server):
            process.terminate()
            process.wait()


def run_swift(name, script, out, *, home, specimen="plasmonic", seconds=150):
    """Run a script in real Swift, in a profile of its own; ``out`` then holds result.json, log.txt and screenshots."""
    out.mkdir(parents=True)
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("XDG_")},
        "DISPLAY": name,
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": str(HERE),
        "AUTOEXP_VIRTUAL_STEM": str(specimen),
        "SWIFT_SCRIPT": str(script),
        "SWIFT_OUT": str(out),
        "AUTOEXP_PRACTICE_FOLDER": str(out / "work"),
    }
    command = [str(LAUNCHER), sys.prefix, str(HERE / "swift_app.py")]
    with open(out / "log.txt", "w") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=seconds, check=False)
