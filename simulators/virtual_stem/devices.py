"""The virtual microscope as devices of Nion Swift, on :mod:`nion.device_kit`; the one module here that imports nion.

Use :class:`VirtualSTEM` to build the devices and ``register()`` to hand them to Swift, with or without a window.
"""

from __future__ import annotations

import threading
import typing

import numpy as np
import numpy.typing as npt
from nion.data import Calibration, DataAndMetadata
from nion.device_kit import CameraDevice, InstrumentDevice, ScanDevice
from nion.instrumentation import camera_base, scan_base, stem_controller
from nion.utils import Geometry, Registry

from virtual_stem.faults import FaultHooks
from virtual_stem.microscope import ScanGeometry, VirtualMicroscope

INSTRUMENT_ID = "virtual_stem_controller"
SCAN_ID = "virtual_stem_scan"
EELS_ID = "virtual_stem_eels"
RONCHIGRAM_ID = "virtual_stem_ronchigram"
PRIORITY = 30  # below a real instrument (50), above Nion's own simulator (20)


def geometry_of(parameters: scan_base.ScanFrameParameters) -> ScanGeometry:
    """Where a scan lies, from Swift's frame parameters."""
    fov = parameters.fov_size_nm or Geometry.FloatSize(parameters.fov_nm, parameters.fov_nm)
    return ScanGeometry(
        (fov.height, fov.width), (parameters.center_nm.y, parameters.center_nm.x), parameters.rotation_rad
    )


class ValueManager(InstrumentDevice.ValueManagerLike):
    """The microscope's controls by name; an unknown name is refused, as on an instrument."""

    def __init__(self, microscope: VirtualMicroscope):
        self._microscope = microscope
        self.faults = FaultHooks()
        self.camera_scale: dict[str, float] = {}

    def get_value(self, name: str) -> float | None:
        axis = self._microscope.specimen.axis
        derived = {
            "ZLPoffset": self._microscope.energy_offset_eV,
            "EELS_MagneticShift_Offset": self._microscope.energy_offset_eV,
            "eels_x_offset": self._microscope.energy_offset_eV,
            "eels_x_scale": axis.dispersion_eV,
            "eels_y_offset": 0.0,
            "eels_y_scale": 1.0,
        }
        if name in derived:
            return derived[name]
        if name.startswith("ronchigram_"):
            scale = self._microscope.optics.camera_rad / 2048
            return {"scale": scale, "offset": -scale * 1024}.get(name[-len("scale") :].lstrip("_"))
        return self._microscope.controls.get(name)

    def set_value(self, name: str, value: float) -> bool:
        if name in ("ZLPoffset", "EELS_MagneticShift_Offset"):
            name, value = "ZLPtare", value - self._microscope.specimen.axis.offset_eV
        if name not in self._microscope.controls:
            return False
        self._microscope.controls[name] = self.faults.on_set_control(name, float(value))
        return True

    def inform_value(self, name: str, value: float) -> bool:
        return self.set_value(name, value)

    def get_value_2d(
        self,
        s: str,
        default_value: Geometry.FloatPoint | None = None,
        *,
        axis: stem_controller.AxisType | None = None,
    ) -> Geometry.FloatPoint:
        y, x = (self.get_value(f"{s}.{letter}") for letter in ("y", "x"))
        if y is not None and x is not None:
            return Geometry.FloatPoint(y=y, x=x)
        if default_value is None:
            raise KeyError(f"No 2D control named {s!r}.")
        return default_value

    def set_value_2d(
        self, s: str, value: Geometry.FloatPoint, *, axis: stem_controller.AxisType | None = None
    ) -> bool:
        return self.set_value(f"{s}.y", value.y) and self.set_value(f"{s}.x", value.x)

    def inform_control_2d(self, s: str, value: Geometry.FloatPoint, *, axis: stem_controller.AxisType) -> bool:
        return self.set_value_2d(s, value, axis=axis)

    def get_reference_setting_index(self, settings_control: str) -> int:
        return 0


class AxisDescription(stem_controller.AxisDescription):
    """One pair of axes; the virtual instrument has the screen's own only."""

    @property
    def axis_id(self) -> str:
        return "tv"

    @property
    def axis_type(self) -> tuple[str, str]:
        return "x", "y"

    @property
    def display_name(self) -> str:
        return "TV (x, y)"


