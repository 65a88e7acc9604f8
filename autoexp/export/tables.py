"""Runs as tables: one line a point, and if asked for one column a spectrum."""

from __future__ import annotations

import csv
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from autoexp import events as ev
from autoexp.export.atomic import ExportError, check_targets, replace_file
from autoexp.runlog import RunReader
from autoexp.state import Point, RunState, fold

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
    "agent",
    "reason",
    "fault",
    "dose_e",
    "elapsed_s",
    "utc",
)
Row = Sequence[object]


def export_csv(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    spectra: bool = False,
    force: bool = False,
) -> list[pathlib.Path]:
    """Write a run's points as a table, UTF-8 with commas, times from the beginning of the run in seconds.

    Args:
        folder: the run.
        output: file to write; by default ``<run>.csv`` in the run's folder.
        spectra: also write ``<output>-spectra.csv``: energies first, then one column for each measured point.
        force: replace files that are there.

    Returns:
        The files written.

    Raises:
        RunLogError: there is no run.
        ExportError: a file is there already, or what was written does not read back the same.
    """
    reader = RunReader(folder)
    state = fold(reader.records)
    path = pathlib.Path(output) if output else reader.folder / f"{reader.folder.resolve().name}.csv"
    wanted = [path, *([path.with_name(f"{path.stem}-spectra.csv")] if spectra else [])]
    check_targets(wanted, force)
    _write(path, COLUMNS, _point_rows(reader, state))
    if spectra:
        _write(wanted[1], *_spectra_table(reader, state))
    return wanted


def _point_rows(reader: RunReader, state: RunState) -> list[Row]:
    settled = _settled(reader)
    settings = state.settings
    units = settings.scalarizer.units if settings else "", settings.second.units if settings and settings.second else ""
    return [_row(point, units, state.prepared, settled.get(point.id)) for point in state.points.values()]


def _row(point: Point, units: tuple[str, str], prepared: ev.Prepared | None, record: ev.Record | None) -> Row:
    place = prepared.to_nm(point.position) if prepared else None
    y, x = point.position
    return (
        point.id + 1,
        y,
        x,
        *(place or ("", "")),
        point.value if math.isfinite(point.value) else "",
        point.noise if point.status == "measured" else "",
        units[0],
        point.second if point.compared else "",
        point.second_noise if point.compared else "",
        units[1],
        point.status,
        point.agent,
        point.reason,
        point.fault,
        point.dose_e,
        record.elapsed_s if record else "",
        record.utc if record else "",
    )


def _settled(reader: RunReader) -> dict[int, ev.Record]:
    """For each point the record that says what became of it."""
    return {r.event.id: r for r in reader.records if isinstance(r.event, ev.Measured | ev.Failed | ev.Skipped)}


def _spectra_table(reader: RunReader, state: RunState) -> tuple[Row, list[Row]]:
    opened = state.spectra
    if opened is None:
        return ["energy"], []
    stored = reader.spectra()
    points = [(p.id, p.record) for p in state.points.values() if p.record is not None and p.record < len(stored)]
    energy = opened.energy
    counts = stored[[record for _, record in points]].T if points else np.empty((len(energy), 0))
    heads = [f"energy_{opened.units}", *(f"point_{i + 1}" for i, _ in points)]
    return heads, [[float(e), *(float(c) for c in line)] for e, line in zip(energy, counts, strict=True)]


def _write(path: pathlib.Path, heads: Row, rows: list[Row]) -> None:
    with replace_file(path) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(heads)
            writer.writerows(rows)
        _read_back(temporary, heads, rows)


def _read_back(path: pathlib.Path, heads: Row, rows: list[Row]) -> None:
    with open(path, newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    wanted = [[_text(cell) for cell in line] for line in (heads, *rows)]
    if found != wanted:
        raise ExportError(f"{path.name} did not read back as it was written; nothing was replaced. Is the disk full?")


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
