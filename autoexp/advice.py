"""What agents say, checked where it enters: what is kept of it are numbers and texts that can be written down."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from autoexp.agent import Evidence, Prediction, Suggestion
from autoexp.foreign import finite_number, real_numbers
from autoexp.text import clean

MOST = 1e38
"""A prediction beyond is none; maps are saved in single precision, which ends at 3.4e38."""
MOST_KERNELS = 1000
"""Of which evidence may speak."""


class AdviceError(ValueError):
    """What an agent said is of no use; the message says what it is, as "it suggested …" and "it predicted …" go on."""


def checked_suggestion(told: object) -> Suggestion:
    """A suggestion whose numbers are Python's own and whose reason is clean text.

    Raises:
        AdviceError: it is none, or a part of it is something else.
        Exception: whatever its parts raise.
    """
    if not isinstance(told, Suggestion):
        raise AdviceError(f"{shown(told)}, which is no suggestion")
    candidate, position, reason = told.candidate, told.position, told.reason
    if not isinstance(reason, str):
        raise AdviceError("a reason that is no text")
    if candidate is not None and (isinstance(candidate, bool) or not isinstance(candidate, numbers.Integral)):
        raise AdviceError(f"candidate {shown(candidate)}, which does not exist")
    listed = isinstance(position, Sequence | np.ndarray) and not isinstance(position, str | bytes | bytearray)
    if not listed or len(position) != 2:
        raise AdviceError(f"the position {shown(position)}, which is no pair of numbers")
    y, x = (_finite(p) for p in position)
    mean, std, acquisition = (None if n is None else _finite(n) for n in (told.mean, told.std, told.acquisition))
    if std is not None and std < 0:
        raise AdviceError("a standard deviation below zero")
    where = None if candidate is None else int(candidate)
    return Suggestion(where, (y, x), clean(reason, 1000), mean, std, acquisition)


def checked_prediction(told: object, candidates: int, known: int) -> Prediction:
    """A prediction that can be shown and saved, and that its agent can no longer change.

    Args:
        told: what the agent said.
        candidates: for so many a mean and a standard deviation are wanted.
        known: outcomes that the agent knows.

    Raises:
        AdviceError: it is none.
        Exception: whatever its parts raise.
    """
    if not isinstance(told, Prediction):
        raise AdviceError(f"{shown(told)}, which is no prediction")
    after, coverage, evidence = told.after, told.coverage, told.evidence
    if isinstance(after, bool) or not isinstance(after, numbers.Integral) or not 0 <= after <= known:
        raise AdviceError(f"after {shown(after)} points, of {known} that it knows")
    mean, std = _map(told.mean, "mean", candidates), _map(told.std, "standard deviation", candidates)
    if (std < 0).any():
        raise AdviceError("a standard deviation below zero")
    if coverage is not None and not 0 <= (coverage := _finite(coverage)) <= 1:
        raise AdviceError(f"a coverage of {coverage:g}, which is no share")
    return Prediction(mean, std, int(after), coverage, None if evidence is None else _checked_evidence(evidence))


def _map(told: object, what: str, candidates: int) -> npt.NDArray[np.float64]:
    try:
        found = real_numbers(told, candidates)
    except ValueError as error:
        raise AdviceError(f"as {what} {error}, where a number is wanted for each of {candidates} candidates") from error
    if not (np.abs(found) <= MOST).all():
        raise AdviceError(f"a {what} that is no number, or too large")
    return found


def _checked_evidence(told: object) -> Evidence:
    if not isinstance(told, Evidence):
        raise AdviceError(f"evidence that is none: {shown(told)}")
    density, shares = _named(told.density), _named(told.shares)
    if not density:
        raise AdviceError("evidence that speaks of no kernel")
    return Evidence(density, shares)


def _named(told: object) -> dict[str, float]:
    if not isinstance(told, Mapping) or len(told) > MOST_KERNELS:
        raise AdviceError(f"evidence that is none: {shown(told)}")
    if not all(isinstance(name, str) for name in told):
        raise AdviceError("evidence on what has no name")
    return {clean(name, 200): _finite(value) for name, value in told.items()}


def _finite(value: object) -> float:
    """A finite number as Python's own."""
    number = finite_number(value)
    if number is None:
        raise AdviceError("numbers that are not finite")
    return number


def shown(value: object) -> str:
    """Something of anybody's in few characters."""
    try:
        return clean(repr(value), 80)
    except Exception:
        return f"a {clean(type(value).__name__, 80)}"
