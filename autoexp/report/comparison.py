"""Policies side by side on one dataset: a table, a page, and an image for slides."""

from __future__ import annotations

import csv
import pathlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoexp.campaigns import metrics
from autoexp.campaigns.campaign import Replay, quality_at
from autoexp.campaigns.formats import DatasetError
from autoexp.export.atomic import replace_file
from autoexp.plan import Goal
from autoexp.report import draw, html
from autoexp.text import cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (draw.BLUE, draw.ORANGE, draw.GREEN, draw.PURPLE, draw.GREY)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 2)))
MARKERS = "osD^vP"
TITLES = ("Regret", "Share of the best 1 % found", "Error of the map", "Inside the 90 % interval")
HEADS = {
    "policy": "Policy",
    "points_to_90": "To 90 %",
    "points_to_95": "To 95 %",
    "recall_50": "Found at 50",
    "recall_100": "at 100",
    "error_25": "Error at 25",
    "error_50": "at 50",
    "error_100": "at 100",
    "coverage_50": "Covered at 50",
    "coverage_100": "at 100",
    "decision_s": "Decision, ms",
}
LEGEND = (
    "To 90 %: points until the best value found lies 90 % of the way from the median candidate to the best, median "
    "over the runs. Found: share of the best 1 % of the candidates measured by then. Error: of the predicted map, "
    "where it was not measured, in units of the spread of all values. Covered: share of that inside the 90 % interval. "
    "Decision: median time of one."
)


@dataclass(frozen=True)
class Written:
    """What a comparison left behind.

    Attributes:
        table: one row of numbers for each policy; see :func:`autoexp.campaigns.summarize`.
        files: the page first, then image, table and runs.
    """

    table: list[dict[str, Any]]
    files: list[pathlib.Path]


def write_comparison(replays: list[Replay], folder: pathlib.Path) -> Written:
    """Write ``compare.html``, ``compare.png``, ``compare.csv`` and each replay as JSON into a folder.

    Raises:
        DatasetError: the replays are not of one dataset.
        MissingDependencyError: matplotlib is not installed.
    """
    _require_one_dataset(replays)
    goal = _goal(replays)
    table = [replayed.summary(goal) for replayed in replays]
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "compare.html", folder / "compare.png", folder / "compare.csv"]
    html.save(files[0], render(replays, table, goal))
    with replace_file(files[1]) as temporary:
        figure = _figure(replays, goal)
        draw.for_paper(figure)
        draw.to_png(figure, temporary)
    with replace_file(files[2]) as temporary:
        _write_table(temporary, table)
    for number, replayed in enumerate(replays):
        slug = re.sub(r"[^a-z0-9]+", "-", replayed.plan.label.lower()).strip("-")
        files.append(folder / f"replay-{number + 1}-{slug}.json")
        with replace_file(files[-1]) as temporary:
            temporary.write_text(replayed.to_json(), encoding="utf-8")
    return Written(table, files)


def render(replays: list[Replay], table: list[dict[str, Any]], goal: Goal) -> str:
    """The page that compares."""
    dataset = replays[0].dataset
    name = html.text(dataset.get("name", "recorded data"))
    scalarizer = replays[0].plan.scalarizer
    runs = ", ".join(sorted({str(len(r.runs)) for r in replays}))
    present = [key for key in HEADS if any(row.get(key) is not None for row in table)]
    rows = [[_cell(key, row.get(key)) for key in present] for row in table]
    parts = [
        f"<header><h1>Policies on {name}</h1><p>{len(replays[0].truth):,} candidates, {runs} runs of each policy, "
        f"recorded data</p></header>",
        html.section(
            "What was asked",
            html.facts(
                [
                    ("Look for", scalarizer.describe() if scalarizer else "recorded values"),
                    ("The best is", "the highest value" if goal == "maximize" else "the lowest value"),
                    ("Budget", f"{max(r.plan.budget for r in replays)} points"),
                    ("Patch", f"{replays[0].plan.patch} px"),
                    ("Dataset", dataset.get("path", "")),
                    ("Remark", dataset.get("note", "")),
                ]
            ),
        ),
        html.section(
            "In numbers",
            html.table([HEADS[key] for key in present], rows, numeric=range(1, len(present))),
            f"<figcaption>{html.text(LEGEND)}</figcaption>",
        ),
        html.section(
            "In pictures",
            html.figure(
                draw.to_svg(_figure(replays, goal), "Regret, recall, map error and calibration of each policy"),
                "Lines are medians over the runs, shades span 10 to 90 % of them. Regret is 0 at the best candidate "
                "and 1 at the median one. Error and coverage are of the candidates that were not measured; the error "
                "is in units of the spread of all values.",
            ),
        ),
    ]
    return html.page(f"Policies on {name}", "\n".join(parts))


