"""``python -m benchmarks.peers [--seeds K] [--budget N] [--rst FILE] [DATASET.npz[:PATCH] ...]``

Every policy decides on the same candidates, with the same seeds and budget, in one session, pinned to the same core.
Datasets are recorded candidates (npz with image, coords, scalar) or virtual specimens, by their names; without any,
three of the latter are taken.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from autoexp.campaigns import campaign
from autoexp.campaigns.datasets import load
from autoexp.patches import cut
from autoexp.plan import ELECTRONS_PER_PICOAMPERE_SECOND, DeepKernelAgent, PatchSpec
from autoexp.scalarizers import Scalarizer
from benchmarks.peers.one_run import CHECKPOINTS
from virtual_stem.geometry import ScanGeometry
from virtual_stem.specimens import make_specimen

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
VENV = ROOT / ".venv-peers"
PEERS = [
    "numpy",
    "scipy",
    "matplotlib",
    "scikit-learn",
    "scikit-image",
    "opencv-python-headless",
    "networkx",
    "mendeleev<=0.6.1",
    "six",
    "progressbar2",
    "gpytorch",
    "pandas",
    "setuptools",
]
VIRTUAL = ("plasmonic", "catalyst", "flake")
OURS = ("deep-kernel", "position", "random")
COLUMNS = ("points_to_90", "points_to_95", "recall_50", "recall_100", "error_50", "coverage_30", "coverage_100")


def main(arguments: list[str]) -> int:
    """Run all, print one table for each dataset."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument(
        "datasets", nargs="*", help="recorded candidates, npz, or a virtual specimen; :PATCH sets the side"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--core", type=int, default=0, help="on which everything runs")
    parser.add_argument("--rst", type=pathlib.Path, help="also write the tables there")
    given = parser.parse_args(arguments)
    python = environment()
    os.sched_setaffinity(0, {given.core})
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        tables, summaries = [], []
        for name, path, patch in chosen(given.datasets, folder):
            title, rows, summary = compare(name, path, patch, given.seeds, given.budget, python, folder)
            tables.append((title, rows))
            summaries.append(summary)
            Console(width=130).print(as_table(title, rows))
    conclusion = verdict(summaries, given.budget)
    print(conclusion)
    if given.rst:
        given.rst.write_text(as_rst(tables, given.seeds, conclusion), encoding="utf-8")
    return 0


def environment() -> pathlib.Path | None:
    """Python of the peers' environment, which is made if it is not there; None if it cannot be."""
    python = VENV / "bin" / "python"
    if not (VENV / ".installed").exists():
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
            subprocess.run([*pip, "torch==2.13.0"], check=True)
            subprocess.run([*pip, *constraints, *PEERS], check=True)
            subprocess.run([*pip, "--no-deps", "atomai==0.8.1"], check=True)
        except subprocess.CalledProcessError as error:
            print(f"AtomAI cannot be installed ({error}); it is left out.")
            return None
        (VENV / ".installed").touch()
    return python


def chosen(datasets: list[str], folder: pathlib.Path) -> list[tuple[str, pathlib.Path, int]]:
    """Name, file and patch of each dataset."""
    found = []
    for given in datasets or VIRTUAL:
        if given in VIRTUAL:
            found.append(virtual(given, folder))
            continue
        path, _, patch = given.partition(":")
        data = load(path)
        found.append((pathlib.Path(path).stem, pathlib.Path(path), int(patch or data.default_patch())))
    return found


def virtual(name: str, folder: pathlib.Path) -> tuple[str, pathlib.Path, int]:
    """A virtual specimen as recorded candidates: what it was made to be searched for, with counting noise."""
    specimen, rng = make_specimen(name), np.random.default_rng(0)
    view, side = specimen.view, specimen.view.fov_nm
    rate = 50 * ELECTRONS_PER_PICOAMPERE_SECOND
    image = specimen.haadf(ScanGeometry((side, side)).pixel_centres((view.pixels, view.pixels)))
    image = rng.poisson(np.maximum(image * rate * view.dwell_us * 1e-6, 0)).astype(np.float32)
    candidates = cut(image, PatchSpec(pixels=16, stride=8))
    energy = specimen.axis.energy_eV
    scalarizer = TypeAdapter(Scalarizer).validate_python(specimen.goal.scalarizer)
    electrons = rate * view.exposure_s * specimen.axis.dispersion_eV
    values = [
        scalarizer.score(rng.poisson(np.maximum(specimen.spectra(part, energy) * electrons, 0)).astype(float), energy)
        for part in np.array_split((candidates.positions - 0.5) * side, 20)
    ]
    path = folder / f"{name}.npz"
    coords = candidates.positions * image.shape
    np.savez(path, image=image, coords=coords, scalar=np.concatenate([score.value for score in values]))
    return name, path, 16


