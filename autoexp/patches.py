"""From an overview to candidates: positions to choose from, and the patch of image around each.

Patches are views into the image, cut when asked for, so that an overview larger than memory can stay on disk.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.errors import PlanError
from autoexp.plan import PatchSpec, Region


@dataclass(frozen=True)
class Candidates:
    """Where one may measure.

    Attributes:
        image: (h, w) overview, possibly mapped from disk.
        spec: how it is cut.
        positions: (n, 2) patch centres (y, x), fractions of the overview; row-major.
        shape: (rows, columns) of the candidates, n = rows * columns.
        allowed: (n,) False where a region forbids to measure.
        regions: those that were obeyed.
        shifts: (y, x), fractions of the field, by which a position moves and has to stay inside.
    """

    image: npt.NDArray[np.floating]
    spec: PatchSpec
    positions: npt.NDArray[np.float64]
    shape: tuple[int, int]
    allowed: npt.NDArray[np.bool_]
    regions: tuple[Region, ...] = ()
    shifts: tuple[tuple[float, float], ...] = ()

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Patch centres (n, 2) in pixels, on the convention that pixel i spans i to i + 1."""
        return np.asarray(self.positions * np.asarray(self.image.shape))

    def patches(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The patches (k, p, p) of the given candidates."""
        p = self.spec.pixels
        # half a pixel goes up, always: rounding to even would give two neighbours the same patch
        corner = np.floor(self.centres[np.atleast_1d(np.asarray(indices))] - p / 2 + 0.5 + 1e-6).astype(int)
        rows, columns = (corner[:, axis, None] + np.arange(p) for axis in (0, 1))
        rows, columns = _mirror(rows, self.image.shape[0]), _mirror(columns, self.image.shape[1])
        return np.asarray(self.image[rows[:, :, None], columns[:, None, :]], dtype=np.float32)

    def restricted(self, regions: Iterable[Region]) -> Candidates:
        """The same with the regions obeyed: inside any ``include`` if there is one, outside every ``exclude``."""
        regions = tuple(regions)
        return replace(self, allowed=read_only(allowed_by(regions, self.positions)), regions=regions)

    def within(self, shifts: Iterable[tuple[float, float]]) -> Candidates:
        """The same without those that leave the field when they move by any of the shifts (y, x), fractions of it."""
        shifts = tuple(shifts)
        return replace(self, allowed=read_only(self.allowed & stays_inside(shifts, self.positions)), shifts=shifts)

    def allows(self, position: tuple[float, float]) -> bool:
        """Whether one may measure at a position (y, x), be it a candidate's or not."""
        where = np.array([position], dtype=float)
        return bool(allowed_by(self.regions, where)[0] and stays_inside(self.shifts or ((0.0, 0.0),), where)[0])

    def nearest(self, position: tuple[float, float]) -> int:
        """Index of the candidate nearest to a position."""
        distance = ((self.positions - np.asarray(position)) * np.asarray(self.image.shape)) ** 2
        return int(distance.sum(axis=1).argmin())


def cut(image: npt.NDArray[np.floating], spec: PatchSpec) -> Candidates:
    """Lay candidates over an overview.

    Args:
        image: (h, w) overview, counts.
        spec: patch size, stride and what to do at the border.

    Raises:
        PlanError: the image is not a finite two-dimensional one, or no patch fits.
    """
    image = check_image(image)
    shape = spec.grid(image.shape)
    if 0 in shape:
        raise PlanError(
            f"No patch of {spec.pixels} px fits into an overview of {image.shape[0]} x {image.shape[1]} px. "
            "Choose a smaller patch, or border='reflect'."
        )
    lines = [np.arange(count) * spec.stride + spec.reach / 2 for count in shape]
    centres = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    return Candidates(
        image=read_only(image),
        spec=spec,
        positions=read_only(centres / np.asarray(image.shape)),
        shape=shape,
        allowed=read_only(np.ones(len(centres), bool)),
    )


def allowed_by(regions: Iterable[Region], positions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which positions (n, 2) lie inside any ``include`` region, if there is one, and outside every ``exclude``."""
    y, x = positions.T
    regions = list(regions)
    inside = {r.id: (y >= r.top) & (y <= r.bottom) & (x >= r.left) & (x <= r.right) for r in regions}
    included = [inside[r.id] for r in regions if r.kind == "include"]
    allowed = np.any(included, axis=0) if included else np.ones(len(positions), bool)
    for region in regions:
        if region.kind == "exclude":
            allowed &= ~inside[region.id]
    return np.asarray(allowed)


def stays_inside(shifts: Iterable[tuple[float, float]], positions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which positions (n, 2) stay in the field when they move by any of the shifts (y, x), fractions of it."""
    moved = [positions + np.asarray(shift) for shift in shifts]
    return np.asarray(np.all([((m >= 0) & (m <= 1)).all(axis=1) for m in moved], axis=0))


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values where nobody can write to them, for code that is not ours; the array itself stays as it is."""
    if isinstance(array, np.memmap) and array.mode == "r":
        return array
    buffer: Any = array
    return np.asarray(memoryview(buffer).toreadonly())  # unlike a view it cannot be made writeable again


def check_image(image: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The image, if it can be an overview.

    Raises:
        PlanError: it is empty, has the wrong dimensions, is complex, or holds NaN or infinity.
    """
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        raise PlanError("The overview is a colour image; take a single scan channel instead.")
    if image.ndim != 2:
        raise PlanError(f"The overview must be a two-dimensional image; this one has shape {image.shape}.")
    if not image.size:
        raise PlanError("The overview is empty.")
    if np.iscomplexobj(image) or image.dtype.kind not in "fiub":
        raise PlanError(f"The overview must hold real numbers; this one holds {image.dtype}.")
    if image.dtype.kind == "f" and not all(_finite(block, image) for block in np.array_split(image, 64)):
        raise PlanError("The overview holds NaN or infinity; take it again.")
    return image


def release_pages(image: npt.NDArray[np.floating]) -> None:
    """Let go of the pages of a mapped file that were read; they would count as memory of this process."""
    pages = getattr(image, "_mmap", None)
    if pages is not None and getattr(image, "mode", "") == "r" and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _finite(block: npt.NDArray[np.floating], image: npt.NDArray[np.floating]) -> bool:
    finite = bool(np.isfinite(block).all())
    release_pages(image)
    return finite


def _mirror(index: npt.NDArray[np.int_], length: int) -> npt.NDArray[np.int_]:
    """Reflect indices at both borders; a border pixel is not repeated."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))
