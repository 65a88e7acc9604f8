"""AtomAI's deep kernel learning as its users run it; a program of its own, in an environment of its own.

``python atomai_dkl.py JOB.npz OUT.json SEED BUDGET``: the job holds the patches (n, p, p), flattened by this program,
and the value of each; what comes out are the fields of a run as ``autoexp replay`` writes them.

As in AtomAI's documentation and the notebooks that use it: single precision, 100 training cycles at a rate of 0.01 from
scratch for each decision, patches and measured values scaled to 0...1, ten random points to begin with. The choice is
the upper confidence bound with the same weight as ours.
"""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import resource
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "stand_in"))

import numpy as np
import torch

SEEDS, CYCLES, RATE, BETA = 10, 100, 0.01, 2.0


def main(job: str, out: str, seed: int, budget: int) -> None:
    """One run."""
    torch.set_num_threads(1)
    import atomai

    with np.load(job) as arrays:
        patches, values = arrays["patches"], arrays["values"]
        checkpoints = [int(n) for n in arrays["checkpoints"]]
    X = patches.reshape(len(patches), -1).astype(np.float32)
    X = (X - X.min()) / (np.ptp(X) or 1.0)
    measured = [int(i) for i in np.random.default_rng(seed).permutation(len(X))[:SEEDS]]
    decision_s, kept = [0.0] * SEEDS, {}
    while True:
        begun = time.perf_counter()
        low, spread = float(values[measured].min()), float(np.ptp(values[measured])) or 1.0
        mean, std, noise = _predict(atomai, X, np.array(measured), (values[measured] - low) / spread)
        free = np.ones(len(X), bool)
        free[measured] = False
        chosen = int(np.where(free, np.nan_to_num(mean + BETA * std, nan=-np.inf), -np.inf).argmax())
        taken = time.perf_counter() - begun
        if len(measured) in checkpoints:
            deviation = np.sqrt(std**2 + noise) * spread
            kept[str(len(measured))] = {"mean": (mean * spread + low).tolist(), "std": deviation.tolist()}
        if len(measured) >= budget:
            break
        measured.append(chosen)
        decision_s.append(taken)
    run = {
        "seed": seed,
        "measured": measured,
        "scalar": values[measured].tolist(),
        "decision_s": decision_s,
        "checkpoints": kept,
    }
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    pathlib.Path(out).write_text(json.dumps({"run": run, "peak_gb": peak_gb}))


def _predict(atomai, X, rows, y):
    """Mean and standard deviation (n,) of the noise-free value, and the variance of the noise."""
    with contextlib.redirect_stdout(io.StringIO()):  # it counts its epochs
        model = atomai.models.dklGPR(X.shape[1], precision="single")
        model.fit(X[rows], y.astype(np.float32), training_cycles=CYCLES, lr=RATE)
        mean, variance = model.predict(X, batch_size=1000)
        noise = float(model.gp_model.likelihood.noise.detach().cpu().ravel()[0])
    return np.asarray(mean, float).ravel(), np.sqrt(np.maximum(np.asarray(variance, float).ravel(), 0.0)), noise


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
