"""The scan unit: where a frame lies, how long it takes, what it shows, and how it can fail."""

from __future__ import annotations

import threading
import time
import typing

import numpy as np
import numpy.typing as npt
from nion.device_kit import InstrumentDevice, ScanDevice
from nion.instrumentation import scan_base
from nion.utils import Geometry

from virtual_stem.faults import FRAME_FAULTS, DeviceError, Fault, Faults, Spoiler
from virtual_stem.geometry import ScanGeometry
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimen import Array

FULL_COUNTS = 65_535.0
NOMINAL = "nominal_pixel_time_us"  # travels with a frame's parameters, whose own pixel time paces the clock
POLL_S = 0.005
SAMPLES = 16

Parameters = scan_base.ScanFrameParameters
Partial = tuple[
    typing.Sequence[dict[str, typing.Any]], bool, bool, tuple[tuple[int, int], tuple[int, int]], int | None, int
]


def frame_of(parameters: Parameters) -> tuple[ScanGeometry, tuple[int, int]]:
    """Where a frame lies on the stage, and its pixels (h, w): the whole field, or the subscan if there is one."""
    center = parameters.center_nm.y, parameters.center_nm.x
    field = ScanGeometry.spanning(parameters.fov_nm, parameters.pixel_size.as_tuple(), center, parameters.rotation_rad)
    if parameters.subscan_fractional_size is None or parameters.subscan_fractional_center is None:
        return field, (parameters.subscan_pixel_size or parameters.pixel_size).as_tuple()
    part = field.part(
        (parameters.subscan_fractional_center.y, parameters.subscan_fractional_center.x),
        parameters.subscan_fractional_size.as_tuple(),
        parameters.subscan_rotation or 0.0,
    )
    return part, (parameters.subscan_pixel_size or parameters.pixel_size).as_tuple()


class ScanBox(ScanDevice.ScanSimulatorLike):
    """The scan generator: it counts pixels, by its own clock or, when synchronised, by the camera's."""

    flyback_pixels = 2

    def __init__(self, parameters: typing.Callable[[], Parameters]):
        self._parameters = parameters
        self._blanker = threading.Condition()
        self._lock = threading.RLock()
        self._flat = self._exposed = self._line = self._flyback = 0
        self._frame: tuple[ScanGeometry, tuple[int, int]] | None = None
        self._dwell_s = 1e-6
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
        """A frame begins, with the parameters that hold now."""
        parameters = self._parameters()
        with self._lock:
            self._flat = self._exposed = self._line = self._flyback = 0
            self._frame = frame_of(parameters)
            self._dwell_s = parameters.pixel_time_us * 1e-6

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
        """One tick of the camera, which comes before its frame: that frame is of the pixel up to now."""
        if self.external_clock:
            self._exposed = self._flat
            self._advance_pixel(1)

    def stage_positions(self, exposure_s: float) -> Array | None:
        """Stage positions (n, 2) that the beam visits in an exposure that begins now; None if nothing is scanned."""
        with self._lock:
            if self._frame is None:
                return None
            geometry, (height, width) = self._frame
            if self.external_clock:
                flat = np.array([self._exposed])
            else:
                pixels = min(exposure_s / self._dwell_s, height * width)
                flat = (self._flat + np.linspace(0, pixels, SAMPLES, endpoint=False)).astype(int)
        y, x = np.divmod(flat % (height * width), width)
        return geometry.to_stage(np.stack([(y + 0.5) / height, (x + 0.5) / width], axis=-1))

    def generate_scan_data(
        self, instrument: InstrumentDevice.Instrument, scan_frame_parameters: ScanDevice.ScanFrameParameters
    ) -> npt.NDArray[np.float32]:
        raise NotImplementedError("the scan unit makes its images itself")


