"""From a spectrum to a number: what the operator is after.

Each scalarizer is a validated model with its units, usable from a plan's JSON and from the panel; it works on all
spectra of a run in one pass. ``score`` also gives the standard deviation that counting noise alone would cause, so
that a model need not guess what is known.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from scipy import ndimage

from autoexp.documents import parse_json
from autoexp.errors import PlanError, ScoreError
from autoexp.fields import Energy, Name, Number, explain
from autoexp.foreign import real_numbers

Array = npt.NDArray[np.float64]
Spectra = npt.NDArray[np.floating[Any]]


class Scores(NamedTuple):
    """Values (n,) and their standard deviations from counting statistics (n,)."""

    value: Array
    std: Array


class _Scalarizer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    covered: ClassVar[float] = 0.9
    """Share of each window that has to lie on the axis."""

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        """Values (n,) of spectra (n, E) on the axis (E,)."""
        raise NotImplementedError

    def score(self, spectra: Spectra, energy_eV: Array, counts_per_electron: float = 1.0) -> Scores:
        """Values and their counting noise.

        The noise is a parametric bootstrap: each channel is redrawn with its Poisson variance (``gain * counts``), the
        same draws for every spectrum, so that equal spectra score equally.
        """
        spectra = np.atleast_2d(np.asarray(spectra, dtype=float))
        draws = np.random.default_rng(0).standard_normal((24, spectra.shape[1]))
        sigma = np.sqrt(np.maximum(spectra, 1.0) * counts_per_electron)
        redrawn = np.stack([self.values(spectra + sigma * draw, energy_eV) for draw in draws])
        return Scores(self.values(spectra, energy_eV), _spread(redrawn))

    def require(self) -> None:
        """Refuse what can be known to be missing before the first spectrum.

        Raises:
            PlanError: what is missing.
        """

    def check_axis(self, energy_eV: Array) -> None:
        """Refuse an axis on which this cannot work.

        Raises:
            PlanError: a window lies outside the axis or between two channels.
        """
        ends = f"which runs from {energy_eV[0]:g} to {energy_eV[-1]:g} eV. Move the window, or the spectrometer."
        for low, high in self.windows():
            if not np.any((energy_eV >= low) & (energy_eV <= high)):
                raise PlanError(f"The window {low:g} to {high:g} eV holds no channel of the spectrum, {ends}")
            there = (min(high, energy_eV[-1]) - max(low, energy_eV[0])) / (high - low)
            if there < self.covered:
                raise PlanError(f"Only {there:.0%} of the window {low:g} to {high:g} eV lies on the spectrum, {ends}")

    def windows(self) -> list[tuple[float, float]]:
        """The energy windows that it looks at, eV."""
        return []

    def describe(self) -> str:
        """What it measures, in a few words."""
        raise NotImplementedError

    @property
    def units(self) -> str:
        """Units of the values."""
        return "counts"


class _Windowed(_Scalarizer):
    low_eV: Energy = Field(description="lower end of the window, eV")
    high_eV: Energy = Field(description="upper end of the window, eV")

    @model_validator(mode="after")
    def _ordered(self) -> _Windowed:
        if not self.low_eV < self.high_eV:
            raise ValueError(f"the window must run upward, not from {self.low_eV:g} to {self.high_eV:g} eV")
        return self

    def windows(self) -> list[tuple[float, float]]:
        return [(self.low_eV, self.high_eV)]

    def _inside(self, energy_eV: Array) -> npt.NDArray[np.bool_]:
        return (energy_eV >= self.low_eV) & (energy_eV <= self.high_eV)

    def _shares(self, energy_eV: Array) -> Array:
        """Which part of each channel (E,) lies in the window, which may begin and end within channels."""
        if len(energy_eV) < 2:
            return self._inside(energy_eV).astype(float)
        middles = (energy_eV[1:] + energy_eV[:-1]) / 2
        edges = np.concatenate([[2 * energy_eV[0] - middles[0]], middles, [2 * energy_eV[-1] - middles[-1]]])
        inside = np.clip(edges, self.low_eV, self.high_eV)
        return np.asarray(np.diff(inside) / np.diff(edges))

    def _span(self) -> str:
        return f"{self.low_eV:g} to {self.high_eV:g} eV"


class Window(_Windowed):
    """Integrated intensity over an energy window, counts."""

    kind: Literal["window"] = "window"

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        return np.asarray(np.asarray(spectra, dtype=float) @ self._shares(energy_eV))

    def describe(self) -> str:
        return f"intensity in {self._span()}"


class Edge(_Windowed):
    """Integrated intensity over a window, above a power law fitted to a window before the edge, counts.

    The power law A E^-r is fitted by the method of ratios of integrals over the two halves of the pre-edge window
    (Egerton, *EELS in the Electron Microscope*, 3rd ed., section 4.4.1), which has no iteration to go astray.
    """

    kind: Literal["edge"] = "edge"
    background_low_eV: Energy = Field(description="lower end of the background window, eV")
    background_high_eV: Energy = Field(description="upper end of the background window, eV; below the edge")

    @model_validator(mode="after")
    def _background_first(self) -> Edge:
        if not 0 < self.background_low_eV < self.background_high_eV <= self.low_eV:
            raise ValueError("the background window must run upward, above 0 eV, and end before the edge's window")
        return self

    def windows(self) -> list[tuple[float, float]]:
        return [(self.background_low_eV, self.background_high_eV), (self.low_eV, self.high_eV)]

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        return np.asarray((spectra - self.background(spectra, energy_eV)) @ self._shares(energy_eV))

    def background(self, spectra: Spectra, energy_eV: Array) -> Array:
        """The fitted background (n, E), on the whole axis."""
        window = np.flatnonzero((energy_eV >= self.background_low_eV) & (energy_eV <= self.background_high_eV))
        window = window[: len(window) // 2 * 2]
        halves = np.array_split(window, 2)
        i1, i2 = (np.maximum(spectra[:, half].mean(axis=1, dtype=float), 1e-6) for half in halves)
        e1, e2 = (np.exp(np.log(energy_eV[half]).mean()) for half in halves)
        r = np.clip(np.log(i1 / i2) / np.log(e2 / e1), -2.0, 10.0)
        shape = (np.maximum(energy_eV, 1e-3)[None] / e1) ** -r[:, None]
        return np.asarray(shape * (spectra[:, window].sum(axis=1) / shape[:, window].sum(axis=1))[:, None])

    def check_axis(self, energy_eV: Array) -> None:
        super().check_axis(energy_eV)
        if np.sum((energy_eV >= self.background_low_eV) & (energy_eV <= self.background_high_eV)) < 4:
            raise PlanError("The background window must hold at least four channels; widen it.")

    def describe(self) -> str:
        return f"edge in {self._span()} over its background"


class PeakHeight(_Windowed):
    """Height of the highest peak in a window, smoothed over a channel or two, at the top of a parabola, counts."""

    kind: Literal["peak-height"] = "peak-height"

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        smooth = _smooth(spectra[:, self._inside(energy_eV)])
        if smooth.shape[1] < 3:
            return np.asarray(smooth.max(axis=1))
        top = smooth.argmax(axis=1)
        rows, inner = np.arange(len(smooth)), np.clip(top, 1, smooth.shape[1] - 2)
        slope = smooth[rows, inner + 1] - smooth[rows, inner - 1]
        return np.asarray(smooth[rows, top] + 0.25 * np.abs(slope * _parabola(smooth, top)))

    def describe(self) -> str:
        return f"peak height in {self._span()}"


class PeakPosition(_Windowed):
    """Energy of the highest peak in a window, refined by a parabola through its top, eV."""

    kind: Literal["peak-position"] = "peak-position"

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        inside = np.flatnonzero(self._inside(energy_eV))
        smooth = _smooth(spectra[:, inside])
        top = smooth.argmax(axis=1)
        return _energy_at(energy_eV[inside], top + _parabola(smooth, top))

    def describe(self) -> str:
        return f"peak position in {self._span()}"

    @property
    def units(self) -> str:
        return "eV"


class PeakWidth(_Windowed):
    """Full width at half maximum of the highest peak in a window, over the window's lowest value, eV."""

    kind: Literal["peak-width"] = "peak-width"

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        inside = self._inside(energy_eV)
        smooth = _smooth(spectra[:, inside])
        smooth = smooth - smooth.min(axis=1, keepdims=True)
        half = smooth.max(axis=1) / 2
        top = smooth.argmax(axis=1)
        rows = list(zip(smooth, top, half, strict=True))
        ends = (np.array([t + way * _crossing(s, t, h, way) for s, t, h in rows]) for way in (1, -1))
        high, low = (_energy_at(energy_eV[inside], end) for end in ends)
        return high - low

    def describe(self) -> str:
        return f"peak width in {self._span()}"

    @property
    def units(self) -> str:
        return "eV"


