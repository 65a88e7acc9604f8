"""What the alignment panel looks like, as Swift's declarative description; :mod:`.panel` holds what it does."""

from __future__ import annotations

import typing

from nion.ui import Declarative

from nionswift_plugin.autoexp_ui.translation import translate as _
from nionswift_plugin.autoexp_ui.widgets import banner, button, divider, headline, message, number, problems, row, text


def build_view() -> typing.Any:
    """The whole panel as Swift's declarative description."""
    u = Declarative.DeclarativeUI()
    fields = u.create_column(
        _task(u), divider(u), _frame(u), divider(u), _goal(u), u.create_stretch(), spacing=6, margin=8
    )
    return u.create_column(banner(u), u.create_scroll_area(fields), _run(u), spacing=4)


def _task(u: typing.Any) -> typing.Any:
    return u.create_column(
        row(
            u,
            _("Task"),
            u.create_combo_box(
                items_ref="@binding(task_names.value)",
                current_index="@binding(task_index.value)",
                enabled="@binding(flags.can_edit.value)",
                tool_tip=_(
                    "Which controls bring the disk to its goal: any two that the limits of this instrument list"
                ),
                width=214,
            ),
        ),
        row(
            u,
            _("Controls"),
            text(
                u,
                "limits",
                "wide",
                name="limits_label",
                tool_tip=_("Value when the latest frame was taken, and the range, and the step, that the site allows"),
            ),
        ),
        row(
            u,
            _("Scale"),
            number(
                u,
                "px_per_unit",
                _("Pixels of the frame by which a unit of the controls shifts the disk, to within a factor of two.\n")
                + _("Empty: the controls are angles in rad, and the calibration of the camera tells."),
                enabled="@binding(flags.can_edit.value)",
            ),
            u.create_label(text=_("px a unit")),
        ),
        *problems(u, "px_per_unit"),
        spacing=4,
    )


def _frame(u: typing.Any) -> typing.Any:
    edit = {"enabled": "@binding(flags.can_edit.value)"}
    return u.create_column(
        row(
            u,
            _("Camera"),
            u.create_combo_box(
                items_ref="@binding(camera_names.value)",
                current_index="@binding(camera_index.value)",
                tool_tip=_("The camera on which the bright-field disk is seen"),
                width=214,
                **edit,
            ),
        ),
        row(
            u,
            _("Exposure"),
            number(u, "exposure_ms", _("Exposure of each frame, ms"), **edit),
            u.create_label(text=_("ms, binning")),
            number(u, "binning", _("Camera pixels to a pixel of the frame, along each axis"), **edit),
        ),
        *problems(u, "exposure_ms", "binning"),
        spacing=4,
    )


def _goal(u: typing.Any) -> typing.Any:
    edit = {"enabled": "@binding(flags.can_edit.value)"}
    return u.create_column(
        row(
            u,
            _("Goal"),
            u.create_label(text=_("y")),
            number(u, "goal_y", _("From the top, as a fraction of the frame; or drag the goal on it"), **edit),
            u.create_label(text=_("x")),
            number(u, "goal_x", _("From the left, as a fraction of the frame; or drag the goal on it"), **edit),
            u.create_push_button(
                text=_("Middle"), on_clicked="handle_middle", tool_tip=_("The middle of the frame"), **edit
            ),
        ),
        *problems(u, "goal_y", "goal_x"),
        row(
            u,
            _("Within"),
            number(u, "tolerance_px", _("How near is near enough, pixels of the frame"), **edit),
            u.create_label(text=_("px, in at most")),
            number(u, "frames", _("Frames after which it is given up, and everything put back"), **edit),
            u.create_label(text=_("frames")),
        ),
        *problems(u, "tolerance_px", "frames"),
        spacing=4,
    )


def _run(u: typing.Any) -> typing.Any:
    return u.create_column(
        divider(u),
        u.create_row(
            button(
                u, _("Align"), "align", "can_align", _("Bring the disk to its goal; if that fails, all is put back")
            ),
            button(u, _("Look"), "look", "can_align", _("Take one frame, to see where the disk is; nothing moves")),
            button(u, _("Stop"), "stop", "busy", _("End at once, and put the controls back to where they were")),
            button(u, _("Undo"), "undo", "can_undo", "@binding(texts.undo.value)"),
            button(
                u, _("Accept"), "accept", "can_undo", _("Leave the controls as they are now; there is no undo then")
            ),
            u.create_stretch(),
            spacing=4,
        ),
        headline(u),
        text(u, "progress"),
        text(u, "residual", name="residual_label"),
        text(
            u,
            "response",
            name="response_label",
            visible="@binding(flags.has_response.value)",
            tool_tip=_("How the controls move the disk, as learned; kept for the next alignment"),
        ),
        message(u),
        spacing=4,
        margin=8,
    )
