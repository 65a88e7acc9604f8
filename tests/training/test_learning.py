"""Training with Stable-Baselines3, and the policy that is kept of it."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from autoexp.cli import app
from autoexp.errors import MissingDependencyError, PlanError
from autoexp.training import learning
from autoexp.training.learning import DiskSettings, Episode, Skill, Training, judge, solved_at
from autoexp.training.policies import Policy

SMALL = Policy(
    ((np.eye(3, 5, dtype=np.float32), np.zeros(3, np.float32)), (np.ones((2, 3), np.float32), np.zeros(2, np.float32))),
    "tanh",
    {"steps": 7},
)


def rl():
    pytest.importorskip("stable_baselines3")


# --- the policy


def test_a_policy_is_kept_and_read_again(tmp_path):
    pytest.importorskip("safetensors")
    SMALL.save(tmp_path / "p")
    again = Policy.load(tmp_path / "p")
    observation = np.arange(10.0).reshape(2, 5)
    np.testing.assert_array_equal(again.act(observation), SMALL.act(observation))
    assert again.card == {"steps": 7}
    assert np.abs(again.act(observation)).max() <= 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "card.json").unlink(),
        lambda folder: (folder / "card.json").write_text("{"),
        lambda folder: (folder / "card.json").write_text(json.dumps({"format": 99, "activation": "tanh", "layers": 2})),
        lambda folder: (folder / "card.json").write_text(json.dumps({"format": 1, "activation": "exec", "layers": 2})),
        lambda folder: (folder / "card.json").write_text(json.dumps({"format": 1, "activation": "tanh", "layers": 9})),
        lambda folder: (folder / "policy.safetensors").write_bytes(b"\x00" * 40),
    ],
)
def test_what_is_not_a_policy_is_refused_with_the_reason(tmp_path, damage):
    pytest.importorskip("safetensors")
    SMALL.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(PlanError, match="policy in"):
        Policy.load(tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    pytest.importorskip("safetensors")
    weight = np.full((2, 5), np.nan, np.float32)
    Policy(((weight, np.zeros(2, np.float32)),), "tanh", {}).save(tmp_path)
    with pytest.raises(PlanError, match="not finite"):
        Policy.load(tmp_path)


# --- judging


def episodes(pattern):
    return [Episode(10 * (i + 1), 10, 1.0, good == "x") for i, good in enumerate(pattern)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("x" * 19, None),
        ("x" * 20, 200),
        ("." * 5 + "x" * 18, 230),
        ("." * 2 + "x" * 17 + "." + "x" * 4, 210),
        ("x." * 30, None),
    ],
)
def test_solved_is_the_first_window_in_which_nine_of_ten_reach_the_goal(pattern, expected):
    assert solved_at(episodes(pattern)) == expected


def test_the_floor_is_reached_by_one_who_knows_the_response():
    pytest.importorskip("gymnasium")
    skill = judge(DiskSettings(), learning.by_response, episodes=40)
    assert skill.success == 1.0
    assert 7 < skill.steps < 10.5
    nobody = judge(DiskSettings(step_limit=20), lambda observation, environment: np.zeros(2), episodes=5)
    assert nobody.success <= 0.2


# --- training


@pytest.mark.parametrize("agent", ["sac", "crossq"])
def test_what_is_kept_does_what_the_agent_would_do(tmp_path, agent, monkeypatch):
    """The policy in plain arrays equals the library's own prediction."""
    rl()
    seen = {}
    original = learning._policy

    def spy(model, *rest):
        seen["model"] = model
        return original(model, *rest)

    monkeypatch.setattr(learning, "_policy", spy)
    training = Training(agent=agent, steps=260, hidden=16, checkpoint_every=100)
    policy, course = learning.train(training, tmp_path)
    observations = np.random.default_rng(0).uniform(-120, 120, (50, 5)).astype(np.float32)
    expected, _ = seen["model"].predict(observations, deterministic=True)
    np.testing.assert_allclose(Policy.load(tmp_path).act(observations), expected, atol=1e-4)
    assert policy.card["training"]["agent"] == agent
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == ["000000100", "000000200"]
    with (tmp_path / "episodes.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(course)
    learning.draw_learning(course, Skill(1, 9, 3, 4, 10), "a title", tmp_path / "learning.png")
    assert (tmp_path / "learning.png").stat().st_size > 5000


def test_a_training_may_be_ended_early_and_gone_on_with(tmp_path):
    rl()
    first, _ = learning.train(Training(steps=400, hidden=8), tmp_path / "a", on_step=lambda step: step < 150)
    assert first.card["steps"] == 150
    none = Training(steps=100, hidden=8)
    second, _ = learning.train(none, tmp_path / "b", start_from=first)
    for (a, _), (b, _) in zip(first.layers, second.layers, strict=True):
        np.testing.assert_allclose(a, b)  # nothing is learned in the first hundred steps, only gathered


@pytest.mark.parametrize(
    ("given_", "said"), [({"hidden": 16}, "--hidden 8"), ({"agent": "crossq", "hidden": 8}, "CrossQ")]
)
def test_what_cannot_be_gone_on_with_is_refused(tmp_path, given_, said):
    layers = tuple((np.zeros(shape, np.float32), np.zeros(shape[0], np.float32)) for shape in ((8, 5), (8, 8), (2, 8)))
    with pytest.raises(PlanError, match=said):
        learning.train(Training(**given_), tmp_path, start_from=Policy(layers, "tanh", {}))


def test_the_command_trains_judges_and_draws(tmp_path):
    rl()
    out = tmp_path / "trained"
    command = ["train", "--agent", "sac", "--steps", "200", "--hidden", "8", "--episodes", "3", "--out", str(out)]
    found = CliRunner().invoke(app, [*command, "--json"])
    answer = json.loads(found.stdout)
    assert found.exit_code in (0, 1), found.output
    assert answer["steps"] == 200
    assert answer["floor_steps"] > 1
    assert {p.name for p in out.iterdir()} >= {"policy.safetensors", "card.json", "episodes.csv", "learning.png"}
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert "already" in " ".join(again.output.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--env", "CartPole-v1"], "BrightFieldDisk-v0"),
        (["--agent", "ppo"], "agent"),
        (["--binning", "3"], "binning"),
        (["--reward", "none"], "reward"),
        (["--relearn", "nowhere"], "no policy in nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, options, said):
    pytest.importorskip("safetensors")
    found = CliRunner().invoke(app, ["train", "--out", str(tmp_path / "x"), *options])
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())


def test_without_the_libraries_it_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(learning, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"nionswift-autoexp\[rl\]"):
        learning.train(Training(), tmp_path)
