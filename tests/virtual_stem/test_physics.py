"""Spectral shapes and the bright-field disk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_specimens import quick

from virtual_stem import eels
from virtual_stem.optics import Optics

ENERGY = np.arange(-100.0, 1000.0, 0.02)


@quick
@given(st.floats(5, 30), st.floats(0.5, 8))
def test_the_volume_loss_function_has_unit_area(plasmon_eV, fwhm_eV):
    energy = np.arange(0.0, 3000.0, 0.01)
    area = eels.bulk_plasmon(energy, plasmon_eV, fwhm_eV).sum() * 0.01
    assert area == pytest.approx(1, abs=0.01)


def test_the_zero_loss_peak_has_unit_area_and_its_width():
    peak = eels.zero_loss(ENERGY, 0.5)
    assert peak.sum() * 0.02 == pytest.approx(1, abs=0.01)
    above = ENERGY[peak > peak.max() / 2]
    assert above[-1] - above[0] == pytest.approx(0.5, abs=0.05)


def test_lines_have_their_heights_where_they_lie_apart():
    energy = np.arange(0.0, 200.0, 0.1)
    spectrum = eels.lines(energy, [50.0, 150.0], [1.0, 2.0], [3.0, 5.0])
    assert spectrum[[500, 1500]] == pytest.approx([3.0, 5.0], rel=0.01)


def test_a_power_law_passes_through_its_amplitude():
    assert eels.power_law(np.array([400.0, 800.0]), [2.0], [3.0], at_eV=400.0)[0] == pytest.approx([2.0, 0.25])


def test_an_edge_rises_at_its_onset():
    height = eels.edge(np.array([400.0, 456.0, 470.0, 900.0]), [456.0])[0]
    assert height[0] == pytest.approx(0, abs=1e-6)
    assert height[1] == pytest.approx(0.5)
    assert 0.8 < height[2] < 1
    assert height[3] < 0.2


@quick
@given(st.floats(0.0, 3.0))
def test_plural_scattering_keeps_all_electrons_and_follows_poisson(thickness):
    weights = eels.poisson_weights(np.array([thickness]), 30)[0]
    assert weights.sum() == pytest.approx(1)
    assert weights @ np.arange(31) == pytest.approx(thickness, abs=1e-6)


def test_each_event_moves_the_source_by_its_energy_and_keeps_its_area():
    energy = np.arange(0.0, 400.0, 0.1)
    source = np.exp(-0.5 * ((energy - 20) / 0.5) ** 2)[None]
    orders = eels.scattered(source, eels.bulk_plasmon(np.arange(0.0, 400.0, 0.1), 25.0, 2.0), 3, 0.1)
    assert orders.shape == (4, 1, len(energy))
    assert [energy[order[0].argmax()] for order in orders] == pytest.approx([20, 45, 70, 95], abs=0.5)
    assert orders.sum(axis=-1)[:, 0] == pytest.approx(np.full(4, source.sum()), rel=0.02)


@quick
@given(st.integers(0, 10_000))
def test_hidden_optics_are_invertible_and_of_moderate_gain(seed):
    gains = np.linalg.svd(np.array(Optics.hidden(seed).deflector_to_rad), compute_uv=False)
    assert (gains >= 0.8 - 1e-9).all()
    assert (gains <= 1.25 + 1e-9).all()


def test_hidden_optics_are_hidden():
    drawn = [np.array(Optics.hidden(seed).deflector_to_rad) for seed in range(20)]
    assert {float(np.sign(np.linalg.det(m))) for m in drawn} == {-1.0, 1.0}
    assert np.std([m[0, 0] for m in drawn]) > 0.3


@quick
@given(st.floats(-0.06, 0.06), st.floats(-0.06, 0.06), st.sampled_from([(128, 128), (256, 256)]))
def test_the_disk_holds_the_whole_beam_and_lies_at_its_centre(y, x, shape):
    optics = Optics()
    share = optics.disk(np.array([y, x]), shape)
    assert share.sum() == pytest.approx(1, rel=0.01)
    angles = ((np.arange(shape[0]) + 0.5) / shape[0] - 0.5) * optics.camera_rad
    centre = share.sum(axis=1) @ angles, share.sum(axis=0) @ angles
    assert np.array(centre) == pytest.approx([y, x], abs=0.02 * optics.disk_rad)
