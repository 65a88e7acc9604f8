"""SIGKILL at any moment of runs that align, look for drift and measure: nothing delivered is missing in the account."""

from __future__ import annotations

import json
import os
import random
import signal
import threading

import pytest
from helpers import plan
from nursery import REFUSED, Nursery

from autoexp.errors import RunLogError
from autoexp.plan import (
    ELECTRONS_PER_PICOAMPERE_SECOND,
    AlignmentSpec,
    AlignmentStage,
    Budget,
    DriftCheck,
    FrameSpec,
    SpectrumSpec,
)
from autoexp.runlog import RunReader

KILLS = int(os.environ.get("AUTOEXP_KILLS", "30"))
BEAM_PA = 50.0
E = BEAM_PA * ELECTRONS_PER_PICOAMPERE_SECOND
POINTS = 12
SPEC = SpectrumSpec(exposure_s=0.05)
GIVEN = plan(
    budget=Budget(points=POINTS),
    spectrum=SPEC,
    drift=DriftCheck(every=3, pixels=32),
    align=AlignmentStage(spec=AlignmentSpec(frame=FrameSpec(exposure_s=0.02, binning=16)), every=4),
)
LONGEST = max(GIVEN.overview.time_s, SPEC.exposure_s) * E


@pytest.fixture(scope="module")
def nurseries():
    made = Nursery(), Nursery()
    yield made
    for nursery in made:
        nursery.close()


def delivered(witness):
    """Electrons that may have reached the specimen, and the positions of spectra that were begun."""
    lines = [json.loads(line) for line in witness.read_text().splitlines()] if witness.exists() else []
    return sum(seconds for _, seconds, _ in lines) * E, [tuple(p) for kind, _, p in lines if kind == "spectrum"]


def state_of(folder):
    """The run as its journal has it; None where it was killed before that had begun."""
    try:
        return RunReader(folder).state
    except RunLogError:
        return None


@pytest.mark.timeout(7200)
def test_the_account_holds_whenever_the_run_is_killed(nurseries, tmp_path):
    chance, kills, number = random.Random(14), 0, 0
    while kills < KILLS:
        number += 1
        kills += run_to_its_end(nurseries, tmp_path / str(number), chance)


def run_to_its_end(nurseries, root, chance):
    """Begin, kill, resume, kill ... until it is completed; now and then two resume at once. How often it was killed."""
    root.mkdir()
    witness, folder, kills = root / "witness", root / "run", 0
    given = {"folder": str(folder), "locks": str(root / "locks"), "witness": str(witness), "pA": BEAM_PA}
    while True:
        before = state_of(folder)
        if before is not None and before.finished is not None:
            break
        text = GIVEN.to_json() if before is None or before.plan is None else ""
        some = nurseries[: 2 if chance.random() < 0.2 else 1]
        children = [nursery.begin(plan=text, time_scale=chance.choice((20, 200)), **given) for nursery in some]
        patience_s = chance.choice((0.02, 0.3, 1.5)) * chance.random()
        killer = threading.Timer(patience_s, kill_all, (some, children))
        killer.start()
        codes = [nursery.ended()[0] for nursery in some]
        killer.cancel()
        killer.join()
        assert all(code in (0, REFUSED, -signal.SIGKILL) for code in codes), codes
        kills += -signal.SIGKILL in codes
        account_holds(folder, witness, kills)
    state = account_holds(folder, witness, kills)
    assert state.finished.ending == "completed", state.finished
    spectra = [point for point in state.points.values() if point.exposed]
    assert len(spectra) == POINTS
    assert len(RunReader(folder).checked(state.measured).points) == len(state.measured)
    return kills


def kill_all(some, children):
    for nursery, child in zip(some, children, strict=True):
        nursery.kill(child)


def account_holds(folder, witness, kills):
    """The journal has booked what was delivered, and no more than one exposure besides for each kill."""
    state, (electrons, positions) = state_of(folder), delivered(witness)
    booked = 0.0 if state is None else state.dose_e
    assert booked >= electrons * (1 - 1e-9), "less was booked than delivered"
    assert booked <= electrons + kills * LONGEST + 1e-3, "more was booked than one exposure for each kill"
    assert len(set(positions)) == len(positions), "a place was exposed twice"
    return state
