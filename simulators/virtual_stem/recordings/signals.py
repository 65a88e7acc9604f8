"""What a file of recorded data holds: arrays, and what their axes mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from virtual_stem.units import electronvolts, nanometres


class RecordingError(ValueError):
    """A file of recorded data cannot be used; the message says why, and begins with what it holds."""


class MissingLibraryError(RecordingError):
    """A library that a kind of file needs is not installed."""


@dataclass(frozen=True)
class Axis:
    """Calibration of one axis: the value at index i is ``offset + scale * i``, in ``units``; or ``values[i]``."""

    offset: float = 0.0
    scale: float = 1.0
    units: str = ""
    values: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.offset) and math.isfinite(self.scale)):
            raise RecordingError("it has a calibration that is no finite number")

    @property
    def step_nm(self) -> float | None:
        """Size of a step in nm; None where the axis is no length."""
        factor = nanometres(self.units)
        return abs(self.scale) * factor if factor and self.scale and self.values is None else None

    @property
    def in_eV(self) -> Axis | None:
        """The same in eV; None where the axis is no energy."""
        factor = electronvolts(self.units)
        if factor is None:
            return None
        values = None if self.values is None else self.values * factor
        return Axis(self.offset * factor, self.scale * factor, "eV", values)

    def at(self, length: int) -> npt.NDArray[np.float64]:
        """The values at all of so many indices."""
        if self.values is not None:
            return np.asarray(self.values)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.offset + self.scale * np.arange(length))


@dataclass(frozen=True)
class Signal:
    """A recorded array and its axes, one for each dimension; the energy comes last where there is one.

    Attributes:
        data: real numbers.
        axes: one for each dimension.
        datum: how many of the last dimensions belong to one measurement: 1 for spectra, 2 for images; None where the
            file does not say.
        name: its title in the file.
        kind: what was measured, as HyperSpy and Swift call it: EELS, EDS_TEM …; empty where the file does not say.
        sequence: whether the first dimension is time: the same thing one time after the other.
    """

    data: npt.NDArray[Any]
    axes: tuple[Axis, ...]
    datum: int | None = None
    name: str = ""
    kind: str = ""
    sequence: bool = False

    def __post_init__(self) -> None:
        require_real(self.data.dtype)
        if len(self.axes) != self.data.ndim:
            raise RecordingError(f"{len(self.axes)} calibrations do not fit an array of shape {self.data.shape}")


@dataclass(frozen=True)
class Recording:
    """All that a file holds: arrays with axes, or, in an archive of plain arrays, arrays by name."""

    signals: tuple[Signal, ...] = ()
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass
class Room:
    """How many bytes of data may still be read."""

    most: int
    taken: int = 0

    def take(self, size: int) -> None:
        """Count an array before it is read.

        Raises:
            RecordingError: there is no room for it.
        """
        self.taken += size
        if self.taken > self.most:
            raise RecordingError(f"it holds {in_words(self.taken)}; at most {in_words(self.most)} can be read")


def require_real(dtype: np.dtype[Any]) -> None:
    """Refuse what is no array of real numbers.

    Raises:
        RecordingError: what it is instead.
    """
    if dtype.hasobject:
        raise RecordingError("it holds Python objects (as allow_pickle would let in), which are never loaded")
    if dtype.kind not in "iuf":
        raise RecordingError(f"it holds {dtype!s:.40} instead of real numbers")


def in_line(text: object) -> str:
    """Text of a file as it can be shown in a sentence; empty where it is none."""
    if not isinstance(text, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in text[:60]).strip()


def in_words(size: int) -> str:
    """A number of bytes, as it is said."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**28 else f"{size:,} bytes"