def _figure(replays: list[Replay], goal: Goal) -> Figure:
    """Regret and recall; below them error and calibration of the maps, if any policy predicts one."""
    predicted = any(run.checkpoints for replayed in replays for run in replayed.runs)
    figure = draw.new_figure(9.6, 7.0 if predicted else 3.6)
    panels = figure.subplots(2 if predicted else 1, 2).ravel()
    for axes, title in zip(panels, TITLES, strict=False):
        draw.style(axes, title, "points measured")
    regret, recall = panels[:2]
    for number, replayed in enumerate(replays):
        color, dash = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
        truth = replayed.truth
        shares = [1 - metrics.share_of_best(run.values, truth, goal) for run in replayed.runs]
        recalls = [metrics.recall(run.measured, truth, goal) for run in replayed.runs]
        draw.band(regret, shares, replayed.plan.label, color, dash)
        draw.band(recall, recalls, replayed.plan.label, color, dash)
        for axes, what in zip(panels[2:], ("error", "coverage"), strict=False):
            _draw_quality(axes, replayed, what, color, dash, MARKERS[number % len(MARKERS)])
    recall.set_ylim(-0.02, 1.02)
    regret.set_ylim(bottom=-0.02)
    draw.legend(regret, columns=2)
    if predicted:
        panels[2].set(xlim=(0, None), ylim=(0, None))
        panels[3].axhline(0.9, color=draw.GREY, linewidth=0.8, linestyle=":")
        panels[3].set(xlim=(0, None), ylim=(0, 1.03))
    return figure


def _draw_quality(axes: Axes, replayed: Replay, what: str, color: str, dash: Any, marker: str) -> None:
    points = sorted({int(n) for run in replayed.runs for n in run.checkpoints})
    kept = [(n, [q for run in replayed.runs if (q := quality_at(run, n, replayed.truth))]) for n in points]
    kept = [(n, found) for n, found in kept if found]
    if not kept:
        return
    x = [n for n, _ in kept]
    values = [[getattr(q, what) for q in found] for _, found in kept]
    middle = np.array([np.median(v) for v in values])
    spread = np.abs(np.array([np.quantile(v, [0.1, 0.9]) for v in values]).T - middle)
    options: dict[str, Any] = {"color": color, "linestyle": dash, "marker": marker, "markersize": 5, "capsize": 3}
    axes.errorbar(x, middle, yerr=spread, linewidth=1.4, elinewidth=0.8, label=replayed.plan.label, **options)


def _require_one_dataset(replays: list[Replay]) -> None:
    if not replays:
        raise DatasetError("There is nothing to compare.")
    first = replays[0]
    for other in replays:
        if not len(other.truth):
            raise DatasetError("A replay does not hold the truth of its dataset and cannot be compared; run it again.")
        if len(other.truth) != len(first.truth) or not np.allclose(other.truth, first.truth, equal_nan=True):
            raise DatasetError(
                f"The replays are not of one dataset and scalarizer: {first.dataset.get('name')} and "
                f"{other.dataset.get('name')}."
            )


def _goal(replays: list[Replay]) -> Goal:
    """What the policies that have a goal are after."""
    goals = {metrics.goal_of(r.plan.agent) for r in replays if hasattr(r.plan.agent, "goal")}
    if len(goals) > 1:
        raise DatasetError("Some of the policies sought the highest value and some the lowest; compare them apart.")
    return goals.pop() if goals else "maximize"


def _write_table(path: pathlib.Path, table: list[dict[str, Any]]) -> None:
    keys = list(dict.fromkeys(key for row in table for key in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows({key: cell(value) for key, value in row.items()} for row in table)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "never" if key.startswith("points") else "–"
    if key.startswith(("recall", "coverage")):
        return html.percent(value)
    if key == "decision_s":
        return f"{value * 1000:.1f}"
    return html.text(value) if isinstance(value, str) else html.number(value, digits=3)
