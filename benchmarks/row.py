"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.calibration import WORK, Yardstick


@dataclass(frozen=True)
class Row:
    """A number and what it should be.

    Attributes:
        what: what was measured, and how.
        measured: the number, with its unit.
        bar: what it should be.
        met: whether it is.
        ratio: a time held against what the machine is worth, and the same of its bar; empty where that is no matter.
    """

    what: str
    measured: str
    bar: str
    met: bool
    ratio: str = ""


def timed(
    what: str,
    seconds: float,
    bar_s: float,
    *,
    by: Yardstick = WORK,
    said: str = "",
    bar: str = "",
    also: bool = True,
) -> Row:
    """A time, judged by how often the yardstick goes into it, so that a slower machine is not a slower program.

    Args:
        what: what was measured, and how.
        seconds: how long it took.
        bar_s: how long it may take on the machine where the bars were met.
        by: what the time is held against.
        said: the number as it is shown; milliseconds or seconds by default.
        bar: the bar as it is shown; ``bar_s`` by default.
        also: whatever else has to hold.
    """
    ratio, most = seconds / by.now(), bar_s / by.reference_s
    shown = f"{ratio:.3g} of {by.name} (bar: {most:.3g})"
    return Row(what, said or in_words(seconds), bar or f"under {in_words(bar_s)}", ratio < most and also, shown)


def in_words(seconds: float) -> str:
    """A time in the unit that suits it."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
