"""Numbers that somebody else's code returned, before anything is built on them."""

from __future__ import annotations

import math
import numbers

import numpy as np
import numpy.typing as npt

KINDS = {"c": "complex numbers", "b": "true or false", "M": "dates", "m": "durations", "O": "objects", "V": "records"}


def finite_number(told: object) -> float | None:
    """A real number of any kind but true or false, as Python's own; None where it is none, or not finite."""
    if isinstance(told, bool) or not isinstance(told, numbers.Real):
        return None
    try:
        number = float(told)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def real_numbers(told: object, count: int) -> npt.NDArray[np.float64]:
    """The real numbers (count,) of an array or a list, as a plain array of its own; NaN where a mask lies over them.

    What is no number is not made into one: neither text such as ``"3.5"`` nor a complex number of which half is lost.

    Raises:
        ValueError: it holds something else, or another number of them; the message goes on from "it returned".
        Exception: whatever an object raises that is no array yet.
    """
    try:
        given = np.asarray(told.data if isinstance(told, np.ma.MaskedArray) else told)
    except ValueError as error:
        raise ValueError("what makes no array") from error
    if given.dtype.kind not in "fiu":
        raise ValueError(KINDS.get(given.dtype.kind, "text"))
    if given.shape != (count,):
        raise ValueError(f"an array of shape {given.shape}")
    with np.errstate(all="ignore"):  # of numbers too large for a double infinity is left, which nobody takes for one
        found = np.array(given, dtype=np.float64)
    if isinstance(told, np.ma.MaskedArray):
        found[np.ma.getmaskarray(told)] = np.nan
    return found