class ScanUnit(ScanDevice.Device):
    """The scan unit. Lines cost their flyback too, and the clock runs with the microscope's.

    Channel 0 is the HAADF detector; channel 1 looks at the same detector once more, with noise of its own; nothing is
    connected to the others.
    """

    priority: int

    def __init__(self, device_id: str, instrument: InstrumentDevice.Instrument, microscope: VirtualMicroscope):
        self._microscope = microscope
        self._nominal: Parameters = ScanDevice.ScanFrameParameters()
        self.box = ScanBox(lambda: self._nominal)
        self.faults = Faults("scan unit", FRAME_FAULTS)
        self._spoilers: dict[int, Spoiler] = {}
        self._fault: Fault | None = None
        self._turn_due = True
        self._exposes = True
        super().__init__(device_id, "Scan (SIMULATED)", instrument, self.box)

    # --- time

    @property
    def current_frame_parameters(self) -> Parameters:
        return self._nominal

    def set_frame_parameters(self, frame_parameters: Parameters) -> None:
        self._nominal = ScanDevice.ScanFrameParameters(frame_parameters.as_dict())
        paced = ScanDevice.ScanFrameParameters(frame_parameters.as_dict())
        size = paced.subscan_pixel_size or paced.pixel_size
        dwell_us = paced.pixel_time_us + paced.flyback_time_us / size.width
        paced.set_parameter("pixel_time_us", dwell_us / self._microscope.time_scale)
        paced.set_parameter(NOMINAL, frame_parameters.pixel_time_us)
        super().set_frame_parameters(paced)

    def calculate_max_field_of_view(self, frame_parameters: Parameters) -> float:
        return max(2000.0, 4 * self._microscope.specimen.size_nm)

    # --- frames

    def start_frame(self, is_continuous: bool) -> int:
        self._turn_due = self._turn_due or not self.is_scanning
        return super().start_frame(is_continuous)

    def read_partial(self, frame_number: int | None, pixels_to_skip: int) -> Partial:
        """Read on; a frame's first read takes the frame's turn in the queue of faults.

        Raises:
            DeviceError: the unit was told to fail.
        """
        if self._turn_due:
            self._take_turn()
        if self._fault is Fault.SILENT and self.is_scanning:
            time.sleep(POLL_S)
            return self._nothing_yet(frame_number)
        elements, complete, bad, area, frame_number, skip = super().read_partial(frame_number, pixels_to_skip)
        for element in elements:
            properties = element["properties"]
            properties["pixel_time_us"] = properties.pop(NOMINAL, properties["pixel_time_us"])
            if self._fault is Fault.WRONG_SHAPE:
                element["data"] = element["data"][:, :-1]
        if self._fault is Fault.WRONG_SHAPE:
            area = area[0], (area[1][0], area[1][1] - 1)
        self._turn_due = complete
        return elements, complete, bad, area, frame_number, skip

    def get_scan_data(self, frame_parameters: Parameters, channel: int | ScanDevice.Channel) -> npt.NDArray[np.float32]:
        number = channel if isinstance(channel, int) else channel.channel_id
        geometry, shape = frame_of(frame_parameters)
        dwell_s = frame_parameters.get_parameter(NOMINAL, frame_parameters.pixel_time_us) * 1e-6
        if number > 1:
            data = self._microscope.unconnected(shape)
        else:
            data = self._microscope.scan(geometry, shape, dwell_s, exposes=self._exposes)
            self._exposes = False
        if number not in self._spoilers:
            self._spoilers[number] = Spoiler(FULL_COUNTS, self._microscope.haadf.noise_counts)
        return self._spoilers[number].spoil(data, self._fault)

    def _take_turn(self) -> None:
        self._turn_due, self._exposes = False, True
        try:
            self._fault = self.faults.take()
        except DeviceError:
            self.cancel()  # or the unit would still be scanning when it is asked for the next frame
            self._turn_due = True
            raise
        if self._fault is Fault.SILENT and not self.is_scanning:
            super().start_frame(True)

    def _nothing_yet(self, frame_number: int | None) -> Partial:
        height, width = frame_of(self._nominal)[1]
        elements = [
            {"data": np.zeros((height, width), np.float32), "properties": {**self._nominal.as_dict(), "channel_id": k}}
            for k, enabled in enumerate(self.channels_enabled)
            if enabled
        ]
        return elements, False, False, ((0, 0), (0, width)), frame_number, 0


class ScanModule(scan_base.ScanModule):
    """The scan unit with its three profiles."""

    priority: int

    def __init__(self, device: ScanUnit, instrument_id: str, size_nm: float):
        self.stem_controller_id = instrument_id
        self.device = device
        modes = [
            scan_base.ScanSettingsMode(
                name,
                name.lower(),
                ScanDevice.ScanFrameParameters(pixel_size=(n, n), pixel_time_us=1, fov_nm=round(size_nm * part)),
            )
            for name, n, part in (("Fast", 256, 0.25), ("Slow", 512, 0.5), ("Record", 1024, 0.5))
        ]
        self.settings = scan_base.ScanSettings(
            device.scan_device_id, modes, lambda d: ScanDevice.ScanFrameParameters(d), 0, 2
        )
