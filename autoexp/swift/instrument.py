"""Swift's scan unit, camera and controls behind :class:`autoexp.instrument.Instrument`.

A spectrum is a sequence of one frame, run through Swift's own acquisition framework on the calling thread: calibrated,
with the instrument's metadata, and it can be cut short. Probe positions are fractions of Swift's scan context, so
that context is remembered with the overview and checked before every exposure.
"""

from __future__ import annotations

import copy
import math
import re
import threading
import time
import typing
from collections.abc import Callable

import numpy as np
from nion.instrumentation import camera_base
from nion.utils import Geometry, Registry

from autoexp.errors import (
    AbortedError,
    AutoexpError,
    BadFrameError,
    DisconnectedError,
    FieldChangedError,
    FrameTimeoutError,
    InstrumentBusyError,
    InstrumentError,
    PlanError,
)
from autoexp.instrument import CameraFrame, EnergyCalibration, FrameOfReference, Identity, Overview, Position, Spectrum
from autoexp.plan import FrameSpec, OverviewSpec, SpectrumSpec
from autoexp.swift import imagers
from autoexp.swift.stream import acquire_frame

DRAW_S, LAST_DRAW_S = 2.0, 0.3
"""How long the last move of the probe may take to be drawn before the next, and before it is put back."""
FIELD_TOLERANCE = 1e-6
"""Share of a field by which two may differ and be the same."""
GRACE_S = 5.0

WhenDrawn = Callable[[Callable[[], None]], object]


