"""What a point costs late in a long run, and what it takes to open such a run again."""

from __future__ import annotations

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator

import numpy as np

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.patches import cut
from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, RandomAgent
from autoexp.recorder import Observer
from autoexp.runlog import SPECTRA, RunLog
from autoexp.state import RunState
from autoexp.testing import DirectInstrument
from benchmarks.row import Row, timed
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

EARLY, LATE, TIMED = 50, 9_900, 100
AT_ONCE = 1_000
PLAN = Plan(
    overview=OverviewSpec(fov_nm=400, pixels=512),
    patches=PatchSpec(pixels=16, stride=4),
    budget=Budget(points=LATE + TIMED),
    agent=RandomAgent(),
)
PROBE = """
import json, sys
from benchmarks.growth import resumed
print(json.dumps(resumed(sys.argv[1])))
"""


def growth() -> list[Row]:
    """CPU time a point around the 100th and the 10,000th, and a run of 9,900 points opened again."""
    with tempfile.TemporaryDirectory() as root:
        begun = _begun(pathlib.Path(root))
        early, late = (_probed(_grown(begun, points)) for points in (EARLY, LATE))
    points = f"{LATE + TIMED:,}"
    said = f"{late['point_ms']:.1f} ms ({EARLY + TIMED // 2}th: {early['point_ms']:.1f} ms)"
    bar, even = "under 8 ms, and up to 1.5 times the 100th", late["point_ms"] <= 1.5 * early["point_ms"]
    what = f"run of {LATE:,} points opened again"
    return [
        timed(f"CPU a point, {points}th, random agent", late["point_ms"] / 1000, 0.008, said=said, bar=bar, also=even),
        timed(f"{what}, CPU", late["opened_s"], 1.0),
        Row(f"{what}, memory", f"{late['opened_mb']:.0f} MB", "under 200 MB", late["opened_mb"] < 200),
    ]


def resumed(folder: str) -> dict[str, float]:
    """Resume a run for some points: CPU time in ms of each, and CPU time in s and memory in MB to open it."""
    marks: list[float] = []

    def mark(record: ev.Record, _: RunState) -> None:
        if isinstance(record.event, ev.Measured):
            marks.append(time.process_time())
            if len(marks) == TIMED:
                engine.stop()

    instrument = _instrument()
    before_s, before_mb = time.process_time(), _memory_mb()
    engine = _engine(None, instrument, pathlib.Path(folder), mark)
    opened = {"opened_s": time.process_time() - before_s, "opened_mb": _memory_mb() - before_mb}
    engine.run()
    assert len(marks) >= TIMED - 1, engine.status
    return {**opened, "point_ms": 1000 * (marks[-1] - marks[0]) / (len(marks) - 1)}


def _begun(root: pathlib.Path) -> pathlib.Path:
    """A run that ended with its first point."""
    folder = root / "begun"
    engine = _engine(PLAN.model_copy(update={"budget": Budget(points=1)}), _instrument(), folder)
    engine.run()
    assert engine.status.ending == "completed", engine.status
    return folder


def _instrument() -> DirectInstrument:
    return DirectInstrument(VirtualMicroscope(make_specimen("plasmonic"), time_scale=1e5))


def _engine(plan: Plan | None, instrument: DirectInstrument, folder: pathlib.Path, *observers: Observer) -> Engine:
    locks = folder.parent / "locks"
    return Engine(plan, instrument, folder, lock_folder=locks, beam_current_pA=50.0, observers=observers)


def _probed(folder: pathlib.Path) -> dict[str, float]:
    """The run resumed in a process of its own."""
    command = [sys.executable, "-c", PROBE, str(folder)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(output))


def _grown(begun: pathlib.Path, points: int) -> pathlib.Path:
    """The same run, cut off after so many points, which are made up."""
    folder = begun.parent / f"run-{points}"
    with RunLog(begun) as log:
        given = [record.event for record in log.records]
    opened = next(e for e in given if isinstance(e, ev.SpectraOpened))
    spectra = np.random.default_rng(0).uniform(0, 1000, (points, opened.channels)).astype("<f4")
    with RunLog(folder) as log:
        overview = np.load(begun / "overview.npy")
        assert log.save_array("overview", overview) in [e.overview for e in given if isinstance(e, ev.Prepared)]
        (folder / SPECTRA).write_bytes(spectra.tobytes())
        log.append(*_head(given))
        positions = cut(overview, PLAN.patches).positions
        order = np.random.default_rng(1).permutation(len(positions))[:points]
        made = [
            event
            for i, candidate in enumerate(order)
            for event in _point(given, i, int(candidate), positions[candidate], zlib.crc32(spectra[i].tobytes()))
        ]
        for at in range(0, len(made), AT_ONCE):
            log.append(*made[at : at + AT_ONCE])
    return folder


def _head(given: list[ev.Event]) -> Iterator[ev.Event]:
    """What comes before the first point, and the stream of spectra."""
    for event in given:
        if isinstance(event, ev.Started):
            yield event.model_copy(update={"plan": PLAN})
        elif isinstance(event, ev.Decided):
            break
        else:
            yield event
    yield next(e for e in given if isinstance(e, ev.SpectraOpened))


def _point(given: list[ev.Event], i: int, candidate: int, place: np.ndarray, crc32: int) -> Iterator[ev.Event]:
    """The events of a made-up point, like those of the one that was measured."""
    position = float(place[0]), float(place[1])
    ref = ev.RecordRef(index=i, crc32=crc32)
    for event in given:
        if isinstance(event, ev.Decided):
            yield event.model_copy(update={"id": i, "candidate": candidate, "position": position, "known": i})
        elif isinstance(event, ev.Exposing):
            yield event.model_copy(update={"id": i})
        elif isinstance(event, ev.Measured):
            yield event.model_copy(update={"id": i, "record": ref, "value": float(i % 1000)})


def _memory_mb() -> float:
    """Memory that this process holds now; the highest so far may be that of the process which started it."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
