"""Text from outside (devices, agents, files, people), made fit to be written down and shown."""

from __future__ import annotations

import re
from typing import Any

MAX_TEXT = 20_000
"""Characters of one text that are kept; a message that is longer is cut, and says so."""
MAX_TREE = 2_000_000
"""Characters of all that a device tells about one image or spectrum, as text."""
CUT = " … (cut)"
KEPT = "\n\t"
FORMULA = re.compile(r"(^|;)(?=\s*[=+\-@＝＋－＠])")
"""Where a spreadsheet would begin a formula; also after a semicolon, which separates cells in half of Europe."""


def clean(text: str, most: int = MAX_TEXT) -> str:
    """The text without what cannot be written or would take over a terminal, and not longer than ``most``.

    Half of a surrogate pair (as ``os.fsdecode`` and drivers in other code pages make them) and control characters
    become a question mark, as do the marks that turn the direction of writing.

    >>> clean("5 \\udcb5s\\x1b[2J")
    '5 ?s?[2J'
    """
    text = str.__str__(text)  # of a class of its own it may say anything of itself
    if len(text) > most:
        text = text[: max(0, most - len(CUT))] + CUT
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in KEPT else "?" for c in text)


def clean_tree(value: Any, depth: int = 20) -> Any:
    """Plain JSON types, every text in them clean; what is none of them becomes text, what is too deep is left out."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return clean(value)
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {clean(str(k), 200): clean_tree(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean_tree(v, depth - 1) for v in value]
    return clean(str(value), 1000)


def cell(value: object) -> object:
    """A value for a table: text made harmless to spreadsheets, numbers as they are.

    >>> cell("=1+1"), cell(-1.5)
    ("'=1+1", -1.5)
    """
    if not isinstance(value, str):
        return value
    return FORMULA.sub(r"\1'", " ".join(re.split(r"[\t\n]", clean(value))))
