"""The engine under any sequence of commands and faults, against the invariants of the fault table.

The engine runs on its own thread, as always, but its instrument waits before every exposure until the test lets it go
on, so that each rule acts at a known moment: in an exposure, in a pause, or after the end.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import tempfile
import threading
import time

import pytest
from helpers import plan
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from autoexp import events as ev
from autoexp import lock
from autoexp.engine import Engine
from autoexp.errors import AbortedError, InstrumentBusyError
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import (
    AlignmentSpec,
    AlignmentStage,
    Budget,
    DeepKernelAgent,
    FrameSpec,
    GridAgent,
    RandomAgent,
    Region,
)
from autoexp.runlog import RunReader
from autoexp.scalarizers import PeakPosition, Window
from autoexp.state import fold
from autoexp.testing import DirectInstrument, FaultyInstrument
from autoexp.testing.faulty import FAULTS
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

BEAM_PA = 50.0
EXPOSURE_E = 0.05 * BEAM_PA * 6.241509074e6
SPECIMEN = make_specimen("plasmonic", 0)
SITE = SiteLimits(max_exposure_s=0.1, controls={"C10": ControlLimits(low=-1e-6, high=1e-6)})
PAIR = ("CAperture.y", "CAperture.x")
fractions = st.floats(0, 1, allow_nan=False)


class SteppedInstrument(FaultyInstrument):
    """Waits before every exposure for leave to go on."""

    def __init__(self):
        super().__init__(DirectInstrument(VirtualMicroscope(SPECIMEN, time_scale=1e5), key="stepped"))
        self.waiting = threading.Event()
        self.leave = threading.Semaphore(0)
        self.exposed = []
        self.cut = False

    def open(self):
        self.cut = False
        super().open()

    def abort(self):
        self.cut = True
        super().abort()
        self.leave.release()

    def spectrum(self, position, spec):
        self.exposed.append((position, spec.exposure_s))
        self.waiting.set()
        self.leave.acquire()
        self.waiting.clear()
        if self.cut:
            raise AbortedError("The exposure was cut short.")
        return super().spectrum(position, spec)


class EngineMachine(RuleBasedStateMachine):
    """Commands and faults in any order."""

    site = SITE
    given = plan(budget=Budget(points=8, dose_e=2.5e9))

    def __init__(self):
        super().__init__()
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.instrument = SteppedInstrument()
        self.numbers = itertools.count()
        self.trespasses = []
        self.cut_at = None
        self.engine = self._start(self.given)

    def _start(self, given):
        engine = Engine(
            given,
            self.instrument,
            self.folder / "run",
            site=self.site,
            lock_folder=self.folder / "locks",
            beam_current_pA=BEAM_PA,
            observers=(self._watch,),
        )
        engine.start()
        self.engine = engine
        self._settle()
        return engine

    def _watch(self, record, state):
        """What must hold at the moment of an exposure."""
        if isinstance(record.event, ev.Exposing):
            budget = state.settings.budget
            spent = state.dose_e + EXPOSURE_E
            if budget.dose_e is not None and spent > budget.dose_e:
                self.trespasses.append(f"dose {spent} of {budget.dose_e}")
            if state.exposures > budget.points:
                self.trespasses.append(f"point {state.exposures} of {budget.points}")

    def _settle(self):
        """Wait until the engine can do nothing more by itself."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.engine.join(0):
                return
            idle = self.engine.status.phase in ("paused", "suspended") or self.instrument.waiting.is_set()
            if idle and not (len(self.engine._commands) and not self.instrument.waiting.is_set()):
                time.sleep(0.002)
                if self.instrument.waiting.is_set() or self.engine.status.phase in ("paused", "suspended"):
                    return
            time.sleep(0.001)
        raise AssertionError(f"the engine hangs in {self.engine.status}")

    @property
    def alive(self):
        return not self.engine.join(0)

    @property
    def exposing(self):
        return self.alive and self.instrument.waiting.is_set()

    # --- rules

    @precondition(lambda self: self.exposing)
    @rule(fault=st.none() | st.sampled_from(FAULTS))
    def let_one_exposure_happen(self, fault):
        if fault:
            self.instrument.arm(fault)
        done = len(self.instrument.exposed)
        self.instrument.waiting.clear()
        self.instrument.leave.release()
        end = time.monotonic() + 60
        while len(self.instrument.exposed) == done and self.engine.status.phase == "running" and self.alive:
            assert time.monotonic() < end
            time.sleep(0.001)
        self._settle()

    @rule()
    def pause(self):
        self.engine.pause()
        self._settle()

    @rule()
    def resume(self):
        self.engine.resume()
        self._settle()

    @rule(low=st.floats(0, 4), width=st.floats(0.05, 3), peak=st.booleans())
    def set_scalarizer(self, low, width, peak):
        kind = PeakPosition if peak else Window
        self.engine.steer(ev.SetScalarizer(scalarizer=kind(low_eV=low, high_eV=low + width)))
        self._settle()

    @rule(agent=st.sampled_from([GridAgent(), RandomAgent(), DeepKernelAgent(seeds=3)]))
    def set_agent(self, agent):
        self.engine.steer(ev.SetAgent(agent=agent))
        self._settle()

    @rule(points=st.integers(1, 14), dose=st.none() | st.floats(1e8, 4e9))
    def set_budget(self, points, dose):
        self.engine.steer(ev.SetBudget(budget=Budget(points=points, dose_e=dose)))
        self._settle()

    @rule(kind=st.sampled_from(["include", "exclude"]), top=st.floats(0, 0.6), left=st.floats(0, 0.6))
    def add_region(self, kind, top, left):
        region = Region(id=f"r{next(self.numbers)}", kind=kind, top=top, left=left, bottom=top + 0.4, right=left + 0.4)
        self.engine.steer(ev.AddRegion(region=region))
        self._settle()

    @rule(y=fractions, x=fractions)
    def measure_here(self, y, x):
        self.engine.steer(ev.MeasureHere(id=f"m{next(self.numbers)}", position=(y, x)))
        self._settle()

    @rule()
    def undo(self):
        self.engine.steer(ev.Undo())
        self._settle()

    @precondition(lambda self: self.alive)
    @rule()
    def a_second_run_is_refused(self):
        other = Engine(
            plan(), self.instrument, self.folder / f"other{next(self.numbers)}", lock_folder=self.folder / "locks"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lock, "PATIENCE_S", 0.02)  # nobody but the first run has it
            other.run()
        assert isinstance(other.error, InstrumentBusyError)

    @rule()
    def stop(self):
        self.engine.stop()
        if self.exposing:
            self.instrument.leave.release()
        assert self.engine.join(60)

    @rule()
    def abort(self):
        self._cut(self.engine.abort)

    @rule()
    def halt(self):
        self._cut(self.engine.halt)

    def _cut(self, verb):
        if not self.alive:
            return
        self.cut_at = len(self.instrument.commands)
        verb()
        assert self.engine.join(60)
        sent = [c for c, _ in self.instrument.commands[self.cut_at :]]
        assert set(sent) <= {"abort", "close", "set"}, sent

    # --- invariants

    @invariant()
    def no_limit_or_budget_was_exceeded(self):
        assert not self.trespasses
        for (y, x), exposure_s in self.instrument.exposed:
            assert 0 <= y <= 1
            assert 0 <= x <= 1
            assert exposure_s <= SITE.max_exposure_s

    @invariant()
    def the_log_folds_to_the_state(self):
        if not self.engine.records:
            return
        records = RunReader(self.engine.folder).records
        assert [r.seq for r in records] == list(range(len(records)))
        state = self.engine.state
        assert repr(fold(records[: state.seq + 1])) == repr(state)

    @invariant()
    def every_exposure_is_accounted_for_once(self):
        state = self.engine.state
        exposed = [p for p in state.points.values() if p.exposed]
        assert len(self.instrument.exposed) in (len(exposed), len(exposed) - 1)
        candidates = [p.candidate for p in exposed if p.candidate is not None]
        assert len(candidates) == len(set(candidates))
        records = [p.record for p in state.points.values() if p.record is not None]
        assert len(records) == len(set(records))

    @invariant()
    def after_the_end_all_is_as_it_was(self):
        if self.alive:
            return
        status = self.engine.status
        assert status.ending is not None
        assert status.phase in ("idle", "faulted")
        assert not self.engine.state.pending or status.ending in ("faulted", "halted")
        if status.ending != "halted":
            for name, value in self.engine.state.snapshot.items():
                assert self.instrument.get(name) == pytest.approx(value, abs=1e-9) or status.phase == "faulted"

    def teardown(self):
        if self.alive:
            self.engine.abort()
            assert self.engine.join(60)
        self.after_the_end_all_is_as_it_was()


