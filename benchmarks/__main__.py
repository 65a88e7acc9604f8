"""Run all benchmarks, or those whose names are given, and print one table with the machine's core count."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console
from rich.table import Table

from benchmarks import decisions, hardware, plugin
from benchmarks.row import Row

ALL = {
    "overhead": hardware.overhead,
    "waiting": hardware.waiting,
    "abort": hardware.abort,
    "import": plugin.importing,
    "event-loop": plugin.event_loop,
    "decision": decisions.decision,
    "steering": decisions.steering,
    "scaling": decisions.scaling,
    "memory": decisions.memory,
}


def main(names: list[str]) -> int:
    """Measure, print, and say by the exit code whether every bar was met."""
    unknown = set(names) - set(ALL)
    if unknown:
        print(f"There is no benchmark named {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}.")
        return 2
    rows: list[Row] = []
    table = Table(title=f"{os.cpu_count()} cores")
    for column in ("what", "measured", "bar", "met"):
        table.add_column(column)
    for name in names or ALL:
        for row in ALL[name]():
            rows.append(row)
            table.add_row(row.what, row.measured, row.bar, "yes" if row.met else "NO")
            print(f"{row.what}: {row.measured} (bar: {row.bar})", flush=True)
    Console(width=110).print(table)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
