"""What the panel looks like, as Swift's declarative description; :mod:`.panel` holds what it does."""

from __future__ import annotations

import typing

from nion.ui import Declarative

from nionswift_plugin.autoexp_ui import form
from nionswift_plugin.autoexp_ui.translation import translate as _
from nionswift_plugin.autoexp_ui.widgets import (
    LABEL_WIDTH,
    banner,
    button,
    combo,
    divider,
    headline,
    message,
    number,
    row,
    text,
)

TYPED = (
    "low_eV",
    "high_eV",
    "second_low_eV",
    "second_high_eV",
    "other_low_eV",
    "other_high_eV",
    "parameter",
    "points",
    "minutes",
    "enough",
)
"""Fields in which may be typed while a run goes on."""


def edit_name(field: str) -> str:
    """The widget of a field, as an attribute of the handler."""
    return f"{field.removesuffix('_eV')}_edit"


def _typed(u: typing.Any, field: str, converter: str, tip: str) -> typing.Any:
    """A field for a number that may change while it is being typed in."""
    events = {"on_text_edited": "handle_typing", "on_editing_finished": "handle_typed"}
    return number(u, field, converter, tip, name=edit_name(field), **events)


def build_view() -> typing.Any:
    """The whole panel as Swift's declarative description."""
    u = Declarative.DeclarativeUI()
    return u.create_column(
        banner(u),
        u.create_scroll_area(
            u.create_column(
                _unfinished(u),
                _devices(u),
                _overview(u),
                divider(u),
                _look_for(u),
                divider(u),
                _choose_by(u),
                divider(u),
                _measure(u),
                u.create_stretch(),
                spacing=6,
                margin=8,
            )
        ),
        _run(u),
        spacing=4,
    )


def _unfinished(u: typing.Any) -> typing.Any:
    return u.create_column(
        text(u, "unfinished"),
        u.create_row(
            u.create_push_button(
                text=_("Resume"), on_clicked="handle_resume_run", tool_tip=_("Go on measuring where it was cut off.")
            ),
            u.create_push_button(
                text=_("Finish"),
                on_clicked="handle_finish_run",
                tool_tip=_("Close the run as it is, and show what it has."),
            ),
            u.create_push_button(
                text=_("Discard"),
                on_clicked="handle_discard_run",
                tool_tip=_("Mark the run as discarded and ask no more; nothing is deleted."),
            ),
            u.create_stretch(),
            spacing=6,
        ),
        divider(u),
        visible="@binding(flags.has_unfinished.value)",
        spacing=4,
    )


def _devices(u: typing.Any) -> typing.Any:
    def choice(name: str, tip: str) -> typing.Any:
        return u.create_combo_box(
            items_ref=f"@binding(devices.{name}_names.value)",
            current_index=f"@binding(devices.{name}_index.value)",
            enabled="@binding(flags.can_edit.value)",
            tool_tip=tip,
            width=214,
        )

    return u.create_column(
        row(u, _("Scan"), choice("scan", _("The scan unit, and with it the instrument"))),
        row(u, _("Camera"), choice("camera", _("The spectrometer's camera"))),
        divider(u),
        visible="@binding(devices.several.value)",
        spacing=4,
    )


def _overview(u: typing.Any) -> typing.Any:
    edit = {"enabled": "@binding(flags.can_edit.value)"}
    return u.create_column(
        row(
            u,
            _("Overview"),
            number(u, "fov_nm", "number", _("Side of the scanned field, nm"), **edit),
            u.create_label(text=_("nm")),
            number(u, "pixels", "integer", _("Pixels along a side of the overview"), **edit),
            u.create_label(text=_("px")),
        ),
        row(
            u,
            _("Dwell"),
            number(u, "dwell_us", "number", _("Time per pixel of the overview, µs"), **edit),
            u.create_label(text=_("µs")),
            u.create_push_button(
                text=_("Take Overview"),
                name="overview_button",
                on_clicked="handle_overview",
                enabled="@binding(flags.can_start.value)",
                tool_tip=_("Scan the field now, to draw regions on it. Start uses it if the field is the same."),
            ),
        ),
        row(
            u,
            _("Regions"),
            u.create_push_button(
                text=_("Measure Only Here"),
                on_clicked="handle_include",
                tool_tip=_("Add a rectangle to the overview; with any of these, only their insides are measured."),
            ),
            u.create_push_button(
                text=_("Exclude"),
                on_clicked="handle_exclude",
                tool_tip=_("Add a rectangle to the overview in which nothing is measured."),
            ),
        ),
        spacing=4,
    )


def _look_for(u: typing.Any) -> typing.Any:
    tip = _("May be changed while the experiment runs: everything measured is scored anew.")
    return u.create_column(
        row(u, _("Look for"), combo(u, "scalarizer", form.SCALARIZERS, tip)),
        row(
            u,
            _("Window"),
            _typed(u, "low_eV", "number", _("Lower end of the window, eV; or drag it on the spectra")),
            u.create_label(text=_("to")),
            _typed(u, "high_eV", "number", _("Upper end of the window, eV; or drag it on the spectra")),
            u.create_label(text=_("eV")),
        ),
        u.create_row(
            u.create_label(text="@binding(texts.second.value)", width=LABEL_WIDTH),
            _typed(u, "second_low_eV", "number", _("Lower end, eV; or drag it on the spectra")),
            u.create_label(text=_("to")),
            _typed(u, "second_high_eV", "number", _("Upper end, eV; or drag it on the spectra")),
            u.create_label(text=_("eV")),
            u.create_stretch(),
            spacing=6,
            visible="@binding(flags.two_windows.value)",
        ),
        row(
            u,
            _("Target"),
            u.create_push_button(
                text=_("Use as Target"),
                on_clicked="handle_target",
                tool_tip=_("The spectrum on the selected display becomes what is looked for."),
            ),
            visible="@binding(flags.has_target.value)",
        ),
        spacing=4,
    )


