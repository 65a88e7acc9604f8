"""The stopping rule: the chance of missing something, and whether its guarantee is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from autoexp.models.stopping import chance_of_better

numbers = st.lists(st.floats(-5, 5), min_size=2, max_size=20)


def test_one_candidate_by_hand():
    mean, std = np.array([1.0, 0.5]), np.array([0.1, 0.4])
    chance = chance_of_better(mean, std, np.array([False, True]), best=0, within=0.25)
    assert chance == pytest.approx(special.ndtr((0.5 - 1.0 - 0.25) / 0.5))


@given(numbers, st.floats(0.01, 3), st.integers(0, 100))
def test_it_bounds_the_chance_whatever_the_correlations(means, within, seed):
    """The draws of correlated targets in which something better is missed are fewer than it says."""
    rng = np.random.default_rng(seed)
    n = len(means)
    root = rng.normal(size=(n, n))
    std = np.sqrt((root**2).sum(axis=1))
    draws = np.asarray(means) + rng.normal(size=(2000, n)) @ root.T
    best = int(np.argmax(means))
    free = np.arange(n) != best
    missed = (draws[:, free] > draws[:, [best]] + within).any(axis=1).mean()
    assert missed <= chance_of_better(np.asarray(means), std, free, best, within) + 0.05


@given(numbers)
def test_it_is_a_probability_and_falls_as_less_matters(means):
    mean, std = np.asarray(means), np.full(len(means), 0.5)
    best = int(mean.argmax())
    free = np.arange(len(means)) != best
    chances = [chance_of_better(mean, std, free, best, within) for within in (0.0, 0.5, 2.0)]
    assert all(0 <= c <= 1 for c in chances)
    assert chances == sorted(chances, reverse=True)


def test_certainty_is_allowed():
    mean, std = np.array([1.0, 0.0, 2.0]), np.zeros(3)
    assert chance_of_better(mean, std, np.array([False, True, False]), best=0, within=0.5) == 0
    assert chance_of_better(mean, std, np.array([False, True, True]), best=0, within=0.5) == 1


def test_nothing_left_is_nothing_missed():
    assert chance_of_better(np.ones(3), np.ones(3), np.zeros(3, bool), best=0, within=0.5) == 0
