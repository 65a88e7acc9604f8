"""The numerical experiments of Xu, Kumar & LeBeau (2022), trained again, and set beside what they report.

How far a disk can be shifted in one step decides how many steps an alignment takes, and the paper does not say it. So
every number stands beside two others of the very same environment: the floor, of a controller that is told the
response, and that of the secant method (Broyden 1965), which is told nothing and learns as it goes.
"""

from __future__ import annotations

import csv
import itertools
import json
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.training.learning import DiskSettings, Training, smooth
from autoexp.training.sweeps import Job, Row

STEPS, QUICK_STEPS = 20_000, 8_000
THEN_STEPS, QUICK_THEN_STEPS = 5000, 2000
JUDGED_ON = 200
THEN_SCALE = 0.75
"""The shift by an action is 25 % smaller afterwards, as with another camera length."""
BINNINGS, TOLERANCES, HIDDEN, STEP_SIZES = (4, 2, 1), (0.0, 1.0, 3.0, 5.0), (16, 32, 64, 128, 256), (100.0, 50.0)
REWARDS = ("informative", "non-informative", "sparse")
CAMERA_MRAD = 0.565
"""A pixel of the paper's camera."""
SAID = {
    "solved": "3,000 to 4,000",
    "steps": "21.4 ± 10.4",
    "relearned": "500 to 1,000",
    "rms": "under 0.5 px without binning at tolerance 0, up to 8 mrad with 4 and the largest tolerance",
}
"""What the paper reports."""


@dataclass(frozen=True)
class Part:
    """One of its questions, and the trainings that answer it.

    Attributes:
        name: of its table and its figure.
        title: in words.
        by: the settings that vary, as columns of a row.
        jobs: the trainings.
    """

    name: str
    title: str
    by: tuple[str, ...]
    jobs: tuple[Job, ...]


def parts(seeds: int = 3, quick: bool = False) -> list[Part]:
    """All of its questions.

    Args:
        seeds: how often each is trained.
        quick: shorter trainings, of fewer settings.
    """
    every = range(seeds)

    def jobs(
        settings: Iterable[dict[str, Any]], hidden: Iterable[int] = (128,), again: bool = False
    ) -> tuple[Job, ...]:
        combinations = itertools.product(every, settings, hidden)
        return tuple(_job(seed, environment, size, again, quick) for seed, environment, size in combinations)

    binnings = BINNINGS if not quick else (4, 1)
    tolerances = TOLERANCES if not quick else (1.0, 3.0)
    hidden = HIDDEN if not quick else (16, 128)
    cells = [{"binning": b, "tolerance": t} for b, t in itertools.product(binnings, tolerances)]
    coarse = [{"binning": b} for b in (binnings if not quick else (4,))]
    sizes = [{"step_size": size} for size in STEP_SIZES]
    return [
        Part("learning", "Learning, by step size", ("step_size",), jobs(sizes)),
        Part("rewards", "Three rewards", ("reward",), jobs([{"reward": reward} for reward in REWARDS])),
        Part(
            "relearning", "Size of the network, and learning again", ("binning", "hidden"), jobs(coarse, hidden, True)
        ),
        Part("tolerance", "Binning and tolerance", ("binning", "tolerance"), jobs(cells)),
    ]


def all_jobs(asked: Sequence[Part]) -> list[Job]:
    """The trainings of all parts, one seed after the other, so that a sweep that is cut off answers all a little."""
    found = {job.name: job for part in asked for job in part.jobs}
    return sorted(found.values(), key=lambda job: job.training.seed)


def summarize(part: Part, rows: Sequence[Row]) -> list[dict[str, str]]:
    """A table for one question: a row for each setting, over the seeds that are trained."""
    mine = _of(part, rows)
    table = []
    for setting in _ordered(tuple(row[column] for column in part.by) for row in mine):
        same = [row for row in mine if tuple(row[column] for column in part.by) == setting]
        good = [row for row in same if not row.get("error")]
        told = {
            column.replace("_", " "): f"{value:g}" if isinstance(value, float) else str(value)
            for column, value in zip(part.by, setting, strict=True)
        }
        told |= {
            "solved at": _each(good, "solved_at"),
            "aligned": _percent(good, "success"),
            "steps": _mean(good, "steps_mean"),
            "floor": _mean(good, "floor_steps_mean"),
            "secant": _mean(good, "secant_steps_mean"),
            "RMS, px": _mean(good, "rms_px"),
            "RMS of the floor, px": _mean(good, "floor_rms_px"),
        }
        if part.name == "relearning":
            told |= {
                "before learning again": f"{_percent(good, 'frozen_success')}, {_mean(good, 'frozen_steps_mean')}",
                "solved again at": _each(good, "relearned_at"),
                "after learning again": f"{_percent(good, 'relearned_success')}, {_mean(good, 'relearned_steps_mean')}",
                "floor then": _mean(good, "changed_floor_steps_mean"),
            }
        failed = len(same) - len(good)
        table.append(told | {"trainings": str(len(good)) + (f" ({failed} failed)" if failed else "")})
    return table


