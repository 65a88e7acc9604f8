"""The surrogate is a function of the sequence of outcomes, and survives a fit that fails."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.models import surrogate as surrogate_module
from autoexp.models.features import Views
from autoexp.models.kernel import Hyperparameters
from autoexp.models.schedule import in_force
from autoexp.models.surrogate import Bounds, Fit, FrozenViews, Surrogate
from autoexp.models.targets import Standardisation, is_constant
from autoexp.threads import Call


class BrieflyShown(Views):
    """Hypothesis writes arguments out; these arrays are too long for that."""

    def _repr_pretty_(self, printer, cycle):
        printer.text("views")


@pytest.fixture(scope="module")
def views(problem):
    return BrieflyShown(("a", "b", "position"), tuple(view.astype(np.float32) for view in problem.views))


def outcomes(count, seed=0):
    rng = np.random.default_rng(seed)
    return list(
        zip(rng.permutation(200)[:count].tolist(), rng.gamma(1, 1e5, count), rng.uniform(0, 1e4, count), strict=True)
    )


LARGE, SMALL = Bounds(), Bounds(exact=20, kept=12, fitted=15)
"""With the latter, points are summed up from the 21st on."""


def told(model, batches, goal="maximize", first=6, every=4, bounds=LARGE):
    surrogate = Surrogate(model, goal, first, every, bounds=bounds)
    for batch in batches:
        for row, value, noise in batch:
            surrogate.learn(row, value, noise)
        surrogate.refresh()
    return surrogate


@dataclass(frozen=True)
class Failing(FrozenViews):
    """Fits that raise, or are of no use, at given numbers of points."""

    at: tuple[int, ...] = ()
    how: str = "raise"

    def fit(self, rows, y, noise):
        fitted = super().fit(rows, y, noise)
        if len(rows) not in self.at:
            return fitted
        if self.how == "raise":
            raise RuntimeError("no gradient")
        broken = {"nan": np.nan, "flat": 0.0}[self.how]
        return replace(fitted, hyper=replace(fitted.hyper, variance=fitted.hyper.variance * broken))


@pytest.mark.parametrize("how", ["none", "raise", "nan", "flat"])
@given(cuts=st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=8, deadline=None)
def test_one_by_one_or_all_at_once_makes_no_difference_to_a_bit(views, how, cuts):
    model = FrozenViews(views) if how == "none" else Failing(views, at=(10, 14, 26, 38), how=how)
    points = outcomes(40)
    edges = [0, *sorted(cuts), 40]
    in_parts = told(model, [points[a:b] for a, b in itertools.pairwise(edges)])
    for other in (told(model, [points]), told(model, [[p] for p in points])):
        np.testing.assert_array_equal(other.posterior.mean, in_parts.posterior.mean)
        np.testing.assert_array_equal(other.posterior.variance, in_parts.posterior.variance)
        assert other.scale == in_parts.scale
        assert other.trouble == in_parts.trouble


@pytest.mark.parametrize("how", ["none", "raise"])
@given(cuts=st.lists(st.integers(0, 60), max_size=5), ahead=st.lists(st.booleans(), min_size=60, max_size=60))
@settings(max_examples=8, deadline=None)
def test_so_it_is_across_the_border_where_points_are_summed_up(views, how, cuts, ahead):
    model = FrozenViews(views) if how == "none" else Failing(views, at=(15,), how=how)
    points = outcomes(60)
    points[30:40] = points[:10]  # some places are measured again
    edges = [0, *sorted(cuts), 60]
    in_parts = told(model, [points[a:b] for a, b in itertools.pairwise(edges)], bounds=SMALL)
    busy = told(model, [], bounds=SMALL)
    calls = []
    for point, now in zip(points, ahead, strict=True):
        busy.learn(*point)
        busy.refresh()
        if now and busy.has_work:
            calls.append(Call(busy.work_ahead, "test"))
    assert all(call.wait(10) for call in calls)
    assert in_parts.posterior.size < len(in_parts.posterior) == 60
    for other in (told(model, [points], bounds=SMALL), busy):
        np.testing.assert_array_equal(other.posterior.mean, in_parts.posterior.mean)
        np.testing.assert_array_equal(other.posterior.variance, in_parts.posterior.variance)
        np.testing.assert_array_equal(other.calibrated_std(), in_parts.calibrated_std())
        assert other.posterior.measured == in_parts.posterior.measured
        assert (other.scale, other.trouble) == (in_parts.scale, in_parts.trouble)


@pytest.mark.parametrize("count", range(6, 21))
def test_up_to_the_border_nothing_differs_to_a_bit(views, count):
    points = outcomes(count)
    bounded, unbounded = (
        told(FrozenViews(views), [points], bounds=replace(SMALL, fitted=500)),
        told(FrozenViews(views), [points]),
    )
    np.testing.assert_array_equal(bounded.posterior.mean, unbounded.posterior.mean)
    np.testing.assert_array_equal(bounded.posterior.variance, unbounded.posterior.variance)
    np.testing.assert_array_equal(bounded.predict().std, unbounded.predict().std)


@pytest.mark.parametrize("first", [2, 6, 10, 17, 40])
@pytest.mark.parametrize("every", [1, 4, 30])
def test_it_is_exact_up_to_the_border_and_its_size_is_bounded_beyond(views, first, every):
    points = [*outcomes(150), *outcomes(150, seed=1)]
    surrogate = told(FrozenViews(views), [], first=first, every=every, bounds=SMALL)
    for n, point in enumerate(points, start=1):
        surrogate.learn(*point)
        surrogate.refresh()
        if surrogate.posterior is None:
            assert n < first
            continue
        assert len(surrogate.posterior) == n
        assert surrogate.posterior.size == n if n <= max(20, first - 1) else surrogate.posterior.size <= n
    at = in_force(300, first, every)
    assert surrogate.posterior.size == 12 + 300 - at
    assert len(surrogate._fits) <= 2
    assert len(surrogate._made) <= 1


def test_hyperparameters_are_fitted_to_a_bounded_number_of_points(views):
    asked = []

    @dataclass(frozen=True)
    class Counting(FrozenViews):
        def fit(self, rows, y, noise):
            asked.append(rows.tolist())
            return super().fit(rows, y, noise)

    points = outcomes(60)
    told(Counting(views), [[point] for point in points], bounds=SMALL)
    assert max(map(len, asked)) == 15
    assert asked[2] == [row for row, *_ in points[:14]]  # of no more than 15, all
    assert len(set(asked[-1])) == 15


@pytest.mark.parametrize(
    "values", [[1e99, -1e99], [0.0, 1e-300], [3e-310, 1e-310], [0.0, 1e-200, 1.0], [0.0] * 25 + [1e-300] * 10 + [1e99]]
)
@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e99])
def test_numbers_at_the_edge_of_what_there_is_leave_it_finite(views, values, noise):
    points = [(i, values[i % len(values)], noise) for i in range(40)]
    surrogate = told(FrozenViews(views), [[point] for point in points], bounds=SMALL)
    assert np.isfinite(surrogate.posterior.mean).all()
    assert np.isfinite(surrogate.posterior.variance).all()


@pytest.mark.parametrize("bounds", [LARGE, SMALL], ids=["exact", "summed up"])
@pytest.mark.parametrize("how", ["raise", "nan", "flat"])
def test_when_every_fit_fails_what_held_before_any_is_used(views, how, bounds):
    points = outcomes(40)
    points[5:] = [(points[0][0], value, 0.0) for _, value, _ in points[5:]]  # and one place is measured again and again
    surrogate = told(Failing(views, at=tuple(range(100)), how=how), [points], bounds=bounds)
    assert "failed" in surrogate.trouble
    np.testing.assert_array_equal(surrogate.fit.hyper.log, FrozenViews(views).initial.hyper.log)
    assert np.isfinite(surrogate.posterior.mean).all()


def test_a_matrix_that_cannot_be_decomposed_leaves_what_held_before_any_fit(views, monkeypatch):
    """Whatever a fit comes to: where the posterior itself cannot be made with it, nor with the one before."""
    real, hopeless = surrogate_module.Posterior, FrozenViews(views).initial.hyper

    def failing(arrays, hyper, *args):
        if not np.array_equal(hyper.log, hopeless.log):
            raise np.linalg.LinAlgError("not positive definite")
        return real(arrays, hyper, *args)

    monkeypatch.setattr(surrogate_module, "Posterior", failing)
    surrogate = told(FrozenViews(views), [outcomes(40)], bounds=SMALL)
    assert "not positive definite" in surrogate.trouble
    assert len(surrogate.posterior) == 40


@pytest.mark.parametrize("how", ["raise", "nan", "flat"])
def test_a_fit_that_fails_leaves_the_last_good_one_in_force(views, how):
    points = outcomes(10)
    surrogate = told(Failing(views, at=(10,), how=how), [points])
    earlier = told(FrozenViews(views), [points[:6]])
    assert "the fit to 10 points failed" in surrogate.trouble
    np.testing.assert_array_equal(surrogate.fit.hyper.log, earlier.fit.hyper.log)
    assert len(surrogate.posterior) == 10
    assert np.isfinite(surrogate.posterior.mean).all()


@given(ahead=st.lists(st.booleans(), min_size=34, max_size=34))
@settings(max_examples=8, deadline=None)
def test_whether_refits_are_made_ahead_makes_no_difference_to_a_bit(views, ahead):
    model = Failing(views, at=(42,))
    points = outcomes(60)
    plain = told(model, [points])
    busy = told(model, [points[:26]])
    calls = []
    for point, now in zip(points[26:], ahead, strict=True):
        busy.learn(*point)
        busy.refresh()
        if now and busy.has_work:
            calls.append(Call(busy.work_ahead, "test"))
    assert all(call.wait(10) for call in calls)
    assert [call.result() for call in calls] == [None] * len(calls)
    np.testing.assert_array_equal(busy.posterior.mean, plain.posterior.mean)
    np.testing.assert_array_equal(busy.posterior.variance, plain.posterior.variance)
    assert (busy.scale, busy.trouble) == (plain.scale, plain.trouble)


def test_there_is_work_from_a_refit_on_until_it_is_made(views):
    points = outcomes(51)
    surrogate = told(FrozenViews(views), [points[:49]])
    assert not surrogate.has_work
    surrogate.learn(*points[49])
    surrogate.refresh()
    assert in_force(50, 6, 4) == 46
    assert surrogate.has_work
    surrogate.work_ahead()
    assert not surrogate.has_work
    surrogate.work_ahead()
    surrogate.learn(*points[50])
    surrogate.refresh()
    assert in_force(51, 6, 4) == 50
    assert not surrogate.has_work


def test_a_first_fit_that_fails_leaves_the_modes_of_the_priors(views):
    surrogate = told(Failing(views, at=(6,)), [outcomes(6)])
    np.testing.assert_array_equal(surrogate.fit.hyper.log, FrozenViews(views).initial.hyper.log)


def test_nothing_is_modelled_before_there_is_something(views):
    surrogate = told(FrozenViews(views), [outcomes(5)])
    assert surrogate.posterior is None
    constant = told(FrozenViews(views), [[(i, 7.0, 0.0) for i in range(20)]])
    assert constant.posterior is None
    constant.learn(50, 8.0, 0.0)
    constant.refresh()
    assert len(constant.posterior) == 21


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_units_do_not_matter(views, scale, offset):
    points = outcomes(20)
    moved = [(row, (value / 1e5 + offset) * scale, noise / 1e5 * scale) for row, value, noise in points]
    one, other = told(FrozenViews(views), [points]), told(FrozenViews(views), [moved])
    np.testing.assert_allclose(one.posterior.mean, other.posterior.mean, atol=2e-3)


def test_minimising_is_maximising_the_negative(views):
    points = outcomes(20)
    low = told(FrozenViews(views), [points], "minimize")
    high = told(FrozenViews(views), [[(row, -value, noise) for row, value, noise in points]])
    np.testing.assert_allclose(low.posterior.mean, high.posterior.mean, atol=1e-9)
    mean, std = low.scale.backward(low.posterior.mean, low.posterior.variance)
    negative, same_std = high.scale.backward(high.posterior.mean, high.posterior.variance)
    np.testing.assert_allclose(mean, -negative, rtol=1e-6)
    np.testing.assert_allclose(std, same_std, rtol=1e-6)


def test_poisson_noise_is_recognised_and_not_extrapolated():
    values = np.linspace(100, 10_000, 30)
    scale = Standardisation.of(values, np.sqrt(values), "maximize")
    np.testing.assert_allclose(scale.counting(np.array([400.0, 5000.0])), [400, 5000], rtol=1e-9)
    np.testing.assert_allclose(scale.counting(np.array([-1e9, 1e9])), [100, 10_000], rtol=1e-9)
    np.testing.assert_allclose(scale.forward_noise(np.sqrt(values)) * scale.scale**2, values)


def test_what_is_constant():
    assert is_constant(np.array([]))
    assert is_constant(np.array([3.0]))
    assert is_constant(np.full(9, 0.1 + 0.2))
    assert not is_constant(np.array([0.0, 1e-300]))


def test_initial_fit_is_of_the_frozen_views(views):
    initial = FrozenViews(views).initial
    assert isinstance(initial, Fit)
    assert isinstance(initial.hyper, Hyperparameters)
    assert initial.hyper.signal == pytest.approx(1.0)
