"""Convex polygons, as the facets of a crystal make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from virtual_stem.specimen import Array


@dataclass(frozen=True)
class Polygon:
    """A convex polygon: the common part of half planes.

    Attributes:
        centre: (2,) nm, a point inside.
        angle: (m,) directions of the outward normals, rad from the y axis towards the x axis.
        apothem: (m,) distances of the sides from the centre, nm.
    """

    centre: Array
    angle: Array
    apothem: Array

    @classmethod
    def irregular(cls, rng: np.random.Generator, centre: Array, radius_nm: float, sides: int, turn: float) -> Polygon:
        """A polygon with evenly turned sides at uneven distances, 0.75 to 1.1 times the radius."""
        angle = turn + 2 * np.pi * np.arange(sides) / sides
        return cls(centre, angle, radius_nm * rng.uniform(0.75, 1.1, sides))

    @property
    def reach(self) -> float:
        """Distance from the centre beyond which no point of it lies, nm."""
        spacing = np.pi / len(self.angle)
        return float(self.apothem.max() / np.cos(spacing))

    def distance(self, points_nm: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
        """Distance (...) of positions (..., 2) to the outline, negative inside, and the nearest side (...)."""
        offset = points_nm - self.centre.astype(points_nm.dtype)
        normals = np.stack([np.cos(self.angle), np.sin(self.angle)]).astype(points_nm.dtype)
        sides = offset @ normals - self.apothem.astype(points_nm.dtype)
        return sides.max(axis=-1), sides.argmax(axis=-1)
