from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_specimens import Clock, Fading, Slope, quick
from scipy import ndimage

from virtual_stem.detector import AnnularDetector, ScintillatorCamera, electrons
from virtual_stem.geometry import ScanGeometry
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.optics import Optics
from virtual_stem.specimens.plasmonic import PlasmonicParticles
from virtual_stem.stage import Drift

FIELD = ScanGeometry((100.0, 80.0), (12.0, -9.0), 0.4)
QUIET = {
    "eels": ScintillatorCamera(
        counts_per_electron=1.0, read_noise_counts=0.0, spread_channels=0.0, full_well_counts=np.inf
    ),
    "haadf": AnnularDetector(noise_counts=0.0),
}


def microscope(specimen=None, **settings):
    return VirtualMicroscope(specimen or Slope(), **{"clock": Clock(), "settle_s": 0.0, **settings})


def total(frame):
    return float(frame.sum(dtype=float))


class TestScan:
    def test_counts_are_poisson_about_the_contrast(self):
        frames = [microscope(seed=s, **QUIET).scan(FIELD, (20, 16), 4e-6) for s in range(200)]
        expected = Slope().haadf(FIELD.pixel_centres((20, 16))) * electrons(50.0, 4e-6)
        stack = np.array(frames, dtype=float)
        assert np.mean((stack.mean(axis=0) - expected) ** 2 / (expected / 200)) == pytest.approx(1, abs=0.25)
        assert np.mean(stack.var(axis=0) / expected) == pytest.approx(1, abs=0.05)

    @quick
    @given(st.floats(1e-7, 1e-4), st.floats(1.0, 500.0))
    def test_signal_grows_with_dwell_and_current(self, dwell_s, current_pA):
        scope = microscope(**QUIET)
        scope.controls["BeamCurrent"] = current_pA * 1e-12
        expected = float(Slope().haadf(FIELD.pixel_centres((30, 30))).sum()) * electrons(current_pA, dwell_s)
        assert total(scope.scan(FIELD, (30, 30), dwell_s)) == pytest.approx(expected, abs=6 * np.sqrt(expected))

    def test_the_probe_blurs_what_is_finer_than_itself(self):
        fine = ScanGeometry((10.0, 10.0))
        noise = {"haadf": AnnularDetector(noise_counts=0.0)}

        class Grating(Slope):
            def haadf(self, points_nm):
                return 0.2 + 0.1 * np.sign(np.sin(points_nm[..., 1] * 2 * np.pi / 0.5))

        contrast = [
            microscope(Grating(), probe_nm=probe, **noise).scan(fine, (160, 160), 1e-3)[40:-40, 40:-40].std()
            for probe in (0.01, 0.5)
        ]
        assert contrast[1] < 0.1 * contrast[0]

    def test_the_specimen_takes_the_electrons_of_every_pixel(self):
        scope = microscope()
        scope.scan(FIELD, (64, 48), 4e-6)
        assert scope.dose.total_electrons == pytest.approx(64 * 48 * electrons(50.0, 4e-6), rel=1e-4)

    def test_a_further_detector_costs_no_dose(self):
        scope = microscope()
        scope.scan(FIELD, (64, 48), 4e-6, exposes=False)
        assert scope.dose.total_electrons == 0

    def test_the_same_seed_gives_the_same_frames_whatever_the_other_detectors_do(self):
        first, second = microscope(seed=4), microscope(seed=4)
        second.spectrum_frame([0, 0], 0.05, (16, 64))
        second.disk_frame(0.01, (64, 64))
        assert np.array_equal(first.scan(FIELD, (32, 32), 4e-6), second.scan(FIELD, (32, 32), 4e-6))
        assert not np.array_equal(microscope(seed=4).scan(FIELD, (32, 32), 4e-6), first.scan(FIELD, (32, 32), 4e-6))


