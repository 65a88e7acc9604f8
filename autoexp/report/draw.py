"""Figures for pages that must look right in light, in dark, and on paper, and to colour-blind eyes.

Only matplotlib's object interface is used, so that a report may be drawn on any thread and nobody's settings change.
Text, axes and grid are drawn in marker colours that the page replaces by its own.
"""

from __future__ import annotations

import html
import io
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autoexp.errors import MissingDependencyError
from autoexp.patches import release_pages
from autoexp.text import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#010203", "#040506"
# Okabe and Ito's colours, and never without a second sign: dash or marker.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a8a8a"
_PAGE_COLOURS = {INK: "var(--ink)", FAINT: "var(--line)", BLUE: "var(--blue)", ORANGE: "var(--orange)"}
_PAGE_COLOURS |= {GREEN: "var(--green)", PURPLE: "var(--purple)", GREY: "var(--muted)"}
MAX_IMAGE = 1024
MAX_LABEL = 100
"""Characters of one text in a figure; more would leave no room for what is drawn."""
_STRIP = 1 << 22
"""Pixels of a large image that are in memory at once."""


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure with a transparent ground.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("The report needs matplotlib: python -m pip install matplotlib") from error
    return Figure(figsize=(width_in, height_in), facecolor="none", layout="constrained")


def style(axes: Axes, title: str = "", x: str = "", y: str = "", grid: bool = True) -> Axes:
    """The common look of all axes."""
    axes.set_facecolor("none")
    axes.set_title(title, fontsize=9.5, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=8.5, color=INK)
    axes.set_ylabel(y, fontsize=8.5, color=INK)
    axes.tick_params(labelsize=8, colors=INK, which="both")
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_linewidth(0.6)
        spine.set_visible(not grid or side in ("left", "bottom"))
    if grid:
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_offset_text().set(color=INK, fontsize=8)
    axes.ticklabel_format(scilimits=(-3, 4), useMathText=True)
    return axes


def legend(axes: Axes, columns: int = 3, **options: Any) -> None:
    """A legend without a frame, if there is anything to explain; below the axes unless a place is given."""
    if axes.get_legend_handles_labels()[0]:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "ncols": columns}
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, **(options or below))


def colorbar(figure: Figure, image: Any, axes: Axes, label: str) -> None:
    """A slim colour scale beside an image."""
    from matplotlib.ticker import ScalarFormatter

    numbers = ScalarFormatter(useMathText=True)
    numbers.set_powerlimits((-3, 4))
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, aspect=25, format=numbers)
    bar.ax.tick_params(labelsize=7.5, colors=INK)
    bar.ax.yaxis.get_offset_text().set(color=INK, fontsize=7.5)
    bar.set_label(label, fontsize=8, color=INK)
    bar.outline.set_edgecolor(INK)  # type: ignore[operator]
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]


def band(axes: Axes, curves: Sequence[npt.NDArray[np.float64]], label: str, color: str, dash: Any = "-") -> None:
    """The median of curves (k, m) of possibly different lengths, with the range from 10 to 90 % of them."""
    length = min((len(curve) for curve in curves), default=0)
    if not length:
        return
    stack = np.stack([curve[:length] for curve in curves])
    x = np.arange(1, length + 1)
    style: dict[str, Any] = {"linestyle": dash, "drawstyle": "steps-post"}
    axes.plot(x, np.nanmedian(stack, axis=0), color=color, linewidth=1.6, label=label, **style)
    if len(curves) > 1:
        low, high = np.nanquantile(stack, [0.1, 0.9], axis=0)
        axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0, step="post")


def small(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """An image of at most 1024 pixels a side; the mean of blocks where it is larger."""
    factor = int(np.ceil(max(image.shape) / MAX_IMAGE))
    if factor <= 1:
        return np.asarray(image, dtype=np.float32)
    high, wide = (min(factor, n) for n in image.shape)
    rows, columns = image.shape[0] // high, image.shape[1] // wide
    step = max(1, _STRIP // (high * image.shape[1]))
    parts = []
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        part = np.asarray(image[start * high : stop * high, : columns * wide], dtype=np.float32)
        parts.append(part.reshape(stop - start, high, columns, wide).mean(axis=(1, 3)))
        release_pages(image)
    return np.concatenate(parts)


def limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Grey levels that show what is there: the first to the last half per cent."""
    low, high = (float(v) for v in np.nanquantile(values, [0.005, 0.995]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def as_plain_text(figure: Figure) -> None:
    """Every text in one short line and as it stands: only the numbers on the axes are set as formulas.

    Units, names and the like come from outside, and may hold dollars, line breaks, or what no font can draw.
    """
    from matplotlib.axis import Axis, Tick
    from matplotlib.text import Text

    numbers = {id(label) for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}  # type: ignore[attr-defined]
    numbers |= {id(axis.get_offset_text()) for axis in figure.findobj(Axis)}  # type: ignore[attr-defined]
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in numbers:
            text.set(usetex=False, parse_math=False, text=clean(" ".join(text.get_text().split()), MAX_LABEL))


def to_svg(figure: Figure, label: str) -> str:
    """The figure as SVG to stand inside a page, with no link to anywhere."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    as_plain_text(figure)
    buffer = io.StringIO()
    canvas: Any = FigureCanvasSVG
    canvas(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    for color, variable in _PAGE_COLOURS.items():
        body = body.replace(color, variable)
    width = 1.3 * figure.get_figwidth()
    about = f'role="img" aria-label="{html.escape(label)}" style="max-width:{width:.2f}in"'
    return f"<svg {about} {box.group() if box else ''}>{body}"


def for_paper(figure: Figure) -> None:
    """Replace the marker colours by those of a white page, where no page does so."""
    for artist in figure.findobj():
        for name in ("color", "edgecolor"):
            value = getattr(artist, f"get_{name}", lambda: None)()
            if isinstance(value, str) and value in (INK, FAINT):
                getattr(artist, f"set_{name}")("#1c2330" if value == INK else "#dfe3ea")


def to_png(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """The figure as an image on white, for slides."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    as_plain_text(figure)
    FigureCanvasAgg(figure)  # attaches itself to the figure
    figure.savefig(path, dpi=dpi, format="png", facecolor="white")
