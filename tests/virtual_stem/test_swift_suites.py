"""Swift's own device suites, run against the virtual microscope: what Swift expects of a scan unit and a camera."""

from __future__ import annotations

import pathlib
import tempfile
import typing

import pytest
from nion.instrumentation.test import AcquisitionTestContext, CameraControl_test, ScanControl_test

from virtual_stem import devices
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens.plasmonic import PlasmonicParticles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Configuration:
    """The virtual microscope in the form in which Swift's test contexts take their devices.

    The suites expect a first scan profile of 100 nm, a quarter of this specimen, and short exposures.
    """

    instrument_id = devices.INSTRUMENT_ID
    ronchigram_camera_device_id = devices.RONCHIGRAM_ID
    eels_camera_device_id = devices.EELS_ID

    def __init__(self) -> None:
        self.configuration_location = pathlib.Path(tempfile.mkdtemp())
        microscope = VirtualMicroscope(PlasmonicParticles(seed=0, count=18, size_nm=400.0))
        self.stem = devices.VirtualSTEM(microscope, exposure_s=0.005)
        self.instrument = self.stem.instrument
        self.scan_module = self.stem.scan_module
        self.ronchigram_camera_device = self.stem.ronchigram_camera
        self.ronchigram_camera_settings = self.stem.ronchigram_settings
        self.eels_camera_device = self.stem.eels_camera
        self.eels_camera_settings = self.stem.eels_settings

    def run(self) -> None:
        self.stem.register()

    def stop(self) -> None:
        self.stem.unregister()


def virtual_context(**kwargs: typing.Any) -> AcquisitionTestContext.AcquisitionTestContext:
    return AcquisitionTestContext.AcquisitionTestContext(Configuration(), **kwargs)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some of Swift's contexts clear test_data in the current folder


class TestScanUnit(ScanControl_test.TestScanControlClass):
    def _test_context(self, *, is_eels: bool = False) -> AcquisitionTestContext.AcquisitionTestContext:
        return virtual_context(is_eels=is_eels)


class TestCameras(CameraControl_test.TestCameraControlClass):
    def _test_context(self, *, is_eels: bool = False) -> AcquisitionTestContext.AcquisitionTestContext:
        return virtual_context(is_eels=is_eels, camera_exposure=self.exposure)
