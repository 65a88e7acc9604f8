"""One run of a policy of this package; a program of its own, so that time and memory are its own.

``python -m benchmarks.peers.one_run DATASET OUT.json PATCH SEED BUDGET POLICY``
"""

from __future__ import annotations

import json
import pathlib
import resource
import sys

from autoexp import campaigns
from autoexp.agents import make_agent
from autoexp.plan import DeepKernelAgent, RandomAgent
from benchmarks.peers.position import PositionPolicy


def main(dataset: str, out: str, patch: int, seed: int, budget: int, policy: str) -> None:
    """Run it and write the run down."""
    result = campaigns.replay(
        dataset,
        agent=RandomAgent() if policy == "random" else DeepKernelAgent(),
        make=PositionPolicy.make if policy == "position" else make_agent,
        budget=budget,
        patch=patch,
        first_seed=seed,
        seeds=1,
        checkpoints=CHECKPOINTS,
    )
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    pathlib.Path(out).write_text(json.dumps({"run": result.runs[0].model_dump(mode="json"), "peak_gb": peak_gb}))


CHECKPOINTS = (30, 50, 100)

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6])
