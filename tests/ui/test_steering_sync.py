"""The panel and another client steer one run, in Swift's own test harness: what is drawn, and who wins."""

from __future__ import annotations

import pytest
from nion.swift.model import Graphics
from nion.ui import Declarative

from autoexp import events as ev
from autoexp import plan as planning
from autoexp import scalarizers
from autoexp.run_folders import make_run_folder
from autoexp.state import Settings
from autoexp.swift import preferences
from nionswift_plugin.autoexp_ui import form as form_module

THEIRS = planning.Region(id="theirs", kind="exclude", top=0.1, left=0.1, bottom=0.4, right=0.7)


def settings_of(window):
    return window.experiment.engine.state.settings


def rectangles(window):
    overview = window.experiment.live.display_item("overview")
    return [] if overview is None else [g for g in overview.graphics if isinstance(g, Graphics.RectangleGraphic)]


def answers(window):
    return [r.event for r in window.experiment.engine.records if isinstance(r.event, ev.Steered)]


def launch(window, plan):
    """Start a run from somebody's plan."""
    identity = window.experiment.identity()
    swift = planning.SwiftInstrument(scan=identity.scan, camera=identity.camera)
    folder = make_run_folder(preferences.load().runs)
    window.experiment._launch(
        window.experiment._instrument(), folder, plan=plan.model_copy(update={"instrument": swift})
    )


def started(window, **fields):
    window.handler.form.set(points=2000, stride_px=2, **fields)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 3)
    return window.experiment.engine


def stop(window):
    window.handler.handle_stop(None)
    window.finish()


def test_regions_of_another_client_are_drawn_and_stay(window):
    window.handler.form.set(points=2000, stride_px=2)
    window.handler.handle_start(None)
    window.experiment.engine.steer(ev.AddRegion(region=THEIRS))  # there is no overview yet
    window.until(lambda: rectangles(window))
    window.draw(exclude=True)
    window.until(lambda: len(settings_of(window).regions) == 2)
    window.pump(seconds=0.5)
    assert settings_of(window).regions[0] == THEIRS
    assert len(answers(window)) == 2, "nothing is sent back"
    theirs = next(g for g in rectangles(window) if "theirs" in str(g.graphic_id))
    moved = THEIRS.model_copy(update={"kind": "include", "bottom": 0.8})
    window.experiment.engine.steer(ev.AddRegion(region=moved))
    window.until(lambda: theirs.bounds[1][0] == pytest.approx(0.7))
    assert theirs.label != "exclude"
    window.experiment.live.display_item("overview").remove_graphic(theirs).close()
    window.until(lambda: [r.id for r in settings_of(window).regions if r.id == "theirs"] == [])
    (ours,) = settings_of(window).regions
    window.experiment.engine.steer(ev.RemoveRegion(id=ours.id))
    window.until(lambda: not rectangles(window))
    window.pump(seconds=0.3)
    assert settings_of(window).regions == ()
    assert len(answers(window)) == 5
    stop(window)


def test_deleting_the_overview_removes_no_region(window):
    engine = started(window)
    engine.steer(ev.AddRegion(region=THEIRS))
    window.until(lambda: rectangles(window))
    window.document_model.remove_data_item(window.experiment.live.item("overview"))
    window.handler.form.set(points=1900)
    window.until(lambda: settings_of(window).budget.points == 1900)
    assert settings_of(window).regions == (THEIRS,)
    stop(window)


def test_two_clients_take_turns(window):
    engine, form = started(window, agent=0, seeds=4), window.handler.form
    engine.steer(ev.SetBudget(budget=planning.Budget(points=1500, dose_e=1e12)))
    window.until(lambda: form.value("points") == 1500)
    form.set(minutes=30.0)
    window.until(lambda: settings_of(window).budget.time_s == 1800.0)
    engine.steer(ev.SetScalarizer(scalarizer=scalarizers.PeakHeight(low_eV=2.0, high_eV=3.0)))
    window.until(lambda: form.scalarizer_kind == "peak-height" and form.value("low_eV") == 2.0)
    form.set(high_eV=3.5)
    window.until(lambda: settings_of(window).scalarizer.high_eV == 3.5)
    engine.steer(ev.Undo())
    window.until(lambda: form.value("high_eV") == 3.0)
    window.pump(seconds=0.3)
    assert settings_of(window).budget == planning.Budget(points=1500, time_s=1800.0, dose_e=1e12)
    assert settings_of(window).scalarizer == scalarizers.PeakHeight(low_eV=2.0, high_eV=3.0)
    assert len(answers(window)) == 5
    assert "1.0·10¹²" in window.handler.texts.kept.value
    stop(window)
    assert window.handler.texts.kept.value == ""


