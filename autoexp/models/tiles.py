"""Reading an overview tile by tile: mirrored beyond its border, reduced by block means, never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoexp.patches import Candidates, release_pages

PATCH_PX = 16
TILE_PX = 256
ALIGN = 16
BLOCK = 256
SAMPLED_PX = 1_000_000

Indices = npt.NDArray[np.intp]
Map = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """An overview seen at the resolution at which a patch is about ``PATCH_PX`` pixels wide.

    All coordinates of a frame are reduced pixels, on the convention that pixel i spans i to i + 1.

    Attributes:
        image: (h, w) overview, possibly mapped from disk.
        factor: overview pixels per reduced pixel, along each axis.
        patch: side of a patch, reduced pixels.
        centres: (n, 2) patch centres (y, x), reduced pixels.
        offset: what is subtracted from the image, counts.
        scale: what it is divided by, counts; 1 for a constant image.
    """

    image: npt.NDArray[np.floating]
    factor: int
    patch: int
    centres: Points
    offset: float
    scale: float

    @classmethod
    def of(cls, candidates: Candidates) -> Frame:
        """The frame of some candidates."""
        factor = max(1, round(candidates.spec.pixels / PATCH_PX))
        rows = max(1, candidates.image.size // SAMPLED_PX)  # whole rows: a mapped file is read in pages
        sample = np.asarray(candidates.image[::rows], dtype=np.float64)
        mean, spread = float(sample.mean()), float(sample.std())
        return cls(
            image=candidates.image,
            factor=factor,
            patch=max(1, candidates.spec.pixels // factor),
            centres=candidates.centres / factor,
            offset=mean,
            scale=spread if spread > 1e-9 * abs(mean) else 1.0,  # below that it is rounding, not structure
        )

    def tiles(self, margin: int) -> Iterator[tuple[Indices, Map, Points]]:
        """Candidates by square tile.

        Tiles begin at multiples of ``ALIGN``, so that a pyramid on them does not depend on where they begin.

        Args:
            margin: pixels round its candidates that a tile has to show, a multiple of ``ALIGN``.

        Yields:
            indices (k,) of the candidates, the tile (h, w), and their centres (k, 2) in it.
        """
        square = (self.centres // TILE_PX).astype(np.intp)
        number = square[:, 0] * (square[:, 1].max(initial=0) + 1) + square[:, 1]
        order = np.argsort(number, kind="stable")
        for indices in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
            corner = square[indices[0]] * TILE_PX - margin
            centres = self.centres[indices] - corner
            shape = -(-(np.ceil(centres.max(axis=0)).astype(int) + margin) // ALIGN) * ALIGN
            yield indices, self.read(corner, shape), centres
            release_pages(self.image)

    def read(self, corner: Indices, shape: Indices) -> Map:
        """A window of the standardised, reduced image, mirrored beyond the border.

        Args:
            corner: (y, x) of its first pixel; may be negative.
            shape: (rows, columns).
        """
        low, high, size = corner * self.factor, (corner + shape) * self.factor, np.asarray(self.image.shape)
        (top, left), (bottom, right) = np.maximum(low, 0), np.minimum(high, size)
        beyond = np.stack([np.maximum(-low, 0), np.maximum(high - size, 0)], axis=1)
        return self._reduced(np.pad(self.image[top:bottom, left:right], beyond, mode="reflect"))

    def patches(self, candidates: Candidates, indices: Indices) -> Map:
        """Standardised, reduced patches (k, patch²) of a few candidates."""
        patches = self._reduced(candidates.patches(indices))[:, : self.patch, : self.patch]
        return patches.reshape(len(indices), -1)

    def patch_blocks(self, candidates: Candidates, indices: Indices) -> Iterator[Map]:
        """The same of many candidates, some at a time: as they are cut, before they are reduced, they may be large."""
        for block in np.array_split(indices, -(-len(indices) // BLOCK)):
            yield self.patches(candidates, block)

    def _reduced(self, pixels: npt.NDArray[np.floating]) -> Map:
        return block_mean(((pixels.astype(np.float64) - self.offset) / self.scale).astype(np.float32), self.factor)


def block_mean(image: Map, factor: int) -> Map:
    """Means over ``factor`` x ``factor`` blocks of (..., h, w); what fills no block is left out."""
    if factor == 1:
        return image
    h, w = (length // factor * factor for length in image.shape[-2:])
    rows = sum((image[..., i:h:factor, :w] for i in range(1, factor)), image[..., 0:h:factor, :w])
    both = sum((rows[..., i::factor] for i in range(1, factor)), rows[..., ::factor])
    return np.asarray(both / np.float32(factor**2))