class Ratio(_Scalarizer):
    """Intensity of one window over that of another, of 1."""

    kind: Literal["ratio"] = "ratio"
    numerator: Window
    denominator: Window

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        below = self.denominator.values(spectra, energy_eV)
        return np.asarray(self.numerator.values(spectra, energy_eV) / np.maximum(below, 1.0))

    def windows(self) -> list[tuple[float, float]]:
        return [*self.numerator.windows(), *self.denominator.windows()]

    def describe(self) -> str:
        return f"ratio of {self.numerator._span()} to {self.denominator._span()}"

    @property
    def units(self) -> str:
        return ""


Intensity = Annotated[Number, Field(ge=-1e30, le=1e30)]


class Similarity(_Scalarizer):
    """Likeness to a reference spectrum: the cosine of the angle between the two, 0 to 1.

    The reference is given on its own axis and interpolated; with a window only that part is compared.
    """

    covered: ClassVar[float] = 0.0

    kind: Literal["similarity"] = "similarity"
    reference: tuple[Intensity, ...] = Field(
        min_length=2, max_length=1_000_000, description="intensities of the target, counts, to ±1e30"
    )
    offset_eV: Energy = Field(description="energy of the reference's first channel, eV")
    scale_eV: Number = Field(ge=1e-6, le=1e4, description="eV per channel of the reference: 1e-6 to 1e4")
    low_eV: Energy | None = Field(None, description="compare from here, eV")
    high_eV: Energy | None = Field(None, description="compare up to here, eV")

    @model_validator(mode="after")
    def _usable(self) -> Similarity:
        if not np.any(self.reference):
            raise ValueError("the reference spectrum must not be all zero")
        if self.low_eV is not None and self.high_eV is not None and not self.low_eV < self.high_eV:
            raise ValueError(f"the window must run upward, not from {self.low_eV:g} to {self.high_eV:g} eV")
        return self

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        own = self.offset_eV + self.scale_eV * np.arange(len(self.reference))
        low = max(own[0], -np.inf if self.low_eV is None else self.low_eV)
        high = min(own[-1], np.inf if self.high_eV is None else self.high_eV)
        inside = (energy_eV >= low) & (energy_eV <= high)
        target = np.interp(energy_eV[inside], own, np.asarray(self.reference))
        part = spectra[:, inside]
        norm = np.linalg.norm(part, axis=1) * np.linalg.norm(target)
        return np.asarray(part @ target / np.maximum(norm, 1e-12))

    def windows(self) -> list[tuple[float, float]]:
        end = self.offset_eV + self.scale_eV * (len(self.reference) - 1)
        low = self.offset_eV if self.low_eV is None else self.low_eV
        return [(low, end if self.high_eV is None else self.high_eV)]

    def describe(self) -> str:
        return "likeness to the target spectrum"

    @property
    def units(self) -> str:
        return ""


