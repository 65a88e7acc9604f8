"""Reading an overview tile by tile: mirrored beyond its border, reduced by block means, never whole in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoexp.patches import Candidates

PATCH_PX = 16
TILE_PX = 256
SAMPLED_PX = 1_000_000

Indices = npt.NDArray[np.intp]
Map = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """An overview seen at the resolution at which a patch is about ``PATCH_PX`` pixels wide.

    All coordinates of a frame are reduced pixels on the convention that pixel i spans i to i + 1.

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
        return cls(
            image=candidates.image,
            factor=factor,
            patch=max(1, candidates.spec.pixels // factor),
            centres=candidates.centres / factor,
            offset=float(sample.mean()),
            scale=float(sample.std()) or 1.0,
        )

    def blocks(self, multiple: int) -> Iterator[tuple[Indices, tuple[int, int]]]:
        """Candidates by square tile: their indices, and the tile's corner, a multiple of ``multiple``."""
        side = max(TILE_PX // multiple, 1) * multiple
        tile = (self.centres // side).astype(np.intp)
        number = tile[:, 0] * (tile[:, 1].max(initial=0) + 1) + tile[:, 1]
        order = np.argsort(number, kind="stable")
        for indices in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
            if len(indices):
                row, column = tile[indices[0]] * side
                yield indices, (int(row), int(column))

    def read(self, corner: tuple[int, int], shape: tuple[int, int]) -> Map:
        """A window of the standardised, reduced image, mirrored beyond the border.

        Args:
            corner: (y, x) of its first pixel; may be negative.
            shape: (rows, columns).
        """
        low = [c * self.factor for c in corner]
        high = [(c + s) * self.factor for c, s in zip(corner, shape, strict=True)]
        inside = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, self.image.shape, strict=True))
        beyond = [(max(-a, 0), max(b - n, 0)) for a, b, n in zip(low, high, self.image.shape, strict=True)]
        pixels = (np.asarray(self.image[inside], dtype=np.float64) - self.offset) / self.scale
        return block_mean(np.pad(pixels.astype(np.float32), beyond, mode="reflect"), self.factor)

    def release(self) -> None:
        """Let go of the pages of a mapped file that were read; they would count as memory of this process."""
        pages = getattr(self.image, "_mmap", None)
        if pages is not None and getattr(self.image, "mode", "") == "r" and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)


def block_mean(image: Map, factor: int) -> Map:
    """Means over ``factor`` x ``factor`` blocks of (h, w) or (n, h, w); what fills no block is left out."""
    if factor == 1:
        return image
    *lead, h, w = (length // factor * factor if axis >= image.ndim - 2 else length for axis, length in enumerate(image.shape))
    blocks = image[..., :h, :w].reshape(*lead, h // factor, factor, w // factor, factor)
    return np.asarray(blocks.mean(axis=(-3, -1)))
