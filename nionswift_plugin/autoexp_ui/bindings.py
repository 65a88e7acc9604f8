"""What widgets are bound to, and how values become texts and texts values."""

from __future__ import annotations

import typing

from nion.utils import Converter, Model


class Models:
    """Property models by name, for bindings.

    Args:
        names: what they are called.
        value: what each holds at first.
    """

    def __init__(self, names: tuple[str, ...], value: typing.Any):
        self._models = {name: Model.PropertyModel[typing.Any](value) for name in names}

    def __getattr__(self, name: str) -> Model.PropertyModel[typing.Any]:
        try:
            return typing.cast("Model.PropertyModel[typing.Any]", self.__dict__["_models"][name])
        except KeyError:
            raise AttributeError(name) from None

    def set(self, **values: typing.Any) -> None:
        """Set several of them."""
        for name, value in values.items():
            self._models[name].value = value


class OptionalNumber:
    """A number that may be left out; nothing is shown for zero.

    Args:
        whole: whether it is a whole one.
    """

    def __init__(self, whole: bool = False):
        self._whole = whole

    def convert(self, value: float | None) -> str | None:
        """As text."""
        return f"{value:g}" if value else ""

    def convert_back(self, formatted_value: str | None) -> float | None:
        """From text; nothing is zero."""
        if not formatted_value:
            return 0.0
        value = Converter.FloatToStringConverter().convert_back(formatted_value)
        return int(value) if self._whole and value is not None else value
