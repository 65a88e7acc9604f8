"""Flat particles on a film, as rounded rectangles: discs, rods, cubes; and where their localised modes sit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from virtual_stem.maps import Box, grain, map_boxes
from virtual_stem.specimen import Array, Image

Index = npt.NDArray[np.intp] | int
FILM_HAADF = 0.02
TIPS = 4


@dataclass(frozen=True)
class Particles:
    """Rounded rectangles: centre (n, 2) nm, half sides (n, 2) nm, corner radius (n,) nm, angle (n,) rad.

    Methods take positions (..., 2) and the particles (...) that they are meant for, or one particle for all.
    """

    centre: Array
    half: Array
    radius: Array
    angle: Array

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.centre)

    def __len__(self) -> int:
        return len(self.angle)

    @property
    def reach(self) -> Array:
        """Largest distance (n,) of an outline from its particle's centre, nm."""
        return np.asarray(np.hypot(*self.half.T))

    def local(self, points_nm: Array, index: Index) -> Array:
        """Positions (..., 2) in the frames of their particles."""
        c, s = np.cos(self.angle[index]), np.sin(self.angle[index])
        y, x = np.moveaxis(points_nm - self.centre[index], -1, 0)
        return np.stack([y * c - x * s, y * s + x * c], axis=-1)

    def to_specimen(self, local_nm: Array, index: Index) -> Array:
        """The way back from :meth:`local`."""
        c, s = np.cos(self.angle[index]), np.sin(self.angle[index])
        a, b = np.moveaxis(local_nm, -1, 0)
        return np.stack([a * c + b * s, b * c - a * s], axis=-1) + self.centre[index]

    def signed_distance(self, local_nm: Array, index: Index) -> Array:
        """Distance (...) to the outline in nm, negative inside."""
        radius = self.radius[index]
        q = np.abs(local_nm) - (self.half[index] - np.asarray(radius)[..., None])
        outside = np.hypot(*np.moveaxis(np.maximum(q, 0), -1, 0))
        return np.asarray(outside + np.minimum(np.max(q, axis=-1), 0) - radius)

    def tips(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Where localised modes sit, in the particles' frames: positions (n, 4, 2) nm, and which of them exist (n, 4).

        A rectangle has its four corners, a rod its two ends, a disc none.
        """
        a, b = self.half.T
        pointed = self.radius < 0.6 * np.minimum(a, b)
        round_ = ~pointed & (np.abs(a - b) < 0.2 * np.maximum(a, b))
        corners = (self.half - 0.29 * self.radius[:, None])[:, None] * [[-1, -1], [-1, 1], [1, -1], [1, 1]]
        ends = np.where((a > b)[:, None], [1.0, 0.0], [0.0, 1.0]) * self.half
        positions = np.where(pointed[:, None, None], corners, ends[:, None] * np.array([1, -1, 0, 0])[:, None])
        exist = np.stack([~round_, ~round_, pointed, pointed], axis=1)
        return positions, exist

    def near(self, points_nm: Array, reach_nm: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Pairs of a point and a particle whose centre lies within reach: indices (p,) of points and of particles."""
        found = self._tree.query_ball_point(points_nm, reach_nm)
        counts = np.fromiter(map(len, found), np.intp, len(found))
        particles = np.fromiter((k for near in found for k in near), np.intp, int(counts.sum()))
        return np.repeat(np.arange(len(points_nm)), counts), particles

    def render(self, size_nm: float, pixels: int, rng: np.random.Generator, contrast: Array | float = 0.10) -> Image:
        """A HAADF map (pixels, pixels): particles of given contrast (n,) on a grainy film."""
        image = FILM_HAADF * (1 + np.float32(0.2) * grain(rng, pixels, 6.0))
        contrasts = np.broadcast_to(contrast, len(self))
        for k, box, distance in self.outlines(size_nm, pixels, 4.0):
            image[box] += contrasts[k] / (1 + np.exp(np.minimum(distance, 40) / 1.2))
        return np.asarray(ndimage.gaussian_filter(image, 0.6 * pixels / size_nm))

    def outlines(self, size_nm: float, pixels: int, margin_nm: float) -> Iterator[tuple[int, Box, Image]]:
        """For each particle: its number, the part of a map (pixels, pixels) around it, and distances to its outline."""
        for k, box, points in map_boxes(self.centre, self.reach + margin_nm, size_nm, pixels):
            yield k, box, self.signed_distance(self.local(points, k), k)
