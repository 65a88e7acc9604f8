"""Journals made by hand, so that tests can put into them what no instrument would say."""

from __future__ import annotations

import json
import zlib

import numpy as np

from autoexp import events as ev
from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, RandomAgent, Region, SwiftInstrument
from autoexp.runlog import EVENTS, RunLog
from autoexp.scalarizers import Window

CHANNELS = 64


def small_run(folder):
    """A run of six points on an instrument that nobody knows the truth of, with an event of nearly every kind."""
    window = Window(low_eV=1.1, high_eV=1.7)
    plan = Plan(
        name="by hand",
        instrument=SwiftInstrument(),
        overview=OverviewSpec(fov_nm=400, pixels=32),
        patches=PatchSpec(pixels=8, stride=4),
        agent=RandomAgent(),
        budget=Budget(points=6),
        second=window,
        regions=(Region(id="a region", kind="exclude", top=0.1, left=0.1, bottom=0.2, right=0.2),),
    )
    rng = np.random.default_rng(0)
    with RunLog(folder) as log:
        instrument = {"key": "x", "name": "A name", "scan": "a scan", "camera": "a camera", "simulated": False}
        log.append(ev.Started(run_id="an id", plan=plan, software={"numpy": "2"}, instrument=instrument))
        overview = log.save_array("overview", rng.random((32, 32), dtype=np.float32))
        told = {"instrument": {"high_tension": 60e3, "remark": "a remark"}}
        log.append(
            ev.ExposureBegun(what="overview", exposure_s=1.0, dose_e=100.0, stood_s=0.0),
            ev.Prepared(
                overview=overview, shape=(32, 32), fov_nm=(400.0, 400.0), candidates=49, dose_e=100.0, metadata=told
            ),
            ev.PhaseChanged(phase="running", reason="a phase"),
            ev.SpectraOpened(
                file="spectra.bin", channels=CHANNELS, offset=0.0, scale=0.05, units="eV", counts_per_electron=2.0
            ),
        )
        for i in range(6):
            _point(log, i, rng)
        prediction = log.save_array("prediction-000004", rng.random((2, 49), dtype=np.float32))
        shares = {"density": {"a kernel": -1.0, "another": -2.0}, "shares": {"a view": 0.7, "b view": 0.3}}
        log.append(
            ev.Predicted(after=4, array=prediction, coverage=0.9, **shares),
            ev.Steered(command=ev.AddRegion(region=plan.regions[0].model_copy(update={"id": "another region"}))),
            ev.Steered(command=ev.RemoveRegion(id="no region"), refused="a refusal"),
            ev.Commanded(verb="pause", refused="no pause"),
            ev.Warned(message="a warning"),
            ev.Restored(problems=["a problem"], stood_s=2.0),
            ev.Finished(ending="halted", reason="an end"),
        )
    return folder


def _point(log, i, rng):
    place = (float(rng.random()), float(rng.random()))
    log.append(
        ev.Decided(id=i, candidate=i, position=place, reason="a reason", agent="an agent", mean=float(i), std=1.0),
        ev.Exposing(id=i, exposure_s=0.05, dose_e=10.0, stood_s=2.0),
    )
    if i == 4:
        log.append(ev.Skipped(id=i, reason="a skip", dose_e=10.0))
        return
    record = log.append_spectrum(rng.random(CHANNELS) + i)
    if i == 5:
        log.append(ev.Failed(id=i, fault="a fault", message="a message", record=record, dose_e=10.0))
    else:
        log.append(ev.Measured(id=i, record=record, value=i + 1.0, noise=0.1, second=-float(i), dose_e=10.0))


def read(folder):
    """The records of a journal, as dicts."""
    return [json.loads(line[9:]) for line in (folder / EVENTS).read_bytes().splitlines()]


def write(folder, records):
    """Write records (dicts) as a journal, with checksums that fit."""
    bodies = [json.dumps(record).encode() for record in records]
    (folder / EVENTS).write_bytes(b"".join(b"%08x %s\n" % (zlib.crc32(body), body) for body in bodies))


def edited(folder, edit):
    """Write a journal anew, each record as ``edit`` returns it."""
    write(folder, [edit(record) for record in read(folder)])
    return folder
