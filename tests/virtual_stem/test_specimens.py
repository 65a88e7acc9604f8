"""What holds for every specimen, and what each of them promises."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.stats import rankdata, spearmanr

from autoexp.scalarizers import parse_scalarizer
from virtual_stem.geometry import ScanGeometry
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import SPECIMENS, make_specimen

made = functools.cache(make_specimen)


@pytest.fixture(params=sorted(SPECIMENS))
def specimen(request):
    return made(request.param)


def places(specimen, n):
    """Positions (n, 2) all over the specimen."""
    return np.random.default_rng(0).uniform(-0.45, 0.45, (n, 2)) * specimen.size_nm


def scores(specimen, points):
    """The goal's scalarizer on noise-free spectra in counts."""
    truth = VirtualMicroscope(specimen).expected_counts(points, specimen.view.exposure_s)
    return parse_scalarizer(specimen.goal.scalarizer).values(truth, specimen.axis.energy_eV)


class TestEvery:
    def test_it_says_what_it_is(self, specimen):
        assert specimen.name in SPECIMENS
        assert specimen.title
        assert specimen.goal.description
        assert 0 < specimen.view.fov_nm <= specimen.size_nm
        assert not specimen.recorded

    def test_its_goal_fits_its_axis(self, specimen):
        parse_scalarizer(specimen.goal.scalarizer).check_axis(specimen.axis.energy_eV)

    def test_spectra_are_shares_of_the_beam(self, specimen):
        spectra = specimen.spectra(places(specimen, 300), specimen.axis.energy_eV)
        assert spectra.shape == (300, specimen.axis.channels)
        assert np.isfinite(spectra).all()
        assert spectra.min() > -1e-9 * spectra.max()
        assert (spectra.sum(axis=1) * specimen.axis.dispersion_eV <= 1.2).all()

    def test_haadf_is_a_share_of_the_beam(self, specimen):
        image = specimen.haadf(places(specimen, 5000).reshape(50, 100, 2))
        assert image.shape == (50, 100)
        assert image.min() > 0
        assert image.max() < 1

    def test_one_spectrum_is_the_same_as_among_many(self, specimen):
        points = places(specimen, 20)
        together = specimen.spectra(points, specimen.axis.energy_eV)
        assert np.allclose(together[7:8], specimen.spectra(points[7:8], specimen.axis.energy_eV))

    def test_spectra_go_on_smoothly_in_position(self, specimen):
        points = places(specimen, 200)
        here, there = (specimen.spectra(points + step, specimen.axis.energy_eV) for step in (0.0, 0.01))
        assert np.abs(here - there).max() < 0.05 * here.max()

    def test_another_energy_axis_shows_the_same_spectrum(self, specimen):
        points, energy = places(specimen, 10), specimen.axis.energy_eV
        fine, coarse = specimen.spectra(points, energy), specimen.spectra(points, energy[100:900:2])
        assert np.median(np.abs(coarse / fine[:, 100:900:2] - 1)) < 0.05

    def test_it_follows_from_its_seed(self, specimen):
        points, energy = places(specimen, 50), specimen.axis.energy_eV
        again, other = (SPECIMENS[specimen.name](seed) for seed in (0, 1))
        assert np.array_equal(again.haadf(points), specimen.haadf(points))
        assert np.array_equal(again.spectra(points, energy), specimen.spectra(points, energy))
        assert not np.allclose(other.haadf(points), specimen.haadf(points))

    def test_places_beyond_its_border_are_harmless(self, specimen):
        spectra = specimen.spectra(np.array([[2.0, -3.0]]) * specimen.size_nm, specimen.axis.energy_eV)
        assert np.isfinite(spectra).all()


