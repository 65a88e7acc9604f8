"""What a decision costs late in a long run on a large field, and what it loses by bounds on that."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.row import Row, in_words, timed

LATE = """
import json, resource, sys, threading, time
import numpy as np
from scipy import ndimage
from autoexp.agent import Outcome
from autoexp.agents import make_agent
from autoexp.models.schedule import lag, refits
from autoexp.models.surrogate import Bounds
from autoexp.patches import cut
from autoexp.plan import DeepKernelAgent, PatchSpec

side, points, steps, exact = (int(given) for given in sys.argv[1:])
noise = np.random.default_rng(0).standard_normal((4 * side + 12, 4 * side + 12)).astype(np.float32)
image = ndimage.gaussian_filter(noise, 3)
candidates = cut(image, PatchSpec(pixels=16, stride=4))
truth = ndimage.map_coordinates(ndimage.gaussian_filter(image, 5) ** 2, (candidates.positions * image.shape).T, order=1)
std = 0.01 * float(truth.std())
rng = np.random.default_rng(1)

def outcome(candidate):
    value = float(truth[candidate] + std * rng.standard_normal())
    return Outcome("ok", int(candidate), tuple(candidates.positions[candidate]), value, std)

agent = make_agent(DeepKernelAgent(), candidates, seed=0, budget=points + steps)
if exact:
    for surrogate in agent._surrogates:
        surrogate._bounds = Bounds(exact=10**9)
begun = time.perf_counter()
agent.ingest([outcome(i) for i in rng.permutation(len(candidates))[:points]])
agent.suggest(1)
learned = time.perf_counter() - begun
taken, refit, beside = [], [], None

def work():
    begun = time.perf_counter()
    agent.work_ahead()
    refit.append(time.perf_counter() - begun)

for step in range(steps):
    (suggestion,) = agent.suggest(1)
    given = outcome(suggestion.candidate)
    if agent.has_work and beside is None:
        beside = threading.Thread(target=work)
        beside.start()
    begun = time.perf_counter()
    agent.ingest([given])
    agent.suggest(1)
    taken.append(time.perf_counter() - begun)
if beside:
    beside.join()
predicted = agent.predict()
error = float(np.sqrt(np.mean((predicted.mean - truth) ** 2)) / truth.std())
spec = DeepKernelAgent()
at = refits(points + steps, spec.seeds, spec.refit_every, len(candidates))[-1]
print(json.dumps({
    "candidates": len(candidates), "taken": max(taken), "refit": max(refit, default=0.0),
    "lag": lag(at, len(candidates)), "learned": learned, "error": error,
    "coverage": predicted.coverage, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
}))
"""
SIDE, POINTS, STEPS = 316, 1_990, 60
SMALL, BEYOND = 100, 3_000
EXPOSURE_S = 0.05


def late() -> list[Row]:
    """2,000 measured among 100,000 candidates, with a refit beside; and the error of a map, summed up and exact."""
    found = _probed(SIDE, POINTS, STEPS)
    what = f"decision, {found['candidates']:,.0f} candidates, 2,000 measured, a refit beside it, longest of {STEPS}"
    said = f"{in_words(found['taken'])}, {found['peak_gb']:.1f} GB"
    room_s = found["lag"] * EXPOSURE_S
    rows = [
        timed(what, found["taken"], 0.2, said=said, bar="under 200 ms"),
        timed(f"the refit, which is wanted {found['lag']:.0f} exposures of 50 ms later", found["refit"], room_s),
    ]
    bounded, exact = (_probed(SMALL, BEYOND, 2, exact) for exact in (0, 1))
    ratio = bounded["error"] / exact["error"]
    said = f"{ratio:.3f} (coverage {bounded['coverage']:.3f}, {exact['coverage']:.3f})"
    what = f"error of the map, {BEYOND:,} measured of {bounded['candidates']:,.0f}: summed up over exact"
    return [*rows, Row(what, said, "up to 1.1", ratio <= 1.1)]


def _probed(*given: int) -> dict[str, float]:
    command = [sys.executable, "-c", LATE, *map(str, (*given, 0)[:4])]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
