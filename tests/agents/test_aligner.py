"""The aligner on simulated instruments that nobody has told it about."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexp.agents.aligner import Aligner
from autoexp.models.response import Belief, Noise
from autoexp.training.instruments import CLEAN, MESSY, VISIBLE_PX, Instruments

TOLERANCE_PX = 3.0
EXACT = Noise(read_px=0.0, action=0.001, rounded=False)


def align(instruments, aligners, limit=60):
    """One alignment of each; moves needed, ``limit`` where it was not reached, and whether the disk was ever lost."""
    n = len(instruments)
    needed, lost = np.full(n, limit), np.zeros(n, bool)
    active = np.ones(n, bool)
    for aligner in aligners:
        aligner.begin()
    for step in range(limit):
        seen = instruments.measure()
        done = active & (np.linalg.norm(seen - instruments.goals, axis=1) <= TOLERANCE_PX)
        needed[done] = step
        active &= ~done
        lost |= active & np.isnan(seen).any(axis=1)
        moves = np.zeros((n, 2))
        for i in np.flatnonzero(active):
            position = None if np.isnan(seen[i]).any() else seen[i]
            moves[i] = aligners[i].next_move(position, instruments.goals[i])
        instruments.move(moves, active)
    return needed, lost


def test_clean_instruments_are_aligned_in_a_few_moves_and_then_in_fewer():
    instruments = Instruments(CLEAN, 100, seed=5)
    aligners = [Aligner(VISIBLE_PX) for _ in range(100)]
    first, lost = align(instruments, aligners)
    instruments.start()
    second, _ = align(instruments, aligners)
    assert (first < 60).mean() >= 0.98
    assert first[first < 60].mean() < 4.5
    assert second[second < 60].mean() < 2.0
    assert lost.mean() < 0.05


def test_messy_instruments_are_aligned_too():
    instruments = Instruments(MESSY, 100, seed=6)
    needed, _ = align(instruments, [Aligner(VISIBLE_PX) for _ in range(100)])
    assert (needed < 60).mean() >= 0.96


def test_axes_that_turn_are_learned_anew():
    instruments = Instruments(CLEAN, 60, seed=7)
    aligners = [Aligner(VISIBLE_PX) for _ in range(60)]
    align(instruments, aligners)
    instruments.start()
    instruments.change(turn_deg=90)
    needed, _ = align(instruments, aligners)
    assert (needed < 60).mean() >= 0.95


def test_a_lost_disk_is_brought_back_by_undoing_the_move():
    aligner = Aligner(VISIBLE_PX)
    first = aligner.next_move(np.array([0.0, 100.0]), np.zeros(2))
    np.testing.assert_array_equal(aligner.next_move(None, np.zeros(2)), -first)
    assert not aligner.belief.known
    again = aligner.next_move(np.array([0.0, 100.0]), np.zeros(2))
    assert again @ first < 0


# --- the belief


@given(st.floats(0, 6.28), st.floats(0.3, 3.0), st.booleans(), st.floats(0, 6.28))
def test_one_move_tells_a_similarity_but_for_its_handedness(angle, scale, mirrored, direction):
    c, s = np.cos(angle), np.sin(angle)
    J = scale * np.array([[c, -s], [s, c]]) @ np.diag([1.0, -1.0 if mirrored else 1.0])
    move = 20 * np.array([np.cos(direction), np.sin(direction)])
    belief = Belief(EXACT)
    belief.begin(move, J @ move)
    np.testing.assert_allclose(belief.hypotheses[int(mirrored)].response, J, atol=0.01)
    np.testing.assert_allclose(belief.weights, 0.5)


@given(st.integers(0, 1000))
def test_a_few_moves_tell_the_rest(seed):
    rng = np.random.default_rng(seed)
    J = rng.uniform(-1, 1, (2, 2)) + np.eye(2)
    if abs(np.linalg.det(J)) < 0.2:
        return
    belief = Belief(EXACT)
    for move in ([20.0, 0.0], [0.0, 20.0], [15.0, -15.0], [-10.0, 25.0]):
        belief.learn(np.array(move), J @ np.array(move))
    best = belief.hypotheses[int(belief.weights.argmax())]
    np.testing.assert_allclose(best.response, J, atol=0.1)


# --- the instruments


def test_the_same_seed_makes_the_same_instruments():
    a, b = (Instruments(MESSY, 20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(a.response, b.response)
    np.testing.assert_array_equal(a.measure(), b.measure())
    assert not np.array_equal(a.response, Instruments(MESSY, 20, seed=4).response)


def test_a_clean_instrument_does_what_its_response_says():
    still = dataclasses.replace(CLEAN, action_noise=(1e-9, 1e-9), rounded=False)
    instruments = Instruments(still, 30, seed=0)
    before = instruments.positions.copy()
    moves = np.tile([3.0, -2.0], (30, 1))
    only = np.arange(30) < 10
    instruments.move(moves, only)
    expected = np.where(only[:, None], before + np.einsum("nij,nj->ni", instruments.response, moves), before)
    np.testing.assert_allclose(instruments.positions, expected, atol=1e-6)
    assert instruments.moves.tolist() == [1] * 10 + [0] * 20
    np.testing.assert_allclose(np.abs(np.linalg.det(instruments.response)), 1.0)


def test_there_is_no_position_where_there_is_no_disk():
    instruments = Instruments(CLEAN, 5, seed=0)
    instruments.positions[:] = [200.0, 0.0]
    assert np.isnan(instruments.measure()).all()
    assert not instruments.seen.any()


@pytest.mark.parametrize("ranges", [CLEAN, MESSY])
def test_disks_are_visible_at_the_start(ranges):
    assert Instruments(ranges, 200, seed=1).seen.all()