@functools.cache
def survey(name):
    """Random places in a specimen's view (n, 2): their scores, what is seen around them (n, k), their brightness.

    What is seen is smoothed brightness, slope and both curvatures of the noise-free HAADF, at three scales; on the
    crystal also the direction of the slope, modulo 60 degrees. Of the rare targets, too rare for a random sample, some
    places are added.
    """
    specimen = made(name)
    rng = np.random.default_rng(0)
    view = specimen.view
    points = rng.uniform(-view.fov_nm / 2, view.fov_nm / 2, (4000, 2))
    if name == "rare":
        points[:120] = np.repeat(specimen.targets_nm[:12], 10, axis=0) + rng.normal(0, 4, (120, 2))
    line = (np.arange(31) - 15) * view.fov_nm / view.pixels
    patches = specimen.haadf(points[:, None, None] + np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1))
    seen = []
    for scale in (1.0, 2.2, 4.5):
        smooth, dy, dx, dyy, dyx, dxx = (
            ndimage.gaussian_filter(patches, (0, scale, scale), order=(0, *order))[:, 15, 15]
            for order in ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
        )
        bend, slope, direction = np.hypot((dyy - dxx) / 2, dyx), np.hypot(dy, dx), np.arctan2(dx, dy)
        seen += [smooth, slope, (dyy + dxx) / 2 + bend, (dyy + dxx) / 2 - bend]
        if name == "flake":
            seen += [slope * np.cos(6 * direction), slope * np.sin(6 * direction)]
    return points, scores(specimen, points), np.stack(seen, axis=1), patches[:, 15, 15]


def guessed(points, values, seen):
    """Ranks (n,), 0..1, of places as guessed from the five places elsewhere that look most like them."""
    rank = rankdata(values) / len(values)
    looks = (seen - seen.mean(axis=0)) / seen.std(axis=0)
    _, alike = cKDTree(looks).query(looks, 60)
    elsewhere = np.linalg.norm(points[alike] - points[:, None], axis=-1) > np.ptp(points) / 25
    first = elsewhere & (np.cumsum(elsewhere, axis=1) <= 5)
    return (rank[alike] * first).sum(axis=1) / np.maximum(first.sum(axis=1), 1)


