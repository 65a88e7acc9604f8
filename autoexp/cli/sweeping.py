"""sweep: many trainings, on processes or on a cluster."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from autoexp.cli.console import (
    ENDED_BADLY,
    INTERRUPTED,
    JsonFlag,
    Part,
    Reply,
    interruptible,
    plain,
    progress,
    replying,
)
from autoexp.errors import PlanError

if TYPE_CHECKING:
    from autoexp.training.sweeps import Job, Row, Workers

JobsAtOnce = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Trainings at a time on this machine; by default one a core.")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray", help="Address of a Ray cluster that carries them out instead, or: auto.")
]
RetryFlag = Annotated[bool, typer.Option("--retry", help="Try those again that failed before.")]


def sweep(
    sweep_file: Annotated[pathlib.Path, typer.Argument(metavar="SWEEP.json", help="What is trained, and what varies.")],
    out: Annotated[pathlib.Path, typer.Option(help="Folder in which each training has its own.")] = pathlib.Path(
        "sweep"
    ),
    jobs: JobsAtOnce = None,
    ray: RayAddress = None,
    retry: RetryFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Train many agents that differ in some settings; a sweep that was cut off goes on where it was.

    SWEEP.json holds the job and, under vary, lists of values, as in
    {"vary": {"training.environment.binning": [1, 2, 4], "training.seed": [0, 1, 2]}}; all combinations are trained.
    One row for each is in OUT/table.csv, failures with their reason. Exit code 0: all are trained; 1: some failed.
    """
    with replying(as_json) as reply:
        from autoexp.training.sweeps import Sweep

        asked = Sweep.read(sweep_file).jobs()
        rows = carry_out(asked, out, reply, jobs, ray, retry)
        failed = [row for row in rows if row.get("error")]
        reply.document({"folder": str(out), "trainings": len(rows), "failed": len(failed), "rows": rows})
        reply.line(f"table     {out / 'table.csv'}: {len(rows)} trainings, {len(failed)} failed")
        end(rows, asked)


def reproduce(
    paper: Annotated[str, typer.Argument(help="Whose numbers: xu2022, reinforcement learning of the alignment.")],
    out: Annotated[pathlib.Path, typer.Option(help="Folder of trainings, tables and figures.")] = pathlib.Path(
        "xu2022"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Shorter trainings of fewer settings, once each.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="How often each is trained.")] = 3,
    jobs: JobsAtOnce = None,
    ray: RayAddress = None,
    retry: RetryFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Train the experiments of a paper again, and set what comes of them beside what it reports.

    Every number stands beside the floor, of a controller that is told the response, and the secant method. Tables
    (csv) and figures (png) lie in OUT/results. What was cut off goes on where it was, and shows what it has.
    """
    with replying(as_json) as reply:
        if paper != "xu2022":
            raise PlanError(f"There is no paper {paper!r} to reproduce; there is: xu2022.")
        from autoexp.training import xu2022

        asked = xu2022.parts(1 if quick else seeds, quick)
        every = xu2022.all_jobs(asked)
        rows = carry_out(every, out, reply, jobs, ray, retry)
        xu2022.write_summary(asked, rows, out, out / "results")
        told = {part.name: xu2022.summarize(part, rows) for part in asked}
        reply.document({"folder": str(out), "trainings": len(rows), "paper": xu2022.SAID, **told})
        for part in asked:
            reply.table(part.title, told[part.name])
        said = xu2022.SAID
        reply.line(f"paper     solved after {said['solved']} steps; {said['steps']} steps an alignment; learning again")
        reply.line(f"          {said['relearned']} steps; RMS {said['rms']}")
        reply.line(f"results   {out / 'results'}: {len(rows)} of {len(every)} trainings")
        end(rows, every)


def carry_out(
    asked: list[Job], out: pathlib.Path, reply: Reply, jobs: int | None, ray: str | None, retry: bool
) -> list[Row]:
    """Carry out what is not finished, with a bar and a line for each training; all rows there are.

    Raises:
        AutoexpError: there is no such cluster, or a library is missing.
    """
    from autoexp.training.sweeps import sweep as run
    from autoexp.training.sweeps import unfinished

    todo = unfinished(asked, out, retry)
    done = itertools.count(1)
    with _workers(jobs, ray) as workers, interruptible() as wanted, progress("trainings", todo) as told:

        def on_row(row: Row) -> None:
            told(next(done))
            reply.line(*_in_words(row))

        return run(asked, out, workers, retry=retry, on_row=on_row, wanted=wanted)


def end(rows: list[Row], asked: list[Job]) -> None:
    """End the program as it went.

    Raises:
        typer.Exit: some trainings are missing, or have failed.
    """
    if len(rows) < len(asked):
        raise typer.Exit(INTERRUPTED)
    if any(row.get("error") for row in rows):
        raise typer.Exit(ENDED_BADLY)


def _in_words(row: Row) -> list[Part]:
    """A training in one line."""
    if row.get("error"):
        return [("failed", "red"), f"  {row['name']}: {row['error']}"]
    success, steps, floor, solved = (
        row.get(name) for name in ("success", "steps_mean", "floor_steps_mean", "solved_at")
    )
    when = f"solved at {solved:,}" if isinstance(solved, int) else "not solved"
    numbers = [plain(x if isinstance(x, int | float) else None) for x in (steps, floor)]
    share = 100 * success if isinstance(success, int | float) else 0.0
    return [f"{row['name']}: {when}, {share:.0f} % in {numbers[0]} steps (floor {numbers[1]})"]


@contextlib.contextmanager
def _workers(jobs: int | None, ray: str | None) -> Iterator[Workers]:
    from autoexp.training.sweeps import Processes

    if ray is None:
        yield Processes(jobs)
        return
    from autoexp.training.cluster import RayWorkers

    cluster = RayWorkers(ray)
    try:
        yield cluster
    finally:
        cluster.close()
