"""Recorded data to replay campaigns on: an overview, and at every candidate a spectrum or a number."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.campaigns.formats import DatasetError, Raw, read, read_image
from autoexp.errors import PlanError
from autoexp.patches import Candidates, check_image, read_only
from autoexp.plan import PatchSpec, Region, ZeroLossSpec
from autoexp.scalarizers import Scalarizer, Scores
from autoexp.zero_loss import find_zero_loss, scored
from virtual_stem.recordings.dead_pixels import mended, mended_image

MAX_CANDIDATES = 2_000_000
BLOCK = 2000  # spectra that are scored at once
HALF_WAY = 1e-6  # overview pixels; a centre half-way between two pixels is rounded the same way everywhere


@dataclass(frozen=True)
class Dataset:
    """A recorded experiment on which any policy can be tried afterwards.

    Attributes:
        name: what it is called in tables.
        path: where it was read from; empty if it was made in memory.
        image: (H, W) overview.
        positions: (n, 2) where spectra or values were recorded (y, x), fractions of the overview.
        shape: (rows, columns) of the positions, n = rows * columns; (n, 1) where they are no grid.
        spectra: (n, E) recorded spectra, or None.
        energy_eV: (E,) their energies, or None.
        scalar: (n,) recorded values, or None.
        counts_per_electron: gain of the detector where counting noise is known, or None.
        note: what a reader should know, for example that there was no overview.
        regions: where a policy may measure.
        dead: (n,) where nothing usable was recorded, so that no policy may measure there; None where there are none.
    """

    name: str
    path: str
    image: npt.NDArray[np.floating[Any]]
    positions: npt.NDArray[np.float64]
    shape: tuple[int, int]
    spectra: npt.NDArray[Any] | None = None
    energy_eV: npt.NDArray[np.float64] | None = None
    scalar: npt.NDArray[np.float64] | None = None
    counts_per_electron: float | None = None
    note: str = ""
    regions: tuple[Region, ...] = ()
    dead: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def is_grid(self) -> bool:
        """Whether the positions are a grid, so that values can be shown as an image."""
        return self.shape[1] > 1

    def default_patch(self) -> int:
        """Side of a patch in pixels where none is asked for: 8 on small overviews, 16 on others."""
        return 8 if min(self.image.shape) < 128 else 16

    def candidates(self, patch: int | None = None) -> Candidates:
        """Where a policy may measure, with patches of the given side; the border is mirrored."""
        spec = PatchSpec(pixels=patch or self.default_patch(), stride=1, border="reflect")
        nudge = HALF_WAY / np.asarray(self.image.shape)
        positions = np.clip(self.positions + nudge, 0.0, 1.0)
        everywhere = np.ones(len(self), bool)
        candidates = Candidates(self.image, spec, positions, self.shape, everywhere).restricted(self.regions)
        if self.dead is None:
            return candidates
        return replace(candidates, allowed=read_only(candidates.allowed & ~self.dead))

    def score(self, scalarizer: Scalarizer | None, zero_loss: ZeroLossSpec | None = None) -> Scores:
        """Value and counting noise (n,), (n,) of every candidate.

        Args:
            scalarizer: what to look for; None where values are recorded.
            zero_loss: measure energies from each spectrum's own zero-loss peak; one without such has no value.

        Raises:
            PlanError: a scalarizer is missing, is not needed, or does not fit the energy axis.
        """
        found = self._scored(scalarizer, zero_loss)
        return found if self.dead is None else Scores(np.where(self.dead, np.nan, found.value), found.std)

    def _scored(self, scalarizer: Scalarizer | None, zero_loss: ZeroLossSpec | None) -> Scores:
        if self.scalar is not None:
            if scalarizer is not None:
                raise PlanError(f"{self.name} holds recorded values and no spectra: leave the scalarizer out.")
            return Scores(self.scalar, np.zeros(len(self)))
        assert self.spectra is not None and self.energy_eV is not None
        if scalarizer is None:
            low, high = self.energy_eV[0], self.energy_eV[-1]
            raise PlanError(
                f"{self.name} holds spectra from {low:g} to {high:g} eV: say what to look for with a scalarizer, for "
                f"example window:{low + (high - low) / 4:g}-{low + (high - low) / 2:g}"
            )
        scores, trouble = [], None
        for block in filter(len, np.array_split(self.spectra, 1 + len(self) // BLOCK)):
            try:
                scores.append(self._scored_block(scalarizer, block, zero_loss))
            except PlanError as error:  # no spectrum of this block has the windows on its axis
                scores.append(Scores(np.full(len(block), np.nan), np.zeros(len(block))))
                trouble = error
        value = np.concatenate([s.value for s in scores])
        if trouble is not None and not np.isfinite(value).any():
            raise trouble
        return Scores(value, np.nan_to_num(np.concatenate([s.std for s in scores])))

    def _scored_block(self, scalarizer: Scalarizer, block: npt.NDArray[Any], zero_loss: ZeroLossSpec | None) -> Scores:
        assert self.energy_eV is not None
        shift_eV = None
        if zero_loss is not None:
            gain = self.counts_per_electron or 1.0
            shift_eV = -find_zero_loss(block, self.energy_eV, zero_loss.within_eV, gain).position_eV
            if not np.isfinite(shift_eV).any():
                raise PlanError(f"{self.name}: no zero-loss peak lies within {zero_loss.within_eV:g} eV of 0 eV.")
        return scored(scalarizer, block, self.energy_eV, self.counts_per_electron, shift_eV)

    def describe(self) -> dict[str, Any]:
        """What it is, in plain JSON types."""
        return {
            "name": self.name,
            "path": self.path,
            "candidates": len(self),
            "shape": list(self.shape),
            "image_shape": list(self.image.shape),
            "channels": None if self.spectra is None else self.spectra.shape[1],
            "note": self.note,
        }


def load(path: str | pathlib.Path, image: str | pathlib.Path | None = None, signals: Sequence[int] = ()) -> Dataset:
    """Read a dataset: a HyperSpy file, a Swift item (ndata, h5), or an npz in one of the two plain forms.

    The plain forms are ``image (H, W)``, ``spectra (h, w, E)`` and ``energy_eV (E,)``; or ``image (H, W)``,
    ``coords (n, 2)`` (pixel positions y, x, may be fractional; a whole number is a pixel's centre) and ``scalar (n,)``.

    Args:
        path: the file.
        image: file of the overview, where it is not in the first one.
        signals: which of the signals in the file are meant, counted from 1, where there are several.

    Raises:
        DatasetError: the file cannot be used; the message says why.
        MissingDependencyError: a library that its format needs is not installed.
    """
    path = pathlib.Path(path)
    raw = read(path, signals, with_image=image is None)
    if image is not None:
        raw.image = read_image(pathlib.Path(image))
    return from_arrays(raw, name=path.stem, path=str(path))


def from_arrays(raw: Raw, name: str, path: str = "") -> Dataset:
    """A dataset from arrays, checked.

    Raises:
        DatasetError: shapes do not fit, something is missing, or numbers are none.
    """
    if raw.coords is not None or raw.scalar is not None:
        return _recorded_candidates(raw, name, path)
    if raw.spectra is None:
        raise DatasetError(
            f"{name} holds {raw.found()}; needed are image, spectra and energy_eV, or image, coords and scalar."
        )
    return _spectrum_image(raw, name, path)


def _spectrum_image(raw: Raw, name: str, path: str) -> Dataset:
    spectra = _real(raw.spectra, "spectra", name)
    if spectra.ndim != 3:
        raise DatasetError(f"{name}: spectra must have the shape (h, w, E); these have {spectra.shape}.")
    rows, columns, channels = spectra.shape
    _require_count(rows * columns, name)
    if channels < 2:
        raise DatasetError(f"{name}: spectra need at least two channels; these have {channels}.")
    energy = _energy(raw.energy_eV, channels, name)
    spectra, dead, notes = mended(spectra)
    if dead.all():
        raise DatasetError(f"{name}: every spectrum holds values that are NaN or infinite.")
    image, notes = raw.image, [raw.note, *notes]
    if image is None:
        image = spectra.sum(axis=2, dtype=np.float64).astype(np.float32)
        notes.append("No overview was recorded: the sum of each spectrum stands in for one.")
    image, more = _mended_image(image, name)
    note = " ".join(filter(None, [*notes, *more]))
    y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    return Dataset(
        name=name,
        path=path,
        image=image,
        positions=np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2),
        shape=(rows, columns),
        spectra=spectra.reshape(rows * columns, channels),
        energy_eV=energy,
        counts_per_electron=1.0 if _are_counts(spectra) else None,
        note=note,
        dead=dead.ravel() if dead.any() else None,
    )


def _recorded_candidates(raw: Raw, name: str, path: str) -> Dataset:
    for what, array in (("image", raw.image), ("coords", raw.coords), ("scalar", raw.scalar)):
        if array is None:
            raise DatasetError(f"{name}: {what} is missing; recorded candidates need image, coords and scalar.")
    image, notes = _mended_image(raw.image, name)
    coords = _numbers(raw.coords, "coords", name).astype(float)
    scalar = _real(raw.scalar, "scalar", name).astype(float)
    if coords.ndim != 2 or coords.shape[1] != 2:
        raise DatasetError(f"{name}: coords must have the shape (n, 2); these have {coords.shape}.")
    if scalar.shape != (len(coords),):
        raise DatasetError(f"{name}: there are {len(coords)} coords but scalar has the shape {scalar.shape}.")
    _require_count(len(coords), name)
    outside = ((coords < -0.5) | (coords > np.asarray(image.shape) - 0.5)).any(axis=1)
    if outside.any():
        where = ", ".join(f"{c:g}" for c in coords[outside][0])
        raise DatasetError(f"{name}: {outside.sum()} coords lie outside the image of {image.shape}, first ({where}).")
    return Dataset(
        name=name,
        path=path,
        image=image,
        positions=(coords + 0.5) / np.asarray(image.shape),
        shape=_grid_of(coords),
        scalar=scalar,
        note=" ".join(filter(None, [raw.note, *notes])),
        dead=~np.isfinite(scalar) if not np.isfinite(scalar).all() else None,
    )


def _grid_of(coords: npt.NDArray[np.float64]) -> tuple[int, int]:
    """(rows, columns) if the coordinates are a row-major grid, (n, 1) otherwise."""
    jumps = np.flatnonzero(np.abs(np.diff(coords[:, 0])) > 1e-3)
    columns = int(jumps[0]) + 1 if len(jumps) else len(coords)
    if columns < 2 or len(coords) % columns:
        return len(coords), 1
    grid = coords.reshape(-1, columns, 2)
    even = np.allclose(grid[:, :, 0], grid[:, :1, 0], atol=1e-3) and np.allclose(
        grid[:, :, 1], grid[:1, :, 1], atol=1e-3
    )
    return (len(grid), columns) if even else (len(coords), 1)


def _real(array: npt.NDArray[Any] | None, what: str, name: str) -> npt.NDArray[Any]:
    assert array is not None
    if array.dtype.kind not in "fiu":
        raise DatasetError(f"{name}: {what} must hold real numbers; it holds {array.dtype}.")
    return array


def _numbers(array: npt.NDArray[Any] | None, what: str, name: str) -> npt.NDArray[Any]:
    array = _real(array, what, name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise DatasetError(f"{name}: {what} holds {bad} values that are NaN or infinite.")
    return array


def _mended_image(image: npt.NDArray[Any] | None, name: str) -> tuple[npt.NDArray[np.floating[Any]], list[str]]:
    """The overview, checked, and what was mended in it."""
    with np.errstate(over="ignore"):
        single = _real(image, "image", name).astype(np.float32)
    found, notes = mended_image(single)
    try:
        return check_image(found), notes
    except PlanError as error:
        raise DatasetError(f"{name}: {error}") from error


def _energy(energy: npt.NDArray[Any] | None, channels: int, name: str) -> npt.NDArray[np.float64]:
    if energy is None:
        raise DatasetError(f"{name}: energy_eV is missing: the energy of each of the {channels} channels.")
    energy = _numbers(energy, "energy_eV", name).astype(float)
    if energy.shape != (channels,):
        raise DatasetError(f"{name}: energy_eV has the shape {energy.shape}; the spectra have {channels} channels.")
    if not (np.diff(energy) > 0).all():
        raise DatasetError(f"{name}: energy_eV must grow from channel to channel.")
    return energy


def _require_count(count: int, name: str) -> None:
    if not 1 <= count <= MAX_CANDIDATES:
        raise DatasetError(f"{name} holds {count:,} candidates; 1 to {MAX_CANDIDATES:,} can be replayed.")


def _are_counts(spectra: npt.NDArray[Any]) -> bool:
    """Whether the numbers can be counts, so that Poisson statistics tell their noise."""
    return bool(spectra.min() >= 0 and (spectra.dtype.kind in "iu" or (spectra[:1] == np.round(spectra[:1])).all()))
