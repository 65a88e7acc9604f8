"""What the plug-in costs Swift: at its start, and while an experiment runs in a real window."""

from __future__ import annotations

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmarks.row import Row

# What Swift has loaded by itself before it comes to plug-ins is not the plug-in's cost.
IMPORT = """
import sys, time
from nion.swift import Application, Facade, Panel, Workspace
from nionswift_plugin import nion_instrumentation_ui
begun = time.perf_counter()
import nionswift_plugin.autoexp_ui, nionswift_plugin.virtual_stem
print(time.perf_counter() - begun, "torch" in sys.modules)
"""
RUNS = 5
TESTS = pathlib.Path(__file__).parent.parent / "tests" / "window"


def importing() -> list[Row]:
    """Importing both plug-ins into a Swift that is up."""
    taken, torch = [], False
    for _ in range(7):
        output = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout
        seconds, loaded = output.split()[-2:]
        taken.append(float(seconds))
        torch |= loaded == "True"
    median = statistics.median(taken)
    said = f"{median * 1000:.0f} ms, torch {'' if torch else 'not '}imported"
    bar = "under 200 ms, torch not imported"
    return [Row(f"importing the plug-ins, median of {len(taken)}", said, bar, median < 0.2 and not torch)]


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
    medians = statistics.median(longest), statistics.median(p99)
    said = (
        f"{medians[0]:.0f} ms ({min(longest):.0f} to {max(longest):.0f}), {medians[1]:.0f} ms; medians of {RUNS} runs"
    )
    return [Row(what, said, bar, medians[0] < 100 and medians[1] < 60)]
