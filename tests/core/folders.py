"""Folders of runs for tests: made by hand in a moment, and changed as nobody should change them."""

from __future__ import annotations

import json

import numpy as np
from helpers import plan

from autoexp import events as ev
from autoexp.journal import line_of
from autoexp.plan import Budget
from autoexp.runlog import EVENTS, RunLog

CHANNELS = 16


def begin(log, points=4, instrument="direct", name="a run"):
    """The first events of a run."""
    told = {"key": instrument, "name": instrument, "simulated": True}
    log.append(ev.Started(run_id="x", plan=plan(name=name, budget=Budget(points=points)), software={}, instrument=told))
    image = log.save_array("overview", np.arange(64.0).reshape(8, 8))
    log.append(ev.Prepared(overview=image, shape=(8, 8), fov_nm=(400.0, 400.0), candidates=9, dose_e=1.0))
    log.append(
        ev.SpectraOpened(
            file="spectra.bin", channels=CHANNELS, offset=0.0, scale=1.0, units="eV", counts_per_electron=1.0
        )
    )


def spectrum_of(point, seed=0):
    """The spectrum of a point (E,), another for every point and seed."""
    return np.random.default_rng([seed, point]).random(CHANNELS).astype(np.float32)


def measure(log, point, seed=0):
    """All events of one point; returns the spectrum."""
    counts = spectrum_of(point, seed)
    log.append(
        ev.Decided(id=point, candidate=point, position=(0.5, 0.5), reason="", agent="random"),
        ev.Exposing(id=point, exposure_s=0.1),
    )
    ref = log.append_spectrum(counts)
    log.append(ev.Measured(id=point, record=ref, value=float(point), noise=0.1, dose_e=10.0))
    return counts


def a_run(folder, points=4, seed=0, finished=False, name="a run"):
    """A run of so many points on disk."""
    with RunLog(folder) as log:
        begin(log, name=name)
        for point in range(points):
            measure(log, point, seed)
        if finished:
            log.append(ev.Finished(ending="completed", reason="all was measured"))
            log.append(ev.PhaseChanged(phase="idle"))
    return folder


def edit(folder, change):
    """Write the journal again with right checksums, its events changed by a function from a list of dicts to one."""
    lines = (folder / EVENTS).read_bytes().splitlines()
    changed = change([json.loads(line[9:]) for line in lines])
    numbered = [dict(record, seq=n) for n, record in enumerate(changed)]
    (folder / EVENTS).write_bytes(b"".join(line_of(json.dumps(record).encode()) for record in numbered))
