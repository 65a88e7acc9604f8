"""The figures of a run's report, each as SVG, or an empty string where there is nothing to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autoexp.campaigns import metrics
from autoexp.plan import Region
from autoexp.report import draw
from autoexp.report.facts import Facts, Map
from autoexp.report.truth import Truth, quality_of
from autoexp.scalarizers import Edge
from autoexp.state import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NUMBERS = 120
UNCERTAINTY = "Uncertainty (1 σ)"
Array = npt.NDArray[np.float64]


def overview(facts: Facts) -> str:
    """The overview with the path over it, numbered in the order of the measurements."""
    if facts.overview is None:
        return ""
    figure = draw.new_figure(7.4, 6.3)
    axes = _field_axes(figure.subplots(), facts)
    low, high = draw.limits(facts.overview[:: max(1, facts.overview.shape[0] // 1024)])
    axes.imshow(draw.small(facts.overview), cmap="gray", vmin=low, vmax=high, extent=_extent(facts))
    for region in facts.state.settings.regions if facts.state.settings else ():
        _draw_region(axes, region, facts)
    image = _draw_path(axes, facts)
    if image is not None:
        draw.colorbar(figure, image, axes, "order of measurement")
    axes.set_xlim(_extent(facts)[0], _extent(facts)[1])
    axes.set_ylim(_extent(facts)[2], _extent(facts)[3])
    return draw.to_svg(figure, "Overview image with the measured points in their order")


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
    points = [p for p in facts.state.measured if np.isfinite(p.value)]
    if not points:
        return ""
    figure = draw.new_figure(5.2, 3.8)
    goal = metrics.goal_of(facts.state.settings.agent if facts.state.settings else None)
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
    axes.plot(x, own, ".", color=draw.BLUE, markersize=3.5, alpha=0.6, label="each point of this run")
    axes.set_xlim(0, len(own) + 1)
    draw.legend(axes)
    return draw.to_svg(figure, "Learning curve: best value so far against the number of points")


def recall_curve(facts: Facts, truth: Truth | None, visited: list[int]) -> str:
    """Share of the best candidates found, against points."""
    if truth is None or not visited:
        return ""
    figure = draw.new_figure(5.2, 3.8)
    goal = metrics.goal_of(facts.state.settings.agent if facts.state.settings else None)
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
    ranked = facts.ranked()
    best = facts.spectrum(ranked[0]) if ranked else None
    if best is None or facts.state.settings is None:
        return ""
    figure = draw.new_figure(7.4, 3.4)
    title = f"Spectrum of point {ranked[0].id + 1}, the best"
    axes = draw.style(figure.subplots(), title, f"energy loss ({facts.energy_units})", "counts")
    records = [p.record for p in ranked if p.record is not None and p.record < len(facts.spectra)]
    scalarizer = facts.state.settings.scalarizer
    for number, (low, high) in enumerate(scalarizer.windows()):
        axes.axvspan(low, high, color=draw.PURPLE, alpha=0.28, linewidth=0, label="window" if not number else None)
    if len(records) > 1:
        typical = np.median(np.asarray(facts.spectra[records[:500]]), axis=0)
        axes.plot(facts.energy, typical, color=draw.GREY, linewidth=1, linestyle="--", label="median of all points")
    axes.plot(facts.energy, best, color=draw.BLUE, linewidth=1.2, label="best point")
    if isinstance(scalarizer, Edge):
        background = scalarizer.background(best[None].astype(float), facts.energy)[0]
        part = facts.energy >= scalarizer.background_low_eV
        axes.plot(facts.energy[part], background[part], color=draw.ORANGE, linewidth=1, label="background")
    _scale_counts(axes, best, facts.energy, scalarizer.windows())
    axes.set_xlim(facts.energy[0], facts.energy[-1])
    draw.legend(axes, loc="upper right")
    return draw.to_svg(figure, "Spectrum of the best point with the energy window that was scored")


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
    axes.errorbar(mean, value, xerr=metrics.Z90 * std, fmt="o", color=draw.BLUE, markersize=3.5, elinewidth=0.7)
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


def _foreseen(facts: Facts) -> list[Point]:
    return [p for p in facts.state.measured if p.mean is not None and p.std is not None and np.isfinite(p.value)]


def _one_each(found: tuple[Map, ...]) -> list[Map]:
    return list({m.after: m for m in found}.values())


def _extent(facts: Facts) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of the overview: nm where the field is calibrated, pixels otherwise."""
    prepared = facts.state.prepared
    assert prepared is not None
    height, width = prepared.fov_nm or prepared.shape
    return 0.0, float(width), float(height), 0.0


