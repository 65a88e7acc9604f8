"""Scalarizers: what each measures on spectra whose answer is known, and what holds for any spectrum."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autoexp.errors import PlanError
from autoexp.plan import Plan
from autoexp.scalarizers import (
    Edge,
    Function,
    PeakHeight,
    PeakPosition,
    PeakWidth,
    Ratio,
    Similarity,
    Window,
    parse_scalarizer,
    register_scalarizer,
)

ENERGY = np.linspace(0, 102.3, 1024)
LOW_EDGE = 400 + 0.5 * np.arange(1024)


def peak(centre, fwhm, height=1000.0):
    return height * np.exp(-4 * np.log(2) * ((ENERGY - centre) / fwhm) ** 2)


ALL = [
    Window(low_eV=10, high_eV=20),
    Edge(low_eV=50, high_eV=60, background_low_eV=20, background_high_eV=45),
    PeakHeight(low_eV=10, high_eV=20),
    PeakPosition(low_eV=10, high_eV=20),
    PeakWidth(low_eV=5, high_eV=25),
    Ratio(numerator=Window(low_eV=10, high_eV=20), denominator=Window(low_eV=30, high_eV=40)),
    Similarity(reference=tuple(peak(15, 3) + 1), offset_eV=0.0, scale_eV=0.1),
]


def test_window_sums_its_channels():
    spectra = np.stack([np.ones(1024), 2 * np.ones(1024)])
    np.testing.assert_allclose(Window(low_eV=10, high_eV=20).values(spectra, ENERGY), [100, 200])
    np.testing.assert_allclose(Window(low_eV=10.02, high_eV=20.07).values(spectra, ENERGY), [100.5, 201])
    np.testing.assert_allclose(Window(low_eV=10.01, high_eV=10.02).values(spectra, ENERGY), [0.1, 0.2])


@given(st.floats(12, 18), st.floats(1.0, 3.0), st.floats(100, 1e6))
def test_peaks_are_measured_to_a_fraction_of_a_channel(centre, fwhm, height):
    spectrum = peak(centre, fwhm, height)[None]
    assert PeakPosition(low_eV=5, high_eV=25).values(spectrum, ENERGY)[0] == pytest.approx(centre, abs=0.02)
    # the smoothing by one channel adds to the width in squares, and keeps the area
    widened = np.hypot(fwhm, 2.3548 * 0.1)
    top = PeakHeight(low_eV=5, high_eV=25).values(spectrum, ENERGY)[0]
    assert top == pytest.approx(height * fwhm / widened, rel=0.01)
    assert PeakWidth(low_eV=5, high_eV=25).values(spectrum, ENERGY)[0] == pytest.approx(widened, abs=0.03)


@given(st.floats(1.5, 4.5), st.floats(1e3, 1e6), st.floats(0, 5e4))
def test_edge_takes_the_power_law_away(r, amplitude, signal):
    background = amplitude * (LOW_EDGE / 400) ** -r
    step = signal * ((LOW_EDGE >= 532) & (LOW_EDGE < 560)) / 56
    step_eV = LOW_EDGE[1] - LOW_EDGE[0]
    edge = Edge(low_eV=532 - step_eV / 2, high_eV=560 - step_eV / 2, background_low_eV=440, background_high_eV=520)
    value = edge.values((background + step)[None], LOW_EDGE)[0]
    assert value == pytest.approx(signal, abs=2e-3 * background[264:320].sum() + 1e-6)


def test_ratio_and_similarity():
    spectrum = (peak(15, 3) + 3 * peak(35, 3))[None]
    ratio = Ratio(numerator=Window(low_eV=30, high_eV=40), denominator=Window(low_eV=10, high_eV=20))
    assert ratio.values(spectrum, ENERGY)[0] == pytest.approx(3, rel=1e-3)
    target = Similarity(reference=tuple(peak(15, 3)), offset_eV=0.0, scale_eV=0.1)
    like, unlike = target.values(np.stack([7 * peak(15, 3), peak(60, 3)]), ENERGY)
    assert like == pytest.approx(1)
    assert unlike < 1e-6


@pytest.mark.parametrize("scalarizer", ALL, ids=lambda s: s.kind)
@given(spectra=hnp.arrays(np.float64, (3, 1024), elements=st.floats(0, 1e6)))
def test_any_spectrum_gives_finite_scores_that_depend_on_it_alone(scalarizer, spectra):
    scores = scalarizer.score(spectra, ENERGY, counts_per_electron=40)
    assert scores.value.shape == scores.std.shape == (3,)
    assert np.isfinite(scores.value).all()
    assert (scores.std >= 0).all()
    alone = scalarizer.score(spectra[1:2], ENERGY, counts_per_electron=40)
    np.testing.assert_allclose(alone.value, scores.value[1:2], rtol=1e-9, atol=1e-9 * spectra.max())
    np.testing.assert_allclose(alone.std, scores.std[1:2], rtol=1e-9, atol=1e-9 * spectra.max())


def test_the_noise_is_that_of_counting():
    rng = np.random.default_rng(0)
    mean = peak(15, 3, 400) + 50
    draws = 40 * rng.poisson(mean / 40 * np.ones((4000, 1)))
    window = Window(low_eV=10, high_eV=20)
    predicted = window.score(mean[None], ENERGY, counts_per_electron=40).std[0]
    assert predicted == pytest.approx(window.values(draws, ENERGY).std(), rel=0.35)


@pytest.mark.parametrize("scalarizer", ALL, ids=lambda s: s.kind)
def test_json_there_and_back(scalarizer):
    assert parse_scalarizer(scalarizer.model_dump_json()) == scalarizer
    assert Plan.from_json(Plan(scalarizer=scalarizer).to_json()).scalarizer == scalarizer
    assert scalarizer.describe()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "window", "low_eV": 3, "high_eV": 2}, "upward"),
        ({"kind": "window", "low_eV": float("nan"), "high_eV": 2}, "upward|finite"),
        ({"kind": "edge", "low_eV": 3, "high_eV": 9, "background_low_eV": 4, "background_high_eV": 5}, "before"),
        ({"kind": "nonsense"}, "nonsense"),
        ({"kind": "similarity", "reference": [0, 0], "offset_eV": 0, "scale_eV": 1}, "zero"),
        ("{", "cannot be used"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, says):
    with pytest.raises(PlanError, match=says):
        parse_scalarizer(wrong if isinstance(wrong, str) else json.loads(json.dumps(wrong)))


def test_windows_off_the_axis_are_refused():
    with pytest.raises(PlanError, match="no channel"):
        Window(low_eV=200, high_eV=300).check_axis(ENERGY)
    with pytest.raises(PlanError, match="four channels"):
        Edge(low_eV=50, high_eV=60, background_low_eV=40.0, background_high_eV=40.15).check_axis(ENERGY)
    with pytest.raises(PlanError, match="Only 17% of the window"):
        Window(low_eV=-5, high_eV=1).check_axis(ENERGY)
    Window(low_eV=-0.1, high_eV=1).check_axis(ENERGY)


def test_a_function_that_is_not_registered_is_refused_at_use_and_can_be_read():
    unknown = parse_scalarizer({"kind": "function", "name": "unheard of"})
    assert unknown.units == ""
    for use in (unknown.require, lambda: unknown.values(np.ones((1, 1024)), ENERGY)):
        with pytest.raises(PlanError, match="unheard of"):
            use()


def test_a_function_of_ones_own():
    register_scalarizer("total", lambda spectra, energy: spectra.sum(axis=1), units="counts")
    total = Function(name="total")
    np.testing.assert_allclose(total.values(np.ones((2, 1024)), ENERGY), [1024, 1024])
    assert total.units == "counts"
    register_scalarizer("wrong", lambda spectra, energy: 1.0)
    with pytest.raises(PlanError, match="one value for each"):
        Function(name="wrong").values(np.ones((2, 1024)), ENERGY)
