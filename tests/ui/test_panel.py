"""The panel, driven as an operator would, in Swift's own test harness with its leak checks."""

from __future__ import annotations

import numpy as np
import pytest
from nion.swift.model import Graphics

from autoexp import events as ev
from autoexp import plan as planning
from autoexp.errors import AutoexpError, InstrumentBusyError, PlanError
from autoexp.lock import InstrumentLock
from autoexp.runlog import RunReader
from autoexp.state import Settings
from autoexp.swift import instrument as swift_instrument
from autoexp.swift import preferences
from nionswift_plugin.autoexp_ui import acquisition_method, edits
from nionswift_plugin.autoexp_ui import form as form_module


def events(window, kind):
    return [r.event for r in window.experiment.engine.records if isinstance(r.event, kind)]


def test_start_measures_and_shows_everything_as_ordinary_data(window, settings):
    window.handler.handle_start(None)
    assert window.handler.flags.running.value
    assert not window.handler.flags.can_start.value
    window.finish()
    status = window.experiment.status
    assert status.ending == "completed"
    assert window.handler.texts.headline.value == "Completed"
    assert window.handler.progress_value.value == 100
    overview, spectra, curve = window.item("Overview"), window.item("Spectra"), window.item("Best so far")
    assert "SIMULATED" in overview.title
    assert overview.dimensional_calibrations[0].units == "nm"
    assert overview.dimensional_calibrations[0].scale == pytest.approx(400 / 64)
    assert spectra.data_shape == (8, 1024)
    assert spectra.xdata.is_sequence
    assert spectra.dimensional_calibrations[1].units == "eV"
    assert curve.data_shape == (8,)
    (folder,) = [f for f in settings.runs.iterdir() if f.is_dir()]
    np.testing.assert_array_equal(spectra.data, RunReader(folder).spectra())
    points = spectra.metadata["autoexp"]["points"]
    assert len(points) == 8
    assert points[0]["position_nm"] == pytest.approx([p * 400 for p in points[0]["position"]])
    assert spectra.metadata["autoexp"]["simulated"] is True
    display_item = window.document_model.get_display_item_for_data_item(overview)
    labels = [g.label for g in display_item.graphics]
    assert labels == [str(i + 1) for i in range(8)]
    (group,) = window.document_model.data_groups
    assert len(group.display_items) >= 3


def test_pause_resume_stop(window):
    window.handler.form.set(points=500)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 3)
    window.handler.handle_pause(None)
    window.until(lambda: window.experiment.status.phase == "paused")
    window.until(lambda: window.handler.texts.pause.value == "Resume")
    window.handler.handle_pause(None)
    window.until(lambda: window.experiment.status.phase == "running")
    window.handler.handle_stop(None)
    window.finish()
    assert window.experiment.status.ending == "stopped"
    assert window.handler.progress_value.value < 100
    assert window.item("Spectra").data_shape[0] == window.experiment.status.points
    assert window.handler.flags.can_start.value


def test_abort_says_so_and_never_shows_a_hundred_percent(window):
    window.handler.form.set(points=500)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 3)
    window.handler.handle_abort(None)
    window.finish()
    assert window.experiment.status.ending == "aborted"
    assert "Aborted" in window.handler.texts.headline.value
    assert window.handler.progress_value.value < 100


def test_a_fault_is_shown_in_the_panel(window):
    window.stem.eels_camera.faults.arm("raises", after=2)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.phase == "suspended")
    window.until(lambda: "failed" in window.handler.texts.reason.value)
    assert window.handler.texts.headline.value == "Suspended"
    assert window.handler.texts.beam.value.startswith("Beam: on, parked at x ")
    assert window.handler.flags.can_pause.value
    window.handler.handle_pause(None)
    window.finish()
    assert window.experiment.status.ending == "completed"
    assert window.handler.progress_value.value < 100
    assert "1 failed" in window.handler.texts.progress.value


def test_fields_steer_while_it_runs_and_undo_takes_it_back(window):
    window.handler.form.set(points=400)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 3)
    window.handler.form.set(low_eV=3.4, high_eV=4.2)
    window.until(lambda: events(window, ev.Rescored))
    assert window.experiment.engine.state.settings.scalarizer.low_eV == 3.4
    window.until(lambda: window.handler.flags.can_undo.value)
    window.handler.handle_undo(None)
    window.until(lambda: window.experiment.engine.state.settings.scalarizer.low_eV == 1.1)
    window.until(lambda: window.handler.form.value("low_eV") == 1.1)
    window.handler.form.set(points=window.experiment.status.points + 20)
    window.until(lambda: window.experiment.engine.state.settings.budget.points < 400)
    assert window.experiment.engine.state.settings.scalarizer.low_eV == 1.1
    window.finish()
    assert window.experiment.status.ending == "completed"


