"""Fields that the operator fills in, kept between sessions as one text of JSON."""

from __future__ import annotations

import functools
import json
import typing

from nion.utils import Event, Model

from autoexp.errors import PlanError
from nionswift_plugin.autoexp_ui import bindings, entries
from nionswift_plugin.autoexp_ui.translation import translate as _

Choices = dict[str, tuple[tuple[str, str], ...]]


class StoredForm:
    """Fields, each a property model under its own name.

    Args:
        stored: model of the stored text, persistent between sessions.
        defaults: the fields, and what is in them at first.
        choices: fields that hold the index of a choice: its kinds, each with a label.
        numbers: fields into which a number is typed, and what it may be.

    Attributes:
        changed_event: fired whenever fields have changed, whoever changed them.
        edited_event: fired with the names of the fields that the operator has changed.
        typing: names of the fields in which there is text that is not entered yet.
        entries: what stands in the fields for numbers, as text; what is not understood stays there.
        problems: what is wrong with what stands there, in words; empty if nothing is.
        flagged: whether anything is.
    """

    def __init__(
        self,
        stored: typing.Any,
        defaults: dict[str, typing.Any],
        choices: Choices | None = None,
        numbers: dict[str, entries.Number] | None = None,
    ):
        self.changed_event = Event.Event()
        self.edited_event = Event.Event()
        self.typing: set[str] = set()
        self._stored = stored
        self._defaults, self._choices = defaults, choices or {}
        self._fields: dict[str, Model.PropertyModel[typing.Any]] = {}
        self._changed: set[str] | None = None
        values = {**defaults, **self._read()}
        for name in defaults:
            field = Model.PropertyModel[typing.Any](values[name])
            field.on_value_changed = functools.partial(self._on_changed, name)
            self._fields[name] = field
        self._numbers = numbers or {}
        names = tuple(self._numbers)
        self._misread: dict[str, str] = {}
        self._showing = False
        self.entries = bindings.Models(names, "")
        self.problems, self.flagged = bindings.Models(names, ""), bindings.Models(names, False)
        for name in names:
            self._show(name)
            getattr(self.entries, name).on_value_changed = functools.partial(self._on_text, name)

    def __getattr__(self, name: str) -> Model.PropertyModel[typing.Any]:
        try:
            return typing.cast("Model.PropertyModel[typing.Any]", self.__dict__["_fields"][name])
        except KeyError:
            raise AttributeError(name) from None

    def close(self) -> None:
        """Let go of everything that refers to this form."""
        texts = [getattr(self.entries, name) for name in self._numbers]
        for model in (*self._fields.values(), *texts):
            model.on_value_changed = None
            model.close()

    def set(self, **values: typing.Any) -> None:
        """Enter several fields as the operator, and tell of it once."""
        self._tell(self._put(values))

    def follow(self, **values: typing.Any) -> bool:
        """Show what is in force elsewhere: no edit. Whether all is shown; no text that is being typed is replaced."""
        if self._put({name: value for name, value in values.items() if name not in self.typing}):
            self._tell(frozenset())
        return all(self.value(name) == value for name, value in values.items())

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the fields into which a number is typed."""
        return tuple(self._numbers)

    def enter(self, name: str, text: str) -> None:
        """Type a text into a field for a number, and enter it."""
        getattr(self.entries, name).value = text

    def mistakes(self) -> dict[str, str]:
        """What is wrong with what stands in the fields, by field, in words; those that matter now."""
        return dict(self._misread)

    def require_entered(self, *names: str) -> None:
        """Refuse while there is something wrong in some fields, or, if none are named, in any.

        Raises:
            PlanError: the first, in words.
        """
        for name, wrong in self.mistakes().items():
            if not names or name in names:
                raise PlanError(_("Mend the marked field first: {wrong}").format(wrong=wrong))

    def value(self, name: str) -> typing.Any:
        """Value of a field."""
        return self._fields[name].value

    def _put(self, values: dict[str, typing.Any]) -> frozenset[str]:
        """Change fields and tell nobody; which have changed."""
        changed: set[str] = set()
        self._changed = changed
        try:
            for name, value in values.items():
                self._fields[name].value = value
        finally:
            self._changed = None
        return frozenset(changed)

    def _on_text(self, name: str, text: typing.Any) -> None:
        """A text was entered: take the number that it says, or mark it."""
        if self._showing:
            return
        try:
            value = self._numbers[name].parse(str(text or ""))
        except entries.EntryError as error:
            self._misread[name] = str(error)
            self._tell(frozenset())
            return
        wrong = self._misread.pop(name, None)
        if value != self.value(name):
            self._fields[name].value = value
        elif wrong:
            self._tell(frozenset())
        self._show(name)

    def _show(self, name: str) -> None:
        """Let the text of a field say its value."""
        self._showing = True
        try:
            getattr(self.entries, name).value = self._numbers[name].show(self.value(name))
        finally:
            self._showing = False

    def _mark(self) -> None:
        """Say beside each field what is wrong with it."""
        wrong = self.mistakes()
        for name in self._numbers:
            getattr(self.problems, name).value = wrong.get(name, "")
            getattr(self.flagged, name).value = name in wrong

    def _on_changed(self, name: str, _value: typing.Any) -> None:
        if name in self._numbers and name not in self.typing:
            self._misread.pop(name, None)
            try:
                self._numbers[name].check(self.value(name))
            except entries.EntryError as error:
                self._misread[name] = str(error)
            self._show(name)
        if self._changed is None:
            self._tell(frozenset({name}))
        else:
            self._changed.add(name)

    def _tell(self, edited: frozenset[str]) -> None:
        self._stored.value = self._write()
        self._mark()
        if edited:
            self.edited_event.fire(edited)
        self.changed_event.fire()

    def _write(self) -> str:
        """Values as text; choices by their kind, since another version may list them in another order."""
        values = {name: field.value for name, field in self._fields.items()}
        return json.dumps({**values, **{name: self._kinds(name)[values[name] or 0] for name in self._choices}})

    def _read(self) -> dict[str, typing.Any]:
        """Stored values that still make sense; everything else is left at its default."""
        try:
            stored = json.loads(self._stored.value or "{}")
        except ValueError:
            return {}
        if not isinstance(stored, dict):
            return {}
        plain = {k: v for k, v in stored.items() if k in self._defaults and k not in self._choices}
        found = {k: v for k, v in plain.items() if _alike(v, self._defaults[k])}
        chosen = {k: self._kinds(k).index(stored[k]) for k in self._choices if stored.get(k) in self._kinds(k)}
        return {**found, **chosen}

    def _kinds(self, choice: str) -> list[str]:
        return [kind for kind, _label in self._choices[choice]]


def _alike(value: typing.Any, default: typing.Any) -> bool:
    if default is None:
        return value is None or isinstance(value, dict)
    if isinstance(default, str | bool):
        return type(value) is type(default)
    return isinstance(value, int | float) and not isinstance(value, bool)
