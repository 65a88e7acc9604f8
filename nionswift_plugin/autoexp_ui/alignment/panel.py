"""The Beam Alignment panel: binds the widgets to the form and the alignments."""

from __future__ import annotations

import re
import typing

from nion.ui import Declarative
from nion.utils import Model, ReferenceCounting, Registry

from autoexp.errors import AutoexpError
from autoexp.instrument import Identity
from autoexp.limits import SiteLimits
from autoexp.tasks.alignment import Look
from nionswift_plugin.autoexp_ui import bindings, missing, tabbed, texts, widgets
from nionswift_plugin.autoexp_ui.alignment import controller, view
from nionswift_plugin.autoexp_ui.alignment import form as form_module
from nionswift_plugin.autoexp_ui.translation import translate as _

PANEL_ID = "autoexp-alignment-panel"
TEXTS = ("instrument", "limits", "undo", "headline", "progress", "residual", "response", "message")
FLAGS = ("simulated", "can_edit", "can_align", "can_undo", "busy", "has_response", "has_message")


class AlignmentHandler(widgets.NumberFields, Declarative.Handler):
    """Binds the widgets.

    Args:
        document_controller: Swift's window.
    """

    def __init__(self, document_controller: typing.Any):
        super().__init__()
        stored = document_controller.ui.create_persistent_string_model(form_module.KEY, "{}")
        self.form = form_module.AlignmentForm(stored)
        self.alignment = controller.BeamAlignment(document_controller, self.form)
        self.texts = bindings.Models(TEXTS, "")
        self.flags = bindings.Models(FLAGS, False)
        self.wide, self.narrow = texts.Wrapped(52), texts.Wrapped(36)
        self.progress_value = Model.PropertyModel[int](0)
        self.task_names, self.camera_names = Model.PropertyModel[list[str]]([]), Model.PropertyModel[list[str]]([])
        self.task_index, self.camera_index = Model.PropertyModel[int](0), Model.PropertyModel[int](0)
        self.task_index.on_value_changed = self._on_task
        self.camera_index.on_value_changed = self._on_camera
        self.ui_view = view.build_view()
        self._pairs: list[form_module.Pair] = []
        self._cameras: list[typing.Any] = []
        self._limits = SiteLimits()
        self._event_loop = document_controller.event_loop
        changed = ReferenceCounting.weak_partial(AlignmentHandler._on_component, self)
        self._listeners: list[typing.Any] = [
            self.alignment.changed_event.listen(ReferenceCounting.weak_partial(AlignmentHandler.refresh, self)),
            self.form.changed_event.listen(ReferenceCounting.weak_partial(AlignmentHandler._on_form, self)),
            Registry.listen_component_registered_event(changed),
            Registry.listen_component_unregistered_event(changed),
        ]
        self.find_devices()

    def close(self) -> None:
        """The panel goes, and with it an alignment that is under way."""
        self._listeners.clear()
        self.task_index.on_value_changed = self.camera_index.on_value_changed = None
        self.alignment.close()
        self.form.close()
        self._cameras = []
        super().close()

    # --- what the widgets call

    def handle_align(self, widget: typing.Any) -> None:
        """Align."""
        self.find_devices()
        self.alignment.align()

    def handle_look(self, widget: typing.Any) -> None:
        """Look."""
        self.find_devices()
        self.alignment.look()

    def handle_stop(self, widget: typing.Any) -> None:
        """Stop."""
        self.alignment.stop()

    def handle_undo(self, widget: typing.Any) -> None:
        """Undo."""
        self.alignment.undo()

    def handle_accept(self, widget: typing.Any) -> None:
        """Accept."""
        self.alignment.accept()

    def handle_middle(self, widget: typing.Any) -> None:
        """Middle."""
        self.form.set(goal_y=0.5, goal_x=0.5)

    # --- what is there

    def find_devices(self) -> None:
        """Look for instrument, cameras and limits; the limits file may have been changed meanwhile."""
        try:
            self._limits, message = self.alignment.limits(), ""
            self.alignment.prepare()
        except AutoexpError as error:
            self._limits, message = SiteLimits(), str(error)
        if self.alignment.identity() is not None and message:
            self.alignment.message = message
        self._pairs = form_module.pairs_of(self._limits.controls)
        self._cameras = controller.cameras()
        chosen, camera = form_module.pair_of(self.form.value("controls")), self.form.value("camera")
        self.task_names.value = [form_module.task_name(pair) for pair in self._pairs]
        self.camera_names.value = [c.display_name for c in self._cameras]
        ids = [c.hardware_source_id for c in self._cameras]
        self.task_index.value = self._pairs.index(chosen) if chosen in self._pairs else 0
        self.camera_index.value = ids.index(camera) if camera in ids else 0
        self._on_task(self.task_index.value)
        self.refresh()

    def _on_component(self, component: typing.Any, component_types: set[str]) -> None:
        if {"stem_controller", "camera_hardware_source"} & component_types:  # on whatever thread
            self._event_loop.call_soon_threadsafe(ReferenceCounting.weak_partial(AlignmentHandler.find_devices, self))

    def _on_task(self, index: int | None) -> None:
        if self._pairs and index is not None and 0 <= index < len(self._pairs):
            controls = ", ".join(self._pairs[index])
            if self.form.value("controls") != controls:
                self.form.set(controls=controls)

    def _on_camera(self, index: int | None) -> None:
        """Swift's own choice is not written down: it may be another camera tomorrow."""
        chosen = self._cameras[index].hardware_source_id if index and index < len(self._cameras) else ""
        if self.form.value("camera") != chosen:
            self.form.set(camera=chosen)

    def _on_form(self) -> None:
        self.alignment.show_goal((self.form.value("goal_y"), self.form.value("goal_x")))
        self.refresh()

    # --- what is shown

    def refresh(self) -> None:
        """Bring everything up to date."""
        alignment = self.alignment
        identity = alignment.identity()
        look = alignment.looks[-1] if alignment.looks else None
        response = alignment.found.response if alignment.found is not None else None
        entry = alignment.entry
        self.flags.set(
            simulated=identity is not None and identity.simulated,
            busy=alignment.busy,
            can_edit=not alignment.busy,
            can_align=identity is not None and bool(self._pairs) and not alignment.busy,
            can_undo=bool(entry) and not alignment.busy,
            has_response=response is not None,
            has_message=bool(alignment.message),
        )
        went = ", ".join(f"{name} = {value:.4g}" for name, value in entry.items())
        self.texts.set(
            instrument=identity.name if identity else missing.no_instrument(),
            limits=self._limits_text(identity, look),
            undo=_("Put the controls back to {values}").format(values=went) if went else _("There is nothing to undo"),
            headline=self._headline(),
            progress=self._progress(),
            residual=_residual(look, self.form.value("tolerance_px") or 0.0) if look else "",
            response=_minus(_("Learned: {response}.").format(response=response.describe())) if response else "",
            message=alignment.message,
        )
        frames = self.form.value("frames") or 1
        done = 100 if alignment.found is not None and alignment.found.success else 100 * len(alignment.looks) / frames
        self.progress_value.value = int(done if alignment.busy or alignment.found is not None else 0)

    def _limits_text(self, identity: Identity | None, look: Look | None) -> str:
        """The range of each of the two controls, and its value when the latest frame was taken."""
        if identity is None:
            return ""
        pair = form_module.pair_of(self.form.value("controls"))
        if not self._pairs or pair is None:
            return controller.where_limits_belong(identity)
        lines = []
        for i, name in enumerate(pair):
            if (limits := self._limits.controls.get(name)) is not None:
                now = f"{look.values[i]:.3g} " if look is not None else ""
                step = _(", by {step:g}").format(step=limits.step) if limits.step is not None else ""
                within = _("({low:g} to {high:g}{step})").format(low=limits.low, high=limits.high, step=step)
                lines.append(_minus(f"{name}: {now}{within}"))
        return "\n".join(lines)

    def _headline(self) -> str:
        alignment = self.alignment
        if alignment.doing:
            return alignment.doing + " \N{HORIZONTAL ELLIPSIS}"
        if alignment.found is None:
            return _("Failed") if alignment.failed else _("Ready")
        if alignment.found.success:
            return _("Aligned") if alignment.entry else _("Aligned, accepted")
        return _("Not aligned; the controls are where they were before")

    def _progress(self) -> str:
        alignment = self.alignment
        frames = len(alignment.looks)
        if not frames:
            return ""
        parts = [_("1 frame") if frames == 1 else _("{n} frames").format(n=frames)]
        if alignment.busy:
            parts = [_("frame {n} of at most {most}").format(n=frames, most=self.form.value("frames"))]
        if alignment.found is not None and not alignment.found.success:
            parts.append(alignment.found.reason)
        return " · ".join(parts)


def _minus(text: str) -> str:
    """With minus signs instead of hyphens."""
    return re.sub(r"-(?=\d)", "\N{MINUS SIGN}", text)


def _residual(look: Look, tolerance_px: float) -> str:
    """How far the disk is from its goal."""
    if look.residual_px is None:
        return _("There is no disk on the frame.")
    angle = f" ({look.residual_mrad:.3g} mrad)" if look.residual_mrad is not None else ""
    wanted = _("{distance:.3g} px{angle} from the goal; within {tolerance:g} px is wanted.")
    return wanted.format(distance=look.residual_px, angle=angle, tolerance=tolerance_px)


class BeamAlignmentPanel(tabbed.TabbedPanel):
    """The dock panel; cheap to make, since Swift makes it with every window, shown or not."""

    placed_key = "autoexp/alignment-placed"

    def __init__(self, document_controller: typing.Any, panel_id: str, properties: typing.Any):
        super().__init__(document_controller, panel_id, _("Beam Alignment"))
        self._handler = AlignmentHandler(document_controller)
        self.widget = Declarative.DeclarativeWidget(
            document_controller.ui, document_controller.event_loop, self._handler
        )
