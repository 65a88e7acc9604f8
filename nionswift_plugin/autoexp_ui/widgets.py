"""Pieces of which the panels are made, as Swift's declarative description.

A panel's handler holds what they are bound to: ``form``, ``texts``, ``flags``, ``progress_value``, and the converters
``wide``, ``narrow``; it answers ``handle_typing`` and ``handle_typed``.
"""

from __future__ import annotations

import typing

from nionswift_plugin.autoexp_ui.translation import translate as _

LABEL_WIDTH = 76
FIELD_WIDTH = 60
BUTTON_HEIGHT = 28
WRONG = "#A33A00"


class NumberFields:
    """What a panel's handler does while numbers are typed.

    Attributes:
        form: the fields.
    """

    form: typing.Any

    def handle_typing(self, widget: typing.Any, text: str) -> None:
        """Something is being typed; nothing else is shown in that field until it is entered."""
        self.form.typing |= self._fields_of(widget)

    def handle_typed(self, widget: typing.Any, text: str) -> None:
        """What was typed is entered, or left as it was."""
        self.form.typing -= self._fields_of(widget)

    def _fields_of(self, widget: typing.Any) -> set[str]:
        return {field for field in self.form.numbers if getattr(self, edit_name(field), None) is widget}


def divider(u: typing.Any) -> typing.Any:
    """A line between groups of fields."""
    return u.create_divider(orientation="horizontal", height=4, border_color="#CCC")


def row(u: typing.Any, label: str, *widgets: typing.Any, **given: typing.Any) -> typing.Any:
    """A label and what belongs to it."""
    text = u.create_label(text=label, width=LABEL_WIDTH) if label else u.create_spacing(LABEL_WIDTH + 6)
    return u.create_row(text, *widgets, u.create_stretch(), spacing=6, **given)


def number(u: typing.Any, field: str, tip: str, **given: typing.Any) -> typing.Any:
    """A field of the form for a number."""
    return u.create_line_edit(
        text=f"@binding(form.entries.{field}.value)",
        name=edit_name(field),
        on_text_edited="handle_typing",
        on_editing_finished="handle_typed",
        width=FIELD_WIDTH,
        tool_tip=tip,
        **given,
    )


def edit_name(field: str) -> str:
    """The widget of a field for a number, as an attribute of the handler."""
    return f"{field.removesuffix('_eV')}_edit"


def problems(u: typing.Any, *fields: str) -> list[typing.Any]:
    """What is wrong with what stands in some fields, each on a line of its own, while anything is."""
    return [
        u.create_row(
            u.create_spacing(LABEL_WIDTH + 6),
            u.create_label(
                text=f"@binding(form.problems.{field}.value, converter=narrow)", color=WRONG, name=f"{field}_problem"
            ),
            u.create_stretch(),
            visible=f"@binding(form.flagged.{field}.value)",
        )
        for field in fields
    ]


def combo(u: typing.Any, field: str, items: tuple[tuple[str, str], ...], tip: str, **given: typing.Any) -> typing.Any:
    """A field of the form for a choice."""
    return u.create_combo_box(
        items=[label for _kind, label in items],
        current_index=f"@binding(form.{field}.value)",
        tool_tip=tip,
        **{"width": 214, **given},
    )


def text(u: typing.Any, field: str, width: str = "wide", **given: typing.Any) -> typing.Any:
    """A text that changes, broken into lines."""
    return u.create_label(text=f"@binding(texts.{field}.value, converter={width})", **given)


def banner(u: typing.Any) -> typing.Any:
    """Which instrument it is, and whether that is simulated."""
    badge = u.create_label(
        text=_(" SIMULATED "),
        visible="@binding(flags.simulated.value)",
        background_color="#0072B2",
        color="#FFF",
        font="bold",
        tool_tip=_("The data come from a virtual microscope, not from a specimen."),
    )
    instrument = text(u, "instrument", "narrow")
    return u.create_row(badge, instrument, u.create_stretch(), spacing=6, margin_horizontal=8, margin_vertical=4)


def button(u: typing.Any, label: str, name: str, enabled: str, tip: str, **given: typing.Any) -> typing.Any:
    """A button that the handler's ``handle_`` method answers, and one of its flags enables."""
    return u.create_push_button(
        text=label,
        name=f"{name}_button",
        on_clicked=f"handle_{name}",
        enabled=f"@binding(flags.{enabled}.value)",
        tool_tip=tip,
        **given,
    )


def headline(u: typing.Any, *widgets: typing.Any) -> typing.Any:
    """What is going on, in bold; beside it whatever belongs there, and below how far it has come."""
    bold = u.create_label(text="@binding(texts.headline.value)", font="bold", name="headline_label")
    return u.create_column(
        u.create_row(bold, u.create_stretch(), *widgets),
        u.create_progress_bar(value="@binding(progress_value.value)", width=320),
        spacing=4,
    )


def message(u: typing.Any) -> typing.Any:
    """What went wrong, while that matters."""
    return text(u, "message", color=WRONG, visible="@binding(flags.has_message.value)")