def test_two_values_are_traded_and_given_up_again_while_it_runs(window):
    window.handler.form.set(agent=0, points=400, seeds=4)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 5)
    kinds = [kind for kind, _label in form_module.ACQUISITIONS]
    window.handler.form.set(acquisition=kinds.index("expected-hypervolume-improvement"), other_goal=1)
    assert window.handler.flags.compares.value
    window.until(lambda: window.experiment.engine.state.settings.second is not None)
    window.until(lambda: window.experiment.engine.state.settings.agent.acquisition.kind == kinds[-1])
    assert window.experiment.engine.state.settings.agent.acquisition.second_goal == "minimize"
    window.until(lambda: all(p.second is not None for p in window.experiment.engine.state.measured))
    window.handler.form.set(acquisition=0)
    window.until(lambda: window.experiment.engine.state.settings.second is None)
    assert not [s for s in events(window, ev.Steered) if s.refused]
    window.handler.handle_undo(None)
    window.until(lambda: window.experiment.engine.state.settings.second is not None)
    assert window.experiment.engine.state.settings.agent.acquisition.kind == kinds[-1]
    window.handler.handle_stop(None)
    window.finish()


def test_drift_and_enough_go_into_the_plan_and_the_model_is_put_into_words(window):
    window.handler.form.set(agent=0, points=30, seeds=5, drift_every=8, enough=0.01)
    window.handler.handle_start(None)
    window.finish()
    state = window.experiment.engine.state
    assert state.plan.drift.every == 8
    assert state.plan.agent.stop.within == 0.01
    assert [look.exposures for look in state.looks] == [8, 16, 24]
    assert "Map: 90 % intervals hold" in window.handler.texts.model.value
    assert "Based on" in window.handler.texts.model.value
    assert "Foresight:" in window.handler.texts.model.value
    assert window.handler.flags.has_model.value


def test_the_way_through_feature_space_is_drawn(window):
    window.handler.form.set(points=40)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.live is not None and window.experiment.live.item("features") is not None)
    live = window.experiment.live
    window.finish()
    image = live.item("features").xdata
    assert image.is_data_rgb_type
    assert image.data_shape[:2] == (192, 192)
    colored = (np.ptp(image.data.astype(int), axis=-1) > 30).sum()
    assert colored > 40


def test_what_the_panel_cannot_say_survives_an_edit(window):
    known = planning.DeepKernelAgent(costs=planning.Costs(travel=1.0), stop=planning.StopRule(within=0.5, risk=0.01))
    form, settings = window.handler.form, Settings.of(planning.Plan(agent=known))
    form.follow(**edits.fields_of(settings))
    assert form.value("enough") == 0.5
    form.set(enough=0.4)
    (command,) = edits.commands(form, {"enough"}, settings)
    assert command.agent == known.model_copy(update={"stop": planning.StopRule(within=0.4, risk=0.01)})
    assert edits.commands(form, edits.STEERING, settings.after(command)) == []
    assert form.make_agent().costs == planning.Costs()


def test_regions_drawn_before_and_during_a_run_are_obeyed(window):
    window.handler.handle_overview(None)
    window.until(lambda: window.experiment.taken is not None)
    window.draw(exclude=False, bounds=((0.5, 0.5), (0.5, 0.5)))
    display_item = window.experiment.overview_display_item
    window.handler.form.set(points=300)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 10)
    assert all(min(p.position) >= 0.5 for p in window.experiment.engine.state.measured)
    assert len(events(window, ev.Prepared)) == 1
    display_item.graphics[0].bounds = ((0.0, 0.0), (0.3, 0.3))
    window.until(lambda: events(window, ev.Steered))
    window.until(lambda: "in the regions that are drawn" in window.handler.texts.reason.value)
    window.handler.handle_stop(None)
    window.finish()
    first = next(i for i, r in enumerate(window.experiment.engine.records) if isinstance(r.event, ev.Steered))
    later = [r.event for r in window.experiment.engine.records[first:] if isinstance(r.event, ev.Decided)]
    assert later
    assert all(max(d.position) <= 0.3 for d in later)


