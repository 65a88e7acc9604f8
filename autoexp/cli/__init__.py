"""The command line: ``autoexp --help``. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from autoexp import __version__
from autoexp.cli import alignment, replays, results, runs, sweeping, system, training
from autoexp.cli.console import tolerant_output

app = typer.Typer(
    name="autoexp",
    help="Autonomous STEM-EELS experiments: an overview, and spectra only where they are worth their dose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nionswift-autoexp {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Autonomous STEM-EELS experiments: an overview, and spectra only where they are worth their dose."""
    tolerant_output()
    # Decisions are made beside the exposure, on small matrices: there threads of the linear algebra only get in each
    # other's way. Numerical libraries read this when they are loaded, which no command has done yet.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


app.command(rich_help_panel="Experiments")(runs.demo)
app.command(rich_help_panel="Experiments")(runs.plan)
app.command(rich_help_panel="Experiments")(runs.run)
app.command(rich_help_panel="Experiments")(runs.resume)
app.command(rich_help_panel="Experiments")(system.simulate)
app.command(rich_help_panel="Results")(results.report)
app.command(rich_help_panel="Results")(results.export)
app.command(rich_help_panel="Recorded data")(replays.replay)
app.command(rich_help_panel="Recorded data")(replays.compare)
app.command(rich_help_panel="Alignment")(alignment.align)
app.command(rich_help_panel="Alignment")(training.train)
app.command(rich_help_panel="Alignment")(sweeping.sweep)
app.command(rich_help_panel="Alignment")(sweeping.reproduce)
app.command(rich_help_panel="This computer")(system.doctor)

__all__ = ["app"]
