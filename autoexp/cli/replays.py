"""replay and compare: what would have worked on recorded data."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoexp.cli import forms
from autoexp.cli.console import ENDED_BADLY, JsonFlag, Reply, messages, progress, replying, words
from autoexp.errors import PlanError

if TYPE_CHECKING:
    from autoexp.campaigns import Campaign, Dataset, Replay

DATASET_HELP = (
    "A HyperSpy file; a Swift item (ndata, h5); an npz with image (H, W), spectra (h, w, E) and energy_eV (E,); an npz "
    "of recorded candidates with image (H, W), coords (n, 2) and scalar (n,); or the folder of a run."
)
Scalarizer = Annotated[
    str | None, typer.Option("--scalarizer", help=f"{forms.SCALARIZER_HELP} Not needed where values are recorded.")
]
Budget = Annotated[int, typer.Option(min=1, help="Points of each run.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of runs, each with its own seed.")]
FirstSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the first run.")]
Patch = Annotated[int | None, typer.Option(min=2, max=512, help="Side of a patch, pixels of the overview.")]
Image = Annotated[pathlib.Path | None, typer.Option(help="File of the overview, where it is not in the dataset.")]
Signal = Annotated[
    list[int] | None,
    typer.Option(min=1, help="Number of the map or image that is meant, where a file holds several."),
]
ZeroLoss = Annotated[
    float | None,
    typer.Option(help="Measure energies from each spectrum's own zero-loss peak, looked for so many eV around 0."),
]
InFlight = Annotated[int, typer.Option(min=0, max=64, help="Points not back yet when the next one is decided.")]


def replay(
    dataset: Annotated[pathlib.Path, typer.Argument(metavar="DATASET", help=DATASET_HELP)],
    agent: Annotated[str, typer.Option(help=forms.AGENT_HELP)] = "deep-kernel",
    scalarizer: Scalarizer = None,
    acquisition: Annotated[str | None, typer.Option(help=forms.ACQUISITION_HELP)] = None,
    budget: Budget = 100,
    seeds: Seeds = 1,
    seed: FirstSeed = 0,
    patch: Patch = None,
    image: Image = None,
    signal: Signal = None,
    zero_loss: ZeroLoss = None,
    in_flight: InFlight = 0,
    output: Annotated[
        pathlib.Path | None, typer.Option("--json", metavar="OUT", help="Write the runs as JSON here; - for stdout.")
    ] = None,
) -> None:
    """Try a policy on recorded data: what would it have measured, and how much of the best would it have found?

    The JSON holds dataset, plan, and for each seed: measured (candidate indices in order, row-major where the data are
    a grid), scalar (their values), decision_s, and checkpoints with the predicted mean and std of every candidate
    after 25, 50 and 100 points.

    Given the folder of a run, every decision in its log is made again and compared; exit code 1 if one differs.
    """
    with replying(str(output) == "-") as reply:
        if (dataset / "events.jsonl").is_file():
            _verify(dataset, reply, output)
            return
        campaign = _campaign(agent, acquisition, scalarizer, budget, seeds, seed, patch, in_flight, zero_loss)
        result = _replayed(_load(dataset, image, signal), campaign)
        _keep(result.to_json(), output, reply)
        if not reply.as_json:
            _tabulate([result.summary()], reply)
            if output:
                reply.line(f"runs    {output}")


def compare(
    inputs: Annotated[
        list[pathlib.Path],
        typer.Argument(metavar="DATASET | REPLAY.json...", help=f"{DATASET_HELP} Or files written by: autoexp replay"),
    ],
    agent: Annotated[list[str] | None, typer.Option(help=f"{forms.AGENT_HELP} May be given more than once.")] = None,
    acquisition: Annotated[
        list[str] | None, typer.Option(help=f"{forms.ACQUISITION_HELP} May be given more than once.")
    ] = None,
    scalarizer: Scalarizer = None,
    budget: Budget = 100,
    seeds: Seeds = 3,
    seed: FirstSeed = 0,
    patch: Patch = None,
    image: Image = None,
    signal: Signal = None,
    zero_loss: ZeroLoss = None,
    in_flight: InFlight = 0,
    output: Annotated[pathlib.Path, typer.Option(help="Folder for table, page, image and runs.")] = pathlib.Path(
        "compare"
    ),
    as_json: JsonFlag = False,
) -> None:
    """Compare policies on recorded data: regret, recall of the best 1 %, error of the map, calibration.

    With a dataset, each agent (deep kernel learning with each acquisition function) is replayed first; with files
    written by replay, those are compared. Writes compare.html, compare.png, compare.csv and the runs.
    """
    with replying(as_json) as reply:
        if all(path.suffix == ".json" for path in inputs):
            from autoexp.campaigns import Replay

            found = [Replay.read(path) for path in inputs]
        elif len(inputs) == 1:
            policies = [
                _campaign(name, chosen, scalarizer, budget, seeds, seed, patch, in_flight, zero_loss)
                for name, chosen in _policies(agent, acquisition)
            ]
            data = _load(inputs[0], image, signal)
            found = [_replayed(data, campaign) for campaign in policies]
        else:
            raise PlanError("Give one dataset, or any number of JSON files written by: autoexp replay")
        _write_comparison(found, output, reply)


def _write_comparison(found: list[Replay], output: pathlib.Path, reply: Reply) -> None:
    from autoexp.report.comparison import write_comparison

    written = write_comparison(found, output)
    reply.document({"table": written.table, "files": [str(path) for path in written.files]})
    _tabulate(written.table, reply)
    reply.line(f"page    {written.files[0]}")


def _policies(agents: list[str] | None, acquisitions: list[str] | None) -> list[tuple[str, str | None]]:
    """All pairs to try: an acquisition function goes with deep kernel learning only."""
    chosen: list[tuple[str, str | None]] = []
    for agent in agents or ["deep-kernel", "random", "grid"]:
        if agent == "deep-kernel":
            chosen += [(agent, name) for name in acquisitions or ["ucb", "ei"]]
        else:
            chosen.append((agent, None))
    return chosen


def _campaign(
    agent: str,
    acquisition: str | None,
    scalarizer: str | None,
    budget: int,
    seeds: int,
    seed: int,
    patch: int | None,
    in_flight: int,
    zero_loss: float | None,
) -> Campaign:
    from autoexp.campaigns import Campaign
    from autoexp.plan import checked

    return checked(
        Campaign,
        agent=forms.agent_of(agent, acquisition),
        scalarizer=forms.scalarizer_of(scalarizer) if scalarizer else None,
        budget=budget,
        seeds=seeds,
        first_seed=seed,
        patch=patch,
        in_flight=in_flight,
        zero_loss=None if zero_loss is None else {"within_eV": zero_loss},
    )


def _load(dataset: pathlib.Path, image: pathlib.Path | None, signals: list[int] | None) -> Dataset:
    from autoexp.campaigns import load

    data = load(dataset, image, signals or ())
    if data.note:
        messages().print(words(data.note))
    return data


def _replayed(data: Dataset, campaign: Campaign) -> Replay:
    from autoexp.campaigns import replay

    with progress(campaign.label, campaign.seeds * campaign.budget) as told:
        return replay(data, campaign, lambda run, done: told(run * campaign.budget + done))


def _verify(folder: pathlib.Path, reply: Reply, output: pathlib.Path | None) -> None:
    from autoexp.campaigns import verify

    with messages().status("Deciding again"):
        found = verify(folder)
    _keep(json.dumps(found.as_dict()), output, reply)
    by_hand = f"; {found.operator} points were asked for by the operator" if found.operator else ""
    reply.line(f"{found.reproduced} of {found.decisions} decisions came out the same{by_hand}")
    for difference in found.differences[:10]:
        now = difference.replayed[0] if difference.replayed else "nothing"
        reply.line(f"point {difference.id + 1} ({difference.agent}): candidate {difference.recorded[0]}, now {now}")
    if found.differences:
        raise typer.Exit(ENDED_BADLY)


def _keep(text: str, output: pathlib.Path | None, reply: Reply) -> None:
    if output is None:
        return
    if reply.as_json:
        reply.raw(text)
        return
    from autoexp.export.atomic import replace_file

    with replace_file(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _tabulate(rows: list[dict[str, Any]], reply: Reply) -> None:
    """Summaries as a table for the terminal; columns that are empty everywhere are left out."""
    heads = {
        "policy": "policy",
        "points_to_90": "to 90 %",
        "points_to_95": "to 95 %",
        "recall_50": "top 1 % at 50",
        "recall_100": "at 100",
        "error_50": "map error",
        "coverage_50": "90 % covers",
        "decision_s": "decision",
    }
    present = [key for key in heads if any(row.get(key) is not None for row in rows)]
    shown = [{heads[key]: _cell(key, row.get(key)) for key in present} for row in rows]
    reply.table("", shown, whole=["policy"], justify="right")


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "–" if not key.startswith("points") else "never"
    if key == "decision_s":
        return f"{value * 1000:.1f} ms"
    if key.startswith(("recall", "coverage")):
        return f"{value:.0%}"
    return f"{value:.0f}" if key.startswith("points") else value if isinstance(value, str) else f"{value:.2f}"
