"""The headless tests on Python 3.13, with the newest Swift and without torch; says so where there is no such Python.

Run by ``make test``; not a test file itself.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
VENV = ROOT / ".venv-newest"
VERSION = "3.13"
FEWER = {"AUTOEXP_FUZZ": "40", "AUTOEXP_KILLS": "10"}
"""Hostile cases of each kind: that a version makes a difference shows in the first of them."""


def find_python() -> str | None:
    """A Python of that version that runs: on the path, or one that pyenv keeps."""
    kept = sorted((pathlib.Path.home() / ".pyenv" / "versions").glob(f"{VERSION}*/bin/python{VERSION}"))
    for candidate in (f"python{VERSION}", *map(str, kept)):
        try:
            said = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if said.returncode == 0 and VERSION in said.stdout:
            return candidate
    return None


def main() -> int:
    """Make the environment if it is not there, and run the tests in it."""
    python = find_python()
    if python is None:
        print(f"Python {VERSION} was not found: the tests on it are left out.")
        return 0
    inside = VENV / "bin" / "python"
    stamp = VENV / ".installed"
    wanted = (ROOT / "setup.py").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    if not stamp.exists() or stamp.read_bytes() != wanted:
        subprocess.run([python, "-m", "venv", str(VENV)], check=True)
        pip = [str(inside), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--constraint", "constraints.txt", "--editable", ".[test,export]"], cwd=ROOT, check=True)
        stamp.write_bytes(wanted)
    without_torch = [str(inside), "-c", "import importlib.util, sys; sys.exit(bool(importlib.util.find_spec('torch')))"]
    subprocess.run(without_torch, check=True)
    tests = [str(inside), "-m", "pytest", "-m", "not slow and not window", *sys.argv[1:]]
    return subprocess.run(tests, cwd=ROOT, env=FEWER | os.environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
