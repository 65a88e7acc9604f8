"""What a run holds may be strange: numbers without bounds, damaged spectra, text that others would take for more."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator

import numpy as np

from autoexp.errors import AutoexpError
from autoexp.export.atomic import ExportError
from autoexp.text import clean

FORMULA = re.compile(r"(^|;)(?=\s*[=+\-@＝＋－＠])")
"""Where a spreadsheet would begin a formula; also after a semicolon, which separates cells in half of Europe."""


@contextlib.contextmanager
def only_ours(what: str) -> Iterator[None]:
    """Turns whatever else strange contents make a library raise into an :class:`ExportError`; remarks are swallowed.

    Args:
        what: what is being made, to begin the message with.

    Raises:
        ExportError: something other than an error of ours was raised.
    """
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except AutoexpError:
        raise
    except Exception as error:
        raise ExportError(
            f"{what} cannot be made from what this run holds; nothing was replaced. {why(error)}"
        ) from error


def why(error: BaseException) -> str:
    """What an error of somebody else's says, in one short line."""
    return f"({type(error).__name__}: {clean(' '.join(str(error).split()), 200)})"


def cell(value: object) -> object:
    """A value for a table: text made harmless to spreadsheets, numbers as they are.

    >>> cell("=1+1"), cell(-1.5)
    ("'=1+1", -1.5)
    """
    if not isinstance(value, str):
        return value
    return FORMULA.sub(r"\1'", " ".join(re.split(r"[\t\n]", clean(value))))
