"""report and export: what remains of a run."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated

import typer

from autoexp.cli.console import RUNS, JsonFlag, RunName, RunsFolder, messages, remark, replying


class Format(enum.StrEnum):
    """What a run can be exported to."""

    hspy = "hspy"
    csv = "csv"


def report(
    name: RunName,
    runs: RunsFolder = RUNS,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write report.html into a run's folder: a single page about what was asked, measured and found.

    Works for every run, also for one that is going on, was aborted, or measured nothing.
    """
    with replying(as_json) as reply:
        from autoexp.report import write_report
        from autoexp.session import find_run

        with messages().status("Writing the report"):
            page = write_report(find_run(name, runs))
        reply.document({"report": str(page)})
        reply.line(str(page))
        if show:
            typer.launch(page.resolve().as_uri())


def export(
    name: RunName,
    to: Annotated[Format, typer.Option("--format", help="hspy: HyperSpy file for exSpy; csv: tables.")],
    output: Annotated[
        pathlib.Path | None, typer.Option(help="File to write; by default in the run's folder, named after the run.")
    ] = None,
    spectra: Annotated[bool, typer.Option("--spectra", help="csv: a second table with all spectra.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    runs: RunsFolder = RUNS,
    as_json: JsonFlag = False,
) -> None:
    """Write a run's data for other programs.

    hspy: all measured spectra as one calibrated EELS signal with positions, values and the plan in its metadata, and
    the overview beside it. csv: one line a point with position, value, noise, status, reason, dose and time. Files are
    written in one step, read back to make sure, and never replaced unless --force is given. Spectra that are not as
    they were measured are left out, with a warning.
    """
    with replying(as_json) as reply:
        from autoexp.export import damage_of, export_csv, export_hspy
        from autoexp.session import find_run

        folder = find_run(name, runs)
        if to is Format.hspy:
            files = export_hspy(folder, output, force=force)
        else:
            files = export_csv(folder, output, spectra=spectra, force=force)
        damaged, said = damage_of(folder)
        reply.document({"files": [str(path) for path in files], "damaged": [point + 1 for point in damaged]})
        if said:
            remark(("warning:", "yellow"), said)
        for path in files:
            reply.line(str(path))
