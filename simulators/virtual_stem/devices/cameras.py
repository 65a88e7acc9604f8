"""The two cameras: what they see, how long that takes, and how they can fail."""

from __future__ import annotations

import abc
import threading
import typing

from nion.data import Calibration, DataAndMetadata
from nion.device_kit import CameraDevice, InstrumentDevice
from nion.instrumentation import camera_base, stem_controller
from nion.utils import Geometry, Registry

from virtual_stem.detector import Counts
from virtual_stem.devices.controls import field_of_context
from virtual_stem.devices.scan import ScanUnit, frame_of
from virtual_stem.faults import FRAME_FAULTS, DeviceError, Fault, Faults, Spoiler
from virtual_stem.microscope import VirtualMicroscope

POLL_S = 0.1
LIVE_SILENCE_S = 5.0

Calibrations = typing.Sequence[Calibration.Calibration]
DataElement = dict[str, typing.Any]


class Readout(typing.NamedTuple):
    """One frame that Swift asks for.

    Attributes:
        area: part of the sensor, pixels.
        binning: sensor pixels for each of the frame's.
        exposure_s: simulated time.
        scan_context: the field to which the probe's position refers.
        probe_position: where the probe is parked, if it is.
    """

    area: Geometry.IntRect
    binning: Geometry.IntSize
    exposure_s: float
    scan_context: stem_controller.ScanContext
    probe_position: Geometry.FloatPoint | None

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the frame."""
        return self.area.height // self.binning.height, self.area.width // self.binning.width


class FrameSource(CameraDevice.CameraSimulatorLike, abc.ABC):
    """Base of what the cameras see. Swift's camera keeps the time on the wall; exposures here are simulated ones.

    Attributes:
        spoil: what happens to a frame on its way; the camera sets it.
    """

    camera_type: str

    def __init__(self, microscope: VirtualMicroscope, instrument: InstrumentDevice.Instrument):
        self.microscope = microscope
        self.spoil: typing.Callable[[Counts], Counts] = lambda frame: frame
        self._instrument = instrument

    def close(self) -> None:
        """Nothing is held."""

    def get_frame_data(
        self,
        readout_area: Geometry.IntRect,
        binning_shape: Geometry.IntSize,
        exposure_s: float,
        scan_context: stem_controller.ScanContext,
        probe_position: Geometry.FloatPoint | None,
    ) -> DataAndMetadata.DataAndMetadata:
        simulated_s = exposure_s * self.microscope.time_scale
        data = self._frame(Readout(readout_area, binning_shape, simulated_s, scan_context, probe_position))
        return DataAndMetadata.new_data_and_metadata(
            self.spoil(data),
            intensity_calibration=Calibration.Calibration(units="counts"),
            dimensional_calibrations=self.get_dimensional_calibrations(readout_area, binning_shape),
        )

    @abc.abstractmethod
    def _frame(self, readout: Readout) -> Counts:
        """What is seen (h, w)."""


class EELSSource(FrameSource):
    """What the spectrometer's camera sees: the place where the probe is parked, or those over which it scans."""

    camera_type = "eels"

    def __init__(self, microscope: VirtualMicroscope, instrument: InstrumentDevice.Instrument, scan: ScanUnit):
        super().__init__(microscope, instrument)
        self._scan = scan

    def get_dimensional_calibrations(
        self, readout_area: Geometry.IntRect | None, binning_shape: Geometry.IntSize | None
    ) -> Calibrations:
        binning = binning_shape.width if binning_shape else 1
        scale = self.microscope.specimen.axis.dispersion_eV * binning
        return [Calibration.Calibration(), Calibration.Calibration(self.microscope.energy_offset_eV, scale, "eV")]

    def _frame(self, readout: Readout) -> Counts:
        shape, exposure_s = readout.shape, readout.exposure_s
        channels: dict[str, int] = {"binning": readout.binning.width, "first_channel": readout.area.left}
        if self._instrument.probe_state == "scanning":
            visited = self._scan.box.stage_positions(exposure_s)
            if visited is not None:
                return self.microscope.scanned_frame(visited, exposure_s, shape, **channels)
        field = field_of_context(readout.scan_context) or frame_of(self._scan.current_frame_parameters)[0]
        place = readout.probe_position or Geometry.FloatPoint(0.5, 0.5)
        return self.microscope.spectrum_frame(field.to_stage([place.y, place.x]), exposure_s, shape, **channels)


class RonchigramSource(FrameSource):
    """What the camera below the specimen sees: the bright-field disk."""

    camera_type = "ronchigram"

    def get_dimensional_calibrations(
        self, readout_area: Geometry.IntRect | None, binning_shape: Geometry.IntSize | None
    ) -> Calibrations:
        width = self.microscope.optics.camera_rad
        pixels = self._instrument.camera_sensor_dimensions(self.camera_type)[1]
        scale = width / pixels * (binning_shape.width if binning_shape else 1)
        return [Calibration.Calibration(-width / 2, scale, "rad") for _ in range(2)]

    def _frame(self, readout: Readout) -> Counts:
        return self.microscope.disk_frame(readout.exposure_s, readout.shape)