UserFunction = Callable[[Spectra, Array], npt.ArrayLike]
_registered: dict[str, tuple[UserFunction, str]] = {}


def register_scalarizer(name: str, function: UserFunction, units: str = "") -> None:
    """Make a function of your own usable in plans as ``{"kind": "function", "name": name}``.

    Args:
        name: how plans refer to it.
        function: takes spectra (n, E) and energies (E,), which it may not change, returns values (n,).
        units: units of the values.
    """
    _registered[name] = function, units


class Function(_Scalarizer):
    """A function that was registered by name with :func:`register_scalarizer`."""

    kind: Literal["function"] = "function"
    name: Name

    def require(self) -> None:
        """Refuse a name under which nothing is registered here; a run that used it can still be read.

        Raises:
            PlanError: which names there are.
        """
        if self.name not in _registered:
            known = ", ".join(sorted(_registered)) or "none is registered"
            raise PlanError(f"No scalarizer function is registered as {self.name!r} (known: {known}).")

    def values(self, spectra: Spectra, energy_eV: Array) -> Array:
        """Values (n,) as the function returns them, NaN where a mask of its lies over them.

        Raises:
            PlanError: no function of that name is registered.
            ScoreError: it returned something else than real numbers, or another number of them.
            Exception: whatever the function raises.
        """
        self.require()
        told = _registered[self.name][0](_read_only(spectra), _read_only(energy_eV))
        try:
            return real_numbers(told, len(spectra))
        except ValueError as error:
            raise ScoreError(
                f"the function {self.name!r} must return one value for each of the {len(spectra)} spectra, a real "
                f"number; it returned {error}"
            ) from error

    def describe(self) -> str:
        return self.name

    @property
    def units(self) -> str:
        return _registered[self.name][1] if self.name in _registered else ""


