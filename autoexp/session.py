"""Runs a plan on the instrument that it names, without Swift's window: devices, hardware layer, limits, engine.

The virtual microscope is built here and belongs to this process alone. A real instrument is whatever the Swift
plug-ins that are installed here register; it is touched only where somebody has armed it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import pathlib
import pkgutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoexp.agents.aligner import Aligner, MakeAligner
from autoexp.alignments import Alignments
from autoexp.engine import Engine
from autoexp.errors import GuardianError, InstrumentError, PlanError, RunLogError
from autoexp.instrument import Identity
from autoexp.limits import site_limits
from autoexp.observers import Observer
from autoexp.plan import InstrumentSpec, Plan, VirtualInstrument
from autoexp.run_folders import find_run, make_run_folder
from autoexp.runlog import RunReader
from autoexp.state import RunState

if TYPE_CHECKING:
    from autoexp.swift.headless import Devices
    from autoexp.swift.instrument import SwiftInstrument as Adapter
    from virtual_stem.microscope import VirtualMicroscope
    from virtual_stem.specimen import Specimen

log = logging.getLogger(__name__)
POLL_S = 0.05
# They show things in Swift's window, or register what a plan asks for in another way.
NOT_INSTRUMENTS = {"autoexp_ui", "virtual_stem", "nion_instrumentation_ui", "nion_eels_analysis"}


@contextlib.contextmanager
def open_instrument(spec: InstrumentSpec) -> Iterator[Adapter]:
    """Swift's hardware layer with the instrument that a plan names, for as long as the context lasts.

    Raises:
        PlanError: the virtual specimen does not exist.
        InstrumentError: there is no such instrument.
    """
    from autoexp.swift.headless import swift_session
    from autoexp.swift.instrument import find_instrument

    with swift_session(_devices(spec)):
        if isinstance(spec, VirtualInstrument):
            from virtual_stem.devices import EELS_ID, SCAN_ID

            instrument = find_instrument(SCAN_ID, EELS_ID)
            if not instrument.identity.simulated:
                raise InstrumentError(
                    f"The plan asks for the virtual microscope, but {instrument.identity.name} answers. Nothing was "
                    "sent to it."
                )
        else:
            instrument = find_instrument(spec.scan, spec.camera)
        yield instrument


@dataclass(frozen=True)
class Session:
    """A run that can begin, and the instrument on which it will be.

    Attributes:
        engine: carries the plan out.
        identity: which instrument it is, and whether that is simulated.
    """

    engine: Engine
    identity: Identity


@contextlib.contextmanager
def open_session(
    plan: Plan | None, folder: pathlib.Path, *, armed: bool = False, observers: tuple[Observer, ...] = ()
) -> Iterator[Session]:
    """The instrument and an engine for a plan, or for the unfinished run in ``folder`` where ``plan`` is None.

    However the context is left, no run is left behind: one that still goes on is aborted and joined.

    Args:
        plan: what to do; None to resume.
        folder: the run's folder.
        armed: whether an instrument that is not simulated may be used.
        observers: see :class:`autoexp.engine.Engine`.

    Raises:
        AutoexpError: the run cannot begin; nothing was sent to the instrument.
    """
    recorded = None if plan else _unfinished(folder)
    spec = plan.instrument if plan else recorded.plan.instrument  # type: ignore[union-attr]
    with open_instrument(spec) as instrument:
        identity = instrument.identity
        require_armed(identity, armed)
        if recorded is not None:
            _require_same(folder, identity)
        with _lock_folder(spec) as lock_folder:
            engine = Engine(
                plan,
                instrument,
                folder,
                site=site_limits(identity, _preferences().site),
                observers=observers,
                holder="autoexp on the command line",
                beam_current_pA=instrument.beam_current_pA,
                lock_folder=lock_folder,
            )
            try:
                yield Session(engine, identity)
            finally:
                if not engine.join(0):
                    engine.abort()
                    engine.join()


@contextlib.contextmanager
def open_alignments(
    spec: InstrumentSpec, runs: pathlib.Path, *, armed: bool = False, make_aligner: MakeAligner = Aligner
) -> Iterator[Alignments]:
    """What aligns the beam of an instrument, again and again.

    Args:
        spec: which instrument.
        runs: the folder of the runs, for the journals.
        armed: whether an instrument that is not simulated may be used.
        make_aligner: makes what decides the moves.

    Raises:
        AutoexpError: it cannot be used.
    """
    with open_instrument(spec) as instrument, _lock_folder(spec) as lock_folder:
        identity = instrument.identity
        require_armed(identity, armed)
        yield Alignments(
            instrument,
            site_limits(identity, _preferences().site),
            runs,
            holder="autoexp align on the command line",
            beam_current_pA=instrument.beam_current_pA,
            lock_folder=lock_folder,
            make_aligner=make_aligner,
        )


def run_plan(plan: Plan, folder: pathlib.Path, *, armed: bool = False) -> RunState:
    """Carry a plan out from beginning to end with nobody there, and return how it went.

    A run that pauses, because of a fault or a score that gives no number, is stopped in good order: nobody could help.

    Raises:
        AutoexpError: the run could not begin; nothing was sent to the instrument.
    """
    with open_session(plan, folder, armed=armed) as session:
        engine = session.engine
        engine.start()
        while not engine.join(POLL_S):
            if engine.waits_for_help:
                engine.stop()
        return engine.state


def require_armed(identity: Identity, armed: bool) -> None:
    """Refuse an instrument that is not simulated unless somebody has armed it.

    Raises:
        GuardianError: it is not armed.
    """
    if not (identity.simulated or armed):
        raise GuardianError(
            f"{identity.name} is a real instrument and is not armed; nothing was sent to it. Give --arm to let this "
            "run move it, or try the plan on the virtual microscope first."
        )


@contextlib.contextmanager
def _lock_folder(spec: InstrumentSpec) -> Iterator[pathlib.Path | None]:
    """Where the lock lies: the usual place, but a virtual microscope is this process's own and two never meet."""
    if isinstance(spec, VirtualInstrument):
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder)
    else:
        yield None


