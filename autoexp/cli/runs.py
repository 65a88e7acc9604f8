"""demo, plan, run, resume: experiments from the command line."""

from __future__ import annotations

import contextlib
import pathlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoexp.cli import forms
from autoexp.cli.console import (
    ENDED_BADLY,
    RUNS,
    ArmFlag,
    JsonFlag,
    Part,
    Reply,
    RunName,
    RunsFolder,
    messages,
    plain,
    remark,
    replying,
)
from autoexp.errors import AutoexpError

if TYPE_CHECKING:
    from autoexp.plan import Plan
    from autoexp.session import Session

Specimen = Annotated[
    str, typer.Option(help="Specimen of the virtual microscope: its name, or the file of a recorded spectrum image.")
]
ReportFlag = Annotated[bool, typer.Option("--report/--no-report", help="Write report.html into the run's folder.")]
Agent = Annotated[str, typer.Option(help=forms.AGENT_HELP)]
AcquisitionOption = Annotated[str | None, typer.Option("--acquisition", help=forms.ACQUISITION_HELP)]
ScalarizerOption = Annotated[
    str | None, typer.Option("--scalarizer", help=f"{forms.SCALARIZER_HELP} By default what the specimen is known for.")
]
Points = Annotated[int, typer.Option(min=1, help="Spectra to take.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the specimen, its noise, and the agent.")]
TimeScale = Annotated[float, typer.Option(min=0.001, max=1000, help="Simulated seconds per second.")]
AlignFlag = Annotated[
    bool, typer.Option("--align", help="Align the beam first, and again when a look every 20 spectra says so.")
]
COARSE = 128  # an overview of fewer pixels a side is a recorded map, every pixel of which is a candidate


def demo(
    specimen: Specimen = "plasmonic",
    points: Points = 60,
    agent: Agent = "deep-kernel",
    acquisition: AcquisitionOption = None,
    scalarizer: ScalarizerOption = None,
    seed: Seed = 0,
    align: AlignFlag = False,
    time_scale: TimeScale = 1.0,
    runs: RunsFolder = RUNS,
    report: ReportFlag = True,
    as_json: JsonFlag = False,
) -> None:
    """Run a whole experiment on the virtual microscope, and write its report.

    An overview, then spectra whose places are chosen one by one, through Swift's own instrument abstraction and in
    real time. Ctrl-C once pauses after the present point, twice aborts, three times halts.
    """
    with replying(as_json) as reply:
        plan = demo_plan(specimen, points, agent, acquisition, scalarizer, seed, align, time_scale)
        _run(plan, _new_folder(runs, plan.name), reply, report=report)


def plan(
    specimen: Specimen = "plasmonic",
    points: Points = 60,
    agent: Agent = "deep-kernel",
    acquisition: AcquisitionOption = None,
    scalarizer: ScalarizerOption = None,
    seed: Seed = 0,
    align: AlignFlag = False,
) -> None:
    """Print a plan as JSON: something to start from, for: autoexp run PLAN.json"""
    with replying() as reply:
        reply.raw(demo_plan(specimen, points, agent, acquisition, scalarizer, seed, align).to_json())


