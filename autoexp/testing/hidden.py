"""Two more controls for Nion's simulator, which act on its deflectors through a matrix that nobody is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.training.instruments import rotations


class HiddenControls:
    """Connects the controls, and puts the aperture in, so that there is a disk.

    Args:
        stem: the simulator's STEM controller.
        names: of the two controls (y, x).
    """

    def __init__(self, stem: Any, names: Sequence[str] = ("AlignY", "AlignX")):
        self._stem = stem
        stem.SetVal("S_VOA", 1)
        self._controls = [stem.create_control(name) for name in names]
        for control in self._controls:
            stem.add_control(control)

    def connect(self, matrix: npt.ArrayLike) -> None:
        """Let them shift the disk by a matrix (2, 2), rad a unit, (y, x) both."""
        for axis, row in zip("yx", np.asarray(matrix, dtype=float), strict=True):
            inputs = [(control, float(part)) for control, part in zip(self._controls, row, strict=True)]
            self._stem.add_control_inputs(f"CAperture.{axis}", inputs)


def turned(angle_rad: float, mirrored: bool) -> npt.NDArray[np.float64]:
    """A rotation (2, 2), of mirrored axes or not."""
    return rotations(angle_rad) @ np.diag([1.0, -1.0 if mirrored else 1.0])
