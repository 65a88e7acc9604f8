"""Pieces of which the panels are made, as Swift's declarative description.

A panel's handler holds what they are bound to: ``form``, ``texts``, ``flags``, and the converters ``number``,
``integer``, ``wide``, ``narrow``.
"""

from __future__ import annotations

import typing

from nionswift_plugin.autoexp_ui.translation import translate as _

LABEL_WIDTH = 76
FIELD_WIDTH = 60


def divider(u: typing.Any) -> typing.Any:
    """A line between groups of fields."""
    return u.create_divider(orientation="horizontal", height=4, border_color="#CCC")


def row(u: typing.Any, label: str, *widgets: typing.Any, **given: typing.Any) -> typing.Any:
    """A label and what belongs to it."""
    text = u.create_label(text=label, width=LABEL_WIDTH) if label else u.create_spacing(LABEL_WIDTH + 6)
    return u.create_row(text, *widgets, u.create_stretch(), spacing=6, **given)


def number(u: typing.Any, field: str, converter: str, tip: str, **given: typing.Any) -> typing.Any:
    """A field of the form for a number; its converter is an attribute of the handler."""
    return u.create_line_edit(
        text=f"@binding(form.{field}.value, converter={converter})", width=FIELD_WIDTH, tool_tip=tip, **given
    )


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
