"""How fast a decision is, and how much memory a very large overview takes."""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from autoexp.agent import Outcome
from autoexp.agents import make_agent
from autoexp.patches import cut
from autoexp.plan import DeepKernelAgent, PatchSpec
from benchmarks.row import Row
from virtual_stem.geometry import ScanGeometry
from virtual_stem.specimens import make_specimen

SIZE = 32768
STRIDE = 32

PEAK = """
import resource, sys
import numpy as np
from autoexp.agent import Outcome
from autoexp.agents import make_agent
from autoexp.patches import cut
from autoexp.plan import DeepKernelAgent, PatchSpec

image = np.load(sys.argv[1], mmap_mode="r")
candidates = cut(image, PatchSpec(pixels=32, stride=int(sys.argv[2])))
agent = make_agent(DeepKernelAgent(seeds=5), candidates, seed=0, budget=60)
for step in range(12):
    (suggestion,) = agent.suggest(1)
    agent.ingest([Outcome("ok", suggestion.candidate, suggestion.position, float(step % 5), 0.1)])
print(len(candidates), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def decision() -> list[Row]:
    """From a spectrum's value to the next position; the slowest of ten, which holds a refit of all hyperparameters."""
    specimen = make_specimen("plasmonic")
    image = specimen.haadf(ScanGeometry((600.0, 600.0)).pixel_centres((816, 816))).astype(np.float32)
    candidates = cut(image, PatchSpec(pixels=16, stride=8))
    truth = np.asarray(candidates.patches(np.arange(len(candidates))), dtype=float).std(axis=(1, 2))
    agent = make_agent(DeepKernelAgent(refit_every=1), candidates, seed=0, budget=100)
    taken = []
    for step in range(55):
        (suggestion,) = agent.suggest(1)
        value = float(truth[suggestion.candidate])
        outcome = Outcome("ok", suggestion.candidate, suggestion.position, value, 0.01 * truth.std())
        begun = time.perf_counter()
        agent.ingest([outcome])
        agent.suggest(1)
        if step >= 45:
            taken.append(time.perf_counter() - begun)
    worst, median = max(taken), statistics.median(taken)
    what = f"deep-kernel decision with a refit, {len(candidates):,} candidates of 16 x 16, 50 measured"
    return [Row(what, f"{worst * 1000:.0f} ms (without: {median * 1000:.1f} ms)", "under 1 s", worst < 1.0)]


def memory() -> list[Row]:
    """Twelve decisions on an overview of 32k x 32k, which lies on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "overview.npy"
        image = np.lib.format.open_memmap(path, "w+", np.float32, (SIZE, SIZE))
        rng = np.random.default_rng(0)
        tile = rng.normal(0, 1, (1024, SIZE)).astype(np.float32)
        for row in range(0, SIZE, 1024):
            image[row : row + 1024] = np.roll(tile, row, axis=1) + np.float32(row / SIZE)
        image.flush()
        del image
        begun = time.perf_counter()
        command = [sys.executable, "-c", PEAK, str(path), str(STRIDE)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        seconds = time.perf_counter() - begun
    candidates, peak_gb = int(output[0]), float(output[1])
    what = f"peak memory, {SIZE} x {SIZE} float32 overview on disk, {candidates:,} candidates ({seconds:.0f} s)"
    return [Row(what, f"{peak_gb:.2f} GB", "under 6 GB", peak_gb < 6)]
