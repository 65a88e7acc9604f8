"""Centring the disk through Swift's own cameras and controls."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from autoexp.cli import app
from autoexp.errors import AbortedError, InstrumentError, PlanError
from autoexp.guardian import Guardian
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import AlignmentSpec, FrameSpec
from autoexp.tasks.alignment import AlignmentTask

PAIR = ("CAperture.y", "CAperture.x")
LIMITS = SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15) for name in PAIR})


def test_frames_come_from_the_camera_of_the_disk_and_it_is_given_back_as_it_was(stem):
    devices, instrument = stem
    camera = devices.instrument.ronchigram_camera
    parameters = camera.get_current_frame_parameters()
    parameters.exposure_ms = 77.0
    camera.set_current_frame_parameters(parameters)
    instrument.open()
    frame = instrument.camera_frame(FrameSpec(exposure_s=0.02, binning=8))
    assert frame.image.shape == (256, 256)
    assert frame.mrad_per_px == pytest.approx(200 / 256)
    with pytest.raises(PlanError, match="no binning 3"):
        instrument.camera_frame(FrameSpec(binning=3))
    instrument.abort()
    with pytest.raises(AbortedError):
        instrument.camera_frame(FrameSpec())
    assert instrument.close() == []
    assert camera.get_current_frame_parameters().exposure_ms == 77.0


def test_another_camera_can_be_named_and_one_that_is_not_there_is_refused(stem):
    devices, instrument = stem
    with pytest.raises(InstrumentError, match="not been taken over"):
        instrument.camera_frame(FrameSpec())
    instrument.open()
    named = FrameSpec(exposure_s=0.02, binning=8, camera=devices.instrument.ronchigram_camera.hardware_source_id)
    assert instrument.camera_frame(named).image.shape == (256, 256)
    with pytest.raises(InstrumentError, match=r"no camera nowhere \(registered: .*eels"):
        instrument.camera_frame(FrameSpec(camera="nowhere"))
    assert instrument.close() == []


def test_a_camera_that_was_playing_plays_again(stem):
    devices, instrument = stem
    camera = devices.instrument.ronchigram_camera
    camera.start_playing()
    try:
        instrument.open()
        instrument.camera_frame(FrameSpec(exposure_s=0.02, binning=8))
        assert not camera.is_playing
        assert instrument.close() == []
        assert camera.is_playing
    finally:
        camera.abort_playing(sync_timeout=5)


def test_the_disk_is_centred_through_swift(stem):
    _, instrument = stem
    guardian = Guardian(instrument, LIMITS)
    guardian.open()
    try:
        for name, value in zip(PAIR, (0.03, -0.035), strict=True):
            guardian.move(name, value)
        task = AlignmentTask(guardian, AlignmentSpec(frame=FrameSpec(exposure_s=0.02, binning=8)))
        first = task.run()
        guardian.move(PAIR[0], guardian.value(PAIR[0]) - 0.04)
        second = task.run()
    finally:
        assert guardian.restore() == []
    assert first.success
    assert len(first.looks) <= 6
    assert second.success
    assert len(second.looks) <= 3


def test_the_command_aligns_the_virtual_microscope(tmp_path):
    options = ["--instrument", "virtual", "--seed", "3", "--times", "3", "--json", "--runs", str(tmp_path)]
    found = CliRunner().invoke(app, ["align", *options])
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert answer["success"]
    first, *later = answer["alignments"]
    assert first["frames"] <= 6
    assert np.mean([one["frames"] for one in later]) <= 3
    assert first["residual_px"] <= 1.0
    assert first["residual_mrad"] == pytest.approx(first["residual_px"] * 200 / 256, rel=1e-3)
    assert len(first["path"]) == first["frames"]
    assert len(list(tmp_path.glob("alignments/*/*/events.jsonl"))) == 1
    assert set(first["response"]) == {"rotation_deg", "px_per_unit", "mirrored", "confidence"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--instrument", "other"], "no instrument"),
        (["--controls", "C10"], "controls"),
        (["--controls", "C10,C12.x"], "do not list C10"),
        (["--binning", "3"], "no binning 3"),
        (["--tolerance", "-1"], "tolerance"),
        (["--instrument", "swift", "--times", "2"], "leave --times out"),
    ],
)
def test_what_cannot_be_done_is_refused(options, said, tmp_path):
    found = CliRunner().invoke(app, ["align", *options, "--runs", str(tmp_path)])
    assert found.exit_code == 2, found.output
    assert said in " ".join(found.output.split())
