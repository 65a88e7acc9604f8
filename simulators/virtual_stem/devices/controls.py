"""The instrument and its controls, by the names that Swift uses for them."""

from __future__ import annotations

import typing

from nion.device_kit import InstrumentDevice
from nion.instrumentation import stem_controller
from nion.utils import Geometry, Stream

from virtual_stem.faults import CONTROL_FAULTS, Fault, Faults
from virtual_stem.geometry import ScanGeometry
from virtual_stem.microscope import VirtualMicroscope

EELS_ROWS = 256
RONCHIGRAM_PIXELS = 2048
ENERGY_OFFSETS = ("ZLPoffset", "EELS_MagneticShift_Offset", "eels_x_offset")


def field_of_context(context: stem_controller.ScanContext) -> ScanGeometry | None:
    """The field to which fractional probe positions refer; None before there is one."""
    if context.fov_nm is None or context.center_nm is None or not context.size:
        return None
    center = context.center_nm.y, context.center_nm.x
    return ScanGeometry.spanning(context.fov_nm, context.size.as_tuple(), center, context.rotation_rad or 0.0)


class Instrument(InstrumentDevice.Instrument):
    """The virtual STEM; says in its metadata that it is one, and what is in it, so that a report can find the truth.

    Args:
        instrument_id: Swift's id of it.
        values: its controls.
        axes: the axes of two-dimensional controls.
        microscope: the physics.
        specimen: name or path from which its specimen can be made again; empty if it cannot.
    """

    def __init__(
        self,
        instrument_id: str,
        values: ValueManager,
        axes: AxisManager,
        microscope: VirtualMicroscope,
        specimen: str = "",
    ) -> None:
        super().__init__(instrument_id, values, axes)
        self.stage_size_nm = round(microscope.specimen.size_nm)
        self._microscope = microscope
        self._values = values
        self._told = {"simulated": True, **({"specimen": specimen} if specimen else {})}

    def get_autostem_properties(self) -> typing.Mapping[str, typing.Any]:
        return {**super().get_autostem_properties(), **self._told}

    def camera_sensor_dimensions(self, camera_type: str) -> tuple[int, int]:
        if camera_type == "ronchigram":
            return RONCHIGRAM_PIXELS, RONCHIGRAM_PIXELS
        return EELS_ROWS, self._microscope.specimen.axis.channels

    def camera_readout_area(self, camera_type: str) -> tuple[int, int, int, int]:
        return 0, 0, *self.camera_sensor_dimensions(camera_type)

    def get_control_try_value_stream(self, control_name: str) -> Stream.AbstractStream[stem_controller.TryValue[float]]:
        return self._values.get_control_try_value_stream(control_name)

    @property
    def counts_per_electron(self) -> int:
        return round(self._microscope.eels.counts_per_electron)

    def _set_scan_context_probe_position(
        self, scan_context: stem_controller.ScanContext, probe_position: Geometry.FloatPoint | None
    ) -> None:
        super()._set_scan_context_probe_position(scan_context, probe_position)
        field = field_of_context(scan_context)
        if field is not None and probe_position is not None:
            self._microscope.park(field.to_stage([probe_position.y, probe_position.x]))


class ValueManager(InstrumentDevice.ValueManagerLike):
    """The microscope's controls by name; an unknown name is refused, as on an instrument."""

    def __init__(self, microscope: VirtualMicroscope):
        self._microscope = microscope
        self.faults = Faults("control", CONTROL_FAULTS)
        self._streams: dict[str, Stream.ValueStream[stem_controller.TryValue[float]]] = {}

    def get_value(self, name: str) -> float | None:
        if name in ENERGY_OFFSETS:
            return self._microscope.energy_offset_eV
        pixel = self._microscope.optics.camera_rad / RONCHIGRAM_PIXELS
        calibrations = {
            "eels_x_scale": self._microscope.specimen.axis.dispersion_eV,
            "eels_y_offset": 0.0,
            "eels_y_scale": 1.0,
            **{f"ronchigram_{axis}_scale": pixel for axis in "xy"},
            **{f"ronchigram_{axis}_offset": -pixel * RONCHIGRAM_PIXELS / 2 for axis in "xy"},
        }
        return calibrations.get(name, self._microscope.controls.get(name))

    def set_value(self, name: str, value: float) -> bool:
        if name in ENERGY_OFFSETS:
            name, value = "ZLPtare", value - self._microscope.specimen.axis.offset_eV
        if name not in self._microscope.controls:
            return False
        if self.faults.take() is not Fault.STUCK:
            self._microscope.set_control(name, float(value))
            for watched, stream in self._streams.items():
                stream.value = self._try(watched)
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
        y, x = (self.get_value(f"{s}.{letter}") for letter in "yx")
        if y is not None and x is not None:
            return Geometry.FloatPoint(y=y, x=x)
        if default_value is None:
            raise KeyError(f"No 2D control named {s!r}.")
        return default_value

    def set_value_2d(self, s: str, value: Geometry.FloatPoint, *, axis: stem_controller.AxisType | None = None) -> bool:
        return self.set_value(f"{s}.y", value.y) and self.set_value(f"{s}.x", value.x)

    def inform_control_2d(self, s: str, value: Geometry.FloatPoint, *, axis: stem_controller.AxisType) -> bool:
        return self.set_value_2d(s, value, axis=axis)

    def get_reference_setting_index(self, settings_control: str) -> int:
        return 0

    def get_control_try_value_stream(self, control_name: str) -> Stream.AbstractStream[stem_controller.TryValue[float]]:
        """The value of a control as it changes, as newer versions of Swift ask for it."""
        return self._streams.setdefault(control_name, Stream.ValueStream(self._try(control_name)))

    def _try(self, name: str) -> stem_controller.TryValue[float]:
        value = self.get_value(name)
        return stem_controller.TryValue(value, None if value is not None else KeyError(name))


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