class AxisManager(InstrumentDevice.AxisManagerLike):
    """The axes of two-dimensional controls."""

    @property
    def supported_axis_descriptions(self) -> typing.Sequence[stem_controller.AxisDescription]:
        return [AxisDescription()]

    def axis_transform_point(
        self,
        point: Geometry.FloatPoint,
        from_axis: stem_controller.AxisDescription,
        to_axis: stem_controller.AxisDescription,
    ) -> Geometry.FloatPoint:
        return point


class ScanBox(ScanDevice.ScanSimulatorLike):
    """The scan generator: it counts pixels, waits for the camera's clock when synchronised, and asks for frames."""

    flyback_pixels = 2

    def __init__(self, microscope: VirtualMicroscope):
        self._microscope = microscope
        self._blanker = threading.Condition()
        self._lock = threading.RLock()
        self._flat = 0
        self._line = 0
        self._flyback = 0
        self.scan_shape_pixels = Geometry.IntSize()
        self.pixel_size_nm = Geometry.FloatSize()
        self.external_clock = False

    @property
    def probe_position_pixels(self) -> Geometry.IntPoint:
        width = self.scan_shape_pixels.width
        return Geometry.IntPoint(y=self._flat // width, x=self._flat % width) if width else Geometry.IntPoint()

    @property
    def current_pixel_flat(self) -> int:
        return self._flat

    @property
    def blanker_signal_condition(self) -> threading.Condition:
        return self._blanker

    def reset_frame(self) -> None:
        with self._lock:
            self._flat = self._line = self._flyback = 0

    def _advance_pixel(self, n: int) -> None:
        with self._lock:
            line = (self._flat + n) // self.scan_shape_pixels.width
            if line > self._line:
                self._flyback, self._line = 0, line
                with self._blanker:
                    self._blanker.notify_all()
            wait = min(self.flyback_pixels - self._flyback, n)
            self._flyback += wait
            self._flat += n - wait

    def advance_pixel(self) -> None:
        if self.external_clock:
            self._advance_pixel(1)

    def generate_scan_data(
        self, instrument: InstrumentDevice.Instrument, scan_frame_parameters: ScanDevice.ScanFrameParameters
    ) -> npt.NDArray[np.float32]:
        shape = scan_frame_parameters.size.height, scan_frame_parameters.size.width
        dwell_s = scan_frame_parameters.pixel_time_us * 1e-6
        return self._microscope.scan(geometry_of(scan_frame_parameters), shape, dwell_s)


class CameraSimulator(CameraDevice.CameraSimulatorLike):
    """Base of the two cameras: what Swift asks of a camera's frame source."""

    def __init__(self, microscope: VirtualMicroscope, instrument: InstrumentDevice.Instrument, camera_type: str):
        self._microscope = microscope
        self._instrument = instrument
        self._sensor = Geometry.IntSize.make(instrument.camera_sensor_dimensions(camera_type))

    def close(self) -> None:
        """Nothing is held."""

    def _shape(self, area: Geometry.IntRect, binning: Geometry.IntSize) -> tuple[int, int]:
        return max(1, area.height // binning.height), max(1, area.width // binning.width)

    def _frame(
        self, data: npt.NDArray[np.float32], area: Geometry.IntRect, binning: Geometry.IntSize
    ) -> DataAndMetadata.DataAndMetadata:
        return DataAndMetadata.new_data_and_metadata(
            data,
            intensity_calibration=Calibration.Calibration(units="counts"),
            dimensional_calibrations=self.get_dimensional_calibrations(area, binning),
        )


class EELSCamera(CameraSimulator):
    """The spectrometer's camera."""

    def get_dimensional_calibrations(
        self, readout_area: Geometry.IntRect | None, binning_shape: Geometry.IntSize | None
    ) -> typing.Sequence[Calibration.Calibration]:
        binning = binning_shape.width if binning_shape else 1
        axis = self._microscope.specimen.axis
        scale = axis.dispersion_eV * axis.channels / self._sensor.width * binning
        return [Calibration.Calibration(), Calibration.Calibration(self._microscope.energy_offset_eV, scale, "eV")]

    def get_frame_data(
        self,
        readout_area: Geometry.IntRect,
        binning_shape: Geometry.IntSize,
        exposure_s: float,
        scan_context: stem_controller.ScanContext,
        probe_position: Geometry.FloatPoint | None,
    ) -> DataAndMetadata.DataAndMetadata:
        instrument = self._instrument
        position = probe_position or Geometry.FloatPoint(0.5, 0.5)
        if instrument.probe_state == "scanning":
            scan = instrument.scan_controller
            position = scan.scan_device.current_probe_position if scan else position
        fov = scan_context.fov_size_nm or Geometry.FloatSize(100, 100)
        center = scan_context.center_nm or Geometry.FloatPoint()
        geometry = ScanGeometry((fov.height, fov.width), (center.y, center.x), scan_context.rotation_rad or 0.0)
        stage = geometry.to_stage([position.y, position.x])
        shape = self._shape(readout_area, binning_shape)
        return self._frame(self._microscope.spectrum_frame(stage, exposure_s, shape), readout_area, binning_shape)


class RonchigramCamera(CameraSimulator):
    """The camera that sees the bright-field disk."""

    def get_dimensional_calibrations(
        self, readout_area: Geometry.IntRect | None, binning_shape: Geometry.IntSize | None
    ) -> typing.Sequence[Calibration.Calibration]:
        binning = binning_shape.width if binning_shape else 1
        scale = self._microscope.optics.camera_rad / self._sensor.width * binning
        offset = -self._microscope.optics.camera_rad / 2
        return [Calibration.Calibration(offset, scale, "rad"), Calibration.Calibration(offset, scale, "rad")]

    def get_frame_data(
        self,
        readout_area: Geometry.IntRect,
        binning_shape: Geometry.IntSize,
        exposure_s: float,
        scan_context: stem_controller.ScanContext,
        probe_position: Geometry.FloatPoint | None,
    ) -> DataAndMetadata.DataAndMetadata:
        shape = self._shape(readout_area, binning_shape)
        return self._frame(self._microscope.disk_frame(exposure_s, shape), readout_area, binning_shape)


class Camera(CameraDevice.Camera):
    """A camera whose clock runs with the microscope's, and into which a test can inject faults."""

    def __init__(self, camera_id: str, camera_type: str, name: str, simulator: CameraSimulator, stem: VirtualSTEM):
        self._time_scale = stem.microscope.time_scale
        self.faults = FaultHooks()
        super().__init__(camera_id, camera_type, name, TimedSimulator(simulator, self), stem.instrument)

    @property
    def time_scale(self) -> float:
        """Simulated seconds per second."""
        return self._time_scale

    def _scaled(self, parameters: camera_base.CameraFrameParameters) -> camera_base.CameraFrameParameters:
        scaled = camera_base.CameraFrameParameters(parameters.as_dict())
        scaled.exposure_ms = parameters.exposure_ms / self._time_scale
        return scaled

    def set_frame_parameters(self, frame_parameters: camera_base.CameraFrameParameters) -> None:
        super().set_frame_parameters(self._scaled(frame_parameters))

    def acquire_sequence_begin(
        self, camera_frame_parameters: camera_base.CameraFrameParameters, count: int, **kwargs: typing.Any
    ) -> camera_base.PartialData:
        return super().acquire_sequence_begin(self._scaled(camera_frame_parameters), count, **kwargs)

    def acquire_sequence_continue(self, *, update_period: float = 1.0, **kwargs: typing.Any) -> camera_base.PartialData:
        partial = super().acquire_sequence_continue(update_period=update_period, **kwargs)
        return self.faults.on_camera_data(partial)

    def acquire_sequence_cancel(self) -> None:
        self.faults.cancelled.set()
        super().acquire_sequence_cancel()

    def acquire_synchronized_begin(
        self,
        camera_frame_parameters: camera_base.CameraFrameParameters,
        collection_shape: DataAndMetadata.ShapeType,
        **kwargs: typing.Any,
    ) -> camera_base.PartialData:
        return super().acquire_synchronized_begin(self._scaled(camera_frame_parameters), collection_shape, **kwargs)


class TimedSimulator:
    """Hands a camera's frame requests on with simulated exposure times, after the faults had their say."""

    def __init__(self, simulator: CameraSimulator, camera: Camera):
        self._simulator = simulator
        self._camera = camera

    def close(self) -> None:
        self._simulator.close()

    def get_dimensional_calibrations(
        self, readout_area: Geometry.IntRect | None, binning_shape: Geometry.IntSize | None
    ) -> typing.Sequence[Calibration.Calibration]:
        return self._simulator.get_dimensional_calibrations(readout_area, binning_shape)

    def get_frame_data(
        self,
        readout_area: Geometry.IntRect,
        binning_shape: Geometry.IntSize,
        exposure_s: float,
        scan_context: stem_controller.ScanContext,
        probe_position: Geometry.FloatPoint | None,
    ) -> DataAndMetadata.DataAndMetadata:
        exposure_s *= self._camera.time_scale
        return self._simulator.get_frame_data(readout_area, binning_shape, exposure_s, scan_context, probe_position)


class ScanModule(scan_base.ScanModule):
    """The scan unit with its three profiles."""

    def __init__(self, instrument: InstrumentDevice.Instrument, scan_box: ScanBox, size_nm: float):
        self.stem_controller_id = instrument.instrument_id
        self.device = ScanDevice.Device(SCAN_ID, "Scan (SIMULATED)", instrument, scan_box)
        self.device.priority = PRIORITY
        self.priority = PRIORITY
        sizes = (("Fast", 256, 0.25), ("Slow", 512, 0.5), ("Record", 1024, 0.5))
        modes = [
            scan_base.ScanSettingsMode(
                name,
                name.lower(),
                ScanDevice.ScanFrameParameters(pixel_size=(n, n), pixel_time_us=1, fov_nm=round(size_nm * part)),
            )
            for name, n, part in sizes
        ]
        self.settings = scan_base.ScanSettings(SCAN_ID, modes, ScanDevice.ScanFrameParameters, 0, 2)


class Instrument(InstrumentDevice.Instrument):
    """The virtual STEM; says in its metadata that it is one."""

    def get_autostem_properties(self) -> typing.Mapping[str, typing.Any]:
        return {**super().get_autostem_properties(), "simulated": True}


class VirtualSTEM:
    """The devices of one virtual microscope.

    Args:
        microscope: the physics.
        exposure_s: exposure of the cameras' first profile.
    """

    def __init__(self, microscope: VirtualMicroscope, *, exposure_s: float = 0.05):
        self.microscope = microscope
        self.values = ValueManager(microscope)
        self.instrument = Instrument(INSTRUMENT_ID, self.values, AxisManager())
        self.instrument.priority = PRIORITY
        self.scan_module = ScanModule(self.instrument, ScanBox(microscope), microscope.specimen.size_nm)
        eels = EELSCamera(microscope, self.instrument, "eels")
        ronchigram = RonchigramCamera(microscope, self.instrument, "ronchigram")
        self.eels_camera = Camera(EELS_ID, "eels", "EELS camera (SIMULATED)", eels, self)
        self.eels_settings = CameraDevice.CameraSettings(EELS_ID, exposure_s)
        self.ronchigram_camera = Camera(RONCHIGRAM_ID, "ronchigram", "Ronchigram camera (SIMULATED)", ronchigram, self)
        self.ronchigram_settings = CameraDevice.CameraSettings(RONCHIGRAM_ID, exposure_s)
        self._modules: list[CameraDevice.CameraModule] = []

    def register(self) -> None:
        """Hand the devices to Swift's registry and bind them to the instrument."""
        Registry.register_component(self.instrument, {"instrument_controller", "stem_controller"})
        cameras = (
            (self.eels_camera, self.eels_settings, "eels"),
            (self.ronchigram_camera, self.ronchigram_settings, "ronchigram"),
        )
        for camera, settings, panel in cameras:
            camera.camera_panel_type = panel
            module = CameraDevice.CameraModule(INSTRUMENT_ID, camera, settings)
            module.priority = PRIORITY
            Registry.register_component(module, {"camera_module"})
            self._modules.append(module)
        Registry.register_component(self.scan_module, {"scan_module"})
        self._bind()

    def _bind(self) -> None:
        sources = {
            source.hardware_source_id: source for source in Registry.get_components_by_type("hardware_source")
        }
        self.instrument.set_scan_controller(sources.get(SCAN_ID))
        self.instrument.set_eels_camera(sources.get(EELS_ID))
        self.instrument.set_ronchigram_camera(sources.get(RONCHIGRAM_ID))

    def unregister(self) -> None:
        """Take the devices out of the registry; the kit closes them."""
        self.instrument.set_scan_controller(None)
        self.instrument.set_eels_camera(None)
        self.instrument.set_ronchigram_camera(None)
        for module in self._modules:
            Registry.unregister_component(module, {"camera_module"})
        self._modules.clear()
        Registry.unregister_component(self.scan_module, {"scan_module"})
        Registry.unregister_component(self.instrument, {"instrument_controller", "stem_controller"})
