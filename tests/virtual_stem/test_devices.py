"""The devices through Swift's own hardware layer, without a window."""

from __future__ import annotations

import contextlib
import math
import threading
import time

import numpy as np
import pytest
from nion.instrumentation import Acquisition, camera_base
from nion.utils import Geometry, Registry
from plain_specimens import Slope

from autoexp.swift.headless import swift_session
from virtual_stem.detector import AnnularDetector, ScintillatorCamera, electrons
from virtual_stem.devices import EELS_ID, INSTRUMENT_ID, RONCHIGRAM_ID, SCAN_ID, VirtualSTEM
from virtual_stem.devices.scan import frame_of
from virtual_stem.faults import DeviceError
from virtual_stem.microscope import VirtualMicroscope

TRUE = {
    "eels": ScintillatorCamera(read_noise_counts=0.0, spread_channels=0.0, full_well_counts=np.inf),
    "haadf": AnnularDetector(noise_counts=0.0),
    "settle_s": 0.0,
    "probe_nm": 0.01,
}


class Bench:
    """The devices of one session, and short ways to use them as Swift does."""

    def __init__(self, devices):
        self.devices = devices
        self.microscope = devices.microscope
        self.stem = Registry.get_component("stem_controller")
        self.scan, self.camera = devices.instrument.scan_controller, devices.instrument.eels_camera

    def parameters(self, pixels=(24, 24), fov_nm=90.0, center=(0.0, 0.0), rotation=0.0, dwell_us=50.0):
        parameters = self.scan.get_frame_parameters(0)
        parameters.pixel_size = Geometry.IntSize(*pixels)
        parameters.fov_nm = fov_nm
        parameters.center_nm = Geometry.FloatPoint(*center)
        parameters.rotation_rad = rotation
        parameters.pixel_time_us = dwell_us
        return parameters

    def frame(self, **changes):
        parameters = self.parameters(**changes)
        self.scan.set_current_frame_parameters(parameters)
        return self.scan.record_immediate(parameters)[0]

    def spectrum(self, y, x, exposure_ms=5.0, binning=1):
        self.stem.set_probe_position(Geometry.FloatPoint(y, x))
        parameters = self.camera.get_frame_parameters(0)
        parameters.exposure_ms, parameters.binning, parameters.processing = exposure_ms, binning, "sum_project"
        stream = camera_base.make_sequence_data_stream(self.camera, parameters, 1)
        self.stream = stream
        framer = Acquisition.Framer(Acquisition.DataAndMetadataDataChannel())
        stream.attach_root_data_handler(Acquisition.FramedDataHandler(framer))
        errors = []
        Acquisition.acquire(stream, error_handler=errors.append)
        if errors:
            raise errors[0]
        return None if stream.is_aborted else framer.get_data(stream.channels[0])


@contextlib.contextmanager
def bench(specimen=None, exposure_s=0.005, **settings):
    threads = set(threading.enumerate())
    devices = VirtualSTEM(VirtualMicroscope(specimen or Slope(), **settings), exposure_s=exposure_s)
    with swift_session(devices):
        yield Bench(devices)
    assert set(threading.enumerate()) <= threads


