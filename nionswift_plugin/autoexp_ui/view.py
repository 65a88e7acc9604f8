"""What the panel looks like, as Swift's declarative description; :mod:`.panel` holds what it does."""

from __future__ import annotations

import typing

from nion.ui import Declarative

from nionswift_plugin.autoexp_ui import form
from nionswift_plugin.autoexp_ui.translation import translate as _
from nionswift_plugin.autoexp_ui.widgets import (
    BUTTON_HEIGHT,
    LABEL_WIDTH,
    banner,
    button,
    combo,
    divider,
    headline,
    message,
    number,
    problems,
    row,
    text,
)


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
            number(u, "fov_nm", _("Side of the scanned field, nm"), **edit),
            u.create_label(text=_("nm")),
            number(u, "pixels", _("Pixels along a side of the overview"), **edit),
            u.create_label(text=_("px")),
        ),
        *problems(u, "fov_nm", "pixels"),
        row(
            u,
            _("Dwell"),
            number(u, "dwell_us", _("Time per pixel of the overview, µs"), **edit),
            u.create_label(text=_("µs")),
            u.create_push_button(
                text=_("Take Overview"),
                name="overview_button",
                on_clicked="handle_overview",
                enabled="@binding(flags.can_start.value)",
                tool_tip=_("Scan the field now, to draw regions on it. Start uses it if the field is the same."),
            ),
        ),
        *problems(u, "dwell_us"),
        row(
            u,
            _("Regions"),
            u.create_push_button(
                text=_("Measure Only Here"),
                name="include_button",
                on_clicked="handle_include",
                tool_tip=_("Drag a rectangle on the overview; with any of these, only their insides are measured."),
            ),
            u.create_push_button(
                text=_("Exclude"),
                name="exclude_button",
                on_clicked="handle_exclude",
                tool_tip=_("Drag a rectangle on the overview in which nothing is measured."),
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
            number(u, "low_eV", _("Lower end of the window, eV; or drag it on the spectra")),
            u.create_label(text=_("to")),
            number(u, "high_eV", _("Upper end of the window, eV; or drag it on the spectra")),
            u.create_label(text=_("eV")),
        ),
        *problems(u, "low_eV", "high_eV"),
        u.create_row(
            u.create_label(text="@binding(texts.second.value)", width=LABEL_WIDTH),
            number(u, "second_low_eV", _("Lower end, eV; or drag it on the spectra")),
            u.create_label(text=_("to")),
            number(u, "second_high_eV", _("Upper end, eV; or drag it on the spectra")),
            u.create_label(text=_("eV")),
            u.create_stretch(),
            spacing=6,
            visible="@binding(flags.two_windows.value)",
        ),
        *problems(u, "second_low_eV", "second_high_eV"),
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
            number(
                u,
                "parameter",
                _("In standard deviations: larger explores more of what is not known, smaller exploits what is"),
            ),
            u.create_stretch(),
            spacing=6,
            visible="@binding(flags.has_parameter.value)",
        ),
        *problems(u, "parameter"),
        row(
            u,
            _("and value"),
            number(u, "other_low_eV", _("Second value: intensity from here, eV; or drag it on the spectra")),
            u.create_label(text=_("to")),
            number(u, "other_high_eV", _("Second value: intensity up to here, eV; or drag it")),
            u.create_label(text=_("eV,")),
            combo(u, "other_goal", form.GOALS, _("Whether high or low second values are wanted"), width=96),
            visible="@binding(flags.compares.value)",
        ),
        *problems(u, "other_low_eV", "other_high_eV"),
        row(
            u,
            _("Patches"),
            number(u, "patch_px", _("Side of the image patch that describes a position, pixels"), **edit),
            u.create_label(text=_("px, every")),
            number(u, "stride_px", _("Distance between neighbouring positions, pixels"), **edit),
            u.create_label(text=_("px")),
        ),
        *problems(u, "patch_px", "stride_px"),
        spacing=4,
    )