def test_a_point_added_to_the_overview_is_measured_next(window):
    window.handler.form.set(points=300)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.live.display_item("overview") is not None)
    graphic = Graphics.PointGraphic()
    graphic.position = (0.123, 0.456)
    window.experiment.live.display_item("overview").add_graphic(graphic)
    window.until(lambda: any(p.request for p in window.experiment.engine.state.measured))
    (point,) = [p for p in window.experiment.engine.state.measured if p.request]
    assert point.position == pytest.approx((0.123, 0.456))
    window.handler.handle_stop(None)
    window.finish()


def test_the_window_is_dragged_on_the_spectra(window):
    window.handler.form.set(points=300)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.live.display_item("latest") is not None)
    spectra = window.experiment.live.display_item("latest")
    window.until(lambda: any(g.graphic_id == form_module.WINDOW for g in spectra.graphics))
    graphic = next(g for g in spectra.graphics if g.graphic_id == form_module.WINDOW)
    assert graphic.interval[0] == pytest.approx((1.1 + 1) / 10.24)
    graphic.interval = (0.45, 0.5)
    window.until(lambda: abs(window.experiment.engine.state.settings.scalarizer.low_eV - 3.608) < 0.02)
    assert window.handler.form.value("low_eV") == pytest.approx(3.608, abs=0.01)
    window.handler.handle_stop(None)
    window.finish()


def test_deleting_the_data_items_does_not_stop_the_run(window):
    window.handler.form.set(points=60)
    window.handler.handle_start(None)
    window.until(lambda: window.item("Spectra") is not None)
    for data_item in list(window.document_model.data_items):
        window.document_model.remove_data_item(data_item)
    window.finish()
    assert window.experiment.status.ending == "completed"
    # with Swift's own scan gone the probe was let go of; a spectrum taken then is not used
    assert len(window.experiment.engine.state.measured) >= 58


def test_bad_fields_are_refused_before_anything_moves(window):
    window.handler.form.set(points=0)
    window.handler.handle_start(None)
    assert not window.experiment.running
    assert not window.handler.flags.can_start.value
    assert "at least 1" in window.handler.form.problems.points.value
    window.handler.form.set(points=5, low_eV=3.0, high_eV=2.0)
    window.handler.handle_start(None)
    assert not window.experiment.running
    assert "above the upper end" in window.handler.texts.message.value
    assert "above the upper end" in window.handler.form.problems.low_eV.value
    window.handler.form.set(low_eV=1.0)
    window.handler.handle_start(None)
    window.finish()
    assert window.experiment.status.ending == "completed"
    assert window.handler.texts.message.value == ""


def test_the_estimate_says_what_it_will_cost(window):
    window.handler.form.set(points=60, exposure_ms=1000.0)
    estimate = window.handler.texts.estimate.value
    assert "60 of 225 positions" in estimate
    assert "1:02" in estimate
    assert "e⁻" in estimate


def test_an_unfinished_run_is_found_and_can_be_resumed_finished_or_discarded(window, settings):
    window.handler.form.set(points=40)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 5)
    engine = window.experiment.engine
    engine._finish = lambda end: None  # a power cut writes nothing more
    engine.abort()
    window.finish()
    measured = len(engine.state.measured)
    window.experiment.look_for_unfinished()
    window.until(lambda: window.handler.flags.has_unfinished.value)
    assert f"after {measured} of 40" in window.handler.texts.unfinished.value
    window.handler.handle_resume_run(None)
    window.finish()
    assert window.experiment.status.ending == "completed"
    assert window.experiment.engine.folder == engine.folder
    assert not window.handler.flags.has_unfinished.value
    assert window.item("Spectra").data_shape[0] >= 39


def test_an_unfinished_run_that_is_finished_shows_what_it_has(window):
    window.handler.form.set(points=60, agent=0)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.engine.state.predicted is not None)
    engine = window.experiment.engine
    engine._finish = lambda end: None  # a power cut writes nothing more
    engine.abort()
    window.finish()
    for data_item in list(window.document_model.data_items):
        window.document_model.remove_data_item(data_item)
    window.experiment.look_for_unfinished()
    window.until(lambda: window.handler.flags.has_unfinished.value)
    window.handler.handle_finish_run(None)
    window.finish()
    assert not window.handler.flags.has_unfinished.value
    spectra = window.item("Spectra")
    np.testing.assert_array_equal(spectra.data, RunReader(engine.folder).spectra())
    assert len(spectra.metadata["autoexp"]["points"]) == len(spectra.data)
    assert "SIMULATED" in spectra.title
    assert window.item("Prediction").data.size == engine.state.prepared.candidates
    assert not spectra.in_transaction_state


