"""The paper's environment: what it shows, what it rewards, and when it ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.training.instruments import PAPER_STEP_PX

gymnasium = pytest.importorskip("gymnasium")
environments = pytest.importorskip("autoexp.training.environments")
BrightFieldDisk = environments.BrightFieldDisk


def straight(environment, observation):
    """The action of one who knows the response."""
    away = -observation[:2].astype(float) * environment.binning
    action = np.linalg.solve(environment.turn, away) / environment.longest_px
    return (action / max(1.0, np.abs(action).max())).astype(np.float32)


def test_gymnasium_finds_it_and_its_checker_has_nothing_to_say(recwarn):
    from gymnasium.utils.env_checker import check_env

    check_env(gymnasium.make("BrightFieldDisk-v0", render_mode="rgb_array").unwrapped)
    assert not [str(w.message) for w in recwarn if "rror" in str(w.message)]


@given(st.integers(0, 2**31), st.sampled_from([1, 2, 4]), st.sampled_from([0.0, 1.0, 3.0]))
@settings(max_examples=30, deadline=None)
def test_what_is_seen_is_within_bounds_and_the_disk_is_visible_at_the_start(seed, binning, tolerance):
    environment = BrightFieldDisk(binning=binning, tolerance=tolerance, rotation_deg=None)
    observation, info = environment.reset(seed=seed)
    ended = False
    while not ended:
        assert environment.observation_space.contains(observation)
        assert np.isfinite(info["error_px"])
        action = environment.action_space.sample()
        observation, reward, terminated, truncated, info = environment.step(action)
        assert np.isfinite(reward)
        ended = terminated or truncated
    assert environment.observation_space.contains(observation)


def test_the_centre_of_mass_is_that_of_the_disk_and_bins_divide_it():
    whole = 0
    for seed in range(40):
        fine, coarse = BrightFieldDisk(binning=1), BrightFieldDisk(binning=4)
        a, info = fine.reset(seed=seed)
        b, _ = coarse.reset(seed=seed)
        np.testing.assert_allclose(a[:2] / 4, b[:2], atol=1.01)
        if np.abs(a[:2]).max() < 400:  # nearer to the border part of the disk is cut off, and its centre pulled inward
            whole += 1
            assert np.hypot(*a[:2]) == pytest.approx(info["error_px"], abs=0.8)
    assert whole > 15


def test_one_who_knows_the_response_gets_there_and_is_rewarded():
    environment = BrightFieldDisk()
    steps = []
    for seed in range(60):
        observation, _ = environment.reset(seed=seed)
        taken, terminated = 0, False
        while not terminated:
            observation, reward, terminated, _, info = environment.step(straight(environment, observation))
            taken += 1
        assert info["aligned"]
        assert reward == 100.0
        assert info["error_px"] < 4 * 3 + 4
        steps.append(taken)
    assert 7.5 < np.mean(steps) < 9.8  # 8.8 was measured on the authors' own settings


def test_rewards_are_those_of_the_paper():
    for reward, expected in (("informative", None), ("non-informative", (1.0, -1.0)), ("sparse", (0.0, 0.0))):
        environment = BrightFieldDisk(reward=reward)
        observation, _ = environment.reset(seed=3)
        towards = straight(environment, observation)
        observation, gained, *_ = environment.step(towards)
        distance = np.hypot(*observation[:2])
        observation, lost, *_ = environment.step(-towards)
        if expected is None:
            assert gained == pytest.approx(1 - distance / 255)
            assert lost == pytest.approx(-1 - np.hypot(*observation[:2]) / 255)
        else:
            assert (gained, lost) == expected


def test_a_disk_off_the_camera_ends_the_episode_and_the_limit_only_cuts_it_off():
    environment = BrightFieldDisk(step_limit=5)
    observation, _ = environment.reset(seed=0)
    outward = -straight(environment, observation)
    for _ in range(60):
        observation, reward, terminated, truncated, info = environment.step(outward)
        if truncated and not terminated:
            environment._taken = 0
        if terminated:
            break
    assert (reward, info["aligned"]) == (-100.0, False)
    environment.reset(seed=0)
    ends = [environment.step(np.zeros(2, np.float32))[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


def test_an_action_shifts_by_the_step_size_along_turned_axes():
    environment = BrightFieldDisk(step_size=50.0, rotation_deg=90.0, action_noise=0.0)
    before, _ = environment.reset(seed=1)
    after, *_ = environment.step(np.array([1.0, 0.0], np.float32))
    np.testing.assert_allclose(after[:2] - before[:2], [0.0, PAPER_STEP_PX / 2], atol=1.0)
    assert after[4] == 50.0


def test_step_size_and_rotation_are_drawn_for_each_episode_if_asked():
    environment = BrightFieldDisk(step_size=(25.0, 100.0), rotation_deg=None)
    drawn = {(environment.reset(seed=seed)[0][4], float(environment.turn[0, 0])) for seed in range(10)}
    assert len(drawn) == 10


def test_the_frame_shows_the_disk():
    environment = BrightFieldDisk(render_mode="rgb_array")
    environment.reset(seed=2)
    frame = environment.render()
    assert frame.shape == (1020, 1020, 3)
    assert 0.3 < (frame[..., 0] > 60).sum() / (np.pi * 64**2) < 1.1


@pytest.mark.parametrize(
    "given_",
    [
        {"binning": 7},
        {"reward": "much"},
        {"tolerance": -1},
        {"step_limit": 0},
        {"step_size": 0},
        {"step_size": (100.0, 50.0)},
        {"render_mode": "human"},
    ],
)
def test_settings_that_make_no_sense_are_refused(given_):
    with pytest.raises(ValueError, match=r"\w{3}"):
        BrightFieldDisk(**given_)
