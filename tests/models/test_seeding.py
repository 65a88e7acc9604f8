"""Filling space in structure and place."""

from __future__ import annotations

import numpy as np

from autoexp.models.features import Views
from autoexp.models.seeding import SpaceFilling


def field(structure, side=12):
    y, x = np.mgrid[:side, :side] / side
    place = np.stack([y.ravel(), x.ravel()], axis=1).astype(np.float32)
    return Views(("patch", "position"), (np.asarray(structure, np.float32).reshape(-1, 1), place))


def chosen(views, count, free=None, seed=0):
    space, free, found = SpaceFilling(views), np.ones(len(views), bool) if free is None else free.copy(), []
    for step in range(count):
        row = space.choose(free, [], np.random.default_rng([seed, step]))
        space.add(row)
        free[row] = False
        found.append(row)
    return found


def test_rare_structure_is_looked_at_soon():
    structure = np.zeros(144)
    structure[[5, 77]] = 4.0
    hits = [bool({5, 77} & set(chosen(field(structure), 4, seed=s))) for s in range(20)]
    assert np.mean(hits) > 0.9


def test_every_allowed_candidate_is_taken_once_and_no_other():
    free = np.zeros(144, bool)
    free[10:30] = True
    assert sorted(chosen(field(np.arange(144.0)), 20, free)) == list(range(10, 30))


def test_candidates_that_are_all_alike():
    views = Views(("patch", "position"), (np.zeros((9, 3), np.float32), np.zeros((9, 2), np.float32)))
    assert sorted(chosen(views, 9)) == list(range(9))


def test_pending_points_count_and_are_not_remembered():
    views = field(np.zeros(144))
    space, free = SpaceFilling(views), np.ones(144, bool)
    space.add(0)
    far = [space.choose(free, list(range(1, 72)), np.random.default_rng(i)) for i in range(30)]
    assert min(far) >= 72
    near = [space.choose(free, [], np.random.default_rng(i)) for i in range(60)]
    assert min(near) < 72
