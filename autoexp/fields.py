"""The kinds of fields that plans, limits and cards are made of, and what is said when one of them is wrong."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from autoexp.text import clean

MAX_SEED = 2**63 - 1
MAX_LINES = 20
"""Fields that one message names."""


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
    said = clean(str(detail["msg"]).removeprefix("Value error, "), 1000)
    return f"  {where}: {said}" + ("" if isinstance(given, dict) else f" (given: {_short(given)})")


def _short(value: Any) -> str:
    """What was given, in few characters."""
    if isinstance(value, list | tuple):
        value = value[:20]
    try:
        return clean(repr(value))[:80]
    except Exception:  # of an integer of thousands of digits, or an object of somebody else
        return f"a {type(value).__name__}"
