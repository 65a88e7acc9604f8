"""The drawings of the documentation, as SVG: ``python docs/pictures/draw.py`` writes them beside this file."""

from __future__ import annotations

import pathlib
from html import escape

INK, PAPER, SOFT, BLUE, ORANGE, GREEN = "#1f2937", "#ffffff", "#6b7280", "#0072b2", "#d55e00", "#009e73"
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
    'font-family="DejaVu Sans, Verdana, sans-serif" font-size="13" role="img" aria-label="{label}">'
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z" fill="{ink}"/></marker></defs>'
    '<rect width="{w}" height="{h}" rx="8" fill="{paper}"/>'
)


def head(width: int, height: int, label: str) -> str:
    """The beginning of a drawing."""
    return HEAD.format(w=width, h=height, label=escape(label), ink=INK, paper=PAPER)


def box(x: float, y: float, name: str, note: str = "", color: str = INK, width: float = 128) -> str:
    """A rounded box centered on a place, with a name and a note below it."""
    height = 46 if note else 34
    parts = [
        f'<rect x="{x - width / 2}" y="{y - height / 2}" width="{width}" height="{height}" rx="8" fill="{PAPER}" '
        f'stroke="{color}" stroke-width="1.8"/>',
        text(x, y + (-3 if note else 5), name, color=color, bold=True),
    ]
    if note:
        parts.append(text(x, y + 14, note, color=SOFT, size=10.5))
    return "".join(parts)


def text(x: float, y: float, words: str, color: str = INK, size: float = 13, bold: bool = False) -> str:
    """Words centered on a place."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" text-anchor="middle" fill="{color}" font-size="{size}"{weight} paint-order="stroke" '
        f'stroke="{PAPER}" stroke-width="4">{escape(words)}</text>'
    )


def arrow(x0: float, y0: float, x1: float, y1: float, words: str = "", shift: tuple[float, float] = (0, -6)) -> str:
    """A straight arrow, with lines of words (divided by ``|``) near its middle."""
    line = f'<path d="M {x0} {y0} L {x1} {y1}" stroke="{INK}" stroke-width="1.4" marker-end="url(#tip)"/>'
    x, y = (x0 + x1) / 2 + shift[0], (y0 + y1) / 2 + shift[1]
    rows = words.split("|") if words else []
    return line + "".join(text(x, y + 14 * k, row, size=11) for k, row in enumerate(rows))


def phases() -> str:
    """The phases of a run, and what leads from one to the next."""
    return "".join(
        [
            head(860, 400, "The phases of a run: idle, preparing, running, paused, suspended, finishing, faulted"),
            arrow(140, 50, 196, 50, "start"),
            arrow(328, 50, 406, 50, "overview"),
            arrow(412, 69, 236, 168, "pause, changed field, somebody|else, three bad frames", (-96, -10)),
            arrow(264, 168, 440, 69, "resume", (30, 20)),
            arrow(528, 69, 704, 168, "no frame, device gone,|saturated, dark", (84, -10)),
            arrow(676, 168, 500, 69, "resume", (-30, 20)),
            arrow(470, 69, 470, 270, "all done, stop,|abort, halt, fault", (0, 44)),
            arrow(232, 216, 392, 281, "stop, abort, halt", (-44, 18)),
            arrow(708, 216, 548, 281, "stop, abort, halt", (44, 18)),
            arrow(440, 318, 330, 354, "everything put back", (-72, 2)),
            arrow(500, 318, 610, 354, "a fault, or not everything put back", (118, 2)),
            box(78, 50, "idle"),
            box(262, 50, "preparing"),
            box(470, 50, "running", color=GREEN),
            box(232, 192, "paused", "waits for a person", BLUE, 150),
            box(708, 192, "suspended", "waits for the instrument", BLUE, 170),
            box(470, 295, "finishing", "puts everything back", INK, 150),
            box(290, 372, "idle"),
            box(650, 372, "faulted", "", ORANGE),
            "</svg>\n",
        ]
    )


def way() -> str:
    """How one point comes about, and who reads of it."""
    return "".join(
        [
            head(860, 320, "The way of the data: plan, engine, agent, guardian, instrument; journal, state, clients"),
            arrow(148, 120, 238, 144),
            arrow(148, 198, 238, 168, "commands", (0, 18)),
            arrow(290, 131, 290, 72, "outcomes", (-32, 4)),
            arrow(330, 72, 330, 131, "suggestion", (36, 4)),
            arrow(382, 146, 464, 146, "expose there"),
            arrow(464, 166, 382, 166, "spectrum", (0, 18)),
            arrow(616, 146, 684, 146),
            arrow(684, 166, 616, 166),
            arrow(310, 175, 310, 244, "every event", (38, 4)),
            arrow(386, 268, 464, 268, "fold"),
            arrow(616, 268, 662, 268),
            box(80, 108, "plan"),
            box(80, 208, "a person", "panel, terminal"),
            box(310, 48, "agent", "only decides", BLUE, 140),
            box(310, 154, "engine", "one loop, one thread", GREEN, 140),
            box(540, 154, "guardian", "limits, budget, restore", ORANGE, 150),
            box(750, 154, "instrument"),
            box(310, 268, "journal", "on disk first", INK, 150),
            box(540, 268, "state", "", INK, 150),
            box(750, 268, "clients", "panel, report, export, resume", INK, 176),
            "</svg>\n",
        ]
    )


def main() -> None:
    """Write the drawings."""
    here = pathlib.Path(__file__).parent
    (here / "phases.svg").write_text(phases(), encoding="utf-8")
    (here / "way.svg").write_text(way(), encoding="utf-8")


if __name__ == "__main__":
    main()
