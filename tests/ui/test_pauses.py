"""What keeps Swift's window fluid during a run."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time

from nionswift_plugin.autoexp_ui import pauses


def counted_writes(project):
    """How often the project file is written from now on, as a list that grows."""
    storage, writes = project.persistent_storage, []
    write = storage._write_properties

    def counting():
        writes.append(time.monotonic())
        write()

    storage._write_properties = counting
    return writes


def held_scan(window):
    """The data item of the scan after a short run, and what holds it."""
    window.handler.form.set(points=3)
    window.handler.handle_start(None)
    window.finish()
    (scan,) = [d for d in window.document_model.data_items if d.title.startswith("Scan")]
    held = pauses.HeldScan(window.document_model, window.experiment.find_instrument().scan)
    held.hold()
    return scan, held


def test_the_project_is_written_for_new_results_not_for_points(window):
    writes = counted_writes(window.document_controller.project)
    window.handler.form.set(points=40)
    window.handler.handle_start(None)
    window.finish()
    assert window.experiment.status.points == 40
    assert len(writes) < 40, "a write for each point, or more"
    assert not window.document_controller.project.is_write_delayed


def test_changes_that_wait_are_written_together(window):
    project = window.document_controller.project
    writes = counted_writes(project)
    file = pauses.ProjectFile(project)
    assert not file.write()
    file.hold()
    file.hold()
    project.workspace_uuid = project.uuid
    project.workspace_uuid = None
    assert not writes
    assert file.write()
    assert not file.write()
    assert len(writes) == 1
    assert not project.is_write_delayed


def test_the_probe_is_written_once_it_is_let_go(window):
    scan, held = held_scan(window)
    held.hold()
    assert scan.in_transaction_state
    held.release()
    held.release()
    assert not scan.in_transaction_state


def test_a_scan_that_is_deleted_meanwhile_is_let_go(window):
    scan, held = held_scan(window)
    window.document_model.remove_data_item(scan)
    held.release()
    assert window.document_model.transaction_count == 0


def test_what_is_alive_is_set_aside_and_taken_back():
    before = gc.get_freeze_count()
    collector = pauses.QuietCollector()
    collector.end()
    collector.enter("running")
    aside = gc.get_freeze_count()
    assert aside > before
    made = [[] for _ in range(1000)]
    collector.enter("running")
    assert gc.get_freeze_count() <= aside, "what comes during a phase is collected as ever"
    collector.end()
    assert gc.get_freeze_count() == 0
    assert len(made) == 1000


def test_a_slow_change_is_followed_by_a_long_rest():
    pace = pauses.Pace(share=0.25)
    assert pace.rest_s == 0
    begun = time.monotonic()
    with pace.change():
        time.sleep(0.05)
    rest, taken = pace.rest_s, time.monotonic() - begun
    assert 3 * 0.05 - (taken - 0.05) < rest <= 3 * taken  # some of it is over already


def test_steps_are_taken_in_order_with_rests():
    pace, taken = pauses.Pace(share=0.5), []

    def steps():
        for number in range(3):
            taken.append((number, time.monotonic()))
            time.sleep(0.03)
            yield

    asyncio.run(pace.through(steps()))
    assert [number for number, _ in taken] == [0, 1, 2]
    starts = [when for _, when in taken]
    assert all(later - earlier >= 0.055 for earlier, later in itertools.pairwise(starts))