def test_regions_survive_a_resume_and_an_undo(window):
    window.handler.handle_overview(None)
    window.until(lambda: window.experiment.taken is not None)
    window.draw(exclude=True, bounds=((0.0, 0.0), (1.0, 0.5)))
    window.handler.form.set(points=400, stride_px=2)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 3)
    engine = window.experiment.engine
    engine._finish = lambda end: None  # a power cut writes nothing more
    engine.abort()
    window.finish()
    window.experiment.look_for_unfinished()
    window.until(lambda: window.handler.flags.has_unfinished.value)
    window.handler.handle_resume_run(None)
    window.until(lambda: window.experiment.status.points >= 10)
    window.pump(seconds=0.5)
    settings = window.experiment.engine.state.settings
    assert [(r.kind, r.right) for r in settings.regions] == [("exclude", 0.5)]
    rectangles = [g for g in window.experiment.live.display_item("overview").graphics if g.label == "exclude"]
    assert [g.bounds for g in rectangles] == [((0.0, 0.0), (1.0, 0.5))]
    rectangles[0].bounds = ((0.0, 0.0), (1.0, 0.25))
    window.until(lambda: window.experiment.engine.state.settings.regions[0].right == 0.25)
    window.handler.handle_undo(None)
    window.until(lambda: rectangles[0].bounds == ((0.0, 0.0), (1.0, 0.5)))
    window.pump(seconds=0.5)
    assert window.experiment.engine.state.settings.regions[0].right == 0.5
    window.handler.handle_stop(None)
    window.finish()
    assert all(p.position[1] >= 0.25 for p in window.experiment.engine.state.measured)


def test_a_real_instrument_needs_to_be_armed(window, monkeypatch):
    monkeypatch.setattr(type(window.stem.instrument), "get_autostem_properties", lambda self: {})
    monkeypatch.setattr(window.stem.instrument, "instrument_id", "real")
    window.handler.handle_start(None)
    assert not window.experiment.running
    assert "Preferences" in window.handler.texts.message.value
    preferences.save(preferences.load().model_copy(update={"arm_hardware": True}))
    window.handler.form.set(low_eV=100.0, high_eV=200.0)  # under another name its calibration is not found
    window.handler.handle_start(None)
    window.finish()
    assert window.experiment.status.ending == "completed"


def test_closing_the_window_during_a_run_puts_the_instrument_back(make_window):
    with make_window() as window:
        controller = window.stem.instrument
        before = controller.probe_position
        window.handler.form.set(points=500)
        window.handler.handle_start(None)
        window.until(lambda: window.experiment.status.points >= 3)
        engine = window.experiment.engine
    assert engine.status.ending == "aborted", engine.status.reason
    assert controller.probe_position == before


@pytest.mark.parametrize("_cycle", range(3))
def test_open_and_close_leave_nothing_behind(window, _cycle):
    window.pump(seconds=0.05)


def test_what_was_entered_is_there_again(window):
    window.handler.form.set(points=77, scalarizer=1)
    stored = window.handler.form._stored.value
    from nion.utils import Model

    again = form_module.PlanForm(Model.PropertyModel[str](stored))
    assert again.value("points") == 77
    assert again.scalarizer_kind == "edge"
    assert '"edge"' in stored, "its place in the list may change"
    again.close()
    for broken in ("", "nonsense", "[1]", '{"points": "many", "unheard": 1}', '{"agent": "unheard", "goal": []}'):
        form = form_module.PlanForm(Model.PropertyModel[str](broken))
        assert form.value("points") == form_module.DEFAULTS["points"]
        form.close()


def test_a_binning_that_the_camera_does_not_have_is_refused_before_the_overview(window):
    window.handler.form.set(binning=3)
    window.handler.handle_start(None)
    window.finish()
    assert "no binning 3; it has 1, 2, 4" in window.handler.texts.reason.value
    assert window.item("Scan") is None


