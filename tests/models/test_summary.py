"""Many points summed up in few: nothing is lost where all are kept, and little where most are explained."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.models import factor as factor_module
from autoexp.models.kernel import Hyperparameters, covariance, prior_draw
from autoexp.models.posterior import Posterior
from autoexp.models.summary import pivots, summed_up

N, MEASURED = 900, 600
HYPER = Hyperparameters(np.array([0.5, 0.5]), np.array([1.0, 0.6]), 0.05)


class Field:
    """A field drawn from the prior, 600 of 900 candidates measured."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.views = tuple(v / np.sqrt(v.var(0).sum()) for v in (rng.standard_normal((N, d)) for d in (3, 2)))
        self.rows = rng.permutation(N)[:MEASURED]
        self.noise = rng.uniform(0, 0.05, MEASURED)
        self.truth = prior_draw(self.views, HYPER, rng)
        self.y = self.truth[self.rows] + np.sqrt(HYPER.noise + self.noise) * rng.standard_normal(MEASURED)

    def posterior(self, keep=None, n=MEASURED, hyper=HYPER):
        return Posterior(self.views, hyper, self.rows[:n], self.y[:n], self.noise[:n], np.float64, keep)

    @property
    def measured(self):
        return tuple(view[self.rows] for view in self.views)


@pytest.fixture(scope="module")
def field():
    return Field()


@pytest.fixture(scope="module")
def exact(field):
    return field.posterior()


def away(posterior, exact):
    """Root mean square distance from the exact mean, in its standard deviations, and mean one of those, relative."""
    std = np.sqrt(exact.variance)
    relative = np.abs(np.sqrt(posterior.variance) / std - 1)
    return np.sqrt(np.mean(((posterior.mean - exact.mean) / std) ** 2)), relative.mean()


def test_all_points_kept_are_the_exact_posterior(field, exact):
    summary = summed_up(field.measured, HYPER, field.y, field.noise, MEASURED)
    assert sorted(summary.kept) == list(range(MEASURED))
    K = covariance(field.measured, field.measured, HYPER)[np.ix_(summary.kept, summary.kept)]
    noise = np.diag(HYPER.noise + field.noise[summary.kept])
    np.testing.assert_allclose(summary.L @ summary.L.T, K + noise, atol=1e-7)
    np.testing.assert_allclose(summary.noise @ summary.noise.T, noise, atol=1e-7)
    np.testing.assert_allclose(summary.L @ summary.beta, field.y[summary.kept], atol=1e-6)
    np.testing.assert_allclose((summary.mean, summary.std), exact.leave_one_out(), atol=1e-6)


def test_repeated_points_lose_nothing(field):
    """Each of 150 places is measured four times: 150 points that are kept say all."""
    rows = np.tile(field.rows[:150], 4)
    args = field.views, HYPER, rows, field.y, field.noise, np.float64
    exact, summed = Posterior(*args), Posterior(*args, keep=200)
    assert summed.size == 150
    assert len(summed) == len(exact) == 600
    np.testing.assert_allclose(summed.mean, exact.mean, atol=1e-6)
    np.testing.assert_allclose(summed.variance, exact.variance, atol=1e-6)
    np.testing.assert_allclose(summed.leave_one_out(), exact.leave_one_out(), atol=1e-6)


def test_the_more_are_kept_the_closer_it_comes_to_the_exact_posterior(field, exact):
    posteriors = [field.posterior(keep) for keep in (100, 150, 300, 450)]
    means, stds = zip(*(away(posterior, exact) for posterior in posteriors), strict=True)
    assert sorted(means, reverse=True) == list(means)
    assert sorted(stds, reverse=True) == list(stds)
    assert means[0] < 1.1  # a sixth
    assert means[2] < 0.15  # half
    assert stds[2] < 0.07
    assert np.corrcoef(posteriors[2].leave_one_out()[0], exact.leave_one_out()[0])[0, 1] > 0.999


@pytest.mark.parametrize("keep", [100, 150, 300])
def test_it_is_much_closer_than_forgetting_all_but_as_many_points(field, exact, keep):
    kept = pivots(field.measured, HYPER, keep)[0]
    forgotten = Posterior(field.views, HYPER, field.rows[kept], field.y[kept], field.noise[kept], np.float64)
    summed = field.posterior(keep)
    assert away(summed, exact)[0] < 0.5 * away(forgotten, exact)[0]
    assert np.std(summed.mean - field.truth) < 0.8 * np.std(forgotten.mean - field.truth)


def test_it_is_hardly_anywhere_surer_than_the_exact_posterior(field, exact):
    """What is left out is taken for noise of each point's own, so intervals become wider nearly everywhere."""
    ratio = np.sqrt(field.posterior(150).variance / exact.variance)
    assert ratio.min() > 0.9
    assert np.mean(ratio < 0.98) < 0.05


