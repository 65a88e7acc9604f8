"""Intervals hold where nothing was measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexp.models.calibration import ResidualSpread


def residuals(n, slope, seed=0, scale=1.0):
    """Leave-one-out predictions whose residuals grow with the mean, while the model claims one standard deviation."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=n)
    y = mean + scale * np.exp(slope * mean / 2) * rng.normal(size=n)
    return mean, np.ones(n), y


def test_honest_intervals_stay_as_they_are():
    mean, std, y = residuals(400, slope=0.0)
    spread = ResidualSpread.of(mean, std, y)
    np.testing.assert_allclose(spread.factor(mean), 1.0, atol=0.12)


def test_a_spread_that_grows_with_the_value_is_found():
    mean, std, y = residuals(400, slope=1.0)
    spread = ResidualSpread.of(mean, std, y)
    at = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(spread.factor(at), np.exp(at / 2), rtol=0.2)


def test_intervals_hold_in_the_background_though_the_peaks_were_measured():
    plain, held = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        measured = rng.uniform(-1.0, 2.0, 60)  # standardised: the mean of what was measured is about zero
        elsewhere = rng.normal(-0.7, 0.2, 5000)
        y = measured + np.exp(0.4 * measured) * rng.normal(size=60)
        std = np.full(60, np.sqrt(np.mean((y - measured) ** 2)))  # what one noise for all has to be
        away = np.abs(np.exp(0.4 * elsewhere) * rng.normal(size=5000))
        spread = ResidualSpread.of(measured, std, y)
        plain.append(np.mean(away < 1.645 * std[0]))
        held.append(np.mean(away < 1.645 * std[0] * spread.factor(elsewhere)))
    assert np.mean(plain) > 0.99, "all but everything lies inside what claims to hold 90 %"
    assert 0.87 < np.mean(held) < 0.99


def test_a_few_points_hardly_move_it():
    mean, std, y = residuals(4, slope=0.0, scale=3.0)
    assert np.all(ResidualSpread.of(mean, std, y).factor(mean) < 2.5)


def test_beyond_what_was_measured_it_stays():
    mean, std, y = residuals(50, slope=1.0)
    spread = ResidualSpread.of(mean, std, y)
    assert spread.factor(np.array([mean.max() + 9])) == pytest.approx(spread.factor(np.array([mean.max()])))


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=40),
    st.integers(0, 2**32 - 1),
)
def test_it_is_finite_and_the_order_of_points_does_not_matter(points, seed):
    mean, std, y = np.array(points).T
    elsewhere = np.linspace(-1, 1, 11)
    spread = ResidualSpread.of(mean, std, y)
    factor = spread.factor(elsewhere)
    assert np.isfinite(factor).all()
    assert (factor > 0).all()
    order = np.random.default_rng(seed).permutation(len(y))
    again = ResidualSpread.of(mean[order], std[order], y[order])
    np.testing.assert_allclose(again.factor(elsewhere), factor, rtol=1e-5)