def test_regions_of_the_last_run_hold_for_the_next_on_the_same_field(window):
    window.handler.form.set(points=4)
    window.handler.handle_start(None)
    window.finish()
    window.draw(exclude=True, bounds=((0.0, 0.0), (1.0, 0.5)))
    window.handler.handle_start(None)
    assert "last run" in window.handler.texts.message.value
    window.finish()
    (region,) = window.experiment.engine.plan.regions
    assert (region.kind, region.right) == ("exclude", 0.5)
    assert all(p.position[1] > 0.5 for p in window.experiment.engine.state.measured)
    drawn = [g for g in window.experiment.live.display_item("overview").graphics if g.label == "exclude"]
    assert [g.bounds for g in drawn] == [((0.0, 0.0), (1.0, 0.5))]
    window.handler.form.set(fov_nm=200.0)
    window.handler.handle_start(None)
    window.finish()
    assert window.experiment.engine.plan.regions == ()


def test_two_panels_cannot_have_one_instrument(window):
    from nionswift_plugin.autoexp_ui import panel as panel_module

    other = panel_module.PanelHandler(window.document_controller)
    window.handler.form.set(points=300)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 2)
    other.form.set(points=5)
    other.handle_start(None)
    window.until(lambda: other.experiment.status.ending == "faulted" and not other.experiment.running)
    assert "in use by the Autonomous Experiment panel" in other.texts.reason.value
    assert other.texts.headline.value == "Failed"
    assert other.progress_value.value == 0
    assert window.experiment.status.ending is None
    window.handler.handle_stop(None)
    window.finish()
    other.close()


def test_a_broken_display_does_not_stop_the_run(window, monkeypatch):
    from nionswift_plugin.autoexp_ui import live_items

    def broken(self, view):
        raise RuntimeError("no room on the screen")

    monkeypatch.setattr(live_items.LearningCurve, "draw", broken)
    window.handler.handle_start(None)
    engine = window.experiment.engine
    window.until(lambda: engine.status.ending == "completed")
    window.finish()
    assert "saved in its folder" in window.handler.texts.message.value
    assert not window.document_controller.project.is_write_delayed
    assert len(engine.state.measured) == 8


def test_the_trained_network_without_torch_says_what_to_install(window, monkeypatch):
    import importlib.util

    from nionswift_plugin.autoexp_ui import missing

    found = importlib.util.find_spec
    monkeypatch.setattr(
        missing.importlib.util, "find_spec", lambda name, *a: None if name in ("torch", "gpytorch") else found(name, *a)
    )
    kinds = [kind for kind, _label in form_module.AGENTS]
    window.handler.form.set(agent=kinds.index("trained-network"))
    assert "python -m pip install torch gpytorch" in window.handler.texts.message.value
    window.handler.form.set(agent=kinds.index("grid"))
    assert window.handler.texts.message.value == ""
    window.handler.handle_start(None)
    window.finish()
    assert window.experiment.status.ending == "completed"


def test_without_an_instrument_the_panel_says_what_to_do(settings):
    from nion.swift.test import TestContext

    from nionswift_plugin.autoexp_ui import panel as panel_module

    setup = TestContext.TestSetup()
    with TestContext.create_memory_context() as context:
        document_controller = context.create_document_controller()
        handler = panel_module.PanelHandler(document_controller)
        document_controller.periodic()
        assert "no instrument" in handler.texts.instrument.value
        assert "No STEM is registered" in handler.texts.estimate.value
        assert not handler.flags.can_start.value
        assert not handler.flags.simulated.value
        handler.handle_start(None)
        handler.handle_overview(None)
        document_controller.periodic()
        assert not handler.experiment.running
        handler.close()
        document_controller.periodic()
    del setup


def test_the_preferences_are_kept(settings, window):
    from nionswift_plugin.autoexp_ui import preferences_pane

    handler = preferences_pane.Handler()
    handler.specimen_index.value = handler._specimens.index("plasmonic")
    handler.armed.value = True
    handler.close()
    kept = preferences.load()
    assert kept.virtual_stem == "plasmonic"
    assert kept.arm_hardware
    assert kept.runs_folder == settings.preferences.runs_folder


def test_the_repeat_mode_waits_its_turn_and_gives_back(window):
    chooser = acquisition_method.PositionChooser(3)
    identity = window.experiment.identity()
    with InstrumentLock(identity, "another run"), pytest.raises(InstrumentBusyError, match="another run"):
        chooser.start()
    with pytest.raises(AutoexpError, match="spectra"):
        acquisition_method.PositionChooser(3, "choose spectra").start()
    with InstrumentLock(identity, "afterwards"):
        pass


