from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_specimens import quick

from virtual_stem.detector import AnnularDetector, ScintillatorCamera, binned, electrons


def test_a_picoampere_second_holds_six_million_electrons():
    assert electrons(1.0, 1.0) == pytest.approx(6.2415e6, rel=1e-4)


@quick
@given(
    mean=st.floats(2.0, 5e3),
    gain=st.floats(1.0, 100.0),
    spread=st.floats(0.0, 1.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_window_keeps_its_mean_and_its_poisson_variance(mean, gain, spread, seed):
    camera = ScintillatorCamera(gain, read_noise_counts=0.0, spread_channels=spread, full_well_counts=np.inf)
    rng = np.random.default_rng(seed)
    sums = camera.expose(np.full((1500, 64), mean), rng)[:, 8:56].sum(axis=1, dtype=float)
    expected = 48 * mean * gain
    assert sums.mean() == pytest.approx(expected, abs=6 * gain * np.sqrt(48 * mean / 1500))
    # A spread of at most 1.5 channels at the window's ends changes its variance by a few percent at most.
    assert sums.var() == pytest.approx(gain * expected, rel=0.22)


def test_light_spreads_after_the_shot_noise_so_neighbours_are_correlated():
    camera = ScintillatorCamera(40.0, read_noise_counts=0.0, spread_channels=0.8)
    counts = camera.expose(np.full((4000, 16), 100.0), np.random.default_rng(0))
    correlation = np.corrcoef(counts[:, 7], counts[:, 8])[0, 1]
    assert 0.4 < correlation < 0.8
    assert counts[:, 7].var() < 0.6 * 40.0**2 * 100.0


def test_read_noise_alone_where_nothing_arrives():
    counts = ScintillatorCamera(read_noise_counts=3.0).expose(np.zeros((100, 1000)), np.random.default_rng(0))
    assert counts.mean() == pytest.approx(0.0, abs=0.05)
    assert counts.std() == pytest.approx(3.0, rel=0.02)
    assert counts.dtype == np.float32


def test_binned_pixels_are_read_once():
    camera = ScintillatorCamera(read_noise_counts=3.0, spread_channels=0.0)
    counts = camera.expose(np.zeros((500, 800)), np.random.default_rng(0), binning=8)
    assert counts.shape == (500, 100)
    assert counts.std() == pytest.approx(3.0, rel=0.02)


def test_a_pixel_saturates():
    camera = ScintillatorCamera(40.0, full_well_counts=1000.0)
    counts = camera.expose(np.array([[1.0, 1.0, 1.0, 1e4, 1.0, 1.0, 1.0]]), np.random.default_rng(0))
    assert counts.max() == 1000.0
    assert counts[0, 0] < 1000.0


def test_the_spread_keeps_a_flat_spectrum_flat_to_its_ends():
    assert ScintillatorCamera(spread_channels=2.0).spread(np.full(50, 7.0)) == pytest.approx(7.0)


@quick
@given(n=st.integers(1, 40), binning=st.integers(1, 9))
def test_binning_sums_whole_bins(n, binning):
    values = np.arange(2.0 * n).reshape(2, n)
    out = binned(values, binning)
    assert out.shape == (2, n // binning)
    assert out.sum() == values[:, : n // binning * binning].sum()


def test_annular_detector_counts_electrons_and_has_an_amplifier():
    counts = AnnularDetector(2.0, 1.5).expose(np.full((300, 300), 20.0), np.random.default_rng(0))
    assert counts.mean() == pytest.approx(40.0, rel=0.01)
    assert counts.var() == pytest.approx(4 * 20 + 1.5**2, rel=0.03)
