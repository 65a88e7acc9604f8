"""The loop through Swift's instrument abstraction, headless, on the virtual microscope in real time."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, SpectrumSpec
from autoexp.swift.headless import swift_session
from autoexp.swift.instrument import SwiftInstrument, find_instrument
from benchmarks.calibration import POINT
from benchmarks.row import Row, timed
from virtual_stem.devices import VirtualSTEM
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

EXPOSURE_S = 0.05
POINTS = 60
PERIOD_S = EXPOSURE_S + 0.02
"""From one point to the next, where the bars were met."""


@contextlib.contextmanager
def instrument() -> Iterator[SwiftInstrument]:
    """The virtual microscope in real time, through Swift."""
    with swift_session(VirtualSTEM(VirtualMicroscope(make_specimen("plasmonic")))):
        yield find_instrument()


def plan(**given: object) -> Plan:
    """The demonstration's plan."""
    return Plan.model_validate(
        {
            "overview": OverviewSpec(fov_nm=500, pixels=512, dwell_us=2),
            "patches": PatchSpec(pixels=16, stride=8),
            "spectrum": SpectrumSpec(exposure_s=EXPOSURE_S),
            "budget": Budget(points=POINTS),
            **given,
        }
    )


def run(**given: object) -> Engine:
    """A run, of sixty points unless told otherwise, decided by deep kernel learning."""
    with instrument() as found, tempfile.TemporaryDirectory() as folder:
        engine = Engine(plan(**given), found, pathlib.Path(folder) / "run", lock_folder=pathlib.Path(folder) / "locks")
        engine.run()
        assert engine.status.ending == "completed", engine.error
        return engine


def overhead() -> list[Row]:
    """What a point costs beyond its exposure."""
    engine = run()
    times = [r.elapsed_s for r in engine.records if isinstance(r.event, ev.Measured)]
    beyond = [b - a - EXPOSURE_S for a, b in itertools.pairwise(times)]
    median = statistics.median(beyond)
    what = f"overhead per point beyond the {EXPOSURE_S * 1000:.0f} ms exposure, headless, median of {len(beyond)}"
    return [timed(what, median, 0.020, by=POINT)]


def waiting() -> list[Row]:
    """How long the microscope waits for decisions: in the demonstration, and in a long run with many candidates."""
    long = {
        "overview": OverviewSpec(fov_nm=500, pixels=816, dwell_us=1),
        "budget": Budget(points=200),
    }
    return [_waited(run(), 0.10), _waited(run(**long), 0.02)]


def _waited(engine: Engine, bar: float) -> Row:
    begun = next(r.elapsed_s for r in engine.records if isinstance(r.event, ev.Prepared))
    last = [r.elapsed_s for r in engine.records if isinstance(r.event, ev.Measured)][-1]
    waited_s = engine.status.waited_s
    points, candidates = len(engine.state.measured), engine.state.prepared.candidates if engine.state.prepared else 0
    what = f"time waited for decisions, {points} points at {EXPOSURE_S * 1000:.0f} ms, {candidates:,} candidates"
    said = f"{waited_s / (last - begun):.1%} of the run"
    return timed(what, waited_s, bar * points * PERIOD_S, said=said, bar=f"under {bar:.0%}")


def abort() -> list[Row]:
    """From the click to the end of the exposure in flight, the last thing that the instrument is doing."""
    taken = []
    with instrument() as found:
        found.open()
        found.overview(OverviewSpec(pixels=64, dwell_us=1))
        for _ in range(9):
            ended = []

            def expose(ended: list[float] = ended) -> None:
                with contextlib.suppress(Exception):
                    found.spectrum((0.5, 0.5), SpectrumSpec(exposure_s=10))
                ended.append(time.monotonic())

            thread = threading.Thread(target=expose)
            thread.start()
            time.sleep(0.3)
            begun = time.monotonic()
            found.abort()
            thread.join()
            taken.append(ended[0] - begun)
            found._aborted.clear()
        found.close()
    median = statistics.median(taken)
    what = f"abort: click to the exposure's end, median of {len(taken)} (worst {max(taken) * 1000:.0f} ms)"
    return [timed(what, max(taken), 0.100, said=f"{median * 1000:.0f} ms")]
