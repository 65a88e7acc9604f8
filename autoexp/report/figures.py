"""The figures of a run's report, each as SVG, or an empty string where there is nothing to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autoexp.campaigns import metrics
from autoexp.models.acquisition import undominated
from autoexp.plan import DeepKernelAgent, ExpectedHypervolumeImprovement, Region
from autoexp.report import draw
from autoexp.report.facts import Facts, Map
from autoexp.report.truth import Truth, quality_of
from autoexp.scalarizers import Edge
from autoexp.state import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY = 150
MAX_NUMBERS = 400
TYPICAL = 500
"""Spectra of which the median is shown."""
CROWD = 2000
"""Points from which on they are drawn as an image: as shapes, they would make the page too large to open."""
DETAIL = 0.2  # side of the detail, as a part of the field
UNCERTAINTY = "Uncertainty (1 σ)"
Array = npt.NDArray[np.float64]


def overview(facts: Facts) -> str:
    """The overview with the path over it, numbered in the order of the measurements."""
    if facts.overview is None:
        return ""
    figure = draw.new_figure(7.4, 6.3)
    axes = _field_axes(figure.subplots(), facts)
    height, width, _ = facts.field
    _draw_overview(axes, facts)
    image = _draw_path(axes, facts, facts.state.measured, room=0.022 * width)
    if image is not None:
        draw.colorbar(figure, image, axes, "order of measurement")
    axes.set(xlim=(0.0, width), ylim=(height, 0.0))
    return draw.to_svg(figure, "Overview image with the measured points in their order")


def detail(facts: Facts) -> str:
    """The surroundings of the best point, where points may lie too close to be told apart in the whole field."""
    ranked = facts.ranked()
    if facts.overview is None or not ranked:
        return ""
    height, width, _ = facts.field
    y, x = ranked[0].position[0] * height, ranked[0].position[1] * width
    half = DETAIL / 2 * max(width, height)
    away = np.abs(_places(facts.state.measured, facts) - (y, x)).max(axis=1)
    near = [p for p, distance in zip(facts.state.measured, away, strict=True) if distance < 0.95 * half]
    if len(near) < 4:
        return ""
    figure = draw.new_figure(4.6, 4.4)
    axes = _field_axes(figure.subplots(), facts, f"Around point {ranked[0].id + 1}, the best")
    _draw_overview(axes, facts)
    _draw_path(axes, facts, near, room=0.03 * 2 * half)
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    return draw.to_svg(figure, "Detail of the overview around the best point")


def maps(facts: Facts, truth: Truth | None) -> str:
    """The last prediction and its uncertainty, beside the truth where that is known."""
    if not facts.maps or facts.candidates is None:
        return ""
    last = facts.maps[-1]
    panels: list[tuple[str, Array, str]] = [("Prediction", last.mean, "viridis")]
    if truth is not None:
        panels.append(("Ground truth", truth.candidates, "viridis"))
    panels.append((UNCERTAINTY, last.std, "cividis"))
    figure = draw.new_figure(3.6 * len(panels) + 0.2, 3.3)
    shown = np.concatenate([values for _, values, cmap in panels if cmap == "viridis"])
    for axes, (title, values, cmap) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        _field_axes(axes, facts, title)
        low, high = (np.nanmin(shown), np.nanmax(shown)) if cmap == "viridis" else (None, None)
        grid = values.reshape(facts.candidates.shape)
        image = axes.imshow(grid, cmap=cmap, vmin=low, vmax=high, extent=_candidate_extent(facts))
        if title == UNCERTAINTY:
            _dots(axes, facts)
        draw.colorbar(figure, image, axes, facts.units)
    return draw.to_svg(figure, "Maps of the predicted value and of its uncertainty over the field")


def learning_curve(facts: Facts, truth: Truth | None) -> str:
    """Best value so far against points; against a raster and random choices where the truth is known."""
    points = facts.state.scored
    if not points:
        return ""
    figure = draw.new_figure(5.2, 3.8)
    goal = facts.goal
    word = "Highest" if goal == "maximize" else "Lowest"
    axes = draw.style(figure.subplots(), f"{word} value so far", "points measured", facts.units)
    own = np.array([truth.points[p.id] if truth else p.value for p in points])
    if truth is not None:
        for name, replayed, color, dash in (
            ("random (median, 10–90 %)", truth.random, draw.ORANGE, "--"),
            ("raster", truth.raster, draw.GREEN, ":"),
        ):
            draw.band(axes, [metrics.best_so_far(run.values, goal) for run in replayed.runs], name, color, dash)
        best = np.nanmax(truth.candidates) if goal == "maximize" else np.nanmin(truth.candidates)
        axes.axhline(best, color=draw.GREY, linewidth=1, linestyle=(0, (1, 2)), label="best there is")
    x = np.arange(1, len(own) + 1)
    axes.plot(
        x, metrics.best_so_far(own, goal), color=draw.BLUE, linewidth=2.2, label="this run", drawstyle="steps-post"
    )
    each: dict[str, Any] = {"color": draw.BLUE, "markersize": 3.5, "alpha": 0.6, "rasterized": len(own) > CROWD}
    axes.plot(x, own, ".", label="each point of this run", **each)
    axes.set_xlim(0, len(own) + 1)
    draw.legend(axes)
    return draw.to_svg(figure, "Learning curve: best value so far against the number of points")


def recall_curve(facts: Facts, truth: Truth | None, visited: list[int]) -> str:
    """Share of the best candidates found, against points."""
    if truth is None or not visited:
        return ""
    figure = draw.new_figure(5.2, 3.8)
    goal = facts.goal
    top = len(metrics.top_candidates(truth.candidates, goal))
    title = f"Share of the best 1 % found ({top} of {len(truth.candidates)} candidates)"
    axes = draw.style(figure.subplots(), title, "points measured", "")
    for name, replayed, color, dash in (
        ("random (median, 10–90 %)", truth.random, draw.ORANGE, "--"),
        ("raster", truth.raster, draw.GREEN, ":"),
    ):
        curves = [metrics.recall(run.measured, truth.candidates, goal) for run in replayed.runs]
        draw.band(axes, curves, name, color, dash)
    own = metrics.recall(visited, truth.candidates, goal)
    x = np.arange(1, len(own) + 1)
    axes.plot(x, own, color=draw.BLUE, linewidth=2.2, label="this run", drawstyle="steps-post")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, len(own) + 1)
    draw.legend(axes)
    return draw.to_svg(figure, "Share of the best candidates found against the number of points")


def best_spectrum(facts: Facts) -> str:
    """The spectrum of the best point beside the median of all, with the windows of the scalarizer shaded."""
    ranked = [p for p in facts.ranked() if p.id not in facts.damaged]
    spectra = facts.spectra(ranked[:TYPICAL])
    if not len(spectra) or facts.state.settings is None or not _is_axis(facts.energy):
        return ""
    best, energy = spectra[0], facts.energy + ranked[0].shift_eV
    axes_eV = [facts.energy + point.shift_eV for point in ranked[: len(spectra)]]
    figure = draw.new_figure(7.4, 3.4)
    title = f"Spectrum of point {ranked[0].id + 1}, the best"
    axes = draw.style(figure.subplots(), title, f"energy loss ({facts.energy_units})", "counts")
    scalarizer = facts.state.settings.scalarizer
    windows = _seen(scalarizer.windows(), energy)
    for number, (low, high) in enumerate(windows):
        axes.axvspan(low, high, color=draw.PURPLE, alpha=0.28, linewidth=0, label="window" if not number else None)
    if len(spectra) > 1:
        typical = np.median([np.interp(energy, own, s) for own, s in zip(axes_eV, spectra, strict=True)], axis=0)
        axes.plot(energy, typical, color=draw.GREY, linewidth=1, linestyle="--", label="median of all points")
    axes.plot(energy, best, color=draw.BLUE, linewidth=1.2, label="best point")
    if isinstance(scalarizer, Edge):
        background = scalarizer.background(best[None].astype(float), energy)[0]
        part = energy >= scalarizer.background_low_eV
        axes.plot(energy[part], background[part], color=draw.ORANGE, linewidth=1, label="background")
    _scale_counts(axes, best, energy, windows)
    axes.set_xlim(energy[0], energy[-1])
    draw.legend(axes, loc="upper right")
    return draw.to_svg(figure, "Spectrum of the best point with the energy window that was scored")


def _seen(windows: list[tuple[float, float]], energy: Array) -> list[tuple[float, float]]:
    """What of some windows lies on the axis."""
    first, last = float(energy.min()), float(energy.max())
    return [(max(low, first), min(high, last)) for low, high in windows if low <= last and high >= first]


def _is_axis(energy: Array) -> bool:
    return len(energy) > 1 and bool(np.isfinite(energy).all()) and energy[0] != energy[-1]


def foresight(facts: Facts) -> str:
    """What each point turned out to be against what the model expected when it chose it."""
    pairs = _foreseen(facts)
    if len(pairs) < 2:
        return ""
    figure = draw.new_figure(4.2, 3.6)
    axes = draw.style(
        figure.subplots(), "Measured against expected when chosen", f"expected ({facts.units})", "measured"
    )
    mean, std, value = (np.array(x) for x in zip(*((p.mean, p.std, p.value) for p in pairs), strict=True))
    bars: dict[str, Any] = {"markersize": 3.5, "elinewidth": 0.7, "rasterized": len(pairs) > CROWD}
    axes.errorbar(mean, value, xerr=metrics.Z90 * np.abs(std), fmt="o", color=draw.BLUE, **bars)
    ends = [min(mean.min(), value.min()), max(mean.max(), value.max())]
    axes.plot(ends, ends, color=draw.GREY, linewidth=1, linestyle="--", label="as expected")
    draw.legend(axes)
    return draw.to_svg(figure, "Measured values against the values expected when the points were chosen")


def foresight_coverage(facts: Facts) -> tuple[int, int]:
    """How many of the points that a model chose fell into its 90 % interval, and how many there are."""
    pairs = _foreseen(facts)
    inside = sum(abs(p.value - (p.mean or 0)) <= metrics.Z90 * (p.std or 0) for p in pairs)
    return inside, len(pairs)


def map_quality(facts: Facts, truth: Truth | None) -> str:
    """Error and coverage of the map as the run went on."""
    if truth is None or len(facts.maps) < 2:
        return ""
    judged = [(m.after, q) for m in _one_each(facts.maps) if (q := quality_of(facts, truth, m)) is not None]
    if len(judged) < 2:
        return ""
    figure = draw.new_figure(4.2, 3.6)
    axes = draw.style(figure.subplots(), "Quality of the predicted map", "points measured", "")
    x = [after for after, _ in judged]
    axes.plot(x, [q.error for _, q in judged], "o-", color=draw.BLUE, markersize=4, label="error / spread of the truth")
    axes.plot(
        x, [q.coverage for _, q in judged], "s--", color=draw.ORANGE, markersize=4, label="inside the 90 % interval"
    )
    axes.axhline(0.9, color=draw.GREY, linewidth=0.8, linestyle=":")
    axes.set_ylim(0, max(1.05, *(q.error * 1.05 for _, q in judged)))
    draw.legend(axes, columns=1)
    return draw.to_svg(figure, "Error and coverage of the predicted map against the number of points")


def compromises(facts: Facts) -> str:
    """The second value of each point against the first, and the front of the best compromises."""
    settings = facts.state.settings
    points = [p for p in facts.state.measured if p.compared]
    if settings is None or settings.second is None or len(points) < 2:
        return ""
    acquisition = settings.agent.acquisition if isinstance(settings.agent, DeepKernelAgent) else None
    second = acquisition.second_goal if isinstance(acquisition, ExpectedHypervolumeImprovement) else "maximize"
    signs = np.array([1 if goal == "maximize" else -1 for goal in (settings.goal, second)])
    values = np.array([p.compared for p in points], dtype=float)
    front = values[undominated(values * signs)]
    front = front[np.argsort(front[:, 0])]
    figure = draw.new_figure(5.2, 3.8)
    axes = draw.style(figure.subplots(), "Compromises", f"first value ({facts.units})", "second value")
    axes.set_ylabel(f"second value ({settings.second.units})")
    style: dict[str, Any] = {"s": 16, "cmap": "viridis", "rasterized": len(points) > CROWD}
    order = axes.scatter(values[:, 0], values[:, 1], c=[p.id + 1 for p in points], **style)
    axes.plot(front[:, 0], front[:, 1], "o-", color=draw.ORANGE, fillstyle="none", label="best compromises")
    draw.colorbar(figure, order, axes, "order of measurement")
    draw.legend(axes)
    return draw.to_svg(figure, "Second value against first value of each point, with the front of best compromises")


def _foreseen(facts: Facts) -> list[Point]:
    return [p for p in facts.state.scored if p.mean is not None and p.std is not None and np.isfinite(p.mean + p.std)]


def _one_each(found: tuple[Map, ...]) -> list[Map]:
    return list({m.after: m for m in found}.values())


def _candidate_extent(facts: Facts) -> tuple[float, float, float, float]:
    """The same for an image with one pixel for each candidate."""
    assert facts.candidates is not None
    height, width, _ = facts.field
    y, x = facts.candidates.positions.T
    rows, columns = facts.candidates.shape
    dy = (y.max() - y.min()) / max(1, rows - 1) / 2 or 0.5
    dx = (x.max() - x.min()) / max(1, columns - 1) / 2 or 0.5
    return (x.min() - dx) * width, (x.max() + dx) * width, (y.max() + dy) * height, (y.min() - dy) * height


def _field_axes(axes: Any, facts: Facts, title: str = "") -> Axes:
    units = facts.field[2]
    styled = draw.style(axes, title, f"x ({units})", f"y ({units})", grid=False)
    styled.set_aspect("equal")
    return styled


def _draw_overview(axes: Axes, facts: Facts) -> None:
    assert facts.overview is not None
    height, width, _ = facts.field
    low, high = draw.limits(facts.thumbnail)
    axes.imshow(facts.thumbnail, cmap="gray", vmin=low, vmax=high, extent=(0.0, width, height, 0.0))
    for region in facts.state.settings.regions if facts.state.settings else ():
        _draw_region(axes, region, facts)


def _draw_path(axes: Axes, facts: Facts, shown: list[Point], room: float) -> Any:
    """The path, the points coloured by their order, crosses for failures, and a ring round the best.

    Args:
        axes: where to draw.
        facts: the run.
        shown: the points that are in view.
        room: what a number takes up, in the units of the axes.
    """
    y, x = _places(facts.state.failed, facts).T
    axes.plot(x, y, "x", color="#ffffff", markersize=7, markeredgewidth=2.4)
    axes.plot(x, y, "x", color="#d55e00", markersize=7, markeredgewidth=1.4)
    points = facts.state.measured
    if not points:
        return None
    y, x = _places(points, facts).T
    crowd = len(points) > CROWD
    axes.plot(x, y, color="#ffffff", linewidth=0.5, alpha=0.45, rasterized=crowd)
    order = np.arange(1, len(points) + 1)
    style: dict[str, Any] = {"cmap": "plasma", "edgecolors": "w", "linewidths": 0.7, "rasterized": crowd}
    image = axes.scatter(x, y, c=order, s=40 if len(shown) <= MANY else 12, zorder=3, **style)
    _number(axes, facts, shown, room)
    ranked = facts.ranked()
    if ranked:
        y, x = _place(ranked[0], facts)
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.8, "markeredgecolor": "#00e5ff"}
        axes.plot(x, y, "o", markersize=15, zorder=4, **ring)
    return image


def _number(axes: Axes, facts: Facts, shown: list[Point], room: float) -> None:
    """Numbers beside the points; one that would cover another is left out, the best ones have the first right."""
    from matplotlib import patheffects

    halo = [patheffects.withStroke(linewidth=1.8, foreground="#000000")]
    taken = np.empty((0, 2))
    seen = {p.id for p in shown}
    best_first = [p for p in facts.ranked() if p.id in seen] or shown
    for point in best_first[:MAX_NUMBERS]:
        y, x = _place(point, facts)
        if np.any(np.all(np.abs(taken - (y, x)) < (0.8 * room, 1.3 * room), axis=1)):
            continue
        taken = np.vstack([taken, (y, x)])
        number = axes.annotate(str(point.id + 1), (x, y), (4, 3.5), textcoords="offset points", fontsize=6.5)
        number.set(color="#ffffff", path_effects=halo)


def _place(point: Point, facts: Facts) -> tuple[float, float]:
    """(y, x) of a point in the units of the axes."""
    height, width, _ = facts.field
    return point.position[0] * height, point.position[1] * width


def _places(points: list[Point], facts: Facts) -> Array:
    """The same of many points, (n, 2)."""
    return np.array([_place(p, facts) for p in points]).reshape(-1, 2)


def _dots(axes: Axes, facts: Facts) -> None:
    y, x = _places(facts.state.measured, facts).T
    axes.plot(x, y, ".", color="#ffffff", markersize=3, markeredgewidth=0, rasterized=len(x) > CROWD)


def _draw_region(axes: Axes, region: Region, facts: Facts) -> None:
    from matplotlib.patches import Rectangle

    height, width, _ = facts.field
    corner = region.left * width, region.top * height
    size = (region.right - region.left) * width, (region.bottom - region.top) * height
    hatch = "///" if region.kind == "exclude" else None
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#00e5ff", linewidth=1.2, hatch=hatch))


def _scale_counts(axes: Axes, counts: npt.NDArray[Any], energy: Array, windows: list[tuple[float, float]]) -> None:
    """A logarithmic scale where the zero-loss peak would dwarf what was scored."""
    inside = np.any([(energy >= low) & (energy <= high) for low, high in windows] or [energy >= energy[0]], axis=0)
    usable = np.where(np.isfinite(counts), counts, 0.0)
    top = float(usable.max())
    scored = float(usable[inside].max()) if inside.any() else top
    if top > 10 * max(scored, 1e-12) and scored > 0:
        floor = max(float(np.quantile(usable, 0.05)) / 3, scored / 1000)
        axes.set_yscale("log")
        axes.set_ylim(floor, top * 1.5)
