"""The figures of the documentation that are computed from simulations, as SVG; called by ``make.py``."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autoexp.agents.aligner import Aligner
from autoexp.models.response import Belief
from autoexp.training.alignments import align
from autoexp.training.controllers import Informed
from autoexp.training.instruments import CLEAN, HALF_PX, MESSY, VISIBLE_PX, WIDE, Instruments, Ranges

N, SEED, ROUNDS, TOLERANCE_PX, LIMIT = 1000, 1, 4, 3.0, 200
COLORS = {"clean": "#0072b2", "messy": "#d55e00", "wide": "#009e73"}


def alignment() -> str:
    """The way of some disks, and how many moves alignments take, the first and the next ones."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    ways, moves = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _draw_ways(ways)
    _draw_moves(moves)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _draw_ways(axes: Axes) -> None:
    """Four messy instruments that nobody knows, each aligned for the first time."""
    instruments = Instruments(MESSY, 4, seed=5)
    controller = Aligner(4, VISIBLE_PX, TOLERANCE_PX, Belief(4, HALF_PX, MESSY.rounded))
    places = []

    class Watched:
        begin, see = controller.begin, controller.see

        def next_moves(self, positions, goals, which):
            places.append(np.where(which[:, None], positions, np.nan))
            return controller.next_moves(positions, goals, which)

    align(instruments, Watched(), TOLERANCE_PX)
    places.append(instruments.positions)
    for i in range(4):
        way = np.array([place[i] for place in places[:-1] if not np.isnan(place[i]).any()] + [places[-1][i]])
        axes.plot(way[:, 1], way[:, 0], "o-", ms=3, lw=1.2)
        axes.plot(*instruments.goals[i][::-1], "x", color="0.3", ms=7)
    axes.set_xlim(-HALF_PX, HALF_PX)
    axes.set_ylim(HALF_PX, -HALF_PX)
    axes.set_aspect("equal")
    axes.set_title("four messy instruments; × the goal", fontsize=10)
    axes.set_xlabel("camera, px")


def _draw_moves(axes: Axes) -> None:
    """Mean number of moves of one alignment after the other, with the 5th and 95th percentile."""
    at = np.arange(1, ROUNDS + 1)
    for shift, (name, ranges) in zip(
        (-0.08, 0.0, 0.08), (("clean", CLEAN), ("messy", MESSY), ("wide", WIDE)), strict=True
    ):
        found = _needed(ranges, informed=False)
        told = [needed.mean() for needed in _needed(ranges, informed=True)]
        mean = np.array([needed.mean() for needed in found])
        low, high = (np.array([np.percentile(needed, p) for needed in found]) for p in (5, 95))
        axes.errorbar(
            at + shift,
            mean,
            [mean - low, high - mean],
            fmt="o-",
            ms=4,
            lw=1.3,
            capsize=2,
            color=COLORS[name],
            label=name,
        )
        axes.plot(at + shift, told, "--", lw=1, color=COLORS[name])
    axes.set_xticks(at, [f"{n}." for n in at])
    axes.set_xlabel("alignment of the same instrument")
    axes.set_ylabel("moves")
    axes.set_ylim(0)
    axes.set_title(f"{N:,} instruments each; dashed: told J and drift", fontsize=10)
    axes.legend(frameon=False)


def _needed(ranges: Ranges, informed: bool) -> list[np.ndarray]:
    instruments = Instruments(ranges, N, SEED)
    belief = Belief(N, HALF_PX, ranges.rounded)
    controller = Informed(instruments) if informed else Aligner(N, VISIBLE_PX, TOLERANCE_PX, belief)
    found = []
    for i in range(ROUNDS):
        if i:
            instruments.start()
        found.append(align(instruments, controller, TOLERANCE_PX, LIMIT).needed)
    return found
