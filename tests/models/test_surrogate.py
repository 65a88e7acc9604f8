"""The surrogate is a function of the sequence of outcomes, and survives a fit that fails."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.models.features import Views
from autoexp.models.kernel import Hyperparameters
from autoexp.models.schedule import in_force
from autoexp.models.surrogate import Fit, FrozenViews, Surrogate
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


def told(model, batches, goal="maximize", first=6, every=4):
    surrogate = Surrogate(model, goal, first, every)
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