def _unfinished(folder: pathlib.Path) -> RunState:
    state = RunReader(folder).state
    if state.finished:
        raise RunLogError(f"The run {folder.name} is over ({state.finished.ending}: {state.finished.reason}).")
    if state.plan is None:
        raise RunLogError(f"The run {folder.name} holds no plan to go on with.")
    return state


def _require_same(folder: pathlib.Path, identity: Identity) -> None:
    from autoexp import events as ev

    started = next(RunReader(folder).events(ev.Started), None)
    began = started.instrument.get("key") if started else None
    if began != identity.key:
        raise PlanError(f"The run {folder.name} began on {began}; {identity.key} answers now. Nothing was sent to it.")


def _devices(spec: InstrumentSpec) -> Devices:
    return _virtual_devices(spec) if isinstance(spec, VirtualInstrument) else _PlugIns()


def _virtual_devices(spec: VirtualInstrument) -> Devices:
    from virtual_stem.devices import VirtualSTEM

    devices: Devices = VirtualSTEM(make_microscope(spec))
    return devices


def make_microscope(spec: VirtualInstrument) -> VirtualMicroscope:
    """The microscope of a virtual instrument.

    Raises:
        PlanError: there is no such specimen, or its file cannot be used.
    """
    from virtual_stem.microscope import VirtualMicroscope
    from virtual_stem.stage import Drift

    drift = Drift(velocity_nm_s=spec.drift_nm_s, seed=spec.seed)
    microscope = VirtualMicroscope(make_specimen(spec), seed=spec.seed, drift=drift, time_scale=spec.time_scale)
    microscope.controls["BeamCurrent"] = spec.beam_current_pA * 1e-12
    return microscope


def make_specimen(spec: VirtualInstrument) -> Specimen:
    """The specimen of a virtual instrument.

    Raises:
        PlanError: there is no such specimen, or its file cannot be used.
    """
    from virtual_stem import specimens

    try:
        return specimens.make_specimen(spec.specimen, spec.seed)
    except (ValueError, OSError) as error:
        raise PlanError(str(error)) from error


def _preferences() -> Any:
    from autoexp.swift import preferences

    return preferences.load()


class _PlugIns:
    """The instruments that the installed Swift plug-ins bring, started as Swift itself starts them."""

    def __init__(self) -> None:
        self._started: list[Any] = []

    def register(self) -> None:
        """Start every plug-in that may bring an instrument; one that fails is logged and left out."""
        try:
            home = importlib.import_module("nionswift_plugin")
        except ImportError:
            return
        for found in sorted(pkgutil.iter_modules(home.__path__), key=lambda module: module.name.lower()):
            if found.name not in NOT_INSTRUMENTS:
                self._start(f"nionswift_plugin.{found.name}")

    def _start(self, name: str) -> None:
        try:
            module = importlib.import_module(name)
            if callable(getattr(module, "run", None)):
                module.run()
                self._started.append(module)
        except Exception:  # a foreign plug-in may raise anything; the others still have their turn
            log.warning("The Swift plug-in %s could not be started without a window.", name, exc_info=True)

    def unregister(self) -> None:
        """Stop them in reverse order."""
        for module in reversed(self._started):
            with contextlib.suppress(Exception):
                getattr(module, "stop", lambda: None)()
        self._started.clear()


__all__ = [
    "Session",
    "find_run",
    "make_microscope",
    "make_run_folder",
    "make_specimen",
    "open_instrument",
    "open_session",
    "require_armed",
    "run_plan",
]
