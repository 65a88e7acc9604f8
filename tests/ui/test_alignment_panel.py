"""The alignment panel, driven as an operator would, in Swift's own test harness with its leak checks."""

from __future__ import annotations

import json
import threading
import time

import pytest
from nion.swift.test import TestContext

from autoexp import events as ev
from autoexp.runlog import RunReader
from autoexp.swift import preferences
from nionswift_plugin.autoexp_ui import waiting
from nionswift_plugin.autoexp_ui.alignment import controller, items
from nionswift_plugin.autoexp_ui.alignment import form as form_module
from nionswift_plugin.autoexp_ui.alignment import panel as panel_module

PAIR = ("CAperture.y", "CAperture.x")
AWAY = (0.03, -0.035)
AWAY_EXACTLY = pytest.approx(AWAY, abs=1e-12)


@pytest.fixture
def beam(window):
    """The panel, on a disk that is off its goal."""
    put(window, AWAY)
    handler = window.open_alignment()
    handler.form.set(exposure_ms=20.0)
    return handler


def put(window, values):
    for name, value in zip(PAIR, values, strict=True):
        assert window.stem.instrument.SetVal(name, value)


def where(window):
    return [window.stem.instrument.TryGetVal(name)[1] for name in PAIR]


def finish(window, seconds=20):
    beam = window.beam.alignment
    assert window.pump(lambda: not beam.busy, seconds), beam.message
    window.pump(seconds=0.05)


def align(window):
    window.beam.handle_align(None)
    assert window.beam.flags.busy.value
    assert not window.beam.flags.can_align.value
    finish(window)


def frame_of(window):
    return next(d for d in window.document_model.display_items if d.title.startswith("Beam alignment"))


def graphic(window, graphic_id):
    return next((g for g in frame_of(window).graphics if g.graphic_id == graphic_id), None)


def test_align_undo_accept(window, beam):
    assert beam.texts.limits.value.startswith("CAperture.y: (−0.15 to 0.15)")
    assert not beam.flags.can_undo.value
    align(window)
    assert beam.texts.headline.value == "Aligned"
    assert beam.alignment.looks[-1].residual_px <= 1
    assert "from the goal; within 1 px is wanted" in beam.texts.residual.value
    assert beam.texts.response.value.startswith("Learned: turned by")
    assert beam.flags.can_undo.value
    assert "0.03" in beam.texts.undo.value
    centred = where(window)
    beam.handle_undo(None)
    finish(window)
    assert where(window) == pytest.approx(AWAY)
    assert "Undone" in beam.texts.message.value
    assert not beam.flags.can_undo.value
    align(window)
    assert len(beam.alignment.looks) <= 3  # what was learned is known
    beam.handle_accept(None)
    assert beam.texts.headline.value == "Aligned, accepted"
    assert not beam.flags.can_undo.value
    assert where(window) == pytest.approx(centred, abs=2e-3)


def test_what_is_shown_is_ordinary_data(window, beam):
    align(window)
    frames = len(beam.alignment.looks)
    frame = window.item("Beam alignment")
    assert "SIMULATED" in frame.title
    assert frame.data_shape == (256, 256)
    assert frame.dimensional_calibrations[0].units == "mrad"
    residual = window.item("Distance from the goal")
    assert residual.data_shape == (frames,)
    assert residual.data[-1] <= 1
    path = [g for g in frame_of(window).graphics if str(g.graphic_id).startswith(items.PATH)]
    assert len(path) == frames - 1
    disk = beam.alignment.looks[-1].disk
    assert tuple(graphic(window, items.CENTER).position) == pytest.approx([(c + 0.5) / 256 for c in disk.center])
    align(window)
    assert len(window.document_model.data_items) == 3  # no new ones
    assert not [g for g in frame_of(window).graphics if str(g.graphic_id).startswith(items.PATH)]  # it is there already


def test_a_look_moves_nothing(window, beam):
    beam.handle_look(None)
    finish(window)
    assert where(window) == pytest.approx(AWAY)
    assert len(beam.alignment.looks) == 1
    assert beam.texts.headline.value == "Ready"
    assert beam.texts.progress.value == "1 frame"


