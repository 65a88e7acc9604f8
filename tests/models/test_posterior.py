"""The posterior: learned one by one or at once, believed, drawn from, and checked by leaving one out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.models.fit import fit_map
from autoexp.models.kernel import Hyperparameters, covariance, prior_draw
from autoexp.models.posterior import Posterior


def full(problem, n=None, dtype=np.float64):
    part = slice(n)
    return Posterior(problem.views, problem.hyper, problem.rows[part], problem.y[part], problem.noise[part], dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 3e-5)])
@pytest.mark.parametrize("start", [1, 7, 29])
def test_one_by_one_equals_all_at_once(problem, start, dtype, tolerance):
    step_by_step = full(problem, start, dtype)
    for row, y, noise in zip(problem.rows[start:], problem.y[start:], problem.noise[start:], strict=True):
        step_by_step.observe(int(row), y, noise)
    at_once = full(problem)
    assert len(step_by_step) == len(at_once) == 30
    np.testing.assert_allclose(step_by_step.mean, at_once.mean, atol=tolerance)
    np.testing.assert_allclose(step_by_step.variance, at_once.variance, atol=tolerance)
    np.testing.assert_allclose(step_by_step.leave_one_out(), at_once.leave_one_out(), atol=1e-9)


@given(st.permutations(range(30)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_data_does_not_matter(problem, order):
    shuffled = problem._replace(rows=problem.rows[order], y=problem.y[order], noise=problem.noise[order])
    np.testing.assert_allclose(full(shuffled).mean, full(problem).mean, atol=1e-9)
    np.testing.assert_allclose(full(shuffled).variance, full(problem).variance, atol=1e-9)


def test_believing_shrinks_the_variance_as_a_measurement_would_and_is_undone(problem):
    posterior, measured = full(problem), full(problem)
    mean, variance = posterior.mean, posterior.variance
    free = [int(i) for i in np.setdiff1d(np.arange(200), problem.rows)[:3]]
    for row in free:
        measured.observe(row, float(measured.mean[row]), 0.02)
    with posterior.believing(free, 0.02) as believed:
        np.testing.assert_allclose(believed.mean, mean)
        np.testing.assert_allclose(believed.mean, measured.mean, atol=1e-10)
        np.testing.assert_allclose(believed.variance, measured.variance, atol=1e-10)
        assert believed.best() == measured.best()
    assert posterior.variance is variance
    posterior.observe(free[1], 0.3, 0.01)
    again = full(problem)
    again.observe(free[1], 0.3, 0.01)
    np.testing.assert_array_equal(posterior.mean, again.mean)


def test_leave_one_out_equals_leaving_each_one_out(problem):
    mean, std = full(problem).leave_one_out()
    for i in range(0, 30, 5):
        rest = np.delete(np.arange(30), i)
        without = Posterior(
            problem.views, problem.hyper, problem.rows[rest], problem.y[rest], problem.noise[rest], np.float64
        )
        row = problem.rows[i]
        assert mean[i] == pytest.approx(without.mean[row], abs=1e-9)
        expected = np.sqrt(without.variance[row] + problem.hyper.noise + problem.noise[i])
        assert std[i] == pytest.approx(expected, abs=1e-9)


def test_draws_have_the_moments_of_the_posterior(problem):
    posterior, columns = full(problem), np.arange(0, 200, 10)
    draws = np.array([posterior.draw(columns, np.random.default_rng(i)) for i in range(600)])
    error = np.sqrt(posterior.variance[columns] / 600)
    assert np.abs((draws.mean(0) - posterior.mean[columns]) / error).max() < 5
    np.testing.assert_allclose(draws.var(0), posterior.variance[columns], rtol=0.35, atol=0.01)


def test_draws_from_the_prior_have_its_covariance(problem):
    points = tuple(view[:8] for view in problem.views)
    draws = np.array([prior_draw(points, problem.hyper, np.random.default_rng(i)) for i in range(1000)])
    np.testing.assert_allclose(draws.T @ draws / 1000, covariance(points, points, problem.hyper), atol=0.2)


def test_repeated_points_and_no_noise_stay_finite(problem):
    rows = np.repeat(problem.rows[:5], 4)
    hyper = Hyperparameters(problem.hyper.variance, problem.hyper.length, 1e-4)
    posterior = Posterior(problem.views, hyper, rows, np.repeat(problem.y[:5], 4), np.zeros(20))
    for row in rows:
        posterior.observe(int(row), 0.0, 0.0)
    assert np.isfinite(posterior.mean).all()
    assert (posterior.variance >= 0).all()


def test_intervals_of_the_fitted_model_hold_what_they_claim():
    """Fields drawn from the prior, forty points each: nine tenths of new measurements lie in the 90 % interval."""
    rng = np.random.default_rng(1)
    hyper = Hyperparameters(np.array([0.5, 0.5]), np.array([0.5, 0.5]), 0.05)
    inside = []
    for _ in range(20):
        views = tuple(v / np.sqrt(v.var(0).sum()) for v in (rng.standard_normal((150, d)) for d in (3, 2)))
        y = prior_draw(views, hyper, rng) + np.sqrt(0.05) * rng.standard_normal(150)
        rows, rest = np.arange(40), np.arange(40, 150)
        fitted = fit_map(tuple(v[rows] for v in views), y[rows], np.zeros(40))
        posterior = Posterior(views, fitted, rows, y[rows], np.zeros(40))
        std = np.sqrt(posterior.variance + fitted.noise)
        inside.append(np.mean(np.abs(y - posterior.mean)[rest] < 1.6449 * std[rest]))
        assert 0.6 <= posterior.calibration(1.6449)[1] <= 1
    assert 0.85 < np.mean(inside) < 0.95
