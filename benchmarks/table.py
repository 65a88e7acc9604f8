"""Run benchmarks and print one table with the machine's core count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks import calibration
from benchmarks.row import Row

CAPTION = "Times are judged by their ratios to what this machine was worth just before."
Benchmarks = Mapping[str, Callable[[], Sequence[Row]]]


def measure(benchmarks: Benchmarks, names: Sequence[str]) -> int:
    """Measure all, or those that are named, print, and say by the exit code whether every bar was met."""
    unknown = set(names) - set(benchmarks)
    if unknown:
        print(f"There is no benchmark named {', '.join(sorted(unknown))}; there are: {', '.join(benchmarks)}.")
        return 2
    machine = calibration.machine()
    print(machine, flush=True)
    rows: list[Row] = []
    for name in names or benchmarks:
        calibration.forget()
        for row in benchmarks[name]():
            rows.append(row)
            beside = f"; {row.ratio}" if row.ratio else ""
            print(f"{row.what}: {row.measured} (bar: {row.bar}){beside}", flush=True)
    Console(width=150).print(_table(rows, f"{machine} at the start"))
    return 0 if all(row.met for row in rows) else 1


def _table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title, caption=CAPTION)
    for column in ("what", "measured", "bar", "ratio", "met"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.what, row.measured, row.bar, row.ratio, "yes" if row.met else "NO")
    return table