class SwiftInstrument:
    """The instrument that Swift has registered.

    With a window open, Swift draws the probe as a graphic, later and on its own thread, and what it draws it also
    commands: a position set meanwhile would be lost. So the probe is moved only once the user interface has caught up
    with its last move.

    Args:
        stem: Swift's STEM controller.
        scan: its scan hardware source.
        camera: the spectrometer's camera hardware source.
        grace_s: how long a frame may be late before the read is given up.
        when_drawn: calls a function once the user interface has done what it was asked before; None with no window.
    """

    def __init__(
        self,
        stem: typing.Any,
        scan: typing.Any,
        camera: typing.Any,
        grace_s: float = GRACE_S,
        when_drawn: WhenDrawn | None = None,
    ):
        self._stem = stem
        self._scan = scan
        self._camera = camera
        self._grace_s = grace_s
        self._when_drawn = when_drawn
        self._drawn = threading.Event()
        self._drawn.set()
        self._context: typing.Any = None
        self._found: dict[str, typing.Any] | None = None
        self._imagers = imagers.Imagers(stem)
        self._stream: typing.Any = None
        self._aborted = threading.Event()

    @property
    def identity(self) -> Identity:
        """Which instrument this is; simulated if it says so itself or is Nion's own simulator."""
        key = str(getattr(self._stem, "instrument_id", "stem_controller"))
        properties: typing.Callable[[], typing.Mapping[str, typing.Any]]
        properties = getattr(self._stem, "get_autostem_properties", dict)
        try:
            simulated = bool(properties().get("simulated", False))
        except Exception:  # a real instrument that is switched off raises what it likes
            simulated = False
        simulated = simulated or key.startswith(("usim", "virtual_stem"))
        name = "Virtual STEM" if key.startswith("virtual_stem") else "Nion simulator" if simulated else key
        return Identity(key, name, simulated, self._scan.hardware_source_id, self._camera.hardware_source_id)

    @property
    def beam_current_pA(self) -> float | None:
        """The beam current, where the instrument has a control for it."""
        good, value = self._stem.TryGetVal("BeamCurrent")
        return value * 1e12 if good and value else None

    @property
    def stem(self) -> typing.Any:
        """Swift's STEM controller."""
        return self._stem

    @property
    def scan(self) -> typing.Any:
        """The scan's hardware source."""
        return self._scan

    # --- taking over and giving back

    def open(self) -> None:
        """Remember the state of probe, scan and camera; stop both; a user's subscan is set aside."""
        self._require_devices()
        scan, camera = self._scan, self._camera
        self._aborted.clear()
        self._found = {
            "scan playing": scan.is_playing,
            "camera playing": camera.is_playing,
            "probe position": self._stem.probe_position,
            "subscan": scan.subscan_enabled,
            "scan parameters": copy.deepcopy(scan.get_current_frame_parameters()),
            "camera parameters": copy.deepcopy(camera.get_current_frame_parameters()),
        }
        scan.abort_playing(sync_timeout=imagers.STOP_S)
        camera.abort_playing(sync_timeout=imagers.STOP_S)
        if scan.subscan_enabled:
            scan.subscan_enabled = False

    def close(self) -> list[str]:
        """Put everything back; each thing has its turn, whatever happens to the others."""
        found, self._found = self._found, None
        if found is None:
            return []
        stem, scan, camera = self._stem, self._scan, self._camera
        problems: list[str] = []

        def put_back(what: str, action: Callable[[], None]) -> None:
            try:
                action()
            except Exception as error:  # devices raise what they like; the rest still has to be put back
                problems.append(f"{what} could not be put back: {error}")

        put_back("scan parameters", lambda: scan.set_current_frame_parameters(found["scan parameters"]))
        put_back("camera parameters", lambda: camera.set_current_frame_parameters(found["camera parameters"]))
        put_back("subscan", lambda: setattr(scan, "subscan_enabled", found["subscan"]))
        put_back("probe position", lambda: self._move_probe(found["probe position"], LAST_DRAW_S))
        if found["scan playing"]:
            put_back("scan", scan.start_playing)
        if found["camera playing"]:
            put_back("camera", camera.start_playing)
        for what, action in self._imagers.give_back():
            put_back(what, action)
        if stem.probe_position != found["probe position"]:
            problems.append(f"probe position reads {stem.probe_position} instead of {found['probe position']}")
        self._context = None
        return problems

    def check(self) -> None:
        """See :meth:`autoexp.instrument.Instrument.check`."""
        self._require_devices()
        for source in (self._scan, self._camera):
            if source.is_playing or getattr(source, "is_recording", False):
                raise InstrumentBusyError(
                    f"{source.display_name} was started by somebody else. Stop it, then resume the experiment."
                )
        if self._context is not None and (changed := _field_changes(self._stem.scan_context, self._context)):
            raise FieldChangedError(
                f"The scanned field was changed ({', '.join(changed)}), so positions no longer fit the overview. "
                "Set it back, or stop and take a new overview."
            )

    def abort(self) -> None:
        """End what is in flight at once."""
        self._aborted.set()
        stream = self._stream
        if stream is not None:
            stream.abort_stream()
        if getattr(self._scan, "is_recording", False):
            self._scan.abort_recording()

    def check_plan(self, overview: OverviewSpec, spectrum: SpectrumSpec) -> None:
        """Refuse a channel or a binning that the devices do not have."""
        self._check_channel(overview.channel)
        self._check_binning(spectrum.binning)

    def _check_channel(self, channel: int) -> None:
        channels = self._scan.scan_device.channel_count
        if channel >= channels:
            raise PlanError(f"The scan has no channel {channel}; it has {channels}, counted from 0.")

    def _check_binning(self, binning: int) -> None:
        values = self._camera.camera.binning_values
        if binning not in values:
            raise PlanError(f"The camera has no binning {binning}; it has {', '.join(map(str, values))}.")

    # --- scanning

    def bind(self, spec: OverviewSpec) -> None:
        """Set the scan to a field, so that fractional positions refer to it."""
        self._scan.set_current_frame_parameters(self._scan_parameters(spec))
        self._context = copy.deepcopy(self._stem.scan_context)

    def overview(self, spec: OverviewSpec) -> Overview:
        """Record one frame of the chosen channel."""
        parameters = self._scan_parameters(spec)
        self._enable_channel(spec.channel)
        self.bind(spec)
        # Recording alone would leave the scan context, to which positions refer, as it was.
        frames = [x for x in self._scan.record_immediate(parameters) if x is not None]
        if self._aborted.is_set():
            raise AbortedError("The overview was cut short.")
        if not frames:
            raise FrameTimeoutError("The scan returned no overview; look at the scan panel, then start again.")
        enabled = self._scan.get_enabled_channel_indexes()
        frame = frames[enabled.index(spec.channel)] if len(frames) == len(enabled) else frames[0]
        image = np.asarray(frame.data)
        if image.shape != (spec.pixels, spec.pixels):
            raise BadFrameError(f"The overview has shape {image.shape}; {spec.pixels} x {spec.pixels} was asked for.")
        fov = _fov_from(frame, spec)
        return Overview(
            image.astype(np.float32),
            FrameOfReference(fov, spec.center_nm, math.radians(spec.rotation_deg)),
            _plain(frame.metadata),
        )

    def _scan_parameters(self, spec: OverviewSpec) -> typing.Any:
        parameters = copy.deepcopy(self._scan.get_current_frame_parameters())
        parameters.pixel_size = Geometry.IntSize(spec.pixels, spec.pixels)
        parameters.fov_nm = spec.fov_nm
        parameters.center_nm = Geometry.FloatPoint(y=spec.center_nm[0], x=spec.center_nm[1])
        parameters.rotation_rad = math.radians(spec.rotation_deg)
        parameters.pixel_time_us = spec.dwell_us
        for name in ("subscan_pixel_size", "subscan_fractional_size", "subscan_fractional_center"):
            setattr(parameters, name, None)
        return parameters

    def _enable_channel(self, channel: int) -> None:
        self._check_channel(channel)
        if channel not in self._scan.get_enabled_channel_indexes():
            self._scan.set_channel_enabled(channel, True)

    # --- spectra

    def spectrum(self, position: Position, spec: SpectrumSpec) -> Spectrum:
        """Park the probe and run a sequence of one frame through Swift's acquisition framework."""
        if self._aborted.is_set():
            raise AbortedError("The run was aborted before the exposure.")
        self.park(position)
        if spec.settle_s:
            time.sleep(spec.settle_s)
        xdata = self._acquire(self._camera_parameters(spec), spec.exposure_s)
        self.check()  # whoever scanned or moved the probe during the exposure has spoilt it
        self._require_probe_at(position)
        return _spectrum_from(xdata)

    def park(self, position: Position) -> None:
        """Park the probe, and make sure that it is where it was sent.

        Raises:
            BadFrameError: the probe is not parked at all.
            InstrumentBusyError: the probe is elsewhere; somebody else moves it.
        """
        if self._stem.probe_position != (point := Geometry.FloatPoint(y=position[0], x=position[1])):
            self._move_probe(point)
        self._require_probe_at(position)

    def _move_probe(self, point: typing.Any, patience_s: float = DRAW_S) -> None:
        self._drawn.wait(patience_s)
        self._stem.set_probe_position(point)
        if self._when_drawn is not None:
            self._drawn = threading.Event()
            self._when_drawn(self._drawn.set)

    def _require_probe_at(self, position: Position) -> None:
        now = self._stem.probe_position
        if now is None:  # nobody wants it elsewhere: Swift lets go of the probe when its scan's data item is deleted
            raise BadFrameError("The probe was let go of during the exposure; the spectrum was discarded.")
        if abs(now.y - position[0]) + abs(now.x - position[1]) > 1e-6:
            raise InstrumentBusyError(
                f"The probe was sent to ({position[0]:.4f}, {position[1]:.4f}) but is at ({now.y:.4f}, {now.x:.4f}): "
                "somebody else moved it. Leave the probe to the experiment, then resume."
            )

    def _camera_parameters(self, spec: SpectrumSpec) -> typing.Any:
        self._check_binning(spec.binning)
        parameters = copy.copy(self._camera.get_current_frame_parameters())
        parameters.exposure_ms = spec.exposure_s * 1000
        parameters.binning = spec.binning
        parameters.processing = "sum_project"
        return parameters

    def _acquire(self, parameters: typing.Any, exposure_s: float, camera: typing.Any = None) -> typing.Any:
        stream = camera_base.make_sequence_data_stream(camera or self._camera, parameters, 1)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            stream.abort_stream()

        watchdog = threading.Timer(exposure_s * 1.5 + self._grace_s, give_up)
        watchdog.daemon = True
        self._stream = stream
        watchdog.start()
        try:
            if self._aborted.is_set():
                raise AbortedError("The run was aborted before the exposure.")
            xdata = acquire_frame(stream)
        except AutoexpError:
            raise
        except Exception as error:  # a device raises what it likes
            if not (self._aborted.is_set() or late.is_set()):
                raise _device_error(error) from error
            xdata = None
        finally:
            watchdog.cancel()
            self._stream = None
        if self._aborted.is_set():
            raise AbortedError("The exposure was cut short.")
        if late.is_set():
            raise FrameTimeoutError(f"No frame came within {exposure_s * 1.5 + self._grace_s:.1f} s.")
        if xdata is None:
            raise InstrumentBusyError("The exposure was cut short by somebody else.")
        if stream.progress != 1.0:
            # Swift reserves the frame beforehand; one that does not fill it leaves zeros, and only a line in the log.
            shape = tuple(xdata.data_shape[1:])
            raise BadFrameError(
                f"The camera filled {stream.progress:.2%} of a frame of shape {shape}; it was discarded."
            )
        return xdata

    # --- the bright-field disk

    def camera_frame(self, spec: FrameSpec) -> CameraFrame:
        """A sequence of one frame of the camera on which the disk is seen, which is taken over with the first."""
        if self._aborted.is_set():
            raise AbortedError("It was aborted before the exposure.")
        if self._found is None:
            raise InstrumentError("The instrument has not been taken over.")
        camera = self._imagers.take(spec.camera)
        parameters = imagers.parameters_of(camera, spec)
        xdata = self._acquire(parameters, spec.exposure_s, camera)
        return imagers.frame_from(xdata)

    # --- controls

    def get(self, name: str) -> float:
        """The value of a control."""
        good, value = self._stem.TryGetVal(name)
        if not good or value is None:
            raise InstrumentError(f"The instrument has no control {name!r}.")
        return float(value)

    def set(self, name: str, value: float) -> None:
        """Set a control; Swift only returns False where there is none of that name."""
        if not self._stem.SetVal(name, value):
            raise InstrumentError(f"The instrument did not accept {name} = {value:g}.")

    def _require_devices(self) -> None:
        here = Registry.get_components_by_type("hardware_source")
        for source in (self._scan, self._camera):
            if source not in here:
                raise DisconnectedError("A device went away. Connect it again, then resume, or stop.")


