"""The learned judge of moves: it foresees moves, stays near the aligner's own cost, and is kept as plain numbers."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from autoexp.errors import PlanError
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


def test_it_is_kept_as_plain_numbers(tmp_path):
    judge = random_judge()
    judge.save(tmp_path / "judge.json")
    again = LearnedJudge.load(tmp_path / "judge.json")
    x = np.random.default_rng(2).normal(size=(7, FEATURES))
    np.testing.assert_array_equal(judge.moves_left(x), again.moves_left(x))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("layers"),
        lambda d: d["layers"][0][0].pop(),
        lambda d: d["layers"][0][1].__setitem__(0, float("nan")),
        lambda d: d.update(mean="?"),
    ],
)
def test_a_file_that_holds_none_is_refused(tmp_path, spoil):
    path = tmp_path / "judge.json"
    random_judge().save(path)
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))
    with pytest.raises(PlanError, match="judge"):
        LearnedJudge.load(path)


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