def _choose_by(u: typing.Any) -> typing.Any:
    edit = {"enabled": "@binding(flags.can_edit.value)"}
    learns = {"visible": "@binding(flags.learns.value)"}
    return u.create_column(
        row(u, _("Choose by"), combo(u, "agent", form.AGENTS, _("Who decides where to measure next"))),
        row(
            u,
            _("in order to"),
            combo(u, "acquisition", form.ACQUISITIONS, _("What the experiment is for")),
            **learns,
        ),
        row(
            u,
            _("preferring"),
            combo(u, "goal", form.GOALS, _("Whether high or low values are wanted"), width=110),
            **learns,
        ),
        u.create_row(
            u.create_label(text="@binding(texts.parameter.value)"),
            _typed(
                u,
                "parameter",
                "number",
                _("In standard deviations: larger explores more of what is not known, smaller exploits what is"),
            ),
            u.create_stretch(),
            spacing=6,
            visible="@binding(flags.has_parameter.value)",
        ),
        row(
            u,
            _("and value"),
            _typed(u, "other_low_eV", "number", _("Second value: intensity from here, eV; or drag it on the spectra")),
            u.create_label(text=_("to")),
            _typed(u, "other_high_eV", "number", _("Second value: intensity up to here, eV; or drag it")),
            u.create_label(text=_("eV,")),
            combo(u, "other_goal", form.GOALS, _("Whether high or low second values are wanted"), width=96),
            visible="@binding(flags.compares.value)",
        ),
        row(
            u,
            _("Patches"),
            number(u, "patch_px", "integer", _("Side of the image patch that describes a position, pixels"), **edit),
            u.create_label(text=_("px, every")),
            number(u, "stride_px", "integer", _("Distance between neighbouring positions, pixels"), **edit),
            u.create_label(text=_("px")),
        ),
        spacing=4,
    )


def _measure(u: typing.Any) -> typing.Any:
    edit = {"enabled": "@binding(flags.can_edit.value)"}
    return u.create_column(
        row(
            u,
            _("Exposure"),
            number(u, "exposure_ms", "number", _("Exposure of each spectrum, ms"), **edit),
            u.create_label(text=_("ms, binning")),
            number(u, "binning", "integer", _("Camera binning; must be one that the camera has"), **edit),
        ),
        row(
            u,
            _("Stop after"),
            _typed(u, "points", "integer", _("Number of spectra; may be changed while it runs")),
            u.create_label(text=_("spectra, or")),
            _typed(u, "minutes", "optional", _("Time limit in minutes; empty for none")),
            u.create_label(text=_("min")),
        ),
        row(
            u,
            _("Enough"),
            u.create_label(text=_("when the best is within")),
            _typed(
                u,
                "enough",
                "optional",
                _("End early, once nothing better by more than so many standard deviations is likely (risk 5 %).\n")
                + _("Where the whole map is learned: once no value is less certain. Empty: never."),
            ),
            u.create_label(text=_("std. dev.")),
            visible="@binding(flags.learns.value)",
        ),
        row(
            u,
            _("Drift"),
            u.create_label(text=_("look every")),
            number(
                u,
                "drift_every",
                "whole",
                _("After so many spectra a quick image of the field shows how far the specimen has drifted, and all\n")
                + _("positions move with it. Each image costs a little dose. Empty: never."),
                **edit,
            ),
            u.create_label(text=_("spectra")),
        ),
        row(
            u,
            _("Beam"),
            u.create_check_box(
                text=_("align first; look every"),
                checked="@binding(form.align.value)",
                name="align_check",
                tool_tip=_("Before the overview the disk is centred, as entered in the Beam Alignment panel."),
                **edit,
            ),
            number(
                u,
                "align_every",
                "whole",
                _("After so many spectra a frame shows whether the disk has moved; then the beam is aligned again.\n")
                + _("Empty: never. The camera of the disk has to be in place during the run."),
                **edit,
            ),
            u.create_label(text=_("spectra")),
        ),
        row(u, _("Estimate"), text(u, "estimate", "narrow")),
        text(u, "kept", name="kept_label", visible="@binding(flags.has_kept.value)"),
        spacing=4,
    )


def _run(u: typing.Any) -> typing.Any:
    return u.create_column(
        divider(u),
        u.create_row(
            button(u, _("Start"), "start", "can_start", _("Begin the experiment")),
            button(u, "@binding(texts.pause.value)", "pause", "can_pause", _("Pause after this spectrum; go on")),
            button(u, _("Stop"), "stop", "running", _("Finish this spectrum, put the instrument back")),
            button(u, _("Abort"), "abort", "running", _("Cut the exposure short, put the instrument back")),
            button(u, _("Undo"), "undo", "can_undo", _("Take back the latest change that you made")),
            u.create_stretch(),
            spacing=4,
        ),
        headline(
            u,
            button(
                u, _("Report"), "report", "can_report", _("Write the report of this run and show it in the browser")
            ),
        ),
        u.create_label(text="@binding(texts.progress.value)"),
        text(u, "reason", name="reason_label"),
        text(u, "best"),
        text(
            u,
            "model",
            name="model_label",
            visible="@binding(flags.has_model.value)",
            tool_tip=_("What the predicted map is based on, and which description foresees best what was not seen:\n")
            + _("the difference in the log density of such points, nats a point. Below \N{MINUS SIGN}0.1 it matters."),
        ),
        message(u),
        spacing=4,
        margin=8,
    )