def find_instrument(
    scan_id: str | None = None, camera_id: str | None = None, when_drawn: WhenDrawn | None = None
) -> SwiftInstrument:
    """The instrument that Swift has registered, with its own choice of devices or those named.

    Args:
        scan_id: hardware source of the scan.
        camera_id: hardware source of the camera.
        when_drawn: needed with a window open; see :class:`SwiftInstrument`.

    Raises:
        InstrumentError: there is none, or a device is missing; the message says which.
    """
    stem: typing.Any = Registry.get_component("stem_controller")
    if stem is None:
        raise InstrumentError(
            "No STEM is registered with Swift. Connect the instrument, or switch the virtual microscope on in the "
            "preferences and restart Swift."
        )
    sources = {s.hardware_source_id: s for s in Registry.get_components_by_type("hardware_source")}
    scan = sources.get(scan_id) if scan_id else stem.scan_controller
    stem = getattr(scan, "stem_controller", stem)  # of several instruments, the one to which the scan unit belongs
    camera = sources.get(camera_id) if camera_id else stem.eels_camera
    for device, wanted, what in ((scan, scan_id, "scan device"), (camera, camera_id, "EELS camera")):
        if device is None:
            known = ", ".join(sorted(sources)) or "none"
            raise InstrumentError(f"There is no {what} {wanted or ''} (registered: {known}).".replace("  ", " "))
    return SwiftInstrument(stem, scan, camera, when_drawn=when_drawn)


