"""SIGKILL at random moments: nothing that was acknowledged is lost, nothing is exposed twice in silence."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers import plan

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.plan import Budget
from autoexp.runlog import RunReader, read_events
from autoexp.testing import DirectInstrument

KILLS = 20
POINTS = 120

# Each exposure is written to a file of its own as it happens, on the far side of the kill: that is what really reached
# the specimen. The run is told to a reader line by line as it is acknowledged.
MOTHER = """
import json, os, pathlib, sys
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen
from autoexp.engine import Engine
from autoexp.plan import Plan
from autoexp.testing import DirectInstrument

class Witnessed(DirectInstrument):
    def spectrum(self, position, spec):
        with open(exposed, "a") as file:
            file.write(repr(position) + "\\n")
        return super().spectrum(position, spec)

specimen = make_specimen("plasmonic", 0)
for line in sys.stdin:
    folder, locks, exposed, text = json.loads(line)
    child = os.fork()
    if child == 0:
        instrument = Witnessed(VirtualMicroscope(specimen, time_scale=20))
        engine = Engine(Plan.from_json(text) if text else None, instrument, folder, lock_folder=pathlib.Path(locks),
                        beam_current_pA=50.0, observers=(lambda record, state: print(record.seq, flush=True),))
        print(os.getpid(), flush=True)
        engine.run()
        print("done", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.fixture
def mother():
    """A process that has everything imported, and forks another for each run."""
    command = [sys.executable, "-c", MOTHER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        yield process
        process.stdin.close()


def start(mother, folder, tmp_path, text):
    """Start a run in another process, and wait until its engine is made; the process's number."""
    given = [str(folder), str(tmp_path / "locks"), str(tmp_path / "exposed"), text]
    mother.stdin.write(json.dumps(given) + "\n")
    return int(mother.stdout.readline())


def finish(mother):
    """Wait for the end of a run; what it still said."""
    return list(iter(lambda: mother.stdout.readline().strip(), "ended"))


@pytest.mark.timeout(900)
def test_a_killed_run_is_resumed_without_loss_or_double_exposure(mother, tmp_path, microscope):
    chance = random.Random(20)
    folder = tmp_path / "run"
    text = plan(budget=Budget(points=POINTS)).to_json()
    acknowledged: list[ev.Record] = []
    child = start(mother, folder, tmp_path, text)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, 0.02))
        with contextlib.suppress(ProcessLookupError):  # it has come to its end
            os.kill(child, signal.SIGKILL)
        told = [int(line) for line in finish(mother) if line.isdigit()]
        records, _damaged = read_events(folder)
        assert records[: len(acknowledged)] == acknowledged
        assert not told or (records and records[-1].seq >= told[-1]), "an event that was acknowledged is not on disk"
        acknowledged = records
        if any(isinstance(r.event, ev.Finished) for r in records):
            break
        # killed before its first event, it begins anew
        child = start(mother, folder, tmp_path, "" if records else text)
    else:
        finish(mother)
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
    witnessed = [json.loads(f"[{line.strip()[1:-1]}]") for line in (tmp_path / "exposed").read_text().splitlines()]
    positions = [tuple(p) for p in witnessed]
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