def compare(
    name: str,
    path: pathlib.Path,
    patch: int,
    seeds: int,
    budget: int,
    python: pathlib.Path | None,
    folder: pathlib.Path,
) -> tuple[str, list[list[str]], dict[str, dict[str, Any]]]:
    """All policies on one dataset: title and rows of its table, and the summaries they are made of."""
    data = load(path)
    candidates, truth = data.candidates(patch), data.score(None).value
    job = folder / f"{name}-job.npz"
    patches = candidates.patches(np.arange(len(candidates)))
    np.savez(job, patches=patches, values=truth, checkpoints=CHECKPOINTS)
    rows, summaries = [], {}
    for policy in (*OURS, *(["AtomAI dklGPR"] if python else [])):
        runs, peaks = [], []
        for seed in range(seeds):
            out = folder / "out.json"
            numbers = [str(seed), str(budget)]
            if policy in OURS:
                command = [sys.executable, "-m", "benchmarks.peers.one_run", str(path), str(out), str(patch), *numbers]
                command.append(policy)
            else:
                command = [str(python), str(HERE / "atomai_dkl.py"), str(job), str(out), *numbers]
            quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
            subprocess.run(command, check=True, cwd=ROOT, env=quiet)
            result = json.loads(out.read_text())
            runs.append(campaign.Run.model_validate(result["run"]))
            peaks.append(result["peak_gb"])
        plan = campaign.Campaign(agent=DeepKernelAgent(), budget=budget, seeds=seeds, patch=patch)
        summary = campaign.Replay(dataset={"truth": truth.tolist()}, plan=plan, runs=tuple(runs)).summary()
        summaries[policy] = summary
        decided = np.concatenate([run.decision_s[10:] for run in runs])
        cells = [number(summary.get(column)) for column in COLUMNS]
        rows.append([policy, *cells, f"{np.median(decided):.4f}", f"{max(peaks):.2f}"])
        print(name, *rows[-1], flush=True)
    return f"{name}, {len(truth):,} candidates, patches of {patch} px", rows, summaries


def verdict(summaries: list[dict[str, dict[str, Any]]], budget: int) -> str:
    """Geometric means over all datasets, ours against each other policy; what was not reached counts as the budget."""

    def mean(policy: str, column: str, otherwise: float, least: float) -> float:
        found = [summary[policy].get(column) for summary in summaries]
        return float(np.exp(np.mean([np.log(max(otherwise if v is None else v, least)) for v in found])))

    lines = []
    for policy in list(summaries[0])[1:]:
        recall = [mean(p, "recall_50", 0.0, 0.01) for p in (OURS[0], policy)]
        points = [mean(p, "points_to_90", budget, 1.0) for p in (OURS[0], policy)]
        lines.append(
            f"Against {policy}, geometric means over {len(summaries)} datasets: recall at 50 {recall[0]:.2f} against "
            f"{recall[1]:.2f} ({recall[0] / recall[1]:.1f} times), points to 90 % {points[0]:.0f} against "
            f"{points[1]:.0f} ({points[1] / points[0]:.1f} times fewer)."
        )
    return "\n\n".join(lines)


def number(value: float | None) -> str:
    """A cell; a dash where there is nothing, or where the goal was not reached."""
    return "–" if value is None else f"{value:.2f}" if value < 2 else f"{value:.0f}"


HEADS = ("policy", *(c.replace("_", " ") for c in COLUMNS), "s/decision", "peak GB")


def as_table(title: str, rows: list[list[str]]) -> Table:
    """For the terminal."""
    table = Table(title=title)
    for head in HEADS:
        table.add_column(head)
    for row in rows:
        table.add_row(*row)
    return table


def as_rst(tables: list[tuple[str, list[list[str]]]], seeds: int, conclusion: str) -> str:
    """For the documentation."""
    day = datetime.date.today().isoformat()
    lines = [f"Measured on {day}, one core of {os.cpu_count()}, {seeds} seeds; ``python -m benchmarks.peers``.", ""]
    for title, rows in tables:
        lines += [f".. csv-table:: {title}", f"   :header: {', '.join(HEADS)}", ""]
        lines += [f"   {', '.join(row)}" for row in rows]
        lines.append("")
    return "\n".join([*lines, conclusion, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
