"""What widgets are bound to."""

from __future__ import annotations

import typing

from nion.utils import Model


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
