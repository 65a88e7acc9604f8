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
LOCK = "_begin_batch_update"
DUMPING_S = 15
LAUNCHER = pathlib.Path(sys.prefix) / "bin" / "NionSwiftLauncher" / "NionSwiftLauncher"


class SwiftDeadlockError(Exception):
    """Two of Swift's threads wait for each other, each with a lock on the list of thumbnails.

    Now and then, when an item comes while the thumbnail of another is being made, the thread of the thumbnail asks for
    the list's lock (``CanvasItem._begin_batch_update``) with an item's lock in its hand, and the window's thread the
    other way round. That is in Swift itself, whoever adds the item; the stacks tell it from every other hang.
    """


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


def run_swift(name, script, out, *, home, specimen="plasmonic", seconds=250):
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
        "SWIFT_SECONDS": str(seconds - DUMPING_S),
        "AUTOEXP_PRACTICE_FOLDER": str(out / "work"),
    }
    command = [str(LAUNCHER), sys.prefix, str(HERE / "swift_app.py")]
    with open(out / "log.txt", "w") as log:
        try:
            subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            stacks = out / "stacks.txt"
            if stacks.exists() and stacks.read_text().count(LOCK) >= 2:
                raise SwiftDeadlockError(stacks.read_text()) from error
            raise