class TestDrift:
    def shift(self, first, second):
        """How far (y, x) in pixels the second frame has to be moved back to lie on the first."""
        a, b = (frame - ndimage.gaussian_filter(frame, 20) for frame in (first, second))
        product = np.fft.ifft2(np.fft.fft2(b) * np.conj(np.fft.fft2(a))).real
        peak = np.array(np.unravel_index(product.argmax(), product.shape))
        return (peak + np.array(a.shape) // 2) % a.shape - np.array(a.shape) // 2

    @pytest.mark.parametrize(
        ("settings", "controls"),
        [
            ({"drift": Drift((0.5, -0.25))}, {}),
            ({}, {"stage_position_m.y": 10e-9, "stage_position_m.x": -5e-9}),
            ({}, {"BeamShift.y": -10e-9, "BeamShift.x": 5e-9}),
        ],
        ids=["drift", "stage", "beam shift"],
    )
    def test_positive_drift_and_stage_move_what_is_seen_down_and_right(self, settings, controls):
        clock = Clock()
        scope = microscope(PlasmonicParticles(seed=0, count=30, size_nm=500.0), clock=clock, **settings)
        field = ScanGeometry((256.0, 256.0))
        first = scope.scan(field, (256, 256), 1e-6)
        clock.now = 20.0
        scope.controls.update(controls)
        assert self.shift(first, scope.scan(field, (256, 256), 1e-6)) == pytest.approx([10, -5], abs=1)

    def test_spectra_follow_the_specimen(self):
        clock = Clock()
        scope = microscope(clock=clock, drift=Drift((0.2, 0.1)), **QUIET)
        clock.now = 100.0
        counts = total(scope.spectrum_frame([30.0, 40.0], 0.05, (16, 64)))
        there = Slope().haadf(np.array([30.0 - 20.0, 40.0 - 10.0]))
        assert counts == pytest.approx(there * 0.32 * electrons(50.0, 0.05), rel=0.005)

    def test_rows_are_taken_one_after_the_other(self):
        clock = Clock()
        scope = microscope(clock=clock, drift=Drift((0.0, 5.0)), **QUIET)
        upright = ScanGeometry((100.0, 100.0))
        frame = scope.scan(upright, (50, 50), 1e-3)
        points = upright.pixel_centres((50, 50))
        points[..., 1] -= 5.0 * np.arange(50)[:, None] * 0.05
        expected = Slope().haadf(points) * electrons(50.0, 1e-3)
        assert frame == pytest.approx(ndimage.gaussian_filter(expected, 0.25), rel=0.05)


class TestSpectra:
    def test_truth_is_the_mean_of_what_is_measured(self):
        scope = microscope(eels=ScintillatorCamera(spread_channels=1.0))
        place = np.array([8.0, -3.0])
        frames = [scope.spectrum_frame(place, 0.05, (16, 64)).sum(axis=0, dtype=float) for _ in range(200)]
        truth = scope.expected_counts(place, 0.05)[0]
        assert np.mean(frames, axis=0) == pytest.approx(truth, rel=0.01)
        assert np.sum(frames, axis=1).var() == pytest.approx(40 * truth.sum(), rel=0.3)

    @pytest.mark.parametrize("binning", [1, 2, 4, 8])
    def test_binning_keeps_the_counts(self, binning):
        frame = microscope(**QUIET).spectrum_frame([0, 0], 0.05, (256 // binning, 64 // binning))
        truth = microscope(**QUIET).expected_counts([0, 0], 0.05)
        assert frame.shape == (256 // binning, 64 // binning)
        assert total(frame) == pytest.approx(truth.sum(), rel=0.005)

    def test_a_part_of_the_camera_begins_at_its_first_channel(self):
        class Ramp(Slope):
            def spectra(self, points_nm, energy_eV, dose_e_nm2=None):
                return np.repeat(1e-3 * energy_eV[None], len(points_nm), axis=0)

        frame = microscope(Ramp(), **QUIET).spectrum_frame([0, 0], 5.0, (16, 8), binning=2, first_channel=40)
        whole = microscope(Ramp(), **QUIET).expected_counts([0, 0], 5.0)[0]
        assert frame.sum(axis=0) == pytest.approx(whole[40:56].reshape(8, 2).sum(axis=1), rel=0.02)

    def test_the_beam_lights_a_band_of_the_camera(self):
        frame = microscope().spectrum_frame([0, 0], 0.05, (256, 64))
        lit = frame.sum(axis=1) > 1000
        assert lit.sum() == 16
        assert np.flatnonzero(lit).mean() == pytest.approx(127.5)

    def test_energy_follows_the_tare(self):
        scope = microscope()
        scope.controls["ZLPtare"] = 3.0
        assert scope.energy_offset_eV == Slope.axis.offset_eV + 3.0

    @pytest.mark.parametrize("rows", [16, 256])
    def test_a_saturated_spectrum_reads_the_full_well(self, rows):
        scope = microscope(eels=ScintillatorCamera(full_well_counts=50.0, read_noise_counts=0.0))
        spectrum = scope.spectrum_frame([0, 0], 5.0, (rows, 64)).sum(axis=0)
        assert spectrum == pytest.approx(scope.full_well_counts(rows))

    def test_a_scanning_beam_gives_the_mean_and_costs_no_dose_of_its_own(self):
        scope = microscope(**QUIET)
        places = np.array([[-30.0, 0.0], [30.0, 20.0]])
        counts = total(scope.scanned_frame(places, 0.05, (16, 64)))
        assert counts == pytest.approx(scope.expected_counts(places, 0.05).sum(axis=1).mean(), rel=0.005)
        assert scope.dose.total_electrons == 0


class TestDose:
    def test_an_exposure_leaves_its_electrons_at_its_place(self):
        scope = microscope()
        scope.spectrum_frame([20.0, 30.0], 0.02, (16, 64))
        assert scope.dose.total_electrons == pytest.approx(electrons(50.0, 0.02), rel=1e-4)
        assert scope.dose.at(np.array([[20.0, 30.0], [26.0, 30.0]]))[1] == 0

    def test_the_specimen_fades_from_exposure_to_exposure_there_and_not_elsewhere(self):
        scope = microscope(Fading(), **QUIET)
        first, second, third = (total(scope.spectrum_frame([0, 0], 0.01, (16, 64))) for _ in range(3))
        assert second / first == pytest.approx(third / second, rel=0.05)
        assert second < 0.9 * first
        elsewhere = total(scope.spectrum_frame([0, 40], 0.01, (16, 64)))
        assert elsewhere == pytest.approx(
            total(microscope(Fading(), **QUIET).spectrum_frame([0, 40], 0.01, (16, 64))), rel=0.01
        )

    def test_a_scan_fades_the_whole_field(self):
        scope = microscope(Fading(), **QUIET)
        before = total(scope.spectrum_frame([10, 10], 1e-4, (16, 64)))
        scope.scan(ScanGeometry((100.0, 100.0)), (100, 100), 3e-3)
        assert total(scope.spectrum_frame([10, -10], 1e-4, (16, 64))) < 0.7 * before


class TestBeam:
    def test_a_blanked_beam_leaves_noise_alone_and_no_dose(self):
        scope = microscope()
        scope.controls["C_Blank"] = 1.0
        assert scope.beam_current_pA == 0
        assert scope.scan(FIELD, (64, 64), 1e-5).mean() == pytest.approx(0, abs=0.1)
        frame = scope.spectrum_frame([0, 0], 0.05, (256, 64))
        assert frame.std() == pytest.approx(3.0, rel=0.05)
        assert scope.disk_frame(0.05, (128, 128)).mean() == pytest.approx(0, abs=0.2)
        assert scope.dose.total_electrons == 0
        assert scope.expected_counts([0, 0], 0.05).sum() > 0

    def test_a_jump_takes_its_time(self):
        clock = Clock()
        scope = microscope(clock=clock, settle_s=0.1, **QUIET)
        low, high = np.array([0.0, -150.0]), np.array([0.0, 150.0])
        scope.park(low)
        clock.now = 1.0
        scope.park(high)
        hurried = total(scope.spectrum_frame(high, 0.05, (16, 64)))
        clock.now = 2.0
        settled = total(scope.spectrum_frame(high, 0.05, (16, 64)))
        at_low, at_high = scope.expected_counts([low, high], 0.05).sum(axis=1)
        assert settled == pytest.approx(at_high, rel=0.005)
        assert at_low < hurried < 0.99 * at_high

    def test_the_electrons_of_a_jump_lie_along_its_way(self):
        scope = microscope(settle_s=0.1)
        scope.park([0.0, -50.0])
        scope.spectrum_frame([0.0, 50.0], 0.05, (16, 64))
        assert scope.dose.total_electrons == pytest.approx(electrons(50.0, 0.05), rel=1e-4)
        assert scope.dose.at(np.array([[0.0, 50.0]])) == 0

    def test_a_scan_leaves_the_probe_at_its_end(self):
        scope = microscope(settle_s=0.1)
        scope.scan(ScanGeometry((100.0, 100.0)), (16, 16), 1e-6)
        assert scope.probe.at(0.0) == pytest.approx([50.0, 50.0])

    @quick
    @given(st.floats(0.1, 1000), st.floats(0, 100))
    def test_time_runs_by_its_scale(self, scale, wall):
        clock = Clock()
        scope = microscope(clock=clock, time_scale=scale)
        clock.now = wall
        assert scope.time_s == pytest.approx(scale * wall)

    def test_another_time_scale_takes_effect_from_then_on(self):
        clock = Clock()
        scope = microscope(clock=clock, time_scale=100)
        clock.now = 2.0
        scope.time_scale = 3
        clock.now = 4.0
        assert scope.time_s == pytest.approx(206)


class TestDisk:
    def centre(self, frame):
        weight = np.maximum(frame - 20, 0)
        line = (np.arange(len(frame)) + 0.5) / len(frame) - 0.5
        return np.array([weight.sum(axis=1) @ line, weight.sum(axis=0) @ line]) / weight.sum() * 0.2

    def test_deflectors_move_it_by_the_hidden_response(self):
        scope = microscope(seed=3)
        before = self.centre(scope.disk_frame(0.05, (256, 256)))
        scope.controls["CAperture.y"], scope.controls["CAperture.x"] = 0.01, -0.02
        after = self.centre(scope.disk_frame(0.05, (256, 256)))
        optics = Optics.hidden(3)
        assert before == pytest.approx(optics.misalignment_rad, abs=3e-4)
        assert after - before == pytest.approx(np.array(optics.deflector_to_rad) @ [0.01, -0.02], abs=4e-4)

    def test_its_counts_are_poisson(self):
        scope = microscope(optics=Optics(), eels=ScintillatorCamera(10.0, read_noise_counts=0.0))
        inside = scope.disk_frame(1e-3, (256, 256))[108:148, 108:148].astype(float)
        assert inside.var() / inside.mean() == pytest.approx(10.0, rel=0.1)
        assert total(scope.disk_frame(1e-3, (256, 256))) == pytest.approx(10 * electrons(50.0, 1e-3), rel=0.02)