def drawing_loop(document_controller: typing.Any = None) -> WhenDrawn | None:
    """What calls a function once Swift has drawn the probe: the event loop on which it does so.

    Args:
        document_controller: the window whose loop serves where the application has none.

    Returns:
        None where there is neither application nor window, and so nothing is drawn.
    """
    loop = getattr(Registry.get_component("application"), "event_loop", None)
    loop = loop or getattr(document_controller, "event_loop", None)
    return typing.cast(WhenDrawn, loop.call_soon_threadsafe) if loop else None


def _spectrum_from(xdata: typing.Any) -> Spectrum:
    data = np.asarray(xdata.data)
    if data.ndim == 2 and data.shape[0] == 1:
        data = data[0]
    return spectrum_of(data, xdata)


def spectrum_of(counts: np.ndarray, about: typing.Any) -> Spectrum:
    """A spectrum from Swift, not checked yet.

    Args:
        counts: (E,).
        about: Swift's own description of the data; the energy is its last axis.
    """
    calibration = about.dimensional_calibrations[-1]
    metadata = _plain(about.metadata)
    source = metadata.get("hardware_source", {})
    units = calibration.units or "channels"
    return Spectrum(
        counts=counts,
        energy=EnergyCalibration(float(calibration.offset), float(calibration.scale), units),
        counts_per_electron=source.get("counts_per_electron"),
        metadata=metadata,
    )


