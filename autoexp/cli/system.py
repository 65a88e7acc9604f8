"""doctor and simulate: this computer, and Swift on it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from autoexp.cli.console import ENDED_BADLY, RUNS, JsonFlag, Part, RunsFolder, messages, replying, words
from autoexp.errors import MissingDependencyError

if TYPE_CHECKING:
    from autoexp.cli.checks import Check

APP = pathlib.Path(__file__).parent.parent / "swift" / "practice.py"


def doctor(runs: RunsFolder = RUNS, as_json: JsonFlag = False) -> None:
    """Check this computer: what is installed, what is missing, and what to do about it.

    Exit code 1 if something is missing without which nothing works.
    """
    with replying(as_json) as reply:
        from autoexp.cli.checks import all_checks

        found = all_checks(runs)
        reply.document({"ok": all(c.ok or not c.needed for c in found), "checks": [vars(c) for c in found]})
        rows = [{"": _mark(c), "what": c.name, "found": c.found, "what to do": c.remedy} for c in found]
        reply.table("", rows, whole=["", "what"])
        if not all(check.ok for check in found if check.needed):
            raise typer.Exit(ENDED_BADLY)


def _mark(check: Check) -> Part:
    """Whether something is as it should be, in one word."""
    return ("ok", "green") if check.ok else ("missing", "red" if check.needed else "yellow")


def simulate(
    specimen: Annotated[
        str,
        typer.Option(help="Specimen of the virtual microscope: its name, or the file of a recorded spectrum image."),
    ] = "plasmonic",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be started, and do not start it.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Open Nion Swift with the virtual microscope and the Autonomous Experiment panel."""
    with replying(as_json) as reply:
        command, environment = swift_command(specimen)
        reply.document({"command": command, "environment": environment})
        reply.line(" ".join([*(f"{name}={value}" for name, value in environment.items()), *command]))
        if dry_run:
            return
        badge = " SIMULATED ", "black on yellow"
        messages().print(words("Opening Nion Swift; the microscope in it is ", badge, "."))
        code = subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
        if code:
            raise typer.Exit(ENDED_BADLY)


def swift_command(specimen: str) -> tuple[list[str], dict[str, str]]:
    """The command that opens Swift's window, and what it needs in its environment.

    Raises:
        PlanError: there is no such specimen.
        MissingDependencyError: Swift, its launcher or a display is missing; the message says what to do.
    """
    from autoexp.plan import VirtualInstrument
    from autoexp.session import make_specimen
    from autoexp.swift.preferences import VIRTUAL_STEM_VARIABLE

    make_specimen(VirtualInstrument(specimen=specimen))
    launcher = native_launcher()
    if launcher is None:
        raise MissingDependencyError(
            f"Swift's native launcher is not installed in {sys.prefix}: python -m pip install nionswift nionswift-tool"
        )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise MissingDependencyError("There is no display to open a window on; set DISPLAY, or use: autoexp demo")
    known = pathlib.Path(specimen)
    value = str(known.resolve()) if known.is_file() else specimen
    return [str(launcher), sys.prefix, str(APP)], {VIRTUAL_STEM_VARIABLE: value}


def native_launcher() -> pathlib.Path | None:
    """The program that nionswift-tool puts into an environment; None where it is not there."""
    places = {
        "linux": ("bin", "NionSwiftLauncher", "NionSwiftLauncher"),
        "darwin": ("bin", "Nion Swift.app", "Contents", "MacOS", "Nion Swift"),
        "win32": ("Scripts", "NionSwiftLauncher", "NionSwift.exe"),
    }
    place = places.get(sys.platform)
    if place is None:
        return None
    found = pathlib.Path(sys.exec_prefix).joinpath(*place)
    return found if found.is_file() else None