@given(st.integers(1, 80), st.integers(2, 80), st.integers(0, 5), st.sampled_from([1e-4, 0.05, 3.0]))
@settings(max_examples=30, deadline=None)
def test_variances_are_never_negative_and_only_shrink(count, n, seed, noise):
    rng = np.random.default_rng([count, n, seed])
    hyper = Hyperparameters(HYPER.variance, HYPER.length, noise)
    views = (rng.standard_normal((90, 3)), rng.integers(0, 3, (90, 2)).astype(float))
    rows = rng.integers(0, 90, n)  # some places more than once
    posterior = Posterior(views, hyper, rows, rng.standard_normal(n), np.zeros(n), np.float32, count)
    assert posterior.size <= max(count, 1)
    assert len(posterior) == n
    assert (posterior.variance <= hyper.signal + 1e-6).all()
    for row in rng.integers(0, 90, 5):
        before = posterior.variance
        posterior.observe(int(row), 0.5, 0.01)
        assert (posterior.variance >= 0).all()
        assert (posterior.variance <= before).all()
    mean, std = posterior.leave_one_out()
    assert len(mean) == len(std) == n + 5
    assert np.isfinite([mean, std]).all()
    assert (std > 0).all()
    assert np.isfinite(posterior.mean).all()


def test_what_comes_after_the_summary_is_learned_exactly(field):
    """A summary that loses nothing, and then point by point: as if nothing had been summed up."""
    exact = field.posterior(n=450)
    summed = Posterior(
        field.views, HYPER, np.tile(field.rows[:400], 2), np.tile(field.y[:400], 2), np.full(800, 0.03), np.float64, 500
    )
    once = Posterior(field.views, HYPER, field.rows[:400], field.y[:400], np.full(400, 0.015), np.float64)
    assert summed.size == 400
    half = Hyperparameters(HYPER.variance, HYPER.length, HYPER.noise / 2)
    once = Posterior(field.views, half, field.rows[:400], field.y[:400], np.full(400, 0.015), np.float64)
    for i in range(400, 450):
        row, y = int(field.rows[i]), float(field.y[i])
        summed.observe(row, y, 0.03)
        once.observe(row, y, 0.03 + HYPER.noise / 2)
    np.testing.assert_allclose(summed.mean, once.mean, atol=1e-5)
    np.testing.assert_allclose(summed.variance, once.variance, atol=1e-5)
    assert summed.measured[800:] == exact.measured[400:]
    with summed.believing([5, 6], 0.1) as believed:
        assert believed.measured[-2:] == [5, 6]
    assert len(summed) == 850


def test_the_best_is_sought_among_all_that_were_measured(field):
    posterior = field.posterior(20)
    assert posterior.measured == field.rows.tolist()
    assert posterior.mean[posterior.best()] == posterior.mean[field.rows].max()


def test_draws_have_the_moments_of_the_summary(field):
    posterior, columns = field.posterior(80), np.arange(0, N, 45)
    posterior.observe(3, 0.2, 0.01)
    draws = np.array([posterior.draw(columns, np.random.default_rng(i)) for i in range(500)])
    error = np.sqrt(posterior.variance[columns] / 500)
    assert np.abs((draws.mean(0) - posterior.mean[columns]) / error).max() < 5
    np.testing.assert_allclose(draws.var(0), posterior.variance[columns], rtol=0.35, atol=0.01)


def test_pivots_are_the_points_that_the_others_explain_least(field):
    kept, phi = pivots(field.measured, HYPER, 40)
    K = covariance(field.measured, field.measured, HYPER)
    for m in (1, 7, 40):
        part = kept[:m]
        explained = K[:, part] @ np.linalg.solve(K[np.ix_(part, part)], K[part])
        np.testing.assert_allclose(phi[:m].T @ phi[:m], explained, atol=1e-8)
        if m < 40:
            assert kept[m] == np.argmax(np.diag(K) - np.diag(explained))


def test_work_and_memory_do_not_grow_with_the_points(field, monkeypatch):
    """The rows of the large factor, and of every product with it: as many as are kept, and what came since."""
    asked = []
    direction = factor_module.HostFactor.direction

    def counted(self, n, row, weights):
        asked.append((n, len(weights), len(self._V)))
        return direction(self, n, row, weights)

    monkeypatch.setattr(factor_module.HostFactor, "direction", counted)
    for n in (200, 400, 590):
        posterior = Posterior(field.views, HYPER, field.rows[:n], field.y[:n], field.noise[:n], keep=60, more=10)
        for i in range(n, n + 10):
            with posterior.believing([int(field.rows[i])], 0.01):
                pass
            posterior.observe(int(field.rows[i]), float(field.y[i]), 0.0)
        assert posterior.size == 70
    assert {(n, weights) for n, weights, _ in asked} == {(60 + i, 60 + i) for i in range(10)}
    assert {room for _, _, room in asked} == {factor_module.room_for(70)}
    assert len(asked) == 3 * 10  # what is believed and then learned is only worked out once
