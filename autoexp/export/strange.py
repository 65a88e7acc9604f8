"""What a run holds may be strange: numbers without bounds, damaged spectra, text that others would take for more."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np

from autoexp.errors import AutoexpError
from autoexp.export.atomic import ExportError
from autoexp.text import clean


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
