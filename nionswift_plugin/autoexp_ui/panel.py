"""The Autonomous Experiment panel, in the manner of Swift's own Acquisition panel."""

from __future__ import annotations

import time
import typing

from nion.ui import Declarative
from nion.utils import Model, ReferenceCounting

from autoexp.errors import AutoexpError
from autoexp.status import Status
from nionswift_plugin.autoexp_ui import bindings, edits, missing, tabbed, texts, view, widgets
from nionswift_plugin.autoexp_ui import devices as devices_module
from nionswift_plugin.autoexp_ui import experiment as experiment_module
from nionswift_plugin.autoexp_ui import form as form_module
from nionswift_plugin.autoexp_ui.alignment.form import KEY, stored_spec
from nionswift_plugin.autoexp_ui.translation import translate as _

PANEL_ID = "autoexp-panel"
TEXTS = (
    "instrument",
    "estimate",
    "headline",
    "progress",
    "beam",
    "reason",
    "best",
    "model",
    "message",
    "kept",
    "unfinished",
    "pause",
    "parameter",
    "second",
)
FLAGS = (
    "simulated",
    "can_start",
    "can_pause",
    "can_undo",
    "can_edit",
    "running",
    "two_windows",
    "has_target",
    "learns",
    "has_parameter",
    "compares",
    "has_model",
    "has_unfinished",
    "has_message",
    "has_kept",
    "can_report",
    "can_set_back",
)