def _fov_from(frame: typing.Any, spec: OverviewSpec) -> tuple[float, float]:
    """Height and width in nm from the frame's own calibration; what was asked for where it has none."""
    calibrations = frame.dimensional_calibrations
    if len(calibrations) == 2 and all(c.units == "nm" and c.scale > 0 for c in calibrations):
        return calibrations[0].scale * spec.pixels, calibrations[1].scale * spec.pixels
    return spec.fov_nm, spec.fov_nm


def _device_error(error: Exception) -> AutoexpError:
    if isinstance(error, AutoexpError):
        return error
    text = str(error) or type(error).__name__
    if re.search(r"disconnect|not connected|connection (lost|reset|refused)", text, re.IGNORECASE):
        return DisconnectedError(f"The device went away: {text}")
    if isinstance(error, ValueError | AssertionError) and re.search(r"shape|broadcast|dtype", text):
        return BadFrameError(f"The camera returned a frame of the wrong form: {text}")
    return InstrumentError(f"The device failed: {text}.")


def _field_changes(now: typing.Any, bound: typing.Any) -> list[str]:
    """What differs between two scanned fields, in words; how many pixels they have does not matter."""
    if now is None or now.fov_nm is None or not now.size:
        return ["there is none now"]
    (height, width), (wanted_height, wanted_width) = _size_nm(now), _size_nm(bound)
    pairs = {
        "height": (height, wanted_height, "nm", wanted_height),
        "width": (width, wanted_width, "nm", wanted_width),
        "centre y": (now.center_nm.y, bound.center_nm.y, "nm", wanted_height),
        "centre x": (now.center_nm.x, bound.center_nm.x, "nm", wanted_width),
        "rotation": (math.degrees(now.rotation_rad), math.degrees(bound.rotation_rad), "degrees", 360.0),
    }
    return [
        f"{what} {one:g} {units} instead of {other:g}"
        for what, (one, other, units, whole) in pairs.items()
        if not abs(one - other) <= FIELD_TOLERANCE * whole
    ]


def _size_nm(context: typing.Any) -> tuple[float, float]:
    """The height and width of a scanned field in nm; its longer side is the field of view.

    That is how Swift calibrates its images (``scan_base.get_scan_calibrations``). ``ScanContext.fov_size_nm`` is not
    used: what it says of fields that are not square differs between versions of Swift.
    """
    pixel_nm = context.fov_nm / max(context.size)
    return context.size[0] * pixel_nm, context.size[1] * pixel_nm


def _plain(value: typing.Any) -> typing.Any:
    """Metadata as plain JSON types."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)
