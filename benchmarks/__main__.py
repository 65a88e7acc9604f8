"""Run all benchmarks, or those whose names are given, and print one table with the machine's core count and load."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.row import Row
from benchmarks.table import measure

BENCHMARKS = {
    "hardware": ("overhead", "waiting", "abort"),
    "hanging": ("hanging",),
    "plugin": ("importing", "event_loop"),
    "decisions": ("decision", "steering", "scaling", "memory"),
    "late": ("late",),
    "growth": ("growth",),
}
"""Functions by their modules, which are only imported when they are wanted."""
NAMES = {"importing": "import", "event_loop": "event-loop"}


def later(module: str, function: str) -> Callable[[], Sequence[Row]]:
    """A benchmark of a module that is not imported yet."""

    def measured() -> Sequence[Row]:
        rows: Sequence[Row] = getattr(importlib.import_module(f"benchmarks.{module}"), function)()
        return rows

    return measured


ALL = {NAMES.get(name, name): later(module, name) for module, names in BENCHMARKS.items() for name in names}

if __name__ == "__main__":
    sys.exit(measure(ALL, sys.argv[1:]))
