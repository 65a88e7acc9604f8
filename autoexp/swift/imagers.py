"""The cameras on which the bright-field disk is seen: taken over when first needed, given back as they were."""

from __future__ import annotations

import copy
import functools
import typing
from collections.abc import Callable, Iterator

import numpy as np
from nion.utils import Registry

from autoexp.errors import BadFrameError, InstrumentError, PlanError
from autoexp.instrument import CameraFrame, told_exposure_s
from autoexp.plan import FrameSpec

STOP_S = 10.0


class Imagers:
    """The cameras that are taken over.

    Args:
        stem: Swift's STEM controller.
    """

    def __init__(self, stem: typing.Any):
        self._stem = stem
        self._taken: dict[str | None, tuple[typing.Any, typing.Any, bool]] = {}

    def take(self, camera_id: str | None) -> typing.Any:
        """A camera; the first time its state is remembered, and it is stopped.

        Args:
            camera_id: its hardware source; the instrument's Ronchigram camera if None.

        Raises:
            InstrumentError: there is none.
        """
        if camera_id not in self._taken:
            camera = self._find(camera_id)
            found = copy.deepcopy(camera.get_current_frame_parameters()), bool(camera.is_playing)
            camera.abort_playing(sync_timeout=STOP_S)
            self._taken[camera_id] = camera, *found
        return self._taken[camera_id][0]

    def give_back(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """What is to be done to give them back, each with its name in words; nothing is taken afterwards."""
        taken, self._taken = self._taken, {}
        for camera, parameters, playing in taken.values():
            yield camera.display_name, functools.partial(camera.set_current_frame_parameters, parameters)
            if playing:
                yield camera.display_name, camera.start_playing

    def _find(self, camera_id: str | None) -> typing.Any:
        if camera_id is None:
            camera = self._stem.ronchigram_camera
            if camera is None:
                raise InstrumentError("The instrument has no camera on which the bright-field disk is seen.")
            return camera
        sources = {s.hardware_source_id: s for s in Registry.get_components_by_type("camera_hardware_source")}
        if camera_id not in sources:
            raise InstrumentError(
                f"There is no camera {camera_id} (registered: {', '.join(sorted(sources)) or 'none'})."
            )
        return sources[camera_id]


def parameters_of(camera: typing.Any, spec: FrameSpec) -> typing.Any:
    """A camera's parameters for a frame.

    Raises:
        PlanError: it does not have the binning.
    """
    values = camera.camera.binning_values
    if spec.binning not in values:
        raise PlanError(f"The camera of the disk has no binning {spec.binning}; it has {', '.join(map(str, values))}.")
    parameters = copy.copy(camera.get_current_frame_parameters())
    parameters.exposure_ms = spec.exposure_s * 1000
    parameters.binning = spec.binning
    parameters.processing = None
    return parameters


def frame_from(xdata: typing.Any) -> CameraFrame:
    """A frame from what a camera gave.

    Raises:
        BadFrameError: it is no image.
    """
    image = np.asarray(xdata.data, dtype=np.float32).squeeze()
    if image.ndim != 2:
        raise BadFrameError(f"The camera of the disk gave a frame of shape {image.shape}.")
    calibration = xdata.dimensional_calibrations[-1]
    mrad = {"rad": 1e3, "mrad": 1.0}.get(calibration.units)
    per_px = abs(calibration.scale) * mrad if mrad and calibration.scale else None
    return CameraFrame(image, per_px, told_exposure_s(xdata.metadata))