class Camera(CameraDevice.Camera):
    """A camera whose clock runs with the microscope's; each read takes its turn in the queue of faults."""

    camera_panel_type: str

    def __init__(self, camera_id: str, name: str, source: FrameSource, instrument: InstrumentDevice.Instrument):
        if Registry.get_component(f"{camera_id}_device") is not None:
            # Swift's camera finds that out only after it has started a thread, which then never ends.
            raise RuntimeError(f"{name} is already registered: there is one virtual microscope at a time.")
        self._microscope = source.microscope
        self.faults = Faults(name, FRAME_FAULTS)
        chain = source.microscope.eels
        self._spoiler = Spoiler(chain.full_well_counts, chain.read_noise_counts)
        self._live_spoiler = Spoiler(chain.full_well_counts, chain.read_noise_counts)
        source.spoil = lambda frame: self._spoiler.spoil(frame, self._fault)
        self._fault: Fault | None = None
        self._begun: typing.Any = None
        self._cancelled = threading.Event()
        self._closed = False
        super().__init__(camera_id, source.camera_type, name, source, instrument)

    def close(self) -> None:
        """End the camera's thread; a second time changes nothing."""
        if not self._closed:
            self._closed = True
            self._cancelled.set()
            super().close()

    # --- time

    def _paced(self, parameters: camera_base.CameraFrameParameters) -> camera_base.CameraFrameParameters:
        paced = camera_base.CameraFrameParameters(parameters.as_dict())
        paced.exposure_ms = parameters.exposure_ms / self._microscope.time_scale
        return paced

    def set_frame_parameters(self, frame_parameters: camera_base.CameraFrameParameters) -> None:
        super().set_frame_parameters(self._paced(frame_parameters))

    # --- sequences, alone and in step with the scan

    def acquire_sequence_begin(
        self, camera_frame_parameters: camera_base.CameraFrameParameters, count: int, **kwargs: typing.Any
    ) -> camera_base.PartialData:
        return self._begin(super().acquire_sequence_begin(self._paced(camera_frame_parameters), count, **kwargs))

    def acquire_synchronized_begin(
        self,
        camera_frame_parameters: camera_base.CameraFrameParameters,
        collection_shape: DataAndMetadata.ShapeType,
        **kwargs: typing.Any,
    ) -> camera_base.PartialData:
        paced = self._paced(camera_frame_parameters)
        return self._begin(super().acquire_synchronized_begin(paced, collection_shape, **kwargs))

    def acquire_sequence_continue(self, *, update_period: float = 1.0, **kwargs: typing.Any) -> camera_base.PartialData:
        return self._read(super().acquire_sequence_continue, update_period)

    def acquire_synchronized_continue(
        self, *, update_period: float = 1.0, **kwargs: typing.Any
    ) -> camera_base.PartialData:
        return self._read(super().acquire_synchronized_continue, update_period)

    def acquire_sequence_cancel(self) -> None:
        self._cancelled.set()
        super().acquire_sequence_cancel()

    def acquire_synchronized_cancel(self) -> None:
        self._cancelled.set()
        super().acquire_synchronized_cancel()

    def _begin(self, partial: camera_base.PartialData) -> camera_base.PartialData:
        self._cancelled.clear()
        self._fault, self._begun = None, partial.xdata
        return partial

    def _read(
        self, read: typing.Callable[..., camera_base.PartialData], update_period: float
    ) -> camera_base.PartialData:
        """Read on in a sequence, as the fault of this turn lets it.

        Raises:
            DeviceError: the camera was told to fail.
        """
        if self._fault is not Fault.SILENT:
            self._fault = self.faults.take()
        if self._fault is Fault.SILENT:
            cancelled = self._cancelled.wait(min(update_period, POLL_S))
            return camera_base.PartialData(self._begun, cancelled, cancelled, None, 0)
        try:
            partial = read(update_period=update_period)
            if self._fault is Fault.WRONG_SHAPE:
                partial.xdata = _without_last_channel(partial.xdata)
            return partial
        finally:
            self._fault = None

    # --- live

    def acquire_image(self) -> DataElement:
        """The next live frame.

        Raises:
            DeviceError: the camera was told to fail.
        """
        fault = self.faults.take()
        if fault is Fault.SILENT:
            # Nobody can cancel this wait but the camera's own closing, so it ends by itself.
            self._cancelled.clear()
            self._cancelled.wait(LIVE_SILENCE_S)
            raise DeviceError(f"{self.camera_name} delivered no frame.")
        element: DataElement = super().acquire_image()
        data = self._live_spoiler.spoil(element["data"], fault)
        element["data"] = data[..., :-1] if fault is Fault.WRONG_SHAPE else data
        return element


def _without_last_channel(xdata: DataAndMetadata.DataAndMetadata) -> DataAndMetadata.DataAndMetadata:
    return DataAndMetadata.new_data_and_metadata(
        xdata.data[..., :-1].copy(),
        xdata.intensity_calibration,
        xdata.dimensional_calibrations,
        xdata.metadata,
        xdata.timestamp,
        xdata.data_descriptor,
    )
