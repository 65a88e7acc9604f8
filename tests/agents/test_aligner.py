"""The aligner on simulated instruments that nobody has told it about."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.agents.aligner import Aligner, Caution
from autoexp.models.response import DRIFT, PLACE, QUIET, SIZE, Belief
from autoexp.models.response import MESSY as LOOSE
from autoexp.training.alignments import align
from autoexp.training.instruments import CLEAN, HALF_PX, MESSY, VISIBLE_PX, WIDE, Instruments

TOLERANCE_PX = 3.0
ONE = np.array([0])


def aligner(n, ranges=CLEAN, **caution):
    return Aligner(n, VISIBLE_PX, TOLERANCE_PX, Belief(n, HALF_PX, ranges.rounded), Caution(**caution))


def test_clean_instruments_are_aligned_in_a_few_moves_and_then_in_fewer():
    instruments, agent = Instruments(CLEAN, 200, seed=5), aligner(200)
    first = align(instruments, agent, TOLERANCE_PX)
    instruments.start()
    second = align(instruments, agent, TOLERANCE_PX)
    assert first.aligned.all()
    assert second.aligned.all()
    assert first.moves.mean() < 3.7
    assert second.moves.mean() < 1.6
    assert first.lost.mean() < 0.03


@pytest.mark.parametrize(("ranges", "moves", "lost"), [(MESSY, 4.9, 0.03), (WIDE, 6.5, 0.07)])
def test_messy_instruments_are_aligned_too(ranges, moves, lost):
    found = align(Instruments(ranges, 200, seed=6), aligner(200, ranges), TOLERANCE_PX)
    assert found.aligned.mean() >= 0.99
    assert found.needed.mean() < moves
    assert found.lost.mean() <= lost


@pytest.mark.parametrize(("change", "moves"), [({"scale": 1.25}, 2.4), ({"turn_deg": 90}, 5.0), ({"scale": 0.75}, 2.4)])
def test_a_response_that_has_changed_is_learned_anew(change, moves):
    instruments, agent = Instruments(CLEAN, 100, seed=7), aligner(100)
    for _ in range(3):
        align(instruments, agent, TOLERANCE_PX)
        instruments.start()
    instruments.change(**change)
    found = align(instruments, agent, TOLERANCE_PX)
    assert found.aligned.all()
    assert found.moves.mean() < moves


def test_each_instrument_is_decided_for_by_itself():
    """Alone or among others, one instrument gets the same moves."""
    rng = np.random.default_rng(0)
    together, alone = aligner(5), aligner(1)
    for agent in (together, alone):
        agent.begin()
    places, goals = rng.uniform(-80, 80, (6, 5, 2)), rng.uniform(-40, 40, (5, 2))
    for z in places:
        among = together.next_moves(z, goals, np.ones(5, bool))
        np.testing.assert_allclose(alone.next_moves(z[3:4], goals[3:4], np.ones(1, bool))[0], among[3], atol=1e-6)


@given(st.integers(0, 10_000), st.floats(0.5, 150.0))
@settings(max_examples=30, deadline=None)
def test_no_control_moves_farther_than_allowed_whatever_is_seen(seed, largest):
    """Also with disks that jump anywhere, or are lost for good."""
    rng = np.random.default_rng(seed)
    agent = aligner(8, largest=largest)
    agent.begin()
    for _ in range(12):
        z = np.where(rng.random((8, 1)) < 0.3, np.nan, rng.uniform(-122, 122, (8, 2)))
        moves = agent.next_moves(z, rng.uniform(-60, 60, (8, 2)), rng.random(8) < 0.9)
        assert np.isfinite(moves).all()
        assert np.abs(moves).max() <= largest * (1 + 1e-9)


def test_those_that_are_not_asked_for_stay_where_they_are():
    agent = aligner(3)
    agent.begin()
    which = np.array([True, False, True])
    moves = agent.next_moves(np.full((3, 2), 50.0), np.zeros((3, 2)), which)
    assert (moves[1] == 0).all()
    assert (np.abs(moves[which]).max(axis=1) > 0).all()


def test_a_lost_disk_is_brought_back_by_undoing_the_move_and_then_looked_for_around():
    agent = aligner(1)
    agent.begin()
    every = np.ones(1, bool)
    lost, goal = np.full((1, 2), np.nan), np.zeros((1, 2))
    first = agent.next_moves(np.array([[0.0, 100.0]]), goal, every)
    np.testing.assert_allclose(agent.next_moves(lost, goal, every), -first)
    where, reach = np.zeros(2), []
    for _ in range(8):
        where = where + agent.next_moves(lost, goal, every)[0]
        reach.append(np.linalg.norm(where))
    assert (np.diff(reach) > 0).all()
    again = agent.next_moves(np.array([[0.0, 100.0]]), goal, every)
    assert np.isfinite(again).all()


@pytest.mark.parametrize(("place", "shortest", "longest"), [([0.0, 121.8], 20.0, 30.0), ([121.8, 121.8], 0.0, 6.0)])
def test_a_loss_tells_where_inside_is(place, shortest, longest):
    """So the next move is a long one, the other way; in a corner, where another border is near, it is not."""
    agent, every, goal = aligner(1), np.ones(1, bool), np.zeros((1, 2))
    agent.begin()
    lost_by = agent.next_moves(np.array([place]), goal, every)[0]
    agent.next_moves(np.full((1, 2), np.nan), goal, every)
    back = agent.next_moves(np.array([place]), goal, every)[0]
    assert back @ lost_by < 0
    assert shortest <= np.linalg.norm(back) <= longest


# --- the belief


def similarity(angle, scale, mirrored):
    c, s = np.cos(angle), np.sin(angle)
    return scale * np.array([[c, -s], [s, c]]) @ np.diag([1.0, -1.0 if mirrored else 1.0])


@given(st.floats(0, 6.28), st.floats(0.3, 3.0), st.booleans(), st.floats(0, 6.28))
def test_one_move_tells_a_similarity_but_for_its_handedness(angle, scale, mirrored, direction):
    J = similarity(angle, scale, mirrored)
    move = 20 * np.array([[np.cos(direction), np.sin(direction)]])
    belief = Belief(1, HALF_PX, rounded=False, characters=(QUIET,))
    belief.begin(ONE, np.zeros((1, 2)), move, move @ J.T)
    np.testing.assert_allclose(belief.mean[0, int(mirrored), :4].reshape(2, 2), J, atol=0.02 * scale)
    np.testing.assert_allclose(belief.weights, 0.5)
    assert belief.handedness[0] == pytest.approx(0.5)


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0, 30.0])
def test_a_short_shift_tells_as_little_as_it_should(length):
    """Most of it may be noise: a longer move is foreseen no worse than by expecting nothing, as uncertain as said."""
    rng, n = np.random.default_rng(8), 1000
    at, noise = np.arange(n), LOOSE.read_px
    J = np.array(
        [similarity(a, s, False) for a, s in zip(rng.uniform(0, 6.28, n), 2 ** rng.uniform(-1, 1, n), strict=True)]
    )
    belief, move = Belief(n, HALF_PX, rounded=False, characters=(LOOSE,)), np.array([length, 0.0])
    before, after = noise * rng.standard_normal((2, n, 2))
    belief.begin(at, before, np.tile(move, (n, 1)), J @ move + after)
    longer = np.array([0.0, 20.0])
    mean, S = belief.foresee(at, np.tile(longer, (n, 1, 1)))
    wrong = J @ longer + J @ move - mean[:, 0, 0]
    squared = np.einsum("ni,nij,nj->n", wrong, np.linalg.inv(S[:, 0, 0]), wrong)
    assert np.mean(squared < 4.605) > 0.9
    assert np.mean(wrong**2) < np.mean((J @ longer) ** 2)


@given(st.integers(0, 1000))
@settings(deadline=None)
def test_a_few_moves_tell_the_rest(seed):
    """Handedness, distortion and drift, from moves without noise."""
    rng = np.random.default_rng(seed)
    mirrored = bool(seed % 2)
    J = similarity(rng.uniform(0, 6.28), rng.uniform(0.5, 2), mirrored) @ (np.eye(2) + rng.uniform(-0.15, 0.15, (2, 2)))
    drift = rng.uniform(-0.2, 0.2, 2)
    linear = dataclasses.replace(LOOSE, slope=1e-4, lag=(0.0, 1e-4), action=0.001, read_px=0.05)
    belief = Belief(1, HALF_PX, rounded=False, characters=(linear,))
    place = np.zeros(2)
    for move in ([20.0, 0.0], [0.0, 20.0], [15.0, -15.0], [-10.0, 25.0], [-25.0, -30.0], [0.0, 0.0], [0.0, 0.0]):
        before, place = place, place + J @ move + drift
        if not belief.known[0]:
            belief.begin(ONE, before[None], np.array([move]), place[None])
        else:
            belief.predict(ONE, np.array([move]))
            belief.update(ONE, place[None])
    assert (belief.handedness[0] > 0.99) == mirrored
    np.testing.assert_allclose(belief.response(ONE)[0], J, atol=0.04)
    np.testing.assert_allclose(belief.likeliest(ONE)[0, DRIFT], drift, atol=0.12)


def test_the_derivatives_of_the_dynamics_are_right():
    rng = np.random.default_rng(0)
    belief = Belief(1, HALF_PX, rounded=False, characters=(LOOSE,))
    move = np.array([[30.0, -20.0]])
    mean = rng.normal(size=SIZE) * np.array([1, 1, 1, 1, 0.2, 0.2, 0.2, 0.2, 0.1, 40, 40, 3, 3])

    def step(x):
        belief.mean[0], belief.covariance[0] = x, 0.0
        belief.predict(ONE, move)
        return belief.mean[0, 0].copy()

    slopes = np.stack([(step(mean + d) - step(mean - d)) / 2e-5 for d in 1e-5 * np.eye(SIZE)], axis=1)
    belief.mean[0], spread = mean, np.diag(rng.uniform(0.1, 1, SIZE))
    belief.covariance[0] = spread
    belief.predict(ONE, move)
    noiseless = dataclasses.replace(LOOSE, action=0.0, wander=0.0)
    still = Belief(1, HALF_PX, rounded=False, characters=(noiseless,))
    still.mean[0], still.covariance[0] = mean, spread
    foreseen, S = still.foresee(ONE, move[:, None])
    still.predict(ONE, move)
    np.testing.assert_allclose(still.covariance[0, 0], slopes @ spread @ slopes.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(still.mean[0, 0, PLACE], foreseen[0, 0, 0])
    np.testing.assert_allclose(still.covariance[0, 0, PLACE, PLACE], S[0, 0, 0], rtol=1e-9)
    assert (np.diagonal(belief.covariance[0, 0] - still.covariance[0, 0]) >= -1e-9).all()


def test_that_the_disk_was_lost_tells_the_handedness():
    belief = Belief(1, HALF_PX, characters=(QUIET,))
    belief.begin(ONE, np.array([[100.0, 0.0]]), np.array([[0.0, 15.0]]), np.array([[100.0, 15.0]]))
    outward = belief.mean[0, :, 0] * 40  # of a move along the first control, by either handedness
    belief.miss(ONE, np.array([[40.0, 0.0]]), VISIBLE_PX)
    assert (belief.handedness[0] > 0.99) == (outward[1] > 0)


def test_intervals_of_the_belief_hold_what_they_claim():
    """On messy instruments, the next position lies in the 90 % ellipse of the likeliest hypothesis about so often."""
    instruments, agent = Instruments(MESSY, 300, seed=9), aligner(300, MESSY)
    align(instruments, agent, TOLERANCE_PX)
    instruments.start()
    z = instruments.measure()
    agent.begin()
    moves = agent.next_moves(z, instruments.goals, np.ones(300, bool))
    known = np.flatnonzero(agent.belief.known)
    rows, best = np.arange(len(known)), agent.belief.log_weight[known].argmax(axis=1)
    mean, S = agent.belief.foresee(known, moves[known, None])
    instruments.move(moves, np.ones(300, bool))
    wrong = instruments.positions[known] - mean[rows, best, 0]
    squared = np.einsum("ni,nij,nj->n", wrong, np.linalg.inv(S[rows, best, 0]), wrong)
    assert len(known) > 280
    assert 0.8 < np.mean(squared < 4.605) < 0.97


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
