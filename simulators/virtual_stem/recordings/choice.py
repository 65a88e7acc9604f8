"""Which of the signals in a file is the map of spectra, and which image shows its field.

They are chosen by what they are, never by their size: energy losses first, then whatever has an axis of energy; an
image only if it shows the same field. Where that leaves several, or none, they are listed, and whoever asked chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from virtual_stem.recordings.signals import RecordingError, Signal

SAME_FIELD = 0.02
"""Share by which the sides of a field may differ, beside a pixel of either."""
BY_OPTION = "choose with --signal and its number"
MOST_SHOWN = 20


@dataclass(frozen=True)
class Choice:
    """What is used of a file.

    Attributes:
        cube: the map (h, w, E).
        image: the overview (H, W); None where there is none.
        notes: what whoever uses them should know, in sentences.
    """

    cube: Signal
    image: Signal | None = None
    notes: tuple[str, ...] = ()


def choose(
    signals: Sequence[Signal], numbers: Sequence[int] = (), with_image: bool = True, how: str = BY_OPTION
) -> Choice:
    """The map of spectra of a file and its overview.

    Args:
        signals: all that the file holds.
        numbers: which of them are meant, counted from 1; of a kind that none of them names, all may be meant.
        with_image: whether an overview is wanted too.
        how: what to do where there are several, for the message.

    Raises:
        RecordingError: there is no such map, or more than one that may be meant.
    """
    there = {number: _flat(signal) for number, signal in enumerate(signals, 1)}
    cubes = _meant(there, numbers, _is_map)
    if not cubes:
        raise RecordingError(f"it holds {listed(there)}; a map of spectra (h, w, E) is wanted{_advice(there)}")
    cube = _only(_narrowed(cubes), "maps of spectra", how)
    if not with_image:
        return Choice(cube)
    return Choice(cube, *_overview(cube, _meant(there, numbers, _is_image), how))


def choose_image(signals: Sequence[Signal]) -> Signal:
    """The one image of a file.

    Raises:
        RecordingError: there is none, or more than one.
    """
    there = {number: _flat(signal) for number, signal in enumerate(signals, 1)}
    images = _meant(there, (), _is_image)
    if not images:
        raise RecordingError(f"it holds {listed(there)}; an image (h, w) is wanted")
    return _only(images, "images", "save the one that is meant by itself")


def listed(signals: dict[int, Signal]) -> str:
    """What there is, by its dimensions; numbered where there are several."""
    parts = [describe(signal) if len(signals) == 1 else f"{n}: {describe(signal)}" for n, signal in signals.items()]
    more = [f"and {len(parts) - MOST_SHOWN} more"] if len(parts) > MOST_SHOWN else []
    return "; ".join(parts[:MOST_SHOWN] + more) or "nothing that is known"


def describe(signal: Signal) -> str:
    """What a signal is, in words, with its dimensions and its name."""
    about = f" ({signal.name})" if signal.name else ""
    shape = [f"{length:,}" for length in signal.data.shape]
    if signal.datum not in (1, 2) or len(shape) < signal.datum:
        return f"an array of {' × '.join(shape)}{about}"
    over, each = shape[: -signal.datum], " × ".join(shape[-signal.datum :])
    if signal.datum == 1:
        one, many, size = "a spectrum", "spectra", f"with {each} channels{_in(signal.axes[-1].units)}"
    else:
        one, many, size = "an image", "images", f"of {each} pixels"
    laid = ["a line" if signal.datum == 1 else "a stack", "a map", "a series"]
    if signal.sequence:
        laid[0] = "a sequence"
    if not over:
        return f"{one} {size}{about}"
    return f"{laid[min(len(over), 3) - 1]} of {' × '.join(over)} {many} {size}{about}"


def _in(units: str) -> str:
    return f" in {units.strip()[:20]}" if units.strip() else ""


# --- how they are told apart


def _is_map(signal: Signal) -> bool:
    return signal.data.ndim == 3 and signal.datum in (1, None) and not signal.sequence


def _is_image(signal: Signal) -> bool:
    return signal.data.ndim == 2 and signal.datum in (2, None) and signal.axes[-1].in_eV is None


def _meant(there: dict[int, Signal], numbers: Sequence[int], wanted: Callable[[Signal], bool]) -> dict[int, Signal]:
    """Those of one kind; where numbers name some of that kind, only these."""
    for number in numbers:
        if number not in there or not (_is_map(there[number]) or _is_image(there[number])):
            raise RecordingError(f"signal {number} of it is neither a map nor an image; it holds {listed(there)}")
    found = {number: signal for number, signal in there.items() if wanted(signal)}
    return {number: signal for number, signal in found.items() if number in numbers} or found


def _flat(signal: Signal) -> Signal:
    """The signal without dimensions of one step over which nothing was recorded, beyond those of a map."""
    data, axes, datum, sequence = signal.data, list(signal.axes), signal.datum, signal.sequence
    while data.ndim > 2 and (data.ndim > 3 or datum == 2) and 1 in data.shape[: data.ndim - (datum or 1)]:
        k = data.shape.index(1)
        sequence = sequence and k != 0
        data, axes = data.squeeze(k), axes[:k] + axes[k + 1 :]
    return Signal(data, tuple(axes), datum, signal.name, signal.kind, sequence)


def _narrowed(cubes: dict[int, Signal]) -> dict[int, Signal]:
    """The maps of energy losses, where there are such; else those with an axis of energy."""
    losses = {n: s for n, s in cubes.items() if s.kind.upper().startswith("EELS")}
    energies = {n: s for n, s in cubes.items() if s.axes[-1].in_eV is not None}
    return losses or energies or cubes


def _only(signals: dict[int, Signal], what: str, how: str) -> Signal:
    if len(signals) > 1:
        raise RecordingError(f"it holds {len(signals)} {what}: {listed(signals)}; {how}")
    return next(iter(signals.values()))


def _overview(cube: Signal, images: dict[int, Signal], how: str) -> tuple[Signal | None, tuple[str, ...]]:
    field = _field(cube)
    others, fitting, unknown = [], {}, {}
    for number, image in images.items():
        own = _field(image)
        if field is None or own is None:
            unknown[number] = image
        elif _same(field, own, cube, image):
            fitting[number] = image
        else:
            others.append(
                f"The image{f' {image.name!r}' if image.name else ''} shows {_nm(own)}, the map {_nm(field)}: "
                "that is another field, so it is not the overview."
            )
    chosen = _preferred(fitting or unknown)
    if not chosen:
        return None, tuple(others)
    if not fitting:
        others.append("It is not known whether image and map show the same field; that is assumed.")
    return _only(chosen, "images", how), tuple(others)


def _preferred(images: dict[int, Signal]) -> dict[int, Signal]:
    """The dark-field image, if that is one among several."""
    dark = {n: s for n, s in images.items() if "haadf" in s.name.lower()}
    return dark if len(dark) == 1 else images


def _field(signal: Signal) -> tuple[float, float] | None:
    """(height, width) in nm; None where it is not calibrated."""
    steps = [axis.step_nm for axis in signal.axes[:2]]
    if steps[0] is None or steps[1] is None:
        return None
    return steps[0] * signal.data.shape[0], steps[1] * signal.data.shape[1]


def _same(field: tuple[float, float], own: tuple[float, float], cube: Signal, image: Signal) -> bool:
    pixels = [field[k] / cube.data.shape[k] + own[k] / image.data.shape[k] for k in (0, 1)]
    return all(abs(field[k] - own[k]) <= SAME_FIELD * field[k] + pixels[k] for k in (0, 1))


def _nm(field: tuple[float, float]) -> str:
    return f"{field[0]:.4g} × {field[1]:.4g} nm"


def _advice(there: dict[int, Signal]) -> str:
    """What would make a map of what there is."""
    signal = max(there.values(), key=lambda s: s.data.ndim, default=None)
    if signal is None or signal.datum is None:
        return ""
    over = signal.data.ndim - signal.datum
    if signal.datum == 1 and over == 3:
        return ": save one of the maps by itself"
    if signal.datum == 2 and over == 1 and not signal.sequence:
        return ": if the images are slices of one, make their axis the energy (as_signal1D(0) in HyperSpy)"
    return ""