def run(
    plan_file: Annotated[pathlib.Path, typer.Argument(metavar="PLAN.json", help="The plan; see: autoexp plan")],
    runs: RunsFolder = RUNS,
    arm: ArmFlag = False,
    report: ReportFlag = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the plan and say what it would cost.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Carry out a plan on the instrument that it names.

    Exit code 0: the run ended as planned; 1: it faulted or was aborted; 2: the plan cannot be used.
    """
    with replying(as_json) as reply:
        from autoexp.plan import Plan

        wanted = Plan.read(plan_file)
        if dry_run:
            _estimate(wanted, reply)
        else:
            _run(wanted, _new_folder(runs, wanted.name), reply, armed=arm, report=report)


def resume(
    name: RunName,
    runs: RunsFolder = RUNS,
    arm: ArmFlag = False,
    report: ReportFlag = True,
    as_json: JsonFlag = False,
) -> None:
    """Go on with a run that was interrupted; what was begun and not finished is never exposed again."""
    with replying(as_json) as reply:
        from autoexp.session import find_run

        _run(None, find_run(name, runs), reply, armed=arm, report=report)


def demo_plan(
    specimen: str,
    points: int = 60,
    agent: str = "deep-kernel",
    acquisition: str | None = None,
    scalarizer: str | None = None,
    seed: int = 0,
    align: bool = False,
    time_scale: float = 1.0,
) -> Plan:
    """The demo's plan: the specimen as it is best seen, and what it is known for as the goal.

    Raises:
        PlanError: the specimen, the agent or the scalarizer does not exist.
    """
    from autoexp.plan import AlignmentStage, Budget, OverviewSpec, PatchSpec, Plan, SpectrumSpec, VirtualInstrument
    from autoexp.scalarizers import parse_scalarizer
    from autoexp.session import make_specimen

    instrument = VirtualInstrument(specimen=specimen, seed=seed, time_scale=time_scale)
    found = make_specimen(instrument)
    view = found.view
    coarse = view.pixels < COARSE
    return Plan(
        name=pathlib.Path(specimen).stem[:80] or "demo",
        seed=seed,
        instrument=instrument,
        overview=OverviewSpec(fov_nm=view.fov_nm, pixels=view.pixels, dwell_us=view.dwell_us),
        patches=PatchSpec(pixels=8, stride=1, border="reflect") if coarse else PatchSpec(),
        spectrum=SpectrumSpec(exposure_s=view.exposure_s),
        scalarizer=forms.scalarizer_of(scalarizer) if scalarizer else parse_scalarizer(dict(found.goal.scalarizer)),
        agent=forms.agent_of(agent, acquisition),
        budget=Budget(points=points),
        align=AlignmentStage(every=20) if align else None,
    )


def _new_folder(runs: pathlib.Path, name: str) -> pathlib.Path:
    from autoexp.session import make_run_folder

    return make_run_folder(runs, name)


def _estimate(wanted: Plan, reply: Reply) -> None:
    estimate = wanted.estimate(getattr(wanted.instrument, "beam_current_pA", None))
    dose = "dose not known" if estimate.dose_e is None else f"{plain(estimate.dose_e)} electrons"
    reply.line(
        f"{wanted.name}: {estimate.points} of {estimate.candidates:,} candidates, {estimate.time_s:.1f} s, {dose}. "
        "Nothing was moved."
    )
    reply.document({"plan": wanted.name, **vars(estimate)})


def _run(wanted: Plan | None, folder: pathlib.Path, reply: Reply, *, armed: bool = False, report: bool = True) -> None:
    from autoexp.session import open_session

    interactive = not reply.as_json and sys.stdin.isatty() and sys.stderr.isatty()
    try:
        with open_session(wanted, folder, armed=armed) as session:
            given_up = _follow(session, interactive)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if it is empty: nothing was begun in it
        raise
    page = _report(folder) if report else None
    _tell(session, page, reply)
    ending = session.engine.status.ending
    if given_up or ending not in ("completed", "stopped"):
        raise typer.Exit(ENDED_BADLY)


def _follow(session: Session, interactive: bool) -> bool:
    from autoexp.cli.live import LiveLine, follow

    plan = session.engine.plan
    line = LiveLine(messages(), session.identity.simulated, plan.scalarizer.units)
    line.say(f"{plan.name}: {plan.scalarizer.describe()}, on {session.identity.name}; {session.engine.folder}")
    return follow(session.engine, line, interactive)


def _report(folder: pathlib.Path) -> pathlib.Path | None:
    from autoexp.report import write_report

    try:
        with messages().status("Writing the report"):
            return write_report(folder)
    except AutoexpError as error:
        remark(("no report:", "yellow"), str(error))
        return None


def _tell(session: Session, page: pathlib.Path | None, reply: Reply) -> None:
    document = outcome(session, page)
    reply.document(document)
    badge: list[Part] = [(" SIMULATED ", "black on yellow"), " "] if document["simulated"] else []
    reply.line(*badge, (str(document["ending"]), "bold"), f": {document['reason']}")
    best = document["best"]
    if best:
        place = "" if best["y_nm"] is None else f" at y {best['y_nm']:.1f}, x {best['x_nm']:.1f} nm"
        reply.line(f"best {plain(best['value'], best['units'])} ± {plain(best['noise'])}, point {best['point']}{place}")
    failed = f", {document['failed']} failed" if document["failed"] else ""
    reply.line(
        f"{document['points']} spectra{failed} in {document['elapsed_s']:.1f} s, of which {document['waited_s']:.2f} s "
        f"waiting for decisions; {plain(document['dose_e'])} electrons"
    )
    reply.line(f"run     {document['folder']}")
    if page:
        reply.line(f"report  {page}")


def outcome(session: Session, page: pathlib.Path | None = None) -> dict[str, Any]:
    """How a run went, in plain JSON types."""
    engine = session.engine
    status, state = engine.status, engine.state
    best = status.best
    found = None
    if best is not None:
        y_nm, x_nm = (state.prepared.to_nm(best.position) if state.prepared else None) or (None, None)
        found = {
            "point": best.id + 1,
            "value": best.value,
            "noise": best.noise,
            "units": state.settings.scalarizer.units if state.settings else "",
            "y": best.position[0],
            "x": best.position[1],
            "y_nm": y_nm,
            "x_nm": x_nm,
        }
    return {
        "run": engine.folder.name,
        "folder": str(engine.folder),
        "simulated": session.identity.simulated,
        "ending": status.ending,
        "reason": status.reason,
        "points": status.points,
        "failed": status.failed,
        "best": found,
        "elapsed_s": status.elapsed_s,
        "waited_s": status.waited_s,
        "dose_e": status.dose_e,
        "warnings": list(state.warnings),
        "report": str(page) if page else None,
    }
