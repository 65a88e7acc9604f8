"""SIGKILL at random moments: nothing that was acknowledged is lost, nothing is exposed twice in silence."""

from __future__ import annotations

import json
import random
import signal
import time

import pytest
from helpers import plan
from nursery import Nursery

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.plan import Budget
from autoexp.runlog import RunReader, read_events
from autoexp.testing import DirectInstrument

KILLS = 20
POINTS = 120


@pytest.fixture
def nursery():
    """Where the runs live: what really reached the specimen is written to a file on the far side of the kill."""
    made = Nursery()
    yield made
    made.close()


def start(nursery, folder, tmp_path, text):
    """Start a run in another process that tells what it acknowledges; wait until its engine is made."""
    witness, locks = str(tmp_path / "exposed"), str(tmp_path / "locks")
    given = {"folder": str(folder), "locks": locks, "witness": witness, "pA": 50.0, "time_scale": 20}
    child = nursery.begin(plan=text, tells=True, **given)
    assert nursery.made()
    return child


@pytest.mark.timeout(900)
def test_a_killed_run_is_resumed_without_loss_or_double_exposure(nursery, tmp_path, microscope):
    chance = random.Random(20)
    folder = tmp_path / "run"
    text = plan(budget=Budget(points=POINTS)).to_json()
    acknowledged: list[ev.Record] = []
    child = start(nursery, folder, tmp_path, text)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, 0.02))
        nursery.kill(child)
        code, told = nursery.ended()
        assert code in (0, -signal.SIGKILL)
        records, _damaged = read_events(folder)
        assert records[: len(acknowledged)] == acknowledged
        assert max((r.seq for r in records), default=-1) >= told, "an event that was acknowledged is not on disk"
        acknowledged = records
        if any(isinstance(r.event, ev.Finished) for r in records):
            break
        # killed before its first event, it begins anew
        child = start(nursery, folder, tmp_path, "" if records else text)
    else:
        nursery.ended()
    reader = RunReader(folder)
    assert reader.records[: len(acknowledged)] == acknowledged
    engine_state = _finish(folder, tmp_path, microscope)
    assert engine_state.finished.ending == "completed"
    measured = engine_state.measured
    exposed = [p for p in engine_state.points.values() if p.exposed]
    assert len(exposed) == POINTS
    spectra = RunReader(folder).spectra()
    assert all(spectra[p.record].any() for p in measured)
    # what reached the specimen: no position twice, and none of which the log does not know
    witnessed = [json.loads(line) for line in (tmp_path / "exposed").read_text().splitlines()]
    positions = [tuple(position) for kind, _, position in witnessed if kind == "spectrum"]
    assert len(set(positions)) == len(positions)
    assert set(positions) <= {p.position for p in exposed}


def _finish(folder, tmp_path, microscope):
    from autoexp.state import fold

    state = fold(RunReader(folder).records)
    if state.finished is None:
        engine = Engine(None, DirectInstrument(microscope), folder, lock_folder=tmp_path / "locks")
        engine.run()
        return engine.state
    return state