def _measure(u: typing.Any) -> typing.Any:
    edit = {"enabled": "@binding(flags.can_edit.value)"}
    return u.create_column(
        row(
            u,
            _("Exposure"),
            number(u, "exposure_ms", _("Exposure of each spectrum, ms"), **edit),
            u.create_label(text=_("ms, binning")),
            number(u, "binning", _("Camera binning; must be one that the camera has"), **edit),
        ),
        *problems(u, "exposure_ms", "binning"),
        row(
            u,
            _("Stop after"),
            number(u, "points", _("Number of spectra; may be changed while it runs")),
            u.create_label(text=_("spectra, or")),
            number(u, "minutes", _("Time limit in minutes; empty for none")),
            u.create_label(text=_("min")),
        ),
        *problems(u, "points", "minutes"),
        row(
            u,
            _("Enough"),
            u.create_label(text=_("when the best is within")),
            number(
                u,
                "enough",
                _("End early, once nothing better by more than so many standard deviations is likely (risk 5 %).\n")
                + _("Where the whole map is learned: once no value is less certain. Empty: never."),
            ),
            u.create_label(text=_("std. dev.")),
            visible="@binding(flags.learns.value)",
        ),
        *problems(u, "enough"),
        row(
            u,
            _("Drift"),
            u.create_label(text=_("look every")),
            number(
                u,
                "drift_every",
                _("After so many spectra a quick image of the field shows how far the specimen has drifted, and all\n")
                + _("positions move with it. Each image costs a little dose. Empty: never."),
                **edit,
            ),
            u.create_label(text=_("spectra")),
        ),
        *problems(u, "drift_every"),
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
                _("After so many spectra a frame shows whether the disk has moved; then the beam is aligned again.\n")
                + _("Empty: never. The camera of the disk has to be in place during the run."),
                **edit,
            ),
            u.create_label(text=_("spectra")),
        ),
        *problems(u, "align_every"),
        row(u, _("Estimate"), text(u, "estimate", "narrow")),
        text(u, "kept", name="kept_label", visible="@binding(flags.has_kept.value)"),
        spacing=4,
    )


def _run(u: typing.Any) -> typing.Any:
    """How it goes, and below that, at the lower edge where nothing moves them, the buttons."""
    tall = {"height": BUTTON_HEIGHT}
    return u.create_column(
        divider(u),
        headline(
            u,
            button(
                u, _("Report"), "report", "can_report", _("Write the report of this run and show it in the browser")
            ),
        ),
        u.create_label(text="@binding(texts.progress.value)"),
        u.create_label(
            text="@binding(texts.beam.value)",
            name="beam_label",
            tool_tip=_("Where the beam is now, and for how long. Without a blanker in the site's limits it stays on\n")
            + _("between spectra, and that time counts as dose."),
        ),
        text(u, "reason", name="reason_label"),
        u.create_row(
            button(
                u,
                _("Set It Back"),
                "set_back",
                "can_set_back",
                _("Let the scan show the field of the overview again, and go on"),
            ),
            u.create_stretch(),
            visible="@binding(flags.can_set_back.value)",
        ),
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
        divider(u),
        u.create_row(
            button(u, _("Start"), "start", "can_start", _("Begin the experiment"), **tall),
            button(
                u,
                "@binding(texts.pause.value)",
                "pause",
                "can_pause",
                _("Pause after this spectrum; go on"),
                **tall,
            ),
            button(u, _("Undo"), "undo", "can_undo", _("Take back the latest change that you made"), **tall),
            u.create_spacing(12),
            button(
                u,
                _("Stop"),
                "stop",
                "running",
                _("Finish this spectrum, put the instrument back"),
                **tall,
            ),
            u.create_stretch(),
            button(
                u,
                _("Abort"),
                "abort",
                "running",
                _("Cut the exposure short, put the instrument back"),
                **tall,
            ),
            spacing=4,
        ),
        spacing=4,
        margin=8,
    )