Scalarizer = Annotated[
    Window | Edge | PeakHeight | PeakPosition | PeakWidth | Ratio | Similarity | Function, Field(discriminator="kind")
]


@functools.cache
def _adapter() -> TypeAdapter[Scalarizer]:
    return TypeAdapter(Scalarizer)


def parse_scalarizer(value: str | bytes | dict[str, Any]) -> Scalarizer:
    """A scalarizer from its JSON or plain form.

    Raises:
        PlanError: it is not valid; the message names the field.
    """
    try:
        document = parse_json(value, "It") if isinstance(value, str | bytes) else value
        return _adapter().validate_python(document)
    except PlanError as error:
        raise PlanError(f"This scalarizer cannot be used: {error}") from error
    except ValidationError as error:
        raise PlanError(f"This scalarizer cannot be used:\n{explain(error)}") from error


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view through which nothing can be changed."""
    view = array.view()
    view.flags.writeable = False
    return view


def _spread(values: Array) -> Array:
    """Standard deviation (n,) of what is finite among values (draws, n); NaN where nothing is."""
    known = np.where(np.isfinite(values), values, np.nan)
    some = ~np.isnan(known).all(axis=0)
    spread = np.full(values.shape[1], np.nan)
    spread[some] = np.nanstd(known[:, some], axis=0)
    return spread


def _smooth(spectra: Spectra) -> Array:
    return np.asarray(ndimage.gaussian_filter1d(np.asarray(spectra, dtype=float), 1.0, axis=1, mode="nearest"))


def _energy_at(energy_eV: Array, channel: Array) -> Array:
    """Energies at channels that need not be whole; the axis need not be even."""
    return np.asarray(np.interp(channel, np.arange(len(energy_eV)), energy_eV))


def _parabola(rows: Array, top: npt.NDArray[np.intp]) -> Array:
    """Offset of the vertex of the parabola through the highest channel and its neighbours, -0.5..0.5 channels."""
    inner = np.clip(top, 1, max(1, rows.shape[1] - 2))
    if rows.shape[1] < 3:
        return np.zeros(len(rows))
    line = np.arange(len(rows))
    a, b, c = rows[line, inner - 1], rows[line, inner], rows[line, inner + 1]
    bend = a - 2 * b + c
    shift = np.where(bend < 0, 0.5 * (a - c) / np.where(bend < 0, bend, 1.0), 0.0)
    return np.where(inner == top, np.clip(shift, -0.5, 0.5), 0.0)


def _crossing(row: Array, top: int, level: float, step: int) -> float:
    """Channels from the top to where the row falls to ``level``, going up or down; to the end if it never does."""
    side = row[top::step] if step > 0 else row[top::-1]
    below = np.flatnonzero(side < level)
    if not len(below):
        return float(len(side) - 1)
    k = int(below[0])
    return float(k - 1 + (side[k - 1] - level) / (side[k - 1] - side[k]))