class TestRegistration:
    TYPES = (
        "stem_controller",
        "instrument_controller",
        "scan_module",
        "camera_module",
        "hardware_source",
        "scan_hardware_source",
        "camera_hardware_source",
        f"{EELS_ID}_device",
        f"{RONCHIGRAM_ID}_device",
    )

    def test_everything_is_there_and_bound_and_nothing_is_left(self):
        with bench() as b:
            assert b.stem.instrument_id == INSTRUMENT_ID
            assert b.stem.priority == 30
            assert b.stem.scan_controller.hardware_source_id == SCAN_ID
            assert b.stem.eels_camera.hardware_source_id == EELS_ID
            assert b.stem.ronchigram_camera.hardware_source_id == RONCHIGRAM_ID
            for source in Registry.get_components_by_type("hardware_source"):
                assert source.priority == 30
                assert "SIMULATED" in source.display_name
        assert not [t for t in self.TYPES if Registry.get_components_by_type(t)]

    def test_beside_nions_simulator_it_wins_and_keeps_its_own_devices(self):
        pytest.importorskip("nion.usim_device")
        from nion.usim_device import DeviceConfiguration

        with bench() as b:
            other = DeviceConfiguration.AcquisitionContextConfiguration(set_configuration_location=False)
            other.run()
            try:
                assert len(Registry.get_components_by_type("stem_controller")) == 2
                assert Registry.get_component("stem_controller") is b.devices.instrument
                assert b.devices.instrument.scan_controller.hardware_source_id == SCAN_ID
                assert b.devices.instrument.eels_camera.hardware_source_id == EELS_ID
                assert b.devices.instrument.ronchigram_camera.hardware_source_id == RONCHIGRAM_ID
                b.frame()
                assert b.spectrum(0.5, 0.5).data_shape == (1, 64)
            finally:
                ours = {id(m) for m in b.devices._modules}
                for module in Registry.get_components_by_type("camera_module"):
                    if id(module) not in ours:
                        Registry.unregister_component(module, {"camera_module"})
                Registry.unregister_component(other.scan_module, {"scan_module"})
                Registry.unregister_component(other.instrument, {"instrument_controller", "stem_controller"})

    def test_devices_that_were_never_registered_can_be_given_up(self):
        threads = set(threading.enumerate())
        VirtualSTEM(VirtualMicroscope(Slope())).unregister()
        assert set(threading.enumerate()) <= threads
        assert not [t for t in self.TYPES if Registry.get_components_by_type(t)]

    def test_two_at_a_time_are_refused_and_leave_no_thread(self):
        with bench():
            threads = set(threading.enumerate())
            with pytest.raises(RuntimeError, match="already registered"):
                VirtualSTEM(VirtualMicroscope(Slope()))
            assert set(threading.enumerate()) <= threads


