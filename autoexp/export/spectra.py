"""Spectra of a run that are no longer what was measured, in words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby

from autoexp.runlog import RunReader


def damage_of(folder: str | os.PathLike[str]) -> tuple[tuple[int, ...], str]:
    """Ids of the points of a run whose spectra are damaged, and in words what is damaged; empty if nothing is.

    Raises:
        RunLogError: there is no run.
    """
    reader = RunReader(folder)
    damaged = tuple(reader.damaged_points(reader.state))
    return damaged, " ".join(filter(None, (left_out(damaged), str(reader.lost))))


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
