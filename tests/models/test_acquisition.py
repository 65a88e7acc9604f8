"""Acquisition functions against brute force, and where brute force has long underflowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, stats

from autoexp.models.acquisition import (
    log_expected_hypervolume_improvement,
    log_expected_improvement,
    log_h,
    log_probability_of_improvement,
    maximum_variance,
    thompson_sample,
    undominated,
    upper_confidence_bound,
)
from autoexp.models.posterior import Posterior


@given(mean=st.floats(-4, 4), std=st.floats(0.05, 5), best=st.floats(-4, 4), xi=st.floats(0, 1))
@settings(deadline=None)
def test_expected_improvement_is_what_integration_gives(mean, std, best, xi):
    z = (mean - best - xi) / std
    if z < -6:
        return
    grid = np.linspace(max(best + xi, mean - 12 * std), mean + 12 * std + 1e-9, 20_001)
    expected = integrate.simpson((grid - best - xi) * stats.norm.pdf(grid, mean, std), x=grid)
    got = np.exp(log_expected_improvement(np.array([mean]), np.array([std]), best, xi))[0]
    if best + xi < mean + 12 * std:
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-14)


@pytest.mark.parametrize("z", [-0.999, -1.0, -1.001, -3, -10, -30, -100, -1e3, -9.9e3, -1.01e4, -1e6, -1e8])
def test_the_tail_follows_its_asymptotic_series(z):
    """log h(z) = log φ(z) - 2 log|z| + log(1 - 3/z² + 15/z⁴ - ...); exact arithmetic where the series does not hold."""
    got = float(log_h(np.array([z]))[0])
    if z > -30:
        from math import erfc, exp, log, pi, sqrt

        assert got == pytest.approx(log(exp(-z * z / 2) / sqrt(2 * pi) + z * erfc(-z / sqrt(2)) / 2), abs=1e-4)
    else:
        series = np.log1p(-3 / z**2 + 15 / z**4 - 105 / z**6)
        assert got == pytest.approx(-z * z / 2 - np.log(2 * np.pi) / 2 - 2 * np.log(-z) + series, rel=1e-12, abs=1e-6)


def test_it_has_no_seams():
    for seam in (-1.0, -1e4):
        z = seam * (1 + np.array([-1e-9, 1e-9]))
        slope = -seam if seam < -1 else 2.0
        assert abs(np.diff(log_h(z))[0]) < 1e-8 * slope * abs(seam) + 1e-6


@given(st.lists(st.floats(-1e7, 50), min_size=2, max_size=20))
@settings(deadline=None)
def test_it_is_finite_and_rises_with_the_mean(values):
    z = np.sort(np.array(values))
    h = log_h(z)
    assert np.isfinite(h).all()
    assert (np.diff(h) >= -1e-9 * np.abs(h[1:])).all()


def test_far_below_the_best_it_still_tells_better_from_worse():
    mean = np.array([-50.0, -49.0, -50.0])
    std = np.array([1.0, 1.0, 1.1])
    value = log_expected_improvement(mean, std, 0.0)
    assert np.exp(value[0]) == 0
    assert value[0] < value[1] < value[2]


def test_no_uncertainty_is_allowed():
    mean, std = np.array([0.0, 1.0, 2.0]), np.zeros(3)
    assert np.exp(log_expected_improvement(mean, std, 1.0))[2] == pytest.approx(1.0)
    for value in (log_expected_improvement(mean, std, 1.0), log_probability_of_improvement(mean, std, 1.0)):
        assert not np.isnan(value).any()
        assert value.argmax() == 2


def test_probability_of_improvement():
    mean, std = np.array([0.0, 1.0, -40.0]), np.array([1.0, 2.0, 1.0])
    got = log_probability_of_improvement(mean, std, 0.5, 0.1)
    np.testing.assert_allclose(got, stats.norm.logsf(0.6, mean, std), rtol=1e-10)


def test_bound_and_variance():
    mean, std = np.array([0.0, 1.0]), np.array([2.0, 0.5])
    np.testing.assert_allclose(upper_confidence_bound(mean, std, 3.0), [6.0, 2.5])
    assert maximum_variance(std).argmax() == 0


def test_thompson_chooses_as_often_as_a_candidate_is_the_best(problem):
    posterior = Posterior(problem.views, problem.hyper, problem.rows, problem.y, problem.noise, np.float64)
    free = np.zeros(200, bool)
    free[[3, 50, 90]] = True
    chosen = [int(thompson_sample(posterior, free, np.random.default_rng(i)).argmax()) for i in range(200)]
    assert set(chosen) <= {3, 50, 90}
    draws = np.array([posterior.draw(np.array([3, 50, 90]), np.random.default_rng([9, i])) for i in range(200)])
    expected = np.bincount(draws.argmax(1), minlength=3) / 200
    got = np.array([chosen.count(c) for c in (3, 50, 90)]) / 200
    np.testing.assert_allclose(got, expected, atol=0.15)


def test_thompson_on_many_candidates_draws_a_part_of_them(problem, monkeypatch):
    monkeypatch.setattr("autoexp.models.acquisition.SAMPLED", 50)
    posterior = Posterior(problem.views, problem.hyper, problem.rows, problem.y, problem.noise)
    free = np.ones(200, bool)
    free[::2] = False
    values = thompson_sample(posterior, free, np.random.default_rng(0))
    assert np.isfinite(values).sum() == 50
    assert not np.isfinite(values[::2]).any()


def hypervolume(points, reference):
    """Area dominated by points, by adding up strips; the plain way."""
    area, height = 0.0, reference[1]
    for a, b in sorted(map(tuple, points), reverse=True):
        if a > reference[0] and b > height:
            area += (a - reference[0]) * (b - height)
            height = b
    return area


def test_hypervolume_improvement_is_what_sampling_gives():
    rng = np.random.default_rng(0)
    for _ in range(10):
        front, reference = rng.normal(size=(6, 2)), np.array([-2.0, -2.0])
        mean, std = rng.normal(size=(2, 3)), rng.uniform(0.1, 1.0, (2, 3))
        found = np.exp(log_expected_hypervolume_improvement(mean, std, front, reference))
        now = hypervolume(front, reference)
        for i in range(3):
            draws = mean[:, i] + std[:, i] * rng.standard_normal((4000, 2))
            gains = [hypervolume([*front, draw], reference) - now for draw in draws]
            assert found[i] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(4000) + 1e-3)


def test_hypervolume_improvement_far_below_the_front_still_tells_better_from_worse():
    front, reference = np.array([[10.0, 0.0], [0.0, 10.0], [8.0, 8.0]]), np.array([-1.0, -1.0])
    mean = np.array([[-40.0, -30.0, -20.0], [-40.0, -30.0, -20.0]])
    values = log_expected_hypervolume_improvement(mean, np.full((2, 3), 0.1), front, reference)
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()


def test_hypervolume_improvement_without_a_front_or_uncertainty():
    mean, none = np.array([[1.0, -1.0], [2.0, 3.0]]), np.zeros((2, 2))
    values = np.exp(log_expected_hypervolume_improvement(mean, none, np.empty((0, 2)), np.zeros(2)))
    np.testing.assert_allclose(values, [2.0, 0.0], atol=1e-9)


@given(hnp.arrays(float, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(-3, 3).map(float)))
def test_the_front_dominates_all_points_and_none_of_its_own(points):
    kept = points[undominated(points)]
    for point in points:
        assert (kept >= point).all(axis=1).any()
    for i, a in enumerate(kept):
        assert not any((b >= a).all() for j, b in enumerate(kept) if j != i)