class PanelHandler(widgets.NumberFields, Declarative.Handler):
    """Binds the widgets to the form and the experiment.

    Args:
        document_controller: Swift's window.
    """

    def __init__(self, document_controller: typing.Any):
        super().__init__()
        stored = document_controller.ui.create_persistent_string_model(form_module.KEY, "{}")
        ui = document_controller.ui
        self.form = form_module.PlanForm(stored, lambda: stored_spec(ui.get_persistent_string(KEY, "{}")))
        self.devices = devices_module.DeviceChoice(document_controller.event_loop)
        self.experiment = experiment_module.Experiment(document_controller, self.form, self.devices)
        self._listeners: list[typing.Any] = [
            self.experiment.changed_event.listen(ReferenceCounting.weak_partial(PanelHandler.refresh_status, self)),
            self.form.changed_event.listen(ReferenceCounting.weak_partial(PanelHandler.refresh, self)),
            self.devices.changed_event.listen(ReferenceCounting.weak_partial(PanelHandler.refresh, self)),
        ]
        self.texts = bindings.Models(TEXTS, "")
        self.flags = bindings.Models(FLAGS, False)
        self.wide, self.narrow = texts.Wrapped(52), texts.Wrapped(36)
        self.progress_value = Model.PropertyModel[int](0)
        self.ui_view = view.build_view()
        self._document_controller = document_controller
        self.experiment.look_for_unfinished()
        self.refresh()

    def close(self) -> None:
        """The panel goes, and with it the experiment."""
        self._listeners.clear()
        self.experiment.close()
        self.form.close()
        self.devices.close()
        super().close()

    # --- what the widgets call

    def handle_overview(self, widget: typing.Any) -> None:
        """Take Overview."""
        self.experiment.take_overview()

    def handle_start(self, widget: typing.Any) -> None:
        """Start."""
        self.experiment.start()
        self.refresh()

    def handle_pause(self, widget: typing.Any) -> None:
        """Pause, or Resume."""
        self.experiment.pause()

    def handle_stop(self, widget: typing.Any) -> None:
        """Stop."""
        self.experiment.stop()

    def handle_abort(self, widget: typing.Any) -> None:
        """Abort."""
        self.experiment.abort()

    def handle_undo(self, widget: typing.Any) -> None:
        """Undo."""
        self.experiment.undo()

    def handle_report(self, widget: typing.Any) -> None:
        """Report."""
        self.experiment.show_report()

    def handle_include(self, widget: typing.Any) -> None:
        """Measure Only Here."""
        self.experiment.add_region(exclude=False)

    def handle_exclude(self, widget: typing.Any) -> None:
        """Exclude."""
        self.experiment.add_region(exclude=True)

    def handle_target(self, widget: typing.Any) -> None:
        """Use as Target."""
        display_item = self._document_controller.selected_display_item
        target = target_of(display_item)
        if target is None:
            self.experiment.message = _("Select a spectrum first; the one on display becomes the target.")
        else:
            self.form.set(target=target)
        self.refresh()

    def handle_set_back(self, widget: typing.Any) -> None:
        """Set It Back."""
        self.experiment.set_back()

    def handle_resume_run(self, widget: typing.Any) -> None:
        """Resume an unfinished run."""
        if self.experiment.unfinished:
            self.experiment.resume_unfinished(self.experiment.unfinished[0])

    def handle_finish_run(self, widget: typing.Any) -> None:
        """Finish an unfinished run."""
        if self.experiment.unfinished:
            self.experiment.close_unfinished(self.experiment.unfinished[0], "stopped")

    def handle_discard_run(self, widget: typing.Any) -> None:
        """Discard an unfinished run."""
        if self.experiment.unfinished:
            self.experiment.close_unfinished(self.experiment.unfinished[0], "discarded")

    # --- what is shown

    def refresh(self) -> None:
        """Bring everything up to date."""
        self._refresh_form()
        self.refresh_status()

    def refresh_status(self) -> None:
        """Bring up to date what changes while an experiment runs."""
        self._refresh_status(self.experiment.status)
        self._refresh_unfinished()

    def _refresh_form(self) -> None:
        form = self.form
        kind, learns, acquisition = form.scalarizer_kind, form.learns, form.acquisition_kind
        self.flags.set(
            two_windows=kind in ("edge", "ratio"),
            has_target=kind == "similarity",
            learns=learns,
            compares=form.compares,
            has_parameter=learns and acquisition in form_module.PARAMETERS,
        )
        self.texts.set(
            second=_("Background") if kind == "edge" else _("Divided by"),
            parameter=_("Weight of uncertainty") if acquisition == "upper-confidence-bound" else _("Margin"),
            estimate=self._estimate(),
        )

    def _estimate(self) -> str:
        try:
            instrument = self.experiment.find_instrument()
            identity = instrument.identity
            plan = self.form.make_plan("estimate", identity.scan, identity.camera)
            estimate = plan.estimate(instrument.beam_current_pA)
        except AutoexpError as error:
            return str(error)
        return _("{points} of {candidates} positions · {time} · {dose}").format(
            points=estimate.points,
            candidates=f"{estimate.candidates:,}",
            time=texts.duration(estimate.time_s),
            dose=texts.electrons(estimate.dose_e),
        )

    def _refresh_status(self, status: Status) -> None:
        experiment = self.experiment
        identity = experiment.identity()
        running, waiting = experiment.running, status.phase in ("paused", "suspended")
        model = texts.model(experiment.engine.prediction if experiment.engine else None)
        message = experiment.message or missing.libraries(self.form.agent_kind)
        kept = self._kept()
        self.flags.set(
            simulated=identity is not None and identity.simulated,
            can_start=identity is not None and not running and not experiment.busy and not self.form.mistakes(),
            can_edit=not running,
            running=running,
            can_pause=running and (waiting or status.phase in ("preparing", "running")),
            can_set_back=running and waiting and status.remedy == "set-back",
            can_undo=running and status.can_undo,
            has_message=bool(message),
            has_kept=bool(kept),
            has_model=bool(model),
            can_report=status.ending is not None and not running and not experiment.busy,
        )
        self.texts.set(
            instrument=identity.name if identity else missing.no_instrument(),
            pause=_("Resume") if waiting else _("Pause"),
            headline=experiment.asked or texts.headline(status),
            progress=texts.progress(status) if status.run_id else "",
            beam=self._beam(),
            reason=self._reason(status),
            best=self._best(status),
            model=model,
            message=message,
            kept=kept,
        )
        self.progress_value.value = int(100 * status.progress)

    def _beam(self) -> str:
        """Where the beam is, as long as a run has it, and after it where it was left blanked."""
        engine = self.experiment.engine
        if engine is None:
            return ""
        beam, prepared = engine.beam, engine.state.prepared
        if beam.on and not self.experiment.running:
            return ""
        place_nm = prepared.to_nm(beam.position) if beam.position is not None and prepared is not None else None
        return texts.beam(beam, time.monotonic(), place_nm)

    def _kept(self) -> str:
        """What is in force in the run and has no field."""
        engine = self.experiment.engine
        if engine is None or not self.experiment.running or engine.state.settings is None:
            return ""
        kept = edits.not_shown(engine.state.settings)
        return _("Also in force, and kept as it is: {what}.").format(what="; ".join(kept)) if kept else ""

    def _reason(self, status: Status) -> str:
        """One sentence: why it waits or failed; else why the last point was chosen."""
        if status.reason and (status.ending or status.phase in ("paused", "suspended", "faulted")):
            return status.reason[0].upper() + status.reason[1:] + ("" if status.reason.endswith(".") else ".")
        if status.last is None:
            return ""
        return _("Point {n}: {reason}.").format(n=status.last.id + 1, reason=status.last.reason.rstrip("."))

    def _best(self, status: Status) -> str:
        engine = self.experiment.engine
        if status.best is None or engine is None or engine.state.settings is None:
            return status.warning
        units = engine.state.settings.scalarizer.units
        best = _("Best: point {n}, {value}").format(
            n=status.best.id + 1, value=texts.quantity(status.best.value, units)
        )
        return f"{best}\n{status.warning}" if status.warning else best

    def _refresh_unfinished(self) -> None:
        runs = self.experiment.unfinished
        self.flags.set(has_unfinished=bool(runs) and not self.experiment.running)
        if runs:
            run = runs[0]
            more = _(" ({n} more)").format(n=len(runs) - 1) if len(runs) > 1 else ""
            text = _("The run {name} was cut off after {points} of {budget} spectra{more}. Resume: {action}.")
            self.texts.set(
                unfinished=text.format(
                    name=run.name, points=run.points, budget=run.budget_points, more=more, action=run.next_action
                )
            )


def target_of(display_item: typing.Any) -> dict[str, typing.Any] | None:
    """The spectrum on display as a similarity scalarizer's reference, or None if it is none."""
    channel = display_item.display_data_channel if display_item is not None else None
    xdata = channel.get_latest_display_values().display_data_and_metadata if channel is not None else None
    if xdata is None or len(xdata.data_shape) != 1 or xdata.data_shape[0] < 2:
        return None
    calibration = xdata.dimensional_calibrations[-1]
    if not calibration.scale or calibration.scale <= 0:
        return None
    return {
        "reference": [float(v) for v in xdata.data],
        "offset_eV": float(calibration.offset),
        "scale_eV": float(calibration.scale),
    }


class AutonomousExperimentPanel(tabbed.TabbedPanel):
    """The dock panel; cheap to make, since Swift makes it with every window, shown or not."""

    placed_key = "autoexp/placed"

    def __init__(self, document_controller: typing.Any, panel_id: str, properties: typing.Any):
        super().__init__(document_controller, panel_id, _("Autonomous Experiment"))
        self._handler = PanelHandler(document_controller)
        self.widget = Declarative.DeclarativeWidget(
            document_controller.ui, document_controller.event_loop, self._handler
        )
