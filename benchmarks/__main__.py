"""Run all benchmarks, or those whose names are given, and print one table with the machine's core count."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import decisions, hardware, plugin
from benchmarks.table import measure

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


if __name__ == "__main__":
    sys.exit(measure(ALL, sys.argv[1:]))