def test_the_goal_is_dragged_on_the_frame(window, beam):
    beam.handle_look(None)
    finish(window)
    graphic(window, items.GOAL).position = (0.6, 0.4)
    assert (beam.form.value("goal_y"), beam.form.value("goal_x")) == (0.6, 0.4)
    align(window)
    assert tuple(graphic(window, items.CENTER).position) == pytest.approx((0.6, 0.4), abs=0.005)
    beam.handle_middle(None)
    assert tuple(graphic(window, items.GOAL).position) == (0.5, 0.5)
    beam.form.set(goal_y=1.2)
    beam.handle_align(None)
    assert "lies outside the frame" in beam.texts.message.value
    assert not beam.alignment.busy


def test_stop_puts_the_controls_back(window, beam):
    beam.form.set(exposure_ms=4000.0)
    beam.handle_align(None)
    assert window.pump(lambda: len(beam.alignment.looks) >= 2, 10)
    assert where(window) != pytest.approx(AWAY)
    beam.handle_stop(None)
    assert beam.texts.headline.value.startswith("Stopping")
    finish(window, 2)
    assert where(window) == pytest.approx(AWAY)
    assert "Stopped" in beam.texts.message.value


@pytest.fixture
def held(beam):
    """Something that keeps the thread of the alignments busy until it is set."""
    released = threading.Event()
    beam.alignment._executor.submit(released.wait)
    yield released
    released.set()


@pytest.mark.parametrize("seconds", [0.0, 0.2])
@pytest.mark.parametrize("handle", ["handle_align", "handle_look"])
def test_stop_before_it_begins_is_not_forgotten(window, beam, held, settings, handle, seconds):
    getattr(beam, handle)(None)
    window.pump(seconds=seconds)
    beam.handle_stop(None)
    held.set()
    finish(window)
    assert "Stopped" in beam.texts.message.value
    assert where(window) == AWAY_EXACTLY
    assert not beam.alignment.looks
    assert not list(settings.runs.glob("alignments/*/*")), "it was not even taken over"
    align(window)
    assert beam.texts.headline.value == "Aligned", "it holds for what was stopped, not for what comes next"


def test_stop_before_undo_begins_leaves_the_controls(window, beam):
    align(window)
    centred, released = where(window), threading.Event()
    beam.alignment._executor.submit(released.wait)
    beam.handle_undo(None)
    beam.handle_stop(None)
    released.set()
    finish(window)
    assert where(window) == centred
    assert beam.flags.can_undo.value


def test_closing_the_window_waits_two_seconds_at_most(make_window, settings):
    released = threading.Event()
    with make_window() as window:
        put(window, AWAY)
        beam = window.open_alignment()
        beam.alignment._executor.submit(released.wait)
        beam.handle_align(None)
        window.pump(seconds=0.2)
        begun = time.monotonic()
        beam.close()
        assert time.monotonic() - begun < controller.CLOSE_S + 0.5
        window.beam = None
        released.set()
        window.pump(seconds=0.2)
        assert where(window) == AWAY_EXACTLY
    assert not list(settings.runs.glob("alignments/*/*"))


def test_waiting_ends_whatever_hangs():
    released, done = threading.Event(), []
    assert waiting.within(5.0, lambda: done.append(1), lambda: done.append(2))
    assert done == [1, 2]
    assert not waiting.within(0.05, released.wait, lambda: done.append(3))
    assert done == [1, 2]
    released.set()


def test_what_fails_says_why_and_is_put_back(window, beam):
    window.stem.microscope.controls["BeamCurrent"] = 0.0
    align(window)
    assert "Not aligned" in beam.texts.headline.value
    assert "no disk" in beam.texts.progress.value
    assert "no disk" in beam.texts.residual.value
    assert where(window) == pytest.approx(AWAY)
    assert not beam.flags.can_undo.value


def test_a_broken_display_does_not_stop_the_alignment(window, beam, monkeypatch):
    def broken(*_):
        raise RuntimeError("no room on the screen")

    monkeypatch.setattr(items.AlignmentItems, "draw", broken)
    align(window)
    assert beam.texts.headline.value == "Aligned"
    assert "cannot be shown" in beam.texts.message.value


def test_deleting_what_is_shown_does_no_harm(window, beam):
    beam.handle_look(None)
    finish(window)
    for item in list(window.document_model.data_items):
        window.document_model.remove_data_item(item)
    align(window)
    assert beam.texts.headline.value == "Aligned"
    assert frame_of(window) is not None


