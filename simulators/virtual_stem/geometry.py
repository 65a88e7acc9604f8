"""How fractional positions in a scan lie on the stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from virtual_stem.specimen import Array


@dataclass(frozen=True)
class ScanGeometry:
    """A scanned field, and the way from fractional positions (y, x) in it to the stage and back.

    Attributes:
        fov_nm: (height, width) of the field.
        center_nm: (y, x) of its centre on the stage.
        rotation_rad: scan rotation about the centre of the field, in the sense of Swift's ``FloatPoint.rotate``.
    """

    fov_nm: tuple[float, float]
    center_nm: tuple[float, float] = (0.0, 0.0)
    rotation_rad: float = 0.0

    @classmethod
    def spanning(
        cls,
        fov_nm: float,
        shape: tuple[int, int],
        center_nm: tuple[float, float] = (0.0, 0.0),
        rotation_rad: float = 0.0,
    ) -> ScanGeometry:
        """The field of a scan of (h, w) square pixels whose longer side is ``fov_nm``.

        That is how Swift calibrates its scan images. Its frame parameters and its scan context each have a field of
        view of their own for other shapes, which disagree between them and between versions.
        """
        pixel = fov_nm / max(shape)
        return cls((pixel * shape[0], pixel * shape[1]), center_nm, rotation_rad)

    @property
    def axes(self) -> Array:
        """The field's sides as stage vectors: row 0 runs down, row 1 across; (2, 2) nm, both (y, x)."""
        c, s = np.cos(self.rotation_rad), np.sin(self.rotation_rad)
        return np.asarray(np.asarray(self.fov_nm)[:, None] * np.array([[c, -s], [s, c]]))

    def to_stage(self, fractions: npt.ArrayLike) -> Array:
        """Positions in nm of fractional positions (..., 2) in 0..1."""
        return np.asarray((np.asarray(fractions) - 0.5) @ self.axes + self.center_nm)

    def to_fractions(self, stage_nm: npt.ArrayLike) -> Array:
        """Fractional positions (..., 2) of positions in nm."""
        return np.asarray((np.asarray(stage_nm) - self.center_nm) @ np.linalg.inv(self.axes) + 0.5)

    def pixel_centres(self, shape: tuple[int, int]) -> Array:
        """Stage positions (h, w, 2) in nm of the pixels of a scan."""
        y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in shape)
        down, across = self.axes
        planes = [y[:, None] * down[k] + x[None] * across[k] + self.center_nm[k] for k in (0, 1)]
        # The planes lie one behind the other, as interpolation wants them; the copy it would make costs as much.
        return np.moveaxis(np.stack(planes), 0, -1)

    def part(
        self, center: tuple[float, float], size: tuple[float, float] = (1.0, 1.0), rotation_rad: float = 0.0
    ) -> ScanGeometry:
        """A subscan: its centre and size as fractions of this field, and its own rotation, as Swift gives them."""
        middle = self.to_stage(center)
        fov = self.fov_nm[0] * size[0], self.fov_nm[1] * size[1]
        return ScanGeometry(fov, (float(middle[0]), float(middle[1])), self.rotation_rad - rotation_rad)
