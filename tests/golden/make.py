"""Makes the files of this folder with the version of the program that is on the path, and writes down what it says.

Not a test. Those in a folder were made with the last version that wrote journals of that format. Usage, with the source
of that version: ``PYTHONPATH=... python make.py FOLDER``.
``finished``, ``unfinished`` and ``deep-kernel`` were made in the same way, by hand.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from autoexp import events as ev
from autoexp import plan as p
from autoexp.alignments import Alignments
from autoexp.engine import Engine
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import Plan
from autoexp.runlog import EVENTS, RunReader
from autoexp.scalarizers import Window
from autoexp.state import fold
from autoexp.testing import DirectInstrument
from autoexp.training.learning import Training
from autoexp.training.policies import Policy
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.optics import Optics
from virtual_stem.specimens import make_specimen

CURRENT_PA = 50.0
PAIR = ("CAperture.y", "CAperture.x")
AWAY = dict(zip(PAIR, (0.03, -0.035), strict=True))
BEAM = p.AlignmentSpec(frame=p.FrameSpec(exposure_s=0.05, binning=16))
SITE = SiteLimits(
    max_dose_e=1e12,
    beam_current_pA=CURRENT_PA,
    controls={name: ControlLimits(low=-0.15, high=0.15, step=0.2, tolerance=1e-9) for name in PAIR},
)
LOW, HIGH = Window(low_eV=1.1, high_eV=1.7), Window(low_eV=2.0, high_eV=2.6)
REGION = p.Region(id="half", kind="exclude", top=0.0, left=0.0, bottom=1.0, right=0.4)
COMPROMISE = p.DeepKernelAgent(acquisition=p.ExpectedHypervolumeImprovement(second_goal="minimize"), seeds=3)


def quick(points: int, **given: Any) -> Plan:
    """A plan of a few points on 64 pixels."""
    small = {"overview": p.OverviewSpec(fov_nm=400, pixels=64), "patches": p.PatchSpec(pixels=8, stride=4)}
    return Plan(**{**small, "budget": p.Budget(points=points), "agent": p.RandomAgent(), **given})


def microscope(**given: Any) -> VirtualMicroscope:
    """A quick one."""
    return VirtualMicroscope(make_specimen("plasmonic", 0), time_scale=200, **given)


def carry_out(
    plan: Plan, at: VirtualMicroscope, folder: pathlib.Path, asks: dict[int, Callable[[Engine], None]] | None = None
) -> None:
    """Run a plan; after the n-th spectrum something is asked for."""
    counted = itertools.count(1)
    made: list[Engine] = []

    def ask(record: ev.Record, state: Any) -> None:
        if isinstance(record.event, ev.Measured) and (act := (asks or {}).get(next(counted))):
            act(made[0])

    given = {"lock_folder": folder.parent / "locks", "beam_current_pA": CURRENT_PA, "observers": (ask,), "site": SITE}
    made.append(Engine(plan, DirectInstrument(at), folder, **given))
    made[0].run()
    assert made[0].state.finished, made[0].error
    (folder / ".lock").unlink(missing_ok=True)


def aligned(folder: pathlib.Path) -> None:
    """The beam is aligned first, and again after a look at the disk."""
    at = microscope(optics=Optics.hidden(3))
    at.controls.update(AWAY)
    tilt = {2: lambda engine: at.controls.update({"CAperture.y": at.controls["CAperture.y"] + 0.02})}
    carry_out(quick(6, align=p.AlignmentStage(spec=BEAM, every=3)), at, folder, tilt)


def drifting(folder: pathlib.Path) -> None:
    """The specimen moves, is looked for, and is followed."""
    at = microscope()
    moved = {"stage_position_m.y": 8e-9, "stage_position_m.x": -5e-9}
    moves = {2: lambda engine: at.controls.update(moved)}
    carry_out(quick(8, drift=p.DriftCheck(every=3, pixels=64)), at, folder, moves)


def steered(folder: pathlib.Path) -> None:
    """Two values; regions, another scalarizer, a request, and taking back."""
    asks = {
        2: lambda engine: engine.steer(ev.AddRegion(region=REGION)),
        4: lambda engine: engine.steer(ev.SetScalarizer(scalarizer=Window(low_eV=3.4, high_eV=3.8))),
        5: lambda engine: engine.steer(ev.MeasureHere(id="here", position=(0.5, 0.75))),
        6: lambda engine: engine.steer(ev.Undo()),
        7: lambda engine: engine.steer(ev.RemoveRegion(id="half")),
        8: lambda engine: engine.steer(ev.RemoveRegion(id="no such")),
    }
    carry_out(quick(10, agent=COMPROMISE, second=HIGH, scalarizer=LOW), microscope(), folder, asks)


def alignments(folder: pathlib.Path) -> None:
    """The journal of a day: displaced, aligned, taken back, displaced once more, and aligned."""
    made = Alignments(
        DirectInstrument(microscope(seed=3)), SITE, folder, holder="a test", lock_folder=folder.parent / "locks",
        beam_current_pA=CURRENT_PA,
    )  # fmt: skip
    made.displace(AWAY)
    made.align(BEAM)
    made.undo()
    made.align(BEAM)
    (day,) = folder.glob("alignments/*/*")
    (day / ".lock").unlink(missing_ok=True)
    day.rename(day.with_name("2026-11-20"))


PLANS = {
    "grid": {"agent": p.GridAgent(), "regions": (REGION,)},
    "random": {"agent": p.RandomAgent(), "fallback": "pause", "resume_after_s": 30.0},
    "list": {"agent": p.ListAgent(positions=((0.25, 0.5), (1.0, 0.0)))},
    "features": {"agent": p.FeatureAgent(size_px=3, polarity="dark"), "drift": p.DriftCheck(every=5)},
    "deep-kernel": {
        "agent": p.DeepKernelAgent(acquisition=p.ExpectedImprovement(), stop=p.StopRule(), costs=p.Costs(travel=1)),
        "align": p.AlignmentStage(spec=BEAM, every=10),
        "limits": p.UserLimits(max_exposure_s=1.0, controls={"CAperture.y": (-0.1, 0.1)}),
        "instrument": p.SwiftInstrument(camera="eels"),
    },
    "deep": {"agent": p.DeepKernelAgent(kernel="deep", goal="minimize", acquisition=p.ThompsonSampling())},
    "joined": {"agent": p.DeepKernelAgent(kernel="joined", acquisition=p.MaximumVariance())},
    "improvement": {"agent": p.DeepKernelAgent(acquisition=p.ProbabilityOfImprovement())},
    "compromise": {"agent": COMPROMISE, "second": HIGH, "budget": p.Budget(points=7, time_s=60.0, dose_e=1e9)},
}


def policy(folder: pathlib.Path) -> None:
    """One layer, straight to the goal."""
    weight = np.zeros((2, 5), np.float32)
    turn = math.radians(30.0)
    weight[:, :2] = -np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) / 10
    card = {"training": Training.model_validate({}).model_dump()}
    Policy(((weight, np.zeros(2, np.float32)),), "tanh", card).save(folder)


def said(folder: pathlib.Path) -> dict[str, Any]:
    """What this version makes of a run."""
    state = fold(RunReader(folder).records)
    scored, best = state.scored, state.best()
    return {
        "events": state.seq + 1,
        "ending": state.finished.ending if state.finished else None,
        "points": state.plan.budget.points if state.plan else 0,
        "exposures": state.exposures,
        "measured": len(state.measured),
        "dose_e": state.dose_e,
        "values": [point.value for point in scored],
        "seconds": [point.second for point in scored],
        "best": best.id if best else None,
        "looks": len(state.looks),
        "alignments": len(state.alignments),
        "snapshot": state.snapshot,
        "elapsed_s": state.elapsed_s,
        "undone": state.undone,
        "warnings": len(state.warnings),
    }


def main(folder: pathlib.Path) -> None:
    """All of them, and ``said.json``."""
    for make in (aligned, drifting, steered):
        make(folder / make.__name__)
    alignments(folder / "beam")
    policy(folder / "policy")
    (folder / "plans").mkdir()
    for name, given in PLANS.items():
        (folder / "plans" / f"{name}.json").write_text(Plan(name=name, **given).to_json() + "\n", encoding="utf-8")
    (folder / "limits.json").write_text(SITE.model_dump_json(indent=2) + "\n", encoding="utf-8")
    runs = sorted(path.parent for path in folder.glob(f"*/{EVENTS}"))
    (folder / "said.json").write_text(json.dumps({run.name: said(run) for run in runs}, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