def write_summary(asked: Sequence[Part], rows: Sequence[Row], folder: pathlib.Path, into: pathlib.Path) -> None:
    """Tables and figures of everything that is trained so far.

    Args:
        asked: the questions.
        rows: of the trainings.
        folder: where the trainings lie.
        into: where tables (csv) and figures (png) are written.
    """
    into.mkdir(parents=True, exist_ok=True)
    for part in asked:
        table = summarize(part, rows)
        if not table:
            continue
        with (into / f"{part.name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
        draw = _draw_errors if part.name == "tolerance" else _draw_courses
        draw(part, rows, folder, into / f"{part.name}.png")
    (into / "paper.json").write_text(json.dumps(SAID, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _job(seed: int, environment: dict[str, Any], hidden: int, again: bool, quick: bool) -> Job:
    steps = QUICK_STEPS if quick else STEPS
    training = Training(environment=DiskSettings(**environment), steps=steps, seed=seed, hidden=hidden)
    standard = training.environment == DiskSettings() and hidden == 128
    then_scale = THEN_SCALE if again or standard else None
    then_steps = QUICK_THEN_STEPS if quick else THEN_STEPS
    return Job(training=training, judged_on=JUDGED_ON, then_scale=then_scale, then_steps=then_steps)


def _ordered(settings: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Different settings, numbers by their size, names in the order in which they come."""
    different = list(dict.fromkeys(settings))
    named = not all(isinstance(value, int | float) for setting in different for value in setting)
    return different if named else sorted(different)


def _values(rows: Sequence[Row], column: str) -> list[float]:
    return [float(value) for row in rows if isinstance(value := row.get(column), int | float)]


def _mean(rows: Sequence[Row], column: str) -> str:
    values = _values(rows, column)
    return f"{fmean(values):.3g}" if values else "–"


def _percent(rows: Sequence[Row], column: str) -> str:
    values = _values(rows, column)
    return f"{100 * fmean(values):.0f} %" if values else "–"


def _each(rows: Sequence[Row], column: str) -> str:
    """The value of every seed; a dash where there is none."""
    return ", ".join(f"{value:,}" if isinstance(value := row.get(column), int) else "never" for row in rows) or "–"


# --- figures


def _draw_courses(part: Part, rows: Sequence[Row], folder: pathlib.Path, path: pathlib.Path) -> None:
    """Reward of the episodes against steps of learning, a line for each setting, the mean over seeds."""
    from matplotlib.figure import Figure

    again = part.name == "relearning"
    main = part.by[-1]
    others = _ordered(tuple(row[c] for c in part.by[:-1]) for row in _of(part, rows))
    values = _ordered((row[main],) for row in _of(part, rows))
    figure = Figure(figsize=(5 * (1 + again), 3.4 * max(1, len(others))), layout="constrained")
    grid = figure.subplots(max(1, len(others)), 1 + again, squeeze=False)
    for axes_row, other in zip(grid, others, strict=True):
        same = [row for row in _of(part, rows) if tuple(row[c] for c in part.by[:-1]) == other]
        for axes, file, title in zip(
            axes_row, ("episodes.csv", "again.csv"), ("learning", "learning again, scale 25 % smaller"), strict=False
        ):
            for i, (value,) in enumerate(values):
                courses = [_course(folder / str(row.get("name")) / file) for row in same if row[main] == value]
                if drawn := [course for course in courses if course is not None]:
                    at, mean, low, high = _over_seeds(drawn)
                    axes.plot(at, mean, label=f"{main.replace('_', ' ')} {value}", lw=1.3, color=f"C{i}")
                    axes.fill_between(at, low, high, alpha=0.15, color=f"C{i}", lw=0)
            axes.axhline(0, color="0.6", lw=0.8)
            named = ", ".join(f"{c} {v}" for c, v in zip(part.by[:-1], other, strict=True))
            axes.set_title(", ".join(filter(None, (title if again else "", named))) or part.title, fontsize=10)
            axes.set_xlabel("steps of learning")
        axes_row[0].set_ylabel("reward of an episode")
        axes_row[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def _draw_errors(part: Part, rows: Sequence[Row], folder: pathlib.Path, path: pathlib.Path) -> None:
    """Distance from the goal in the end, by tolerance and binning; the agents beside the floor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    mine = [row for row in _of(part, rows) if not row.get("error")]
    for binning, color in zip(BINNINGS, ("tab:blue", "tab:orange", "tab:green"), strict=True):
        same = [row for row in mine if row["binning"] == binning]
        for column, style, name in (("rms_px", "o-", "agent"), ("floor_rms_px", "x--", "floor")):
            at = sorted({float(row["tolerance"]) for row in same if isinstance(row["tolerance"], int | float)})
            means = [_values([row for row in same if row["tolerance"] == t], column) for t in at]
            points = [(t, fmean(values)) for t, values in zip(at, means, strict=True) if values]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=color, label=f"binning {binning}, {name}")
    axes.set_yscale("log")
    axes.set_xlabel("tolerance, bins")
    axes.set_ylabel("RMS distance from the goal, camera px")
    axes.secondary_yaxis("right", functions=(_to_mrad, _from_mrad)).set_ylabel("mrad")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def _to_mrad(px: npt.ArrayLike) -> Any:
    return np.asarray(px) * CAMERA_MRAD


def _from_mrad(mrad: npt.ArrayLike) -> Any:
    return np.asarray(mrad) / CAMERA_MRAD


def _of(part: Part, rows: Sequence[Row]) -> list[Row]:
    names = {job.name for job in part.jobs}
    return [row for row in rows if row.get("name") in names and row.keys() >= set(part.by)]


Course = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _course(path: pathlib.Path) -> Course | None:
    """Steps at which episodes ended, and their rewards, smoothed as in the paper; None where they cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = [(float(row["ended_at"]), float(row["reward"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return None
    if len(found) < 2 or not np.isfinite(found).all():
        return None
    at, reward = np.array(found).T
    return at, smooth(reward.tolist())


def _over_seeds(courses: Sequence[Course]) -> tuple[npt.NDArray[np.float64], ...]:
    """Steps, and mean, least and most of the courses there."""
    at = np.linspace(max(c[0][0] for c in courses), min(c[0][-1] for c in courses), 300)
    values = np.stack([np.interp(at, *course) for course in courses])
    return at, values.mean(axis=0), values.min(axis=0), values.max(axis=0)
