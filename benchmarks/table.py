"""Run benchmarks and print one table with the machine's core count."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.row import Row


def measure(benchmarks: Mapping[str, Callable[[], Sequence[Row]]], names: Sequence[str]) -> int:
    """Measure all, or those that are named, print, and say by the exit code whether every bar was met."""
    unknown = set(names) - set(benchmarks)
    if unknown:
        print(f"There is no benchmark named {', '.join(sorted(unknown))}; there are: {', '.join(benchmarks)}.")
        return 2
    rows: list[Row] = []
    table = Table(title=f"{os.cpu_count()} cores")
    for column in ("what", "measured", "bar", "met"):
        table.add_column(column)
    for name in names or benchmarks:
        for row in benchmarks[name]():
            rows.append(row)
            table.add_row(row.what, row.measured, row.bar, "yes" if row.met else "NO")
            print(f"{row.what}: {row.measured} (bar: {row.bar})", flush=True)
    Console(width=110).print(table)
    return 0 if all(row.met for row in rows) else 1
