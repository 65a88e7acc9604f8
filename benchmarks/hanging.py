"""Abort, with anything hanging: how long until the instrument is given back."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.instrument import Overview, Position, Spectrum
from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, RandomAgent, SpectrumSpec
from autoexp.scalarizers import Function, register_scalarizer
from autoexp.testing import DirectInstrument
from benchmarks.row import Row, in_words
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

PROMISED_S = 2.0
"""What the operator is promised, whatever the machine."""
PATIENCE_S = 20.0


@dataclass
class Trap:
    """Something that hangs, from its third time on, until it is let go."""

    caught: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)
    times: int = 0

    def pass_by(self) -> None:
        """Hang."""
        self.times += 1
        if self.times > 2:
            self.caught.set()
            self.free.wait(PATIENCE_S)


class Watched(DirectInstrument):
    """The virtual microscope; it is noted when it is given back, and its detector may be trapped."""

    def __init__(self, trap: Trap | None = None):
        super().__init__(VirtualMicroscope(make_specimen("plasmonic", 0), time_scale=200))
        self.given_back = threading.Event()
        self._trap = trap

    def overview(self, spec: OverviewSpec) -> Overview:
        """From here on it is in use."""
        self.given_back.clear()
        return super().overview(spec)

    def spectrum(self, position: Position, spec: SpectrumSpec) -> Spectrum:
        """Expose; a camera that is trapped does not heed an abort either."""
        if self._trap is not None:
            self._trap.pass_by()
        return super().spectrum(position, spec)

    def close(self) -> list[str]:
        """Given back."""
        self.given_back.set()
        return super().close()


class Stubborn:
    """An agent that walks along the candidates until it hangs."""

    name = "stubborn"

    def __init__(self, candidates: Any, trap: Trap):
        self._inner, self._trap = candidates, trap

    def suggest(self, n: int, pending: Any = ()) -> list[Any]:
        """Hang."""
        from autoexp.agent import Suggestion

        self._trap.pass_by()
        index = self._trap.times
        y, x = self._inner.positions[index]
        return [Suggestion(index, (float(y), float(x)), "the next one")]

    def ingest(self, outcomes: Any) -> None:
        """Nothing is learned."""


@contextlib.contextmanager
def _agent(trap: Trap) -> Iterator[tuple[Watched, dict[str, Any]]]:
    with mock.patch("autoexp.decider.make_agent", lambda spec, candidates, *_: Stubborn(candidates, trap)):
        yield Watched(), {}


@contextlib.contextmanager
def _scalarizer(trap: Trap) -> Iterator[tuple[Watched, dict[str, Any]]]:
    def score(spectra: Any, energy_eV: Any) -> Any:
        trap.pass_by()
        return np.asarray(spectra).sum(axis=1)

    register_scalarizer("hanging", score)
    yield Watched(), {"scalarizer": Function(name="hanging")}


@contextlib.contextmanager
def _observer(trap: Trap) -> Iterator[tuple[Watched, dict[str, Any]]]:
    def told(record: ev.Record, state: Any) -> None:
        if isinstance(record.event, ev.Measured):
            trap.pass_by()

    yield Watched(), {"observers": (told,)}


@contextlib.contextmanager
def _camera(trap: Trap) -> Iterator[tuple[Watched, dict[str, Any]]]:
    yield Watched(trap), {}


WHO: dict[str, Callable[[Trap], contextlib.AbstractContextManager[tuple[Watched, dict[str, Any]]]]] = {
    "agent": _agent,
    "scalarizer": _scalarizer,
    "observer": _observer,
    "camera": _camera,
}


def hanging() -> list[Row]:
    """From the click on Abort to the instrument given back or named; a promise in seconds, so no ratio decides."""
    rows = []
    logging.disable(logging.CRITICAL)  # it is said what hangs, with a traceback
    for who, making in WHO.items():
        taken = given_back_after(making)
        shown = "given back or named" if taken < PATIENCE_S else "not given back"
        said, bar = f"{in_words(taken)}, {shown}", f"under {in_words(PROMISED_S)}, on any machine"
        rows.append(Row(f"abort while the {who} hangs", said, bar, taken < PROMISED_S))
    return rows


def given_back_after(making: Callable[[Trap], Any]) -> float:
    """Seconds from the abort to the instrument given back, or to a run that has ended and says what is wrong."""
    trap = Trap()
    with tempfile.TemporaryDirectory() as folder, making(trap) as (instrument, given):
        observers, root = given.pop("observers", ()), pathlib.Path(folder)
        engine = Engine(_plan(**given), instrument, root / "run", lock_folder=root, observers=observers)
        engine.start()
        assert trap.caught.wait(PATIENCE_S), f"nothing hung: {engine.status}, {engine.error}"
        time.sleep(0.2)
        begun = time.monotonic()
        engine.abort()
        while not (instrument.given_back.is_set() or engine.join(0)) and time.monotonic() - begun < PATIENCE_S:
            time.sleep(0.005)
        taken = time.monotonic() - begun
        trap.free.set()
        engine.join(PATIENCE_S)
    return taken


def _plan(**given: Any) -> Plan:
    small = {"overview": OverviewSpec(fov_nm=400, pixels=64), "patches": PatchSpec(pixels=8, stride=4)}
    return Plan.model_validate({**small, "agent": RandomAgent(), "budget": Budget(points=60), **given})
