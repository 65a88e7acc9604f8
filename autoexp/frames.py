"""What an instrument hands back, checked once where it comes in: its types, its dimensions, its numbers.

Drivers are foreign code. What they return is taken for a frame only if it can be one; whatever reads it later relies on
that. What they merely tell beside it, a gain or an exposure, is no value where it is no number.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from autoexp.errors import AxisError, BadFrameError
from autoexp.foreign import finite_number
from autoexp.instrument import CameraFrame, EnergyCalibration, FrameOfReference, Overview, Spectrum, told_seconds
from virtual_stem.units import electronvolts

SMALLEST_FRAME = 8
"""Pixels that a frame of the disk has along each side, at least."""
LARGEST_EV = 1e6
"""No microscope has electrons of more energy to lose."""
LONGEST_S = 1e6
"""Nobody exposes for longer, so nobody has."""


def checked_overview(taken: object) -> Overview:
    """An overview that can be one, its image (h, w) float32.

    Raises:
        BadFrameError: it is none; the message says what came instead.
    """
    if not isinstance(taken, Overview):
        raise BadFrameError(f"The scan returned {_kind(taken)} instead of an overview.")
    return Overview(_image(taken.image, "The scan", 1), _field(taken.frame), _metadata(taken.metadata))


def checked_spectrum(taken: object) -> Spectrum:
    """A spectrum that can be one, its counts (E,) float32, its axis in eV.

    A channel that is masked, or too large for float32, holds no number.

    Raises:
        BadFrameError: wrong dimensions or type; the message names them.
        AxisError: an axis that is no energy.
    """
    if not isinstance(taken, Spectrum):
        raise BadFrameError(f"The camera returned {_kind(taken)} instead of a spectrum.")
    counts = taken.counts
    if not _numeric(counts) or counts.ndim != 1 or not counts.size:
        raise BadFrameError(f"The camera returned {_kind(counts)} instead of one row of numbers.")
    return Spectrum(
        _float32(counts),
        checked_energy(taken.energy),
        _frame_number(taken.frame_number),
        _positive(taken.counts_per_electron),
        _metadata(taken.metadata),
    )


def checked_camera_frame(taken: object) -> CameraFrame:
    """A frame of the disk that can be one, its image (h, w) float32; a width of its pixels that is none is left out.

    Raises:
        BadFrameError: it is none; the message says what came instead.
    """
    if not isinstance(taken, CameraFrame):
        raise BadFrameError(f"The camera returned {_kind(taken)} instead of a frame.")
    image = _image(taken.image, "The camera", SMALLEST_FRAME)
    return CameraFrame(image, _positive(taken.mrad_per_px), told_seconds(taken.exposed_s))


def checked_exposure(told_s: float | None, asked_s: float) -> float:
    """How long an exposure took, as the account has it: as told, where that is longer than was asked for, seconds.

    Raises:
        BadFrameError: nobody can have exposed for so long.
    """
    if told_s is None or told_s <= asked_s:
        return asked_s
    if told_s > LONGEST_S:
        raise BadFrameError(f"The device says that it exposed for {told_s:g} s, which cannot be; it was discarded.")
    return told_s


def checked_energy(energy: object) -> EnergyCalibration:
    """The calibration of a spectrum's channels, in eV.

    Raises:
        AxisError: it is no energy, or of no use; the message says what to do.
    """
    units = getattr(energy, "units", None)
    factor = electronvolts(units)
    if factor is None:
        raise AxisError(
            f"The axis of the camera's spectrum is in {units or 'no units'!r}, not in eV. Choose the "
            "spectrometer's camera, or calibrate its energy axis."
        )
    offset, scale = (_number(getattr(energy, name, None)) for name in ("offset", "scale"))
    if offset is None or scale is None or not (abs(offset) * factor <= LARGEST_EV and 0 < scale * factor <= LARGEST_EV):
        raise AxisError("The energy axis of the camera's spectrum does not rise from channel to channel. Calibrate it.")
    return EnergyCalibration(offset * factor, scale * factor)


# --- parts of them


def _image(image: object, who: str, smallest: int) -> npt.NDArray[np.float32]:
    if not _numeric(image) or image.ndim != 2 or min(image.shape) < smallest:
        raise BadFrameError(f"{who} returned {_kind(image)} instead of an image of numbers; it was discarded.")
    return _float32(image)


def _field(frame: object) -> FrameOfReference | None:
    """Where an overview lies; nobody knows that of one whose calibration holds what is no number."""
    if frame is None:
        return None
    try:
        (height, width), (y, x), rotation = frame.fov_nm, frame.center_nm, frame.rotation_rad  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        raise BadFrameError(f"The overview's calibration is not usable ({frame}); look at the scan.") from None
    found = [n for told in (height, width, y, x, rotation) if (n := _number(told)) is not None]
    if len(found) < 5 or min(found[:2]) <= 0:
        raise BadFrameError(f"The overview's calibration is not usable ({frame}); look at the scan.")
    return FrameOfReference((found[0], found[1]), (found[2], found[3]), found[4])


def _frame_number(told: object) -> int | None:
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, numbers.Integral):
        raise BadFrameError(f"The camera numbers its frame {told!r}, which is no number; it was discarded.")
    return int(told)


def _metadata(told: object) -> Mapping[str, Any]:
    return told if isinstance(told, Mapping) else {}


def _number(told: object) -> float | None:
    """What was told, where it is a finite number; 0-d arrays are numbers too."""
    return finite_number(told.item() if isinstance(told, np.ndarray) and told.ndim == 0 else told)


def _positive(told: object) -> float | None:
    """What was told, where it is a number above zero."""
    number = _number(told)
    return number if number is not None and number > 0 else None


def _numeric(array: object) -> TypeGuard[npt.NDArray[Any]]:
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiu"


def _float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The plain array; what is masked, or too large, is no number."""
    if isinstance(array, np.ma.MaskedArray):
        array = np.where(np.ma.getmaskarray(array), np.nan, np.ma.getdata(array))
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array, dtype=np.float32)  # a copy: a driver may fill its own again and again


def _kind(thing: object) -> str:
    """What something is, in words."""
    if isinstance(thing, np.ndarray):
        return f"an array of {thing.dtype} of shape {thing.shape}"
    return "nothing" if thing is None else f"a {type(thing).__name__}"
