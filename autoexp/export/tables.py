"""Runs as tables: one line a point, and if asked for one column a spectrum."""

from __future__ import annotations

import csv
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

from autoexp import events as ev
from autoexp.export.atomic import ExportError, check_targets, replace_file
from autoexp.export.strange import only_ours
from autoexp.runlog import RunReader
from autoexp.state import Point, RunState
from autoexp.text import cell

COLUMNS = (
    "point",
    "y",
    "x",
    "y_nm",
    "x_nm",
    "value",
    "noise",
    "units",
    "second_value",
    "second_noise",
    "second_units",
    "status",
    "spectrum",
    "agent",
    "reason",
    "fault",
    "dose_e",
    "elapsed_s",
    "utc",
    "energy_shift_eV",
    "zero_loss_eV",
    "zero_loss_width_eV",
)
Row = Sequence[object]
Rows = Callable[[], Iterable[Row]]


def export_csv(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    spectra: bool = False,
    force: bool = False,
) -> list[pathlib.Path]:
    """Write a run's points as a table, UTF-8 with commas, times from the beginning of the run in seconds.

    The column ``spectrum`` says ``ok``, ``damaged`` where what is on disk is not what was measured, or ``none``. A text
    that a spreadsheet would take for a formula has an apostrophe before it.

    Args:
        folder: the run.
        output: file to write; by default ``<run>.csv`` in the run's folder.
        spectra: also write ``<output>-spectra.csv``: energies first, then one column for each point with a spectrum
            that is not damaged.
        force: replace files that are there.

    Returns:
        The files written.

    Raises:
        RunLogError: there is no run.
        ExportError: a file is there already, cannot be written, or what was written does not read back the same.
    """
    with only_ours("The table"):
        reader = RunReader(folder)
        state = reader.state
        path = pathlib.Path(output) if output else reader.folder / f"{reader.folder.resolve().name}.csv"
        wanted = [path, *([path.with_name(f"{path.stem}-spectra.csv")] if spectra else [])]
        check_targets(wanted, force)
        rows = _point_rows(reader, state)
        write_table(path, COLUMNS, lambda: rows)
        if spectra:
            write_table(wanted[1], *_spectra_table(reader, state))
        return wanted


def write_table(path: pathlib.Path, heads: Row, rows: Rows) -> None:
    """Write a table in one step and read it back; ``rows`` is called for either.

    Text in it has to be harmless already: see :func:`autoexp.export.strange.cell`.

    Raises:
        ExportError: it cannot be written, or does not read back the same; an older file stays.
    """
    with replace_file(path) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(chain([heads], rows()))
        _read_back(temporary, path, heads, rows)


def _read_back(temporary: pathlib.Path, path: pathlib.Path, heads: Row, rows: Rows) -> None:
    with open(temporary, newline="", encoding="utf-8") as file:
        pairs = zip_longest(csv.reader(file), chain([heads], rows()))
        same = all(wanted is not None and found == list(map(_text, wanted)) for found, wanted in pairs)
    if not same:
        raise ExportError(f"{path.name} did not read back as it was written; nothing was replaced. Is the disk full?")


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _point_rows(reader: RunReader, state: RunState) -> list[Row]:
    settled, damaged = _settled(reader), set(reader.damaged_points(state))
    settings = state.settings
    units = settings.scalarizer.units if settings else "", settings.second.units if settings and settings.second else ""
    points = state.points.values()
    rows = (_row(point, units, state.prepared, settled.get(point.id), point.id in damaged) for point in points)
    return [[cell(value) for value in row] for row in rows]


def _row(
    point: Point, units: tuple[str, str], prepared: ev.Prepared | None, record: ev.Record | None, damaged: bool
) -> Row:
    place = prepared.to_nm(point.position) if prepared else None
    y, x = point.position
    return (
        point.id + 1,
        y,
        x,
        *(place or ("", "")),
        _number(point.value),
        _number(point.noise) if point.status == "measured" else "",
        units[0],
        point.second if point.compared else "",
        _number(point.second_noise) if point.compared else "",
        units[1],
        point.status,
        "none" if point.record is None else "damaged" if damaged else "ok",
        point.agent,
        point.reason,
        point.fault,
        point.dose_e,
        record.elapsed_s if record else "",
        record.utc if record else "",
        point.shift_eV if point.status == "measured" else "",
        *((point.zero_loss.position_eV, point.zero_loss.width_eV) if point.zero_loss else ("", "")),
    )


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def _settled(reader: RunReader) -> dict[int, ev.Record]:
    """For each point the record that says what became of it."""
    return {r.event.id: r for r in reader.records if isinstance(r.event, ev.Measured | ev.Failed | ev.Skipped)}


def _spectra_table(reader: RunReader, state: RunState) -> tuple[Row, Rows]:
    """Heads and rows; the numbers become Python's one row at a time, or they would take ten times the room."""
    opened = state.spectra
    if opened is None:
        return ["energy"], list
    found = reader.checked(list(state.points.values()))
    heads = [cell(f"energy_{opened.units}"), *(f"point_{p.id + 1}" for p in found.points)]
    return heads, lambda: ([float(e), *c.tolist()] for e, c in zip(opened.energy, found.counts.T, strict=True))
