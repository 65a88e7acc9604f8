"""Policies on instruments that they were not trained on: followed where that leads to the goal, and only there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from autoexp.agents.aligner import Aligner
from autoexp.cli import app
from autoexp.errors import PlanError
from autoexp.guardian import Guardian
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.models.response import Belief
from autoexp.plan import AlignmentSpec, FrameSpec
from autoexp.tasks.alignment import AlignmentTask
from autoexp.testing import DirectInstrument
from autoexp.training.alignments import align
from autoexp.training.deployed import Pilot, PolicyAligner, Trained, environment_of
from autoexp.training.instruments import CLEAN, HALF_PX, MESSY, VISIBLE_PX, Instruments, rotations
from autoexp.training.learning import Training
from autoexp.training.policies import Policy
from virtual_stem.microscope import VirtualMicroscope

N = 100
PAIR = ("CAperture.y", "CAperture.x")
TURN = rotations(np.deg2rad(30.0))


def policy(gain=-TURN.T / 10, bias=(0.0, 0.0), **environment):
    """One layer: by default straight to the goal, on the axes on which it says that it was trained."""
    weight = np.zeros((2, 5), np.float32)
    weight[:, :2] = gain
    card = {"training": Training.model_validate({"environment": environment}).model_dump()}
    return Policy(((weight, np.array(bias, np.float32)),), "tanh", card)


def run(ranges, make, rounds=2, limit=100):
    instruments = Instruments(ranges, N, 3)
    aligner = make(VISIBLE_PX, 3.0, Belief(N, HALF_PX))
    found = []
    for i in range(rounds):
        if i:
            instruments.start()
        found.append(align(instruments, aligner, 3.0, limit))
    return aligner, found


def filter_alone(*given):
    return Aligner(N, *given)


@pytest.mark.parametrize("ranges", [CLEAN, MESSY], ids=["clean", "messy"])
@pytest.mark.parametrize("environment", [{}, {"rotation_deg": -80.0}, {"step_size": 300.0}, {"binning": 2}])
def test_a_policy_steers_instruments_whose_axes_it_has_never_seen(ranges, environment):
    turn = rotations(np.deg2rad(environment.get("rotation_deg", 30.0)))
    able = policy(-turn.T / 10 / (environment.get("step_size", 100.0) / 100), **environment)
    aligner, (first, later) = run(ranges, lambda *given: PolicyAligner(Trained(able), N, *given))
    assert first.aligned.all()
    assert later.aligned.all()
    assert not later.lost.any()
    assert aligner.followed.sum() > 0.9 * later.moves.sum()  # those of the first come on top
    assert aligner.overruled.sum() < 2 * N


BAD = {
    "away from the goal": policy(TURN.T / 10),
    "round the goal": policy(-TURN.T @ np.array([[0, -1], [1, 0]]) / 10),
    "nowhere": policy(np.zeros((2, 2))),
    "always the same way": policy(np.zeros((2, 2)), (9.0, 9.0)),
    "too far": policy(-TURN.T, step_size=1000.0),
}


@pytest.mark.parametrize("name", BAD)
def test_a_policy_that_leads_elsewhere_is_overruled(name):
    aligner, found = run(MESSY, lambda *given: PolicyAligner(Trained(BAD[name]), N, *given))
    _, alone = run(MESSY, filter_alone)
    for with_it, without in zip(found, alone, strict=True):
        assert with_it.aligned.all()
        assert with_it.lost.sum() <= without.lost.sum() + 2
        assert with_it.moves.mean() < without.moves.mean() + 3
    assert aligner.overruled.sum() > 0.9 * N


def test_the_filter_goes_the_last_way():
    """A policy that learned to stop eight bins from the goal, where three pixels are asked for."""
    _, (first, later) = run(CLEAN, lambda *given: PolicyAligner(Trained(policy(tolerance=8.0)), N, *given))
    assert first.aligned.all()
    assert later.aligned.all()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (Policy(((np.zeros((2, 4), np.float32), np.zeros(2, np.float32)),), "tanh", {}), "takes 4 numbers"),
        (Policy(((np.zeros((3, 5), np.float32), np.zeros(3, np.float32)),), "tanh", {}), "gives 3"),
        (Policy(policy().layers, "tanh", {}), "does not say"),
        (Policy(policy().layers, "tanh", {"training": {"environment": {"binning": 3}}}), "does not say"),
    ],
)
def test_a_policy_for_something_else_is_refused_before_anything_moves(wrong, why):
    with pytest.raises(PlanError, match=why):
        Pilot(wrong)


def test_what_it_was_trained_on_comes_from_its_card():
    assert environment_of(policy(step_size=50.0, tolerance=1.0)).step_size == 50.0


def test_it_steers_the_virtual_microscope_through_the_guardian(plasmonic):
    microscope = VirtualMicroscope(plasmonic, time_scale=1000)
    guardian = Guardian(
        DirectInstrument(microscope),
        SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15) for name in PAIR}),
    )
    guardian.open()
    pilot = Pilot(policy())
    assert pilot.share() == {"moves": 0, "overruled": 0}
    spec = AlignmentSpec(frame=FrameSpec(exposure_s=0.05, binning=16), frames=60)
    task = AlignmentTask(guardian, spec, make_aligner=pilot)
    assert task.run().success
    guardian.move("CAperture.x", guardian.value("CAperture.x") + 0.05)
    again = task.run()
    assert again.success
    assert again.response is not None
    assert pilot.share()["moves"] >= 3
    guardian.restore()


def test_the_command_line_takes_a_policy(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setenv("AUTOEXP_RUNS", str(tmp_path / "runs"))
    policy().save(tmp_path / "trained")
    given = ["align", "--policy", str(tmp_path / "trained"), "--times", "2", "--seed", "3"]
    done = CliRunner().invoke(app, [*given, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["success"]
    assert told["alignments"][1]["policy"]["moves"] >= 2
    missing = CliRunner().invoke(app, ["align", "--policy", str(tmp_path / "nowhere")])
    assert missing.exit_code == 2
    assert "There is no policy" in missing.output
    assert not (tmp_path / "runs" / "nowhere").exists()