def hits(guess, values):
    """Share of the fiftieth guessed best that belongs to the best twentieth; 0.05 if the guess is blind."""
    n = len(values)
    return float(np.isin(np.argsort(guess)[-n // 50 :], np.argsort(values)[-n // 20 :]).mean())


@pytest.mark.parametrize("name", sorted(SPECIMENS))
class TestStructureNotBrightness:
    def test_brightness_and_score_are_moderately_related_at_most(self, name):
        _, values, _, brightness = survey(name)
        assert abs(spearmanr(brightness, values)[0]) < 0.6

    def test_the_brightest_places_are_not_the_best(self, name):
        _, values, _, brightness = survey(name)
        best, brightest = (np.argsort(a)[-200:] for a in (values, brightness))
        assert np.isin(brightest, best).mean() < 0.3

    def test_places_that_look_alike_score_alike_and_places_as_bright_do_not(self, name):
        points, values, seen, brightness = survey(name)
        by_structure = guessed(points, values, seen)
        by_brightness = guessed(points, values, brightness[:, None])
        assert spearmanr(by_structure, values)[0] > spearmanr(by_brightness, values)[0] + 0.15
        assert hits(by_structure, values) > 2 * hits(by_brightness, values)
        assert hits(by_structure, values) > 0.3


class TestCatalyst:
    def lines(self, points):
        """Energy of the Mn L3 line and its height over that of L2, of a spectrum without its background."""
        catalyst = made("catalyst")
        energy = catalyst.axis.energy_eV
        spectra = catalyst.spectra(points, energy)
        before, after = np.searchsorted(energy, (630.0, 690.0))
        slope = np.log(spectra[:, after] / spectra[:, before]) / np.log(energy[after] / energy[before])
        edge = spectra - spectra[:, [before]] * (energy / energy[before]) ** slope[:, None]
        l3, l2 = ((energy > low) & (energy < high) for low, high in ((636.0, 647.0), (648.0, 658.0)))
        return energy[l3][edge[:, l3].argmax(axis=1)], edge[:, l3].max(axis=1) / edge[:, l2].max(axis=1)

    def test_manganese_is_reduced_where_the_score_is_high(self):
        catalyst = made("catalyst")
        points = ScanGeometry((200.0, 200.0)).pixel_centres((120, 120)).reshape(-1, 2)
        order = np.argsort(scores(catalyst, points))
        (energy_4, ratio_4), (energy_2, ratio_2) = self.lines(points[order[:60]]), self.lines(points[order[-30:]])
        assert np.median(energy_4) == pytest.approx(642.8, abs=0.5)
        assert np.median(energy_2) == pytest.approx(640.2, abs=0.5)
        assert np.median(ratio_2) > 1.5 * np.median(ratio_4)

    def test_all_three_edges_rise_above_the_background_somewhere(self):
        catalyst = made("catalyst")
        energy = catalyst.axis.energy_eV
        spectra = catalyst.spectra(places(catalyst, 2000), energy)
        for low, high in ((450, 458.0), (526, 533.5), (636, 642.5)):
            before, peak = (np.abs(energy - e).argmin() for e in (low, high))
            assert (spectra[:, peak] > 1.2 * spectra[:, before]).mean() > 0.05

    def test_thick_places_show_plural_scattering(self):
        catalyst = made("catalyst")
        weights = catalyst.weights(places(catalyst, 2000), np.zeros(2000)).reshape(2000, 5, 5)
        once, many = weights[:, 0, 0], weights[:, 1:, 0].sum(axis=1)
        assert (many / once).max() > 0.5


class TestFlake:
    def test_it_bleaches_exponentially_with_dose(self):
        flake = made("flake")
        points = np.repeat(places(flake, 3000)[[scores(flake, places(flake, 3000)).argmax()]], 3, axis=0)
        doses = np.array([0.0, 1e7, 2e7])
        spectra = flake.spectra(points, flake.axis.energy_eV, doses)
        window = (flake.axis.energy_eV > 5.6) & (flake.axis.energy_eV < 7.4)
        fresh, once, twice = spectra[:, window].sum(axis=1)
        assert once < 0.6 * fresh
        assert twice < 0.6 * once

    def test_the_zero_loss_peak_stays(self):
        flake = made("flake")
        points = np.repeat(places(flake, 1), 2, axis=0)
        fresh, bleached = flake.spectra(points, flake.axis.energy_eV, np.array([0.0, 1e9])).max(axis=1)
        assert bleached == pytest.approx(fresh, rel=1e-3)

    def test_no_dose_means_a_fresh_specimen(self):
        flake = made("flake")
        points, energy = places(flake, 20), flake.axis.energy_eV
        assert np.array_equal(flake.spectra(points, energy), flake.spectra(points, energy, np.zeros(20)))


class TestRare:
    def test_the_field_is_large_and_full(self):
        rare = made("rare")
        assert rare.size_nm >= 3000
        assert len(rare.particles) > 3000

    def test_targets_are_rare_and_are_the_best(self):
        rare = made("rare")
        at_targets = scores(rare, rare.targets_nm)
        points = rare.size_nm * np.random.default_rng(3).uniform(-0.5, 0.5, (60_000, 2))
        values = np.concatenate([scores(rare, part) for part in np.array_split(points, 12)])
        good = values > at_targets.min() / 2
        assert good.mean() < 0.001
        distance, _ = cKDTree(rare.targets_nm).query(points[good])
        assert (distance < 40).all()

    def test_some_targets_lie_in_the_view(self):
        rare = made("rare")
        assert (np.abs(rare.targets_nm) < rare.view.fov_nm / 2).all(axis=1).sum() >= 3


def test_an_unknown_specimen_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"'gold'.*catalyst, flake, plasmonic, rare.*npz"):
        make_specimen("gold")