class TestFrames:
    def test_calibrations_and_metadata(self):
        with bench() as b:
            image = b.frame(pixels=(32, 32), fov_nm=64.0, center=(3.0, -5.0))
            assert [(c.scale, c.units) for c in image.dimensional_calibrations] == [(2.0, "nm"), (2.0, "nm")]
            assert image.metadata["instrument"]["simulated"] is True
            spectrum = b.spectrum(0.5, 0.5)
            energy = spectrum.dimensional_calibrations[-1]
            assert (energy.offset, energy.scale, energy.units) == (0.0, 0.5, "eV")
            assert spectrum.intensity_calibration.units == "counts"
            assert spectrum.metadata["instrument"]["simulated"] is True
            assert spectrum.metadata["hardware_source"]["counts_per_electron"] == 40
            assert spectrum.metadata["hardware_source"]["exposure"] == pytest.approx(0.005)

    @pytest.mark.parametrize("binning", [1, 2, 4, 8])
    def test_binning(self, binning):
        with bench(**TRUE) as b:
            b.frame()
            spectrum = b.spectrum(0.5, 0.5, binning=binning)
            assert spectrum.data_shape == (1, 64 // binning)
            assert spectrum.dimensional_calibrations[-1].scale == 0.5 * binning
            truth = b.microscope.expected_counts([0.0, 0.0], 0.005).sum()
            assert spectrum.data.sum() == pytest.approx(truth, rel=0.02)

    def test_a_tared_spectrometer_moves_the_calibration(self):
        with bench() as b:
            b.frame()
            assert b.stem.SetVal("ZLPtare", 12.5)
            assert b.spectrum(0.5, 0.5).dimensional_calibrations[-1].offset == 12.5
            assert b.stem.energy_offset_eV == 12.5
            b.stem.energy_offset_eV = -3.0
            assert b.stem.GetVal("ZLPtare") == -3.0

    def test_the_bright_field_disk(self):
        with bench() as b:
            camera = b.devices.instrument.ronchigram_camera
            parameters = camera.get_frame_parameters(0)
            parameters.exposure_ms, parameters.binning = 5.0, 8
            camera.set_current_frame_parameters(parameters)
            camera.start_playing()
            frame = camera.get_next_xdatas_to_finish()[0]
            camera.abort_playing(sync_timeout=5)
            assert frame.data_shape == (256, 256)
            assert frame.dimensional_calibrations[0].units == "rad"
            assert frame.dimensional_calibrations[0].scale == pytest.approx(0.2 / 256)
            assert (frame.data > 0.5 * frame.data.max()).mean() == pytest.approx(math.pi * 0.15**2, rel=0.1)

    def test_unconnected_channels_show_noise_and_cost_no_dose(self):
        with bench() as b:
            b.frame()
            once = b.microscope.dose.total_electrons - b.microscope.stood_e
            for channel in (1, 2):
                b.scan.set_channel_enabled(channel, True)
            haadf, maadf, unconnected = b.scan.record_immediate(b.parameters())
            scanned = b.microscope.dose.total_electrons - b.microscope.stood_e
            assert scanned == pytest.approx(2 * once, rel=1e-3)
            assert maadf.data.mean() == pytest.approx(haadf.data.mean(), rel=0.05)
            assert not np.array_equal(haadf.data, maadf.data)
            assert abs(unconnected.data.mean()) < 1 < haadf.data.mean()


def height(spectra, exposure_s):
    """The landscape's height (...,) under measured spectra (..., 64) of plain specimens."""
    return spectra.data.sum(axis=-1) / (40 * 0.01 * 64 * 0.5 * electrons(50.0, exposure_s))


FIELDS = {
    "plain": {},
    "centred elsewhere": {"center": (30.0, -45.0)},
    "turned": {"rotation": 0.7},
    "turned elsewhere": {"center": (-40.0, 20.0), "rotation": -1.9},
    "wide": {"pixels": (12, 24), "center": (5.0, 8.0), "rotation": 0.4},
    "tall": {"pixels": (24, 12), "center": (5.0, 8.0), "rotation": 0.4},
}


def turned(offsets, angle):
    """Offsets (..., 2) turned as Swift turns them."""
    return offsets @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


class TestPlaces:
    """Scan images, subscans and parked probes agree on where things are."""

    @pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
    def test_a_parked_probe_meets_what_the_image_shows(self, field):
        with bench(**TRUE) as b:
            image = b.frame(**field).data
            rng = np.random.default_rng(0)
            for row, column in zip(rng.integers(0, image.shape[0], 8), rng.integers(0, image.shape[1], 8), strict=True):
                spectrum = b.spectrum((row + 0.5) / image.shape[0], (column + 0.5) / image.shape[1], 2.0)
                assert image[row, column] / electrons(50.0, 50e-6) == pytest.approx(height(spectrum, 0.002), rel=0.08)

    @pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
    @pytest.mark.parametrize("own", [0.0, 0.5])
    def test_a_subscan_shows_its_part_of_the_field(self, field, own):
        with bench(**TRUE) as b:
            b.frame(**field)
            parameters = b.parameters(**field)
            parameters.subscan_pixel_size = Geometry.IntSize(10, 10)
            parameters.subscan_fractional_size = Geometry.FloatSize(0.4, 0.3)
            parameters.subscan_fractional_center = Geometry.FloatPoint(0.3, 0.65)
            parameters.subscan_rotation = own
            image = b.scan.record_immediate(parameters)[0].data
            size = np.array(b.parameters(**field).pixel_size.as_tuple())
            sides = 90.0 * size / size.max()
            y, x = ((np.arange(10) + 0.5) / 10 - 0.5 for _ in range(2))
            offsets = np.stack(np.meshgrid(y * 0.4 * sides[0], x * 0.3 * sides[1], indexing="ij"), axis=-1)
            context = turned(offsets, -own) + (np.array([0.3, 0.65]) - 0.5) * sides
            stage = turned(context, field.get("rotation", 0.0)) + field.get("center", (0.0, 0.0))
            assert image / electrons(50.0, 50e-6) == pytest.approx(Slope().haadf(stage), rel=0.08)

    @pytest.mark.parametrize("field", [FIELDS["plain"], FIELDS["turned elsewhere"], FIELDS["wide"]])
    def test_a_spectrum_image_lies_on_the_scan_image(self, field):
        with bench(**TRUE) as b:
            small = {**field, "pixels": tuple(n // 2 for n in field.get("pixels", (24, 24)))}
            b.frame(**small)
            parameters, camera = b.parameters(**small), b.camera.get_frame_parameters(0)
            camera.exposure_ms, camera.binning, camera.processing = 2.0, 8, "sum_project"
            images, cubes = b.scan.grab_synchronized(
                scan_frame_parameters=parameters, camera=b.camera, camera_frame_parameters=camera
            )[:2]
            geometry, shape = frame_of(parameters)
            heights = Slope().haadf(geometry.pixel_centres(shape))
            assert height(cubes[0], 0.002) == pytest.approx(heights, rel=0.02)
            assert images[0].data.shape == heights.shape

    def test_while_scanning_the_camera_sees_the_field_and_not_the_probe(self):
        with bench(**TRUE) as b:
            parameters = b.parameters(pixels=(64, 64), dwell_us=10.0)
            b.scan.set_current_frame_parameters(parameters)
            b.stem.set_probe_position(Geometry.FloatPoint(0.0, 0.0))
            b.scan.start_playing(sync_timeout=5)
            seen = [height(b.spectrum(0.0, 0.0, 40.0), 0.04) for _ in range(3)]
            b.scan.abort_playing(sync_timeout=5)
            field = Slope().haadf(np.random.default_rng(0).uniform(-45, 45, (2000, 2))).mean()
            assert np.mean(seen) == pytest.approx(field, rel=0.15)


class TestTime:
    def test_exposures_and_scans_run_by_the_time_scale_and_say_what_they_nominally_take(self):
        with bench(time_scale=10) as b:
            b.frame()  # once before the clock starts
            start = time.perf_counter()
            image = b.frame(pixels=(256, 256), dwell_us=60.0)
            scanning = time.perf_counter() - start
            assert image.metadata["scan"]["scan_device_properties"]["pixel_time_us"] == 60.0
            assert "nominal_pixel_time_us" not in image.metadata["scan"]["scan_device_properties"]
            assert b.scan.scan_device.current_frame_parameters.pixel_time_us == 60.0
            assert 0.39 < scanning < 3.5  # 3.9 s of dwell
            start = time.perf_counter()
            spectrum = b.spectrum(0.5, 0.5, exposure_ms=2000.0)
            assert 0.2 <= time.perf_counter() - start < 1.8  # of 2 s
            assert spectrum.metadata["hardware_source"]["exposure"] == pytest.approx(2.0)
            truth = b.microscope.expected_counts([0.0, 0.0], 2.0).sum()
            assert spectrum.data.sum() == pytest.approx(truth, rel=0.01)

    def test_flyback_costs_time(self):
        with bench() as b:
            b.frame(pixels=(128, 16), dwell_us=2.0)
            start = time.perf_counter()
            parameters = b.parameters(pixels=(128, 16), dwell_us=2.0)
            parameters.flyback_time_us = 3000.0
            b.scan.record_immediate(parameters)
            assert time.perf_counter() - start > 0.35  # 4 ms of dwell, 384 ms of flyback


class TestCameraFaults:
    @pytest.fixture
    def b(self):
        with bench() as b:
            b.frame()
            b.spectrum(0.4, 0.5)
            yield b
            b.devices.eels_camera.faults.clear()
            assert b.spectrum(0.5, 0.5).data_shape == (1, 64)  # whatever it was, it has passed

    def test_raises(self, b):
        b.devices.eels_camera.faults.arm("raises")
        with pytest.raises(DeviceError, match="failed"):
            b.spectrum(0.5, 0.5)
        assert b.spectrum(0.5, 0.5).data.sum() > 0

    def test_disconnected_until_it_is_connected_again(self, b):
        b.devices.eels_camera.faults.arm("disconnected", times=None)
        for _ in range(2):
            with pytest.raises(DeviceError, match="disconnected"):
                b.spectrum(0.5, 0.5)

    def test_wrong_shape_is_delivered(self, b):
        b.devices.eels_camera.faults.arm("wrong_shape")
        assert b.spectrum(0.5, 0.5).data_shape == (1, 63)

    def test_nan(self, b):
        b.devices.eels_camera.faults.arm("nan")
        assert np.isnan(b.spectrum(0.5, 0.5).data).sum() == 1

    def test_saturated(self, b):
        b.devices.eels_camera.faults.arm("saturated")
        assert (b.spectrum(0.5, 0.5).data >= b.microscope.full_well_counts(256)).all()

    def test_dark(self, b):
        b.devices.eels_camera.faults.arm("dark")
        dark = b.spectrum(0.5, 0.5).data
        assert dark.std() == pytest.approx(3 * 16, rel=0.4)
        assert abs(dark.mean()) < 30

    def test_stale(self, b):
        before = b.spectrum(0.4, 0.5).data
        b.devices.eels_camera.faults.arm("stale")
        assert np.array_equal(b.spectrum(0.5, 0.5).data, before)
        assert not np.array_equal(b.spectrum(0.5, 0.5).data, before)

    def test_silent_until_somebody_gives_up(self, b):
        b.devices.eels_camera.faults.arm("silent")
        giving_up = threading.Timer(0.4, lambda: b.stream.abort_stream())
        giving_up.start()
        start = time.perf_counter()
        assert b.spectrum(0.5, 0.5) is None
        giving_up.join()
        assert 0.35 < time.perf_counter() - start < 30

    def test_the_turns_are_those_of_reads(self, b):
        b.devices.eels_camera.faults.arm("nan", times=2, after=1)
        bad = [bool(np.isnan(b.spectrum(0.5, 0.5).data).any()) for _ in range(4)]
        assert bad == [False, True, True, False]

    def test_live_frames_fail_too(self, b):
        camera = b.devices.eels_camera
        camera.start_live()
        try:
            camera.faults.arm("wrong_shape")
            camera.faults.arm("nan")
            camera.faults.arm("raises")
            assert camera.acquire_image()["data"].shape[-1] == camera.acquire_image()["data"].shape[-1] - 1
            with pytest.raises(DeviceError):
                camera.acquire_image()
            assert np.isfinite(camera.acquire_image()["data"]).all()
        finally:
            camera.stop_live()


class TestScanFaults:
    @pytest.fixture
    def b(self):
        with bench() as b:
            b.frame()
            yield b
            b.devices.scan.faults.clear()
            image = b.frame().data  # whatever it was, it has passed
            assert image.shape == (24, 24)
            assert np.isfinite(image).all()
            assert image.mean() > 100

    @pytest.mark.parametrize("kind", ["raises", "disconnected"])
    def test_it_raises_and_scans_again(self, b, kind, capsys):
        b.devices.scan.faults.arm(kind)
        device = b.devices.scan
        device.start_frame(False)
        with pytest.raises(DeviceError):
            device.read_partial(None, 0)
        assert not device.is_scanning
        b.devices.scan.faults.arm(kind)
        assert b.scan.record_immediate(b.parameters()) == []  # Swift prints the error and returns nothing
        assert "DeviceError" in capsys.readouterr().err

    def test_nan(self, b):
        b.devices.scan.faults.arm("nan")
        assert np.isnan(b.frame().data).sum() == 24

    def test_saturated(self, b):
        b.devices.scan.faults.arm("saturated")
        assert (b.frame().data == 65535).all()

    def test_dark(self, b):
        b.devices.scan.faults.arm("dark")
        assert abs(b.frame().data.mean()) < 1

    def test_stale(self, b):
        before = b.frame().data
        b.devices.scan.faults.arm("stale")
        assert np.array_equal(b.frame(center=(40.0, 0.0)).data, before)

    def test_wrong_shape_is_delivered(self, b):
        b.devices.scan.faults.arm("wrong_shape")
        assert b.frame().data.shape == (24, 23)

    def test_silent_until_somebody_gives_up(self, b):
        b.devices.scan.faults.arm("silent")
        giving_up = threading.Timer(0.4, b.scan.abort_recording)
        giving_up.start()
        start = time.perf_counter()
        b.scan.record_immediate(b.parameters())
        giving_up.join()
        assert 0.35 < time.perf_counter() - start < 30

    def test_live_scanning_goes_silent_in_between(self, b):
        b.scan.start_playing(sync_timeout=5)
        b.devices.scan.faults.arm("silent", after=1)
        time.sleep(0.4)
        start = time.perf_counter()
        b.scan.abort_playing(sync_timeout=5)
        assert time.perf_counter() - start < 4  # it would give up after 5


class TestControls:
    def test_a_stuck_control_accepts_and_stays(self):
        with bench() as b:
            b.devices.values.faults.arm("stuck")
            assert b.stem.SetVal("C10", 1e-6)
            assert b.stem.GetVal("C10") == 0
            assert b.stem.SetVal("C10", 1e-6)
            assert b.stem.GetVal("C10") == 1e-6

    def test_a_control_can_raise(self):
        with bench() as b:
            b.devices.values.faults.arm("disconnected")
            with pytest.raises(DeviceError, match="disconnected"):
                b.stem.SetVal("C10", 1e-6)
            assert b.stem.GetVal("C10") == 0

    def test_an_unknown_control_is_refused(self):
        with bench() as b:
            assert not b.stem.SetVal("nonsense", 1.0)
            assert b.stem.TryGetVal("nonsense") == (False, None)
            with pytest.raises(KeyError, match="nonsense"):
                b.stem.GetVal2D("nonsense")

    def test_a_control_can_be_watched(self):
        with bench() as b:
            offset, unknown = (b.stem.get_control_try_value_stream(n) for n in ("eels_x_offset", "nonsense"))
            assert offset.value.value == 0.0
            b.stem.SetVal("ZLPtare", 4.0)
            assert offset.value.value == 4.0
            assert not unknown.value.is_valid

    def test_two_dimensional_controls(self):
        with bench() as b:
            place = Geometry.FloatPoint(y=1e-8, x=-2e-8)
            assert b.stem.SetVal2D("stage_position_m", place)
            assert b.stem.stage_position_m == place
            assert b.microscope.origin_nm(0.0) == pytest.approx([10.0, -20.0])