def test_the_repeat_mode_refuses_a_dose_limit_that_it_cannot_keep(window, settings, monkeypatch):
    identity = window.experiment.identity()
    site = settings.folder / "site"
    site.mkdir()
    (site / f"{identity.key}.json").write_text('{"max_dose_e": 1e6}', encoding="utf-8")
    monkeypatch.setattr(swift_instrument.SwiftInstrument, "beam_current_pA", None)
    with pytest.raises(PlanError, match="beam current"):
        acquisition_method.PositionChooser(3).start()
    with InstrumentLock(identity, "afterwards"):
        pass


def test_a_rectangle_that_is_dragged_is_one_change_in_force_on_release(window):
    window.handler.form.set(points=2000, stride_px=2)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 3)
    graphic = window.draw(exclude=True, bounds=((0.0, 0.0), (0.5, 0.5)))
    window.until(lambda: window.experiment.engine.state.settings.regions)
    with window.holding_the_mouse():
        for k in range(1, 6):
            graphic.bounds = ((0.05 * k, 0.0), (0.5, 0.5))
            window.pump(seconds=0.15)
            if k == 2:  # another client changes something meanwhile: what is held stays in the hand
                window.experiment.engine.steer(ev.SetBudget(budget=planning.Budget(points=1999)))
        assert graphic.bounds[0][0] == 0.25
        assert len(events(window, ev.Steered)) == 2
    window.until(lambda: len(events(window, ev.Steered)) == 3)
    window.pump(seconds=0.3)
    assert len(events(window, ev.Steered)) == 3
    (region,) = window.experiment.engine.state.settings.regions
    assert (region.top, region.left, region.bottom, region.right) == pytest.approx((0.25, 0.0, 0.75, 0.5))
    window.handler.handle_undo(None)
    window.until(lambda: graphic.bounds[0][0] == 0.0)
    window.handler.handle_stop(None)
    window.finish()


def test_what_is_no_region_is_not_obeyed_and_that_is_said(window):
    window.handler.form.set(points=2000, stride_px=2)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 3)
    window.until(lambda: window.experiment.live.display_item("overview") is not None)
    display_item = window.experiment.live.display_item("overview")
    plain = Graphics.RectangleGraphic()
    plain.bounds = ((0.1, 0.1), (0.2, 0.2))
    display_item.add_graphic(plain)
    window.until(lambda: "no region" in window.handler.texts.message.value)
    assert not window.experiment.engine.state.settings.regions
    plain.label = "Excluded, dirt"
    window.until(lambda: window.experiment.engine.state.settings.regions)
    plain.rotation = 1.3
    window.until(lambda: "rotated" in window.handler.texts.message.value)
    window.until(lambda: plain.rotation == 0.0)  # what is drawn is in force
    (region,) = window.experiment.engine.state.settings.regions
    assert (region.kind, region.top) == ("exclude", pytest.approx(0.1))
    ellipse = Graphics.EllipseGraphic()
    ellipse.bounds, ellipse.label = ((0.6, 0.6), (0.2, 0.2)), "exclude"
    display_item.add_graphic(ellipse)
    window.until(lambda: "Only rectangles" in window.handler.texts.message.value)
    assert len(window.experiment.engine.state.settings.regions) == 1
    window.handler.handle_stop(None)
    window.finish()


def test_the_newest_overview_is_the_one_that_is_drawn_on(window):
    window.handler.form.set(points=4)
    window.handler.handle_start(None)
    window.finish()
    old = window.experiment.live.display_item("overview")
    window.handler.handle_overview(None)
    window.until(lambda: window.experiment.taken is not None)
    newest = window.experiment.overview_display_item
    assert newest is not old
    window.draw(exclude=True, bounds=((0.0, 0.0), (1.0, 0.5)))
    assert not any(g.label == "exclude" for g in old.graphics)
    window.handler.handle_start(None)
    assert "1 excluded" in window.handler.texts.message.value
    window.finish()
    (region,) = window.experiment.engine.plan.regions
    assert (region.kind, region.right) == ("exclude", 0.5)
    assert all(p.position[1] > 0.5 for p in window.experiment.engine.state.measured)
