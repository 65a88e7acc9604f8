"""What ``autoexp doctor`` looks at."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pathlib
import pkgutil
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from autoexp.errors import AutoexpError

TOOLS = {"Xvfb": "xvfb", "xdotool": "xdotool", "openbox": "openbox", "import": "imagemagick"}
LEAST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it is as it should be.
        found: what was found.
        remedy: what to do about it, where something is missing.
        needed: whether nothing works without it.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = False


def all_checks(runs: pathlib.Path) -> list[Check]:
    """Everything, in the order in which one would mend it; a check that fails itself is reported as failed."""
    looks: list[Callable[[], list[Check]]] = [
        _python,
        _swift,
        _learning,
        _optional,
        _plug_ins,
        lambda: [_writable(runs)],
        _site_limits,
        _locks,
        _display,
    ]
    found: list[Check] = []
    for look in looks:
        try:
            found += look()
        except Exception as error:  # a broken installation may raise anything, and is just what is to be shown
            found.append(
                Check(getattr(look, "__name__", "check").strip("_"), False, f"{type(error).__name__}: {error}")
            )
    return found


def _python() -> list[Check]:
    good = sys.version_info >= LEAST_PYTHON
    needed = ".".join(map(str, LEAST_PYTHON))
    return [Check("Python", good, platform.python_version(), "" if good else f"install Python {needed} or later", True)]


def _swift() -> list[Check]:
    return [_package(name, name, needed=True) for name in ("nionswift", "nionswift-instrumentation", "nionutils")] + [
        _package("nionswift-tool", "nionswift-tool", why="for Swift's window")
    ]


def _learning() -> list[Check]:
    return [
        _package("torch", "torch", why="for the deep kernel with a trained network"),
        _package("gpytorch", "gpytorch", why="for the deep kernel with a trained network"),
    ]


def _optional() -> list[Check]:
    return [
        _package("matplotlib", "matplotlib", why="for reports"),
        _package("hyperspy", "hyperspy exspy", why="for export to HyperSpy"),
        _package("h5py", "h5py", why="for Swift's h5 items"),
    ]


def _package(name: str, install: str, needed: bool = False, why: str = "") -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name), needed=needed)
    except importlib.metadata.PackageNotFoundError:
        line = f"python -m pip install {install}"
        return Check(name, False, f"not installed{f', {why}' if why else ''}", line, needed)


def _plug_ins() -> list[Check]:
    """Swift finds plug-ins by this very search, which an editable installation can defeat."""
    try:
        home = importlib.import_module("nionswift_plugin")
        names = {found.name for found in pkgutil.iter_modules(home.__path__)}
    except ImportError:
        names = set()
    remedy = "install this package into the environment of Swift: python -m pip install nionswift-autoexp"
    return [
        Check(f"Swift plug-in {name}", True, "found by Swift")
        if name in names
        else Check(f"Swift plug-in {name}", False, "not found by Swift", remedy)
        for name in ("autoexp_ui", "virtual_stem")
    ]


def _writable(runs: pathlib.Path) -> Check:
    place = runs.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            pass
    except OSError as error:
        return Check("runs folder", False, f"{runs}: {error}", "name another with --runs or AUTOEXP_RUNS", True)
    free = shutil.disk_usage(place).free / 2**30
    enough = free > 1
    return Check("runs folder", enough, f"{runs}, {free:.1f} GiB free", "" if enough else "make room on the disk", True)


def _site_limits() -> list[Check]:
    from autoexp.limits import SiteLimits
    from autoexp.swift import preferences

    folder = preferences.load().site
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        return [Check("site limits", True, f"none in {folder}: the defaults hold")]
    checks = []
    for path in files:
        try:
            SiteLimits.read(path)
            checks.append(Check(f"site limits {path.stem}", True, f"valid; for the instrument {path.stem!r} alone"))
        except AutoexpError as error:
            checks.append(Check(f"site limits {path.stem}", False, str(error), f"mend or remove {path}", True))
    return checks


def _locks() -> list[Check]:
    """Which instruments are in use, by whom; looked at without taking them."""
    from autoexp.lock import holders

    held = [f"{name}: {holder}" for name, holder in holders().items()]
    return [Check("instrument locks", True, "; ".join(held) if held else "no instrument is in use by a run")]


def _display() -> list[Check]:
    if sys.platform != "linux":
        return [Check("display", True, platform.system())]
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    line = f"apt-get install {' '.join(missing)}" if missing else ""
    return [
        Check("display", bool(shown), shown or "none", "" if shown else "set DISPLAY; only Swift's window needs one"),
        Check("window test tools", not missing, "there" if not missing else "only tests of the window need them", line),
    ]
