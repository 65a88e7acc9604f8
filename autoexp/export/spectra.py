"""The spectra of a run as the journal knows them: each is compared with its checksum before it is handed out."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.runlog import RunReader
from autoexp.state import RunState, fold

BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class CheckedSpectra:
    """Spectra that are as they were written.

    Attributes:
        points: ids of the points whose spectra are good, in the order in which they were asked for.
        counts: (n, E) float32, their spectra.
        damaged: ids of the points whose spectra are missing or do not fit their checksums.
    """

    points: tuple[int, ...]
    counts: npt.NDArray[np.float32]
    damaged: tuple[int, ...]


def checked(reader: RunReader, points: Iterable[int]) -> CheckedSpectra:
    """The spectra of points, by id, as far as they are good; a point without a record is passed over."""
    events = (record.event for record in reader.records)
    refs = {e.id: e.record for e in events if isinstance(e, ev.Measured | ev.Failed) and e.record is not None}
    wanted = [(point, refs[point]) for point in points if point in refs]
    stored = _stored(reader)
    good = {point for point, ref in wanted if ref.index < len(stored) and _crc(stored[ref.index]) == ref.crc32}
    return CheckedSpectra(
        points=tuple(point for point, _ in wanted if point in good),
        counts=np.asarray(stored[[ref.index for point, ref in wanted if point in good]]),
        damaged=tuple(point for point, _ in wanted if point not in good),
    )


def damaged_points(reader: RunReader, state: RunState) -> tuple[int, ...]:
    """Ids of all points of a run whose spectra are damaged; not more than a part of them is in memory at once."""
    recorded = [point.id for point in state.points.values() if point.record is not None]
    block = max(1, BLOCK_BYTES // (4 * state.spectra.channels)) if state.spectra else len(recorded) or 1
    parts = (checked(reader, recorded[i : i + block]).damaged for i in range(0, len(recorded), block))
    return tuple(point for part in parts for point in part)


def damage_of(folder: str | os.PathLike[str]) -> tuple[tuple[int, ...], str]:
    """Ids of the points of a run whose spectra are damaged, and a sentence that says so; empty if there are none.

    Raises:
        RunLogError: there is no run.
    """
    reader = RunReader(folder)
    damaged = damaged_points(reader, fold(reader.records))
    return damaged, left_out(damaged)


def left_out(damaged: Sequence[int]) -> str:
    """A sentence that names damaged points by their numbers, which begin with 1; empty if there are none."""
    if not damaged:
        return ""
    if len(damaged) == 1:
        return f"Damaged: the spectrum of point {_numbers(damaged)} does not fit its checksum and is left out."
    return f"Damaged: the spectra of points {_numbers(damaged)} do not fit their checksums and are left out."


def _numbers(ids: Sequence[int]) -> str:
    """Numbers of points, with neighbours put together.

    >>> _numbers([2, 6, 7, 8, 9])
    '3 and 7 to 10'
    """
    runs = [list(run) for _, run in groupby(enumerate(sorted(ids)), lambda pair: pair[1] - pair[0])]
    spans = [(run[0][1] + 1, run[-1][1] + 1) for run in runs]
    said = [f"{a}" if a == b else f"{a} to {b}" for a, b in spans]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _stored(reader: RunReader) -> npt.NDArray[np.float32]:
    try:
        return reader.spectra()
    except (OSError, ValueError):  # the file is there and cannot be read
        return np.empty((0, 0), np.float32)


def _crc(spectrum: npt.NDArray[np.float32]) -> int:
    return zlib.crc32(spectrum.tobytes())