def test_closing_the_window_meanwhile_puts_the_controls_back(make_window):
    with make_window() as window:
        put(window, AWAY)
        beam = window.open_alignment()
        beam.form.set(exposure_ms=4000.0)
        beam.handle_align(None)
        assert window.pump(lambda: len(beam.alignment.looks) >= 2, 10)
        microscope = window.stem.microscope
    assert [microscope.controls[name] for name in PAIR] == pytest.approx(AWAY)


def test_an_experiment_and_an_alignment_do_not_get_in_each_others_way(window, beam):
    window.handler.form.set(points=200)
    window.handler.handle_start(None)
    window.until(lambda: window.experiment.status.points >= 2)
    beam.handle_align(None)
    finish(window)
    assert "in use by the Autonomous Experiment panel" in beam.texts.message.value
    assert beam.texts.headline.value == "Failed"
    assert where(window) == pytest.approx(AWAY)
    window.handler.handle_abort(None)
    window.finish()


def test_the_limits_of_the_site_say_what_may_be_moved(window, beam, settings):
    identity = beam.alignment.identity()
    site = preferences.load().site
    site.mkdir()
    (site / f"{identity.key}.json").write_text(json.dumps({"controls": {"C10": {"low": -1e-6, "high": 1e-6}}}))
    beam.handle_align(None)
    assert "No control of this instrument may be moved" in beam.texts.limits.value
    assert not beam.flags.can_align.value
    assert not beam.alignment.busy
    (site / f"{identity.key}.json").write_text("{")
    beam.handle_align(None)
    assert "cannot be read" in beam.texts.message.value
    assert where(window) == pytest.approx(AWAY)


def test_an_alignment_that_was_cut_off_can_be_undone(window, settings):
    put(window, AWAY)
    beam = window.open_alignment()
    align(window)
    (log,) = settings.runs.glob("alignments/*/*")
    kept = [r.event for r in RunReader(log).records]
    last = max(i for i, event in enumerate(kept) if isinstance(event, ev.Moving))
    lines = (log / "events.jsonl").read_bytes().splitlines(keepends=True)
    (log / "events.jsonl").write_bytes(b"".join(lines[: last + 1]))  # as if killed right there
    beam.close()
    beam = window.open_alignment()
    assert window.pump(lambda: beam.flags.can_undo.value, 5)
    assert "cut off" in beam.texts.message.value
    beam.handle_undo(None)
    finish(window)
    assert where(window) == pytest.approx(AWAY)


def test_without_an_instrument_the_panel_says_what_to_do(settings):
    setup = TestContext.TestSetup()
    with TestContext.create_memory_context() as context:
        document_controller = context.create_document_controller()
        handler = panel_module.AlignmentHandler(document_controller)
        assert "no instrument" in handler.texts.instrument.value
        assert not handler.flags.can_align.value
        handler.handle_align(None)
        assert not handler.alignment.busy
        handler.close()
        document_controller.periodic()
    del setup


def test_pairs_of_controls():
    assert form_module.pairs_of(["CAperture.x", "CAperture.y"]) == [PAIR]
    assert form_module.pairs_of(["AlignX", "AlignY", "C10"]) == [("AlignY", "AlignX")]
    assert form_module.pairs_of(["A", "B", "C"]) == [("A", "B"), ("A", "C"), ("B", "C")]
    assert form_module.task_name(PAIR) == "Centre the disk by CAperture"
    assert form_module.task_name(("A", "B")) == "Centre the disk by A, B"
    assert form_module.pair_of("nothing") is None


def test_an_experiment_aligns_first_as_the_panel_says_and_looks_again(window, beam, monkeypatch):
    window.handler.form.set(align=True, align_every=4, points=8)
    assert "Beam Alignment panel" in window.handler.texts.estimate.value
    beam.form.set(tolerance_px=0.8, exposure_ms=30.0)
    # Swift's own test harness forgets what is stored
    ui = window.document_controller.ui
    monkeypatch.setattr(ui, "get_persistent_string", lambda key, default=None: beam.form._stored.value)
    window.handler.handle_start(None)
    seen = set()
    window.until(lambda: seen.add(window.handler.texts.headline.value) or not window.experiment.running)
    engine = window.experiment.engine
    assert engine.plan.align.spec.tolerance_px == 0.8
    assert engine.status.ending == "completed"
    (found,) = engine.state.alignments
    assert found.success
    assert where(window) != pytest.approx(AWAY)
    assert "Preparing: aligning the beam" in seen