def test_a_window_of_another_client_that_reaches_over_the_axis_is_not_dragged_back(window):
    engine = started(window)
    window.until(lambda: window.experiment.live.display_item("latest") is not None)
    spectra = window.experiment.live.display_item("latest")
    window.until(lambda: any(g.graphic_id == form_module.WINDOW for g in spectra.graphics))
    graphic = next(g for g in spectra.graphics if g.graphic_id == form_module.WINDOW)
    theirs = scalarizers.Window(low_eV=4.5, high_eV=9.5)
    engine.steer(ev.SetScalarizer(scalarizer=theirs))
    window.until(lambda: graphic.interval[1] == 1.0)
    window.draw(exclude=False)
    window.until(lambda: settings_of(window).regions)
    assert settings_of(window).scalarizer == theirs
    graphic.interval = (0.5, 1.0)
    window.until(lambda: settings_of(window).scalarizer.low_eV == pytest.approx(4.12, abs=0.02))
    assert settings_of(window).scalarizer.high_eV == 9.5
    engine.steer(
        ev.SetScalarizer(scalarizer=scalarizers.Edge(low_eV=5, high_eV=6, background_low_eV=3, background_high_eV=4))
    )
    window.until(lambda: any(g.graphic_id == form_module.SECOND_WINDOW for g in spectra.graphics))
    engine.steer(ev.SetScalarizer(scalarizer=theirs))
    window.until(lambda: not any(g.graphic_id == form_module.SECOND_WINDOW for g in spectra.graphics))
    stop(window)


def plan_beyond_the_fields():
    """A plan of which most has no field in the panel."""
    scalarizers.register_scalarizer("brightness", lambda spectra, energies: spectra.sum(axis=1))
    places = tuple((0.1 + 0.8 * i / 399, 0.5) for i in range(400))
    return planning.Plan(
        overview=planning.OverviewSpec(fov_nm=400.0, pixels=64, dwell_us=1.0),
        patches=planning.PatchSpec(pixels=8, stride=4),
        scalarizer=scalarizers.Function(name="brightness"),
        second=scalarizers.PeakPosition(low_eV=2.0, high_eV=3.0),
        agent=planning.ListAgent(positions=places),
        budget=planning.Budget(points=390, time_s=3600.0, dose_e=1e12),
        regions=(THEIRS,),
    )


def test_a_run_from_a_plan_keeps_what_the_fields_cannot_express(window):
    plan = plan_beyond_the_fields()
    launch(window, plan)
    window.until(lambda: window.experiment.status.points >= 3)
    assert window.handler.form.scalarizer_kind == form_module.ANOTHER
    assert "“brightness”" in window.handler.texts.kept.value
    window.handler.form.set(points=380)
    window.handler.form.set(seeds=17)
    window.until(lambda: settings_of(window).budget.points == 380)
    window.handler.form.set(low_eV=0.7)
    window.until(lambda: "“brightness”" in window.handler.texts.message.value)
    window.until(lambda: window.handler.form.value("points") == 380)
    budget = plan.budget.model_copy(update={"points": 380})
    assert settings_of(window) == Settings.of(plan.model_copy(update={"budget": budget}))
    assert len(answers(window)) == 1
    stop(window)


def test_a_run_that_is_resumed_keeps_what_the_fields_cannot_express(window):
    plan = plan_beyond_the_fields()
    launch(window, plan)
    window.until(lambda: window.experiment.status.points >= 3)
    engine = window.experiment.engine
    engine._finish = lambda end: None  # a power cut writes nothing more
    engine.abort()
    window.finish()
    window.handler.form.set(scalarizer=0, agent=0, points=12, minutes=1.0, low_eV=0.2, high_eV=0.4)
    window.experiment.look_for_unfinished()
    window.until(lambda: window.handler.flags.has_unfinished.value)
    window.handler.handle_resume_run(None)
    assert (window.handler.form.value("points"), window.handler.form.value("minutes")) == (390, 60.0)
    window.handler.form.set(points=380)
    window.until(lambda: settings_of(window).budget.points == 380)
    budget = plan.budget.model_copy(update={"points": 380})
    assert settings_of(window) == Settings.of(plan.model_copy(update={"budget": budget}))
    window.handler.handle_undo(None)
    window.until(lambda: settings_of(window).budget == plan.budget)
    window.until(lambda: window.handler.form.value("points") == 390)
    assert len(answers(window)) == 2
    stop(window)


def test_what_the_run_refuses_is_explained_and_taken_back(window):
    engine = started(window)
    window.handler.form.set(points=1)
    window.until(lambda: "taken already" in window.handler.texts.message.value)
    window.until(lambda: window.handler.form.value("points") == 2000)
    assert engine.state.settings.budget.points == 2000
    stop(window)


def test_a_number_that_is_being_typed_is_left_alone(window):
    ui, event_loop = window.document_controller.ui, window.document_controller.event_loop
    widget = Declarative.DeclarativeWidget(ui, event_loop, window.handler)
    engine, form, points_edit = started(window), window.handler.form, window.handler.points_edit
    points_edit.on_text_edited("19")
    engine.steer(ev.SetBudget(budget=planning.Budget(points=1500, time_s=1200.0)))
    window.until(lambda: form.value("minutes") == 20.0)
    assert form.value("points") == 2000
    points_edit.on_editing_finished("2000")
    window.until(lambda: form.value("points") == 1500)
    window.until(lambda: points_edit.text == "1500")
    points_edit.on_text_edited("1600")
    points_edit.editing_finished("1600")
    window.until(lambda: settings_of(window).budget == planning.Budget(points=1600, time_s=1200.0))
    assert len(answers(window)) == 2
    stop(window)
    widget.close()
