"""What the plug-in costs Swift: at its start, and while an experiment runs in a real window."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmarks.calibration import SWIFT, SWIFT_IMPORT, WORK
from benchmarks.row import Row, in_words, timed

# What Swift has loaded by itself before it comes to plug-ins is not the plug-in's cost.
IMPORT = f"""{SWIFT}
import sys
begun = time.perf_counter()
import nionswift_plugin.autoexp_ui, nionswift_plugin.virtual_stem
print(time.perf_counter() - begun, "torch" in sys.modules)
"""
TIMES = 7
LONGEST_S, P99_S = 0.1, 0.06
RUNS = 5
TESTS = pathlib.Path(__file__).parent.parent / "tests" / "window"


def importing() -> list[Row]:
    """Importing both plug-ins into a Swift that is up."""
    swift, taken, torch = [], [], False
    for _ in range(TIMES):
        output = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout
        alone, seconds, loaded = output.split()[-3:]
        swift.append(float(alone))
        taken.append(float(seconds))
        torch |= loaded == "True"
    median = statistics.median(taken)
    same = dataclasses.replace(SWIFT_IMPORT, now=lambda: statistics.median(swift))  # in the same processes
    said = f"{in_words(median)}, torch {'' if torch else 'not '}imported"
    bar = "under 200 ms, torch not imported"
    what = f"importing the plug-ins, median of {TIMES}"
    return [timed(what, median, 0.2, by=same, said=said, bar=bar, also=not torch)]


def event_loop() -> list[Row]:
    """Gaps between two turns of Swift's event loop while an experiment runs in its native window."""
    what = "Swift's event loop during a run: longest gap, 99th percentile"
    bar = "under 100 ms, under 60 ms"
    sys.path.insert(0, str(TESTS))
    import virtual_display

    reason = virtual_display.missing()
    if reason:
        return [Row(what, f"not measured: {reason}", bar, False)]
    longest, p99 = [], []
    for _run in range(RUNS):
        with tempfile.TemporaryDirectory() as folder, virtual_display.display() as name:
            out = pathlib.Path(folder) / "out"
            virtual_display.run_swift(name, TESTS / "script_gaps.py", out, home=pathlib.Path(folder))
            result = json.loads((out / "result.json").read_text())
        if not result["ok"]:
            return [Row(what, result["error"].strip().splitlines()[-1], bar, False)]
        longest.append(result["result"]["longest_ms"])
        p99.append(result["result"]["p99_ms"])
    gap_s, p99_s = statistics.median(longest) / 1000, statistics.median(p99) / 1000
    spread = f"({min(longest):.0f} to {max(longest):.0f})"
    said = f"{gap_s * 1000:.0f} ms {spread}, {p99_s * 1000:.0f} ms; medians of {RUNS} runs"
    slower = WORK.now() / WORK.reference_s
    return [timed(what, gap_s, LONGEST_S, said=said, bar=bar, also=p99_s < P99_S * slower)]