def _candidate_extent(facts: Facts) -> tuple[float, float, float, float]:
    """The same for an image with one pixel for each candidate."""
    assert facts.candidates is not None
    _, width, height, _ = _extent(facts)
    y, x = facts.candidates.positions.T
    rows, columns = facts.candidates.shape
    dy = (y.max() - y.min()) / max(1, rows - 1) / 2 or 0.5
    dx = (x.max() - x.min()) / max(1, columns - 1) / 2 or 0.5
    return (x.min() - dx) * width, (x.max() + dx) * width, (y.max() + dy) * height, (y.min() - dy) * height


def _field_axes(axes: Any, facts: Facts, title: str = "") -> Axes:
    units = "nm" if facts.state.prepared and facts.state.prepared.fov_nm else "px"
    styled = draw.style(axes, title, f"x ({units})", f"y ({units})", grid=False)
    styled.set_aspect("equal")
    return styled


def _draw_path(axes: Axes, facts: Facts) -> Any:
    from matplotlib import patheffects

    _, width, height, _ = _extent(facts)
    points = facts.state.measured
    for point in facts.state.failed:
        y, x = point.position
        axes.plot(x * width, y * height, "x", color="#ffffff", markersize=7, markeredgewidth=2.4)
        axes.plot(x * width, y * height, "x", color="#d55e00", markersize=7, markeredgewidth=1.4)
    if not points:
        return None
    y, x = np.array([p.position for p in points]).T * [[height], [width]]
    axes.plot(x, y, color="#ffffff", linewidth=0.5, alpha=0.45)
    size = 34 if len(points) <= MAX_NUMBERS else 12
    image = axes.scatter(x, y, c=np.arange(1, len(points) + 1), s=size, cmap="plasma", edgecolors="w", linewidths=0.7)
    step = 1 if len(points) <= MAX_NUMBERS else 10 ** int(np.ceil(np.log10(len(points) / MAX_NUMBERS)))
    halo = [patheffects.withStroke(linewidth=1.8, foreground="#000000")]
    for number in range(0, len(points), step):
        text = axes.annotate(
            str(points[number].id + 1), (x[number], y[number]), (3.5, 3), textcoords="offset points", fontsize=6.5
        )
        text.set(color="#ffffff", path_effects=halo)
    ranked = facts.ranked()
    if ranked:
        best_y, best_x = ranked[0].position
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.8, "markeredgecolor": "#00e5ff"}
        axes.plot(best_x * width, best_y * height, "o", markersize=15, label="best", **ring)
    return image


def _dots(axes: Axes, facts: Facts) -> None:
    _, width, height, _ = _extent(facts)
    if facts.state.measured:
        y, x = np.array([p.position for p in facts.state.measured]).T * [[height], [width]]
        axes.plot(x, y, ".", color="#ffffff", markersize=3, markeredgewidth=0)


def _draw_region(axes: Axes, region: Region, facts: Facts) -> None:
    from matplotlib.patches import Rectangle

    _, width, height, _ = _extent(facts)
    corner = region.left * width, region.top * height
    size = (region.right - region.left) * width, (region.bottom - region.top) * height
    hatch = "///" if region.kind == "exclude" else None
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#00e5ff", linewidth=1.2, hatch=hatch))


def _scale_counts(axes: Axes, counts: npt.NDArray[Any], energy: Array, windows: list[tuple[float, float]]) -> None:
    """A logarithmic scale where the zero-loss peak would dwarf what was scored."""
    inside = np.any([(energy >= low) & (energy <= high) for low, high in windows] or [energy >= energy[0]], axis=0)
    scored = float(np.max(counts[inside])) if inside.any() else float(np.max(counts))
    if counts.max() > 10 * max(scored, 1e-12) and scored > 0:
        floor = max(float(np.quantile(counts, 0.05)) / 3, scored / 1000)
        axes.set_yscale("log")
        axes.set_ylim(floor, float(counts.max()) * 1.5)
