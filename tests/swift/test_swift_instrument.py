"""Swift's instrument as the package's protocols: through Swift's own acquisition framework, on the virtual STEM."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from helpers import until
from nion.utils import Geometry, Registry

from autoexp.engine import Engine
from autoexp.errors import (
    AbortedError,
    BadFrameError,
    DisconnectedError,
    FieldChangedError,
    FrameTimeoutError,
    InstrumentBusyError,
    InstrumentError,
    PlanError,
)
from autoexp.plan import Budget, GridAgent, OverviewSpec, PatchSpec, Plan, SpectrumSpec
from autoexp.swift.instrument import find_instrument
from autoexp.testing import check_instrument

OVERVIEW = OverviewSpec(fov_nm=400, pixels=64, dwell_us=1)
QUICK = SpectrumSpec(exposure_s=0.05)


def opened(instrument):
    instrument.open()
    instrument.overview(OVERVIEW)
    return instrument


def plan(**given):
    values = {
        "overview": OVERVIEW,
        "patches": PatchSpec(pixels=8, stride=8),
        "agent": GridAgent(),
        "budget": Budget(points=6),
        **given,
    }
    return Plan(**values)


def test_it_keeps_to_the_border(stem):
    check_instrument(stem[1], OVERVIEW, QUICK)


def test_what_it_says_of_itself(stem):
    _, instrument = stem
    assert instrument.identity.simulated
    assert instrument.beam_current_pA == pytest.approx(50.0)
    found = opened(instrument).overview(OVERVIEW)
    assert found.frame.fov_nm == pytest.approx((400, 400))
    spectrum = instrument.spectrum((0.5, 0.5), QUICK)
    assert spectrum.energy.units == "eV"
    assert spectrum.energy.scale == pytest.approx(0.01)
    assert spectrum.energy.offset == pytest.approx(-1)
    assert spectrum.counts_per_electron == 40
    assert spectrum.metadata["instrument"]["simulated"] is True
    instrument.close()


@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_positions_are_those_of_the_overview(make_stem, rotation):
    """Where the overview is bright, the spectrum shows a thick place: positions and pixels agree."""
    with make_stem() as (_stem, instrument):
        instrument.open()
        spec = OverviewSpec(fov_nm=400, pixels=128, dwell_us=20, center_nm=(30, -40), rotation_deg=rotation)
        image = instrument.overview(spec).image
        order = np.argsort(image.ravel())
        bright, dim = (
            [((i // 128 + 0.5) / 128, (i % 128 + 0.5) / 128) for i in chosen]
            for chosen in (order[-1500::250], order[:1500:250])
        )
        bulk = [instrument.spectrum(p, QUICK).counts[470:490].sum() for p in [*bright, *dim]]
        assert min(bulk[: len(bright)]) > 2 * max(bulk[len(bright) :])
        instrument.close()


def test_everything_is_put_back(stem):
    devices, instrument = stem
    controller = devices.instrument
    scan = controller.scan_controller
    controller.set_probe_position(Geometry.FloatPoint(0.3, 0.4))
    before = scan.get_current_frame_parameters().as_dict()
    scan.start_playing()
    until(lambda: scan.is_playing)
    opened(instrument)
    assert not scan.is_playing
    instrument.spectrum((0.1, 0.9), QUICK)
    assert instrument.close() == []
    assert instrument.close() == []
    assert controller.probe_position == Geometry.FloatPoint(0.3, 0.4)
    until(lambda: scan.is_playing)
    after = scan.get_current_frame_parameters().as_dict()
    assert {k: after.get(k) for k in before} == before
    scan.abort_playing(sync_timeout=5)


def test_abort_cuts_an_exposure_short(stem):
    _, instrument = stem
    opened(instrument)
    threading.Timer(0.2, instrument.abort).start()
    begun = time.monotonic()
    with pytest.raises(AbortedError):
        instrument.spectrum((0.5, 0.5), SpectrumSpec(exposure_s=100))
    assert time.monotonic() - begun < 5.0  # of 10
    instrument.close()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("raises", InstrumentError),
        ("disconnected", DisconnectedError),
        ("wrong_shape", BadFrameError),
        ("silent", FrameTimeoutError),
    ],
)
def test_faults_of_the_camera_have_names_and_pass(make_stem, fault, error):
    with make_stem() as (devices, instrument):
        instrument._grace_s = 0.5
        opened(instrument)
        devices.eels_camera.faults.arm(fault)
        with pytest.raises(error):
            instrument.spectrum((0.5, 0.5), QUICK)
        assert instrument.spectrum((0.5, 0.5), QUICK).counts.shape == (1024,)
        assert instrument.close() == []


def test_somebody_else_is_noticed(stem):
    devices, instrument = stem
    scan = devices.instrument.scan_controller
    opened(instrument)
    scan.start_playing()
    until(lambda: scan.is_playing)
    with pytest.raises(InstrumentBusyError, match="started by somebody else"):
        instrument.check()
    scan.abort_playing(sync_timeout=5)
    instrument.bind(OVERVIEW)
    instrument.check()
    parameters = scan.get_current_frame_parameters()
    parameters.fov_nm = 100
    scan.set_current_frame_parameters(parameters)
    with pytest.raises(FieldChangedError, match="100 nm"):
        instrument.check()
    instrument.bind(OVERVIEW)
    instrument.check()
    instrument.close()


def test_what_the_devices_do_not_have_is_refused(stem):
    _, instrument = stem
    opened(instrument)
    with pytest.raises(PlanError, match="binning 3"):
        instrument.check_plan(OverviewSpec(), SpectrumSpec(binning=3))
    with pytest.raises(PlanError, match="no channel 9"):
        instrument.check_plan(OverviewSpec(channel=9), SpectrumSpec())
    instrument.check_plan(OverviewSpec(channel=1), SpectrumSpec(binning=2))
    with pytest.raises(PlanError, match="binning 3"):
        instrument.spectrum((0.5, 0.5), SpectrumSpec(binning=3))
    with pytest.raises(PlanError, match="no channel 9"):
        instrument.overview(OverviewSpec(channel=9))
    with pytest.raises(InstrumentError, match="no control"):
        instrument.get("C99")
    with pytest.raises(InstrumentError, match="did not accept"):
        instrument.set("C99", 0.0)
    instrument.close()
    with pytest.raises(InstrumentError, match="no EELS camera nothing"):
        find_instrument(camera_id="nothing")


def test_without_an_instrument_one_is_told_what_to_do():
    assert Registry.get_component("stem_controller") is None
    with pytest.raises(InstrumentError, match="No STEM is registered"):
        find_instrument()


def test_a_whole_run_and_its_overhead(stem, tmp_path, locks):
    _, instrument = stem
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=50)
    state = engine.run()
    assert engine.error is None
    assert state.finished.ending == "completed"
    assert len(state.measured) == 6


def test_a_changed_field_pauses_the_run_and_setting_it_back_lets_it_go_on(stem, tmp_path, locks):
    devices, instrument = stem
    scan = devices.instrument.scan_controller
    engine = Engine(plan(budget=Budget(points=40)), instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.status.points >= 3)
    parameters = scan.get_current_frame_parameters()
    narrower = scan.get_current_frame_parameters()
    narrower.fov_nm = 50
    scan.set_current_frame_parameters(narrower)
    until(lambda: engine.status.phase == "paused")
    assert "50 nm" in engine.status.reason
    scan.set_current_frame_parameters(parameters)
    engine.resume()
    assert engine.join(60)
    assert engine.status.ending == "completed"
    # what was exposed while the field changed is not learned from
    assert len(engine.state.measured) + len(engine.state.failed) == 40
    assert len(engine.state.failed) <= 1


def test_a_device_that_goes_away_suspends_the_run(stem, tmp_path, locks):
    devices, instrument = stem
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks)
    devices.eels_camera.faults.arm("disconnected", after=2)
    engine.start()
    until(lambda: engine.status.phase == "suspended")
    assert "disconnected" in engine.status.reason
    engine.resume()
    assert engine.join(60)
    assert engine.status.ending == "completed"
    assert [p.fault for p in engine.state.failed] == ["disconnected"]


def test_set_back_brings_the_field_back_and_goes_on(stem, tmp_path, locks):
    devices, instrument = stem
    scan = devices.instrument.scan_controller
    engine = Engine(plan(budget=Budget(points=30)), instrument, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.status.points >= 3)
    turned = scan.get_current_frame_parameters()
    turned.rotation_rad = 0.5
    scan.set_current_frame_parameters(turned)
    until(lambda: engine.status.phase == "paused")
    assert "rotation 28.6" in engine.status.reason
    assert engine.status.remedy == "set-back"
    engine.set_back()
    assert engine.join(60)
    assert engine.status.ending == "completed"
    assert engine.status.remedy is None


def test_other_pixels_of_the_same_field_are_no_other_field(stem):
    devices, instrument = stem
    scan = devices.instrument.scan_controller
    opened(instrument)
    for pixels in (16, 33, 512):
        parameters = scan.get_current_frame_parameters()
        parameters.pixel_size = Geometry.IntSize(pixels, pixels)
        scan.set_current_frame_parameters(parameters)
        instrument.check()
    parameters.pixel_size = Geometry.IntSize(64, 128)
    scan.set_current_frame_parameters(parameters)
    with pytest.raises(FieldChangedError, match="height 200 nm instead of 400"):
        instrument.check()
    instrument.close()
