"""What is typed into a field for a number: understood as it stands, or refused in words beside the field.

Nothing typed is ever replaced by something else: what is not understood stays, marked, and is not in force.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing

import annotated_types
from pydantic import BaseModel

from autoexp.errors import PlanError
from nionswift_plugin.autoexp_ui.translation import translate as _

PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[,.]\d{3}", re.ASCII)
DIGITS = 7
Value = float | int


class EntryError(PlanError):
    """What was typed is no such number; the message says why."""


@dataclasses.dataclass(frozen=True)
class Number:
    """A field for a number.

    Args:
        model: where a plan keeps it, with its bounds; None where there are none.
        field: its name there.
        factor: what the plan's value is for an entered 1.
        units: of what is entered, for messages.
        whole: whether it has no fraction.
        optional: whether it may be left out, which counts as 0.
    """

    model: type[BaseModel] | None = None
    field: str = ""
    factor: float = 1.0
    units: str = ""
    whole: bool = False
    optional: bool = False

    def parse(self, text: str) -> Value:
        """The number that a text says.

        Raises:
            EntryError: it says none, or one out of bounds.
        """
        text = text.strip().replace("\N{MINUS SIGN}", "-")
        if not text and self.optional:
            return 0
        if not text:
            raise EntryError(_("A number is wanted here."))
        value = _read(text)
        if self.whole and value != math.floor(value):
            raise EntryError(_("A whole number is wanted here."))
        self.check(value)
        return int(value) if self.whole else value

    def show(self, value: Value | None) -> str:
        """A value as it is typed; exactly that value is read again."""
        if value is None or (self.optional and not value):
            return ""
        if self.whole or (float(value).is_integer() and abs(value) < 1e15):
            return f"{value:.0f}"
        short = f"{value:.{DIGITS}g}"
        return short if float(short) == value else repr(float(value))

    def check(self, value: Value | None) -> None:
        """Refuse what the plan would refuse, in the units of the field.

        Raises:
            EntryError: the value is out of bounds, or none.
        """
        if value is None:
            raise EntryError(_("A number is wanted here."))
        if self.model is None or (self.optional and not value):
            return
        for bound in self.model.model_fields[self.field].metadata:
            match bound:
                case annotated_types.Ge(ge=low) if not value * self.factor >= typing.cast(float, low):
                    raise EntryError(_("It must be at least {bound}.").format(bound=self._bound(low)))
                case annotated_types.Gt(gt=low) if not value * self.factor > typing.cast(float, low):
                    raise EntryError(_("It must be more than {bound}.").format(bound=self._bound(low)))
                case annotated_types.Le(le=high) if not value * self.factor <= typing.cast(float, high):
                    raise EntryError(_("It must be at most {bound}.").format(bound=self._bound(high)))
                case annotated_types.Lt(lt=high) if not value * self.factor < typing.cast(float, high):
                    raise EntryError(_("It must be less than {bound}.").format(bound=self._bound(high)))

    def _bound(self, bound: typing.Any) -> str:
        own = float(bound) / self.factor
        number = f"{own:,.0f}" if own.is_integer() and abs(own) < 1e9 else f"{own:g}"
        return f"{number} {self.units}".strip()


def _read(text: str) -> float:
    """A number with a decimal point or a decimal comma.

    Raises:
        EntryError: it is none, or could be two.
    """
    if "," in text:
        if "." in text or text.count(",") > 1 or THOUSANDS.fullmatch(text):
            told = _("“{text}” can be read in two ways; write it without marks between thousands, and with a point.")
            raise EntryError(told.format(text=text[:20]))
        text = text.replace(",", ".")
    if not PLAIN.fullmatch(text):
        raise EntryError(_("“{text}” is not a number.").format(text=text[:20]))
    value = float(text)
    if not math.isfinite(value):
        raise EntryError(_("“{text}” is too large.").format(text=text[:20]))
    return value