class AligningEngineMachine(EngineMachine):
    """The same for a run that aligns, on an instrument whose disk moves by itself or is gone."""

    site = SITE.model_copy(
        update={"controls": {**SITE.controls, **dict.fromkeys(PAIR, ControlLimits(low=-0.15, high=0.15, step=0.05))}}
    )
    given = plan(
        budget=Budget(points=8, dose_e=2.5e9),
        align=AlignmentStage(spec=AlignmentSpec(frame=FrameSpec(exposure_s=0.01, binning=16)), every=2),
    )

    @rule(y=st.floats(-0.05, 0.05), x=st.floats(-0.05, 0.05))
    def tilt(self, y, x):
        microscope = self.instrument._instrument.microscope
        microscope.optics = dataclasses.replace(microscope.optics, misalignment_rad=(y, x))

    @rule(current=st.sampled_from([0.0, 50e-12]))
    def lose_or_find_the_beam(self, current):
        self.instrument._instrument.microscope.controls["BeamCurrent"] = current

    @invariant()
    def no_control_left_its_limits(self):
        now = {name: self.instrument.get(name) for name in PAIR}
        assert all(-0.15 <= value <= 0.15 for value in now.values())
        told = [e for e in (r.event for r in self.engine.records) if isinstance(e, ev.Moving)]
        assert all(abs(e.value - e.before) <= 0.05 + 1e-12 for e in told)
        if told and not self.alive:
            sent = [what for kind, what in self.instrument.commands if kind == "set"]
            assert len(sent) in (len(told), len(told) - 1)


for machine in (EngineMachine, AligningEngineMachine):
    machine.TestCase.settings = settings(
        max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine.TestCase.pytestmark = [pytest.mark.timeout(900)]
TestEngine = EngineMachine.TestCase
TestAligningEngine = AligningEngineMachine.TestCase
