"""The kinds of fields that plans, limits and cards are made of, and what is said when one of them is wrong."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from autoexp.text import clean

MAX_SEED = 2**128 - 1
"""As much as a generator of random numbers takes in."""
MAX_LINES = 20
"""Fields that one message names."""

MANY = 10_000_000
"""From here on whole numbers are shown in powers of ten."""
PLAINLY = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "less_than_equal": "it must be at most {le}",
    "less_than": "it must be less than {lt}",
    "greater_than_equal": "it must be at least {ge}",
    "greater_than": "it must be greater than {gt}",
    "finite_number": "it must be a finite number",
    "int_type": "a whole number is wanted",
    "int_from_float": "a whole number is wanted",
    "int_parsing": "a whole number is wanted",
    "int_parsing_size": "a whole number of fewer digits is wanted",
    "float_type": "a number is wanted",
    "float_parsing": "a number is wanted",
    "bool_type": "true or false is wanted",
    "bool_parsing": "true or false is wanted",
    "string_type": "text is wanted",
    "string_unicode": "half of a character cannot be written",
    "string_too_short": "at least {min_length} characters are wanted",
    "string_too_long": "at most {max_length} characters are allowed",
    "string_pattern_mismatch": "it must match {pattern}",
    "too_short": "it holds {actual_length} values; at least {min_length} are wanted",
    "too_long": "it holds {actual_length} values; at most {max_length} are allowed",
    "literal_error": "it must be one of {expected}",
    "union_tag_invalid": "there is no kind {tag!r}; it must be one of {expected_tags}",
    "union_tag_not_found": "its kind is missing",
    "dict_type": "an object of named fields is wanted",
    "model_type": "an object of named fields is wanted",
    "model_attributes_type": "an object of named fields is wanted",
    "tuple_type": "a list is wanted",
    "list_type": "a list is wanted",
}
"""What is said of each kind of error (https://docs.pydantic.dev/latest/errors/validation_errors/)."""


def _number(value: Any) -> Any:
    """Refuse what would be made into a number: ``"0.5"`` and ``true`` are none."""
    if isinstance(value, bool | str | bytes):
        raise ValueError("a number is wanted here, without quotation marks")
    return value


def _name(value: Any) -> Any:
    return clean(value).replace("\n", "?").replace("\t", "?") if isinstance(value, str) else value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
"""A finite number, in whatever unit the field's name says."""
Whole = Annotated[int, BeforeValidator(_number)]
"""A number without a fraction."""
Seed = Annotated[Whole, Field(ge=0, le=MAX_SEED)]
"""What randomness follows from."""
Fraction = Annotated[Number, Field(ge=0, le=1)]
"""Of a length, 0 to 1."""
Energy = Annotated[Number, Field(ge=-1e6, le=1e6)]
"""An energy loss, eV; microscopes reach 1 MeV."""
Name = Annotated[str, BeforeValidator(_name), Field(max_length=200)]
"""Text of one line, which can be shown anywhere."""


def explain(error: ValidationError) -> str:
    """A validation error as one line a field, with where it is, what is wrong and what was given."""
    details = error.errors(include_url=False)
    lines = [_line(detail) for detail in details[:MAX_LINES]]
    if len(details) > MAX_LINES:
        lines.append(f"  … and {len(details) - MAX_LINES:,} more")
    return "\n".join(lines)


def _line(detail: Any) -> str:
    where = ".".join(clean(str(part), 80) for part in detail["loc"]) or "plan"
    given = detail.get("input")
    missing = isinstance(given, dict) or detail["type"] == "missing"
    return f"  {where}: {_said(detail)}" + ("" if missing else f" (given: {_short(given)})")


def _said(detail: Any) -> str:
    """What is wrong with a field, in our own words; those of the validator where there are none for it."""
    terms = {name: _bound(value) for name, value in (detail.get("ctx") or {}).items()}
    with contextlib.suppress(KeyError):
        return clean(PLAINLY[detail["type"]].format(**terms), 1000)
    return clean(str(detail["msg"]).removeprefix("Value error, "), 1000)


def _bound(value: Any) -> Any:
    """A bound as it is read best."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) and value < MANY else f"{value:g}"
    return value


def _short(value: Any) -> str:
    """What was given, in few characters."""
    if isinstance(value, list | tuple):
        value = value[:20]
    try:
        return clean(repr(value))[:80]
    except Exception:  # of an integer of thousands of digits, or an object of somebody else
        return f"a {type(value).__name__}"
