"""The learned judge of moves: it foresees moves and stays near the aligner's own cost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from autoexp.training.instruments import CLEAN, MESSY
from autoexp.training.judges import LearnedJudge, compare, learn_judge

FEATURES = 11


def random_judge(margin=0.2, seed=0):
    rng = np.random.default_rng(seed)
    sizes = (FEATURES, 4, 1)
    layers = tuple((rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in itertools.pairwise(sizes))
    return LearnedJudge(np.zeros(FEATURES), np.ones(FEATURES), layers, margin)


def test_only_moves_that_are_nearly_the_best_are_chosen_between():
    rng = np.random.default_rng(1)
    features, cost = rng.normal(size=(50, 30, FEATURES)), rng.normal(size=(50, 30))
    chosen = random_judge()(features, cost).argmin(axis=1)
    rows = np.arange(50)
    assert (cost[rows, chosen] <= cost.min(axis=1) + 0.2).all()
    np.testing.assert_array_equal(random_judge(margin=0.0)(features, cost).argmin(axis=1), cost.argmin(axis=1))


def test_with_no_margin_alignments_are_the_aligners_own():
    alone, judged = compare(random_judge(margin=0.0), MESSY, n=40, rounds=2, seed=3)
    for a, b in zip(alone, judged, strict=True):
        assert (a.moves == b.moves).mean() > 0.9  # but for moves that cost the same


def test_it_learns_to_foresee_how_many_moves_are_left():
    pytest.importorskip("torch")
    judge = learn_judge(instruments=250, rounds=1, ranges=(CLEAN, MESSY))
    near, far = np.tile(judge.mean, (2, 1))
    near[[0, 1, 3, 4]] = [-0.6, -1.3, 0.99, 0.0]  # at the goal, surely
    far[[0, 1, 3, 4]] = [6.0, 6.0, 0.0, 0.0]
    assert judge.moves_left(near) < judge.moves_left(far)
    alone, judged = compare(judge, CLEAN, n=150, rounds=1, seed=9)
    assert judged[0].aligned.all()
    assert judged[0].moves.mean() < alone[0].moves.mean() + 0.3
