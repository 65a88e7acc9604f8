"""How fast a decision is, and how much memory a very large overview takes."""

from __future__ import annotations

import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from autoexp.agent import Outcome, Predictor
from autoexp.agents import make_agent
from autoexp.patches import cut
from autoexp.plan import DeepKernelAgent, PatchSpec
from autoexp.scalarizers import Window
from benchmarks.row import Row, in_words, timed
from virtual_stem.geometry import ScanGeometry
from virtual_stem.specimens import make_specimen

SIZE = 32768
STRIDE = 32
STEERED = 200

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

SCALING = """
import json, resource, statistics, sys, time
import numpy as np
from scipy import ndimage
from autoexp.agent import Outcome
from autoexp.agents import make_agent
from autoexp.models.schedule import in_force
from autoexp.patches import cut
from autoexp.plan import DeepKernelAgent, PatchSpec

side, points = int(sys.argv[1]), int(sys.argv[2])
noise = np.random.default_rng(0).standard_normal((4 * side + 12, 4 * side + 12)).astype(np.float32)
image = ndimage.gaussian_filter(noise, 3)
candidates = cut(image, PatchSpec(pixels=16, stride=4))
truth = ndimage.map_coordinates(ndimage.gaussian_filter(image, 5) ** 2, (candidates.positions * image.shape).T, order=1)
spec = DeepKernelAgent()
begun = time.perf_counter()
agent = make_agent(spec, candidates, seed=0, budget=points + 20)
prepared = time.perf_counter() - begun
counts = range(spec.seeds, points + 20)
fitted = {n: in_force(n, spec.seeds, spec.refit_every) for n in counts}
fits = {n for n in counts[1:] if fitted[n] != fitted[n - 1]}
updates, refit = [], 0.0
for n in range(1, points + 20):
    (suggestion,) = agent.suggest(1)
    value = float(truth[suggestion.candidate])
    outcome = Outcome("ok", suggestion.candidate, suggestion.position, value, 0.01 * float(truth.std()))
    begun = time.perf_counter()
    agent.ingest([outcome])
    agent.suggest(1)
    taken = time.perf_counter() - begun
    if n in fits:
        refit = taken
    elif n > points - 10:
        updates.append(taken)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps([len(candidates), statistics.median(updates), refit, peak, prepared]))
"""
# Side of the grid of candidates, points, bars in s for an update and for a full refit. The first bars are a hundredth,
# a hundredth and a five-hundredth of what AtomAI's dklGPR takes for a decision (3.6, 15.8 and 15 s, one core).
SCALES = ((100, 50, 0.036, None), (100, 200, 0.158, 0.3), (316, 200, 0.03, 1.2), (1000, 200, 0.3, 6.0))


def scaling() -> list[Row]:
    """How decisions grow with the number of candidates: without a refit, and with one."""
    rows, growth = [], {}
    for side, points, update_bar, refit_bar in SCALES:
        command = [sys.executable, "-c", SCALING, str(side), str(points)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        candidates, update, refit, peak_gb, prepared = json.loads(output)
        what = f"decision, {candidates:,} candidates, {points} measured"
        said = f"{update * 1000:.1f} ms, {peak_gb:.1f} GB (views before the start: {prepared:.1f} s)"
        bar = f"under {update_bar * 1000:g} ms, 3 GB"
        rows.append(timed(what, update, update_bar, said=said, bar=bar, also=peak_gb < 3))
        if refit_bar:
            growth[candidates] = update
            rows.append(timed(f"{what}, with a full refit", refit, refit_bar))
    few, many = min(growth), max(growth)
    exponent = math.log(growth[many] / growth[few]) / math.log(many / few)
    said = f"time ~ candidates^{exponent:.2f}"
    rows.append(Row(f"growth from {few:,} to {many:,} candidates", said, "linear: exponent up to 1.1", exponent <= 1.1))
    return rows


def steering() -> list[Row]:
    """From a new scalarizer to new maps: everything is scored anew, and a new agent learns it all at once."""
    specimen = make_specimen("plasmonic")
    geometry, rng = ScanGeometry((600.0, 600.0)), np.random.default_rng(0)
    image = specimen.haadf(geometry.pixel_centres((816, 816))).astype(np.float32)
    candidates = cut(image, PatchSpec(pixels=16, stride=8))
    energy = specimen.axis.energy_eV
    rows = rng.permutation(len(candidates))[:STEERED]
    spectra = rng.poisson(specimen.spectra((candidates.positions[rows] - 0.5) * 600, energy) * 1e6).astype(np.float32)
    make_agent(DeepKernelAgent(), candidates, seed=0, budget=STEERED)  # the overview is described before the start
    taken = []
    for low in (1.1, 2.0, 3.4):
        begun = time.perf_counter()
        scores = Window(low_eV=low, high_eV=low + 0.6).score(spectra, energy)
        agent = make_agent(DeepKernelAgent(), candidates, seed=0, budget=STEERED)
        agent.ingest(
            [
                Outcome("ok", int(row), tuple(candidates.positions[row]), float(value), float(std))
                for row, value, std in zip(rows, scores.value, scores.std, strict=True)
            ]
        )
        assert isinstance(agent, Predictor)
        assert agent.predict() is not None
        taken.append(time.perf_counter() - begun)
    median = statistics.median(taken)
    what = f"steering: new scalarizer to new maps, {STEERED} measured, {len(candidates):,} candidates, median of 3"
    return [timed(what, median, 0.5, said=f"{in_words(median)} (longest {in_words(max(taken))})")]


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
    return [timed(what, worst, 1.0, said=f"{in_words(worst)} (without: {in_words(median)})")]


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
