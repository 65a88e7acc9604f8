"""What this machine is worth, so that times can be judged on any: each bar of time is a ratio to one of these.

``python -m benchmarks.calibration`` measures them all, for the table of :data:`REFERENCE`.
"""

from __future__ import annotations

import functools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

SYNCS = 200
# What Swift has loaded by itself before it comes to plug-ins.
SWIFT = """
import time
begun = time.perf_counter()
from nion.swift import Application, Facade, Panel, Workspace
from nionswift_plugin import nion_instrumentation_ui
print(time.perf_counter() - begun)
"""


def array_work() -> float:
    """Seconds that fixed work on arrays, and in plain Python, takes on one core: about one."""
    rng = np.random.default_rng(0)
    matrix, values = rng.standard_normal((600, 600)), rng.standard_normal(400_000)
    begun = time.perf_counter()
    with threadpool_limits(1):
        for _ in range(30):
            np.linalg.cholesky(matrix @ matrix.T + 600 * np.eye(600))
            np.exp(-np.sort(values)).sum()
    counted: dict[int, int] = {}
    for i in range(5_000_000):
        counted[i % 7] = i
    return time.perf_counter() - begun


def swift_import() -> float:
    """Seconds that Swift itself takes to import in a fresh process."""
    output = subprocess.run([sys.executable, "-c", SWIFT], capture_output=True, text=True, check=True).stdout
    return float(output.split()[-1])


def disk_sync() -> float:
    """Seconds that the disk takes to make a hundred bytes safe, where runs are written by the benchmarks."""
    taken = []
    with tempfile.TemporaryDirectory() as folder, open(pathlib.Path(folder) / "file", "ab", buffering=0) as file:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            file.write(b"x" * 100)
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _median_of(measure: Callable[[], float], times: int) -> Callable[[], float]:
    @functools.cache
    def median() -> float:
        return statistics.median(measure() for _ in range(times))

    return median


@dataclass(frozen=True)
class Yardstick:
    """Something against which a time is held.

    Attributes:
        name: what it is, in words.
        reference_s: what it takes on the machine where the bars were met.
        now: what it takes on this one.
    """

    name: str
    reference_s: float
    now: Callable[[], float]


_work, _swift, _sync = _median_of(array_work, 3), _median_of(swift_import, 5), _median_of(disk_sync, 1)

REFERENCE = {"work": 0.53, "swift": 0.88, "sync": 0.00025}
"""Seconds on the machine where the bars were met: two quiet cores.

That machine is gone. What it took for the rows of this benchmark is known, and so is, from another machine, how long
the same source takes for them in units of the calibration; what the calibration took there follows. Five rows of
decisions and refits give 0.49 to 0.60 s for the array work, the import of the plug-ins gives 0.88 s for Swift's own.
"""

WORK = Yardstick("array work", REFERENCE["work"], _work)
SWIFT_IMPORT = Yardstick("Swift's import", REFERENCE["swift"], _swift)
SYNC = Yardstick("disk sync", REFERENCE["sync"], _sync)
POINT = Yardstick(
    "3 syncs and a hundredth of the array work",
    3 * REFERENCE["sync"] + REFERENCE["work"] / 100,
    lambda: 3 * _sync() + _work() / 100,
)
"""What a point is made of: some computing, and three events that are synced."""


def forget() -> None:
    """Measure anew when next asked: the machine may be busier or quieter than before."""
    for measured in (_work, _swift, _sync):
        measured.cache_clear()  # type: ignore[attr-defined]


def machine() -> str:
    """How many cores there are, and how busy they are, in words."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg()) if hasattr(os, "getloadavg") else "not known"
    return f"{os.cpu_count()} cores, load {load}"


if __name__ == "__main__":
    print(machine())
    for yardstick in (WORK, SWIFT_IMPORT, SYNC, POINT):
        print(f"{yardstick.name}: {yardstick.now():.4g} s (reference: {yardstick.reference_s:.4g} s)")
