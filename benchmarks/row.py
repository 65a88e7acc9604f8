"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A number and what it should be.

    Attributes:
        what: what was measured, and how.
        measured: the number, with its unit.
        bar: what it should be.
        met: whether it is.
    """

    what: str
    measured: str
    bar: str
    met: bool
