"""The account of a run: every exposure is paid before it begins; it never says less than the specimen got."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from helpers import BLANKED, Stepper, plan, run, until

from autoexp import events as ev
from autoexp import gate
from autoexp.account import Account, usable_current
from autoexp.engine import Engine
from autoexp.errors import BadFrameError, GateClosedError, InstrumentError
from autoexp.guardian import Guardian
from autoexp.instrument import Overview
from autoexp.journal import line_of
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import (
    ELECTRONS_PER_PICOAMPERE_SECOND,
    AlignmentSpec,
    AlignmentStage,
    Budget,
    DeepKernelAgent,
    DriftCheck,
    FrameSpec,
    SpectrumSpec,
)
from autoexp.report.facts import gather
from autoexp.runlog import EVENTS, RunReader
from autoexp.state import fold
from autoexp.testing import DirectInstrument, FaultyInstrument
from autoexp.unfinished import close_unfinished
from virtual_stem.microscope import VirtualMicroscope

BEAM_PA = 50.0
E = BEAM_PA * ELECTRONS_PER_PICOAMPERE_SECOND
PAIR = ("CAperture.y", "CAperture.x")


class KilledError(BaseException):
    """The process ends here."""


class Witness(FaultyInstrument):
    """Counts the electrons that really reach the specimen, and dies when it is told to."""

    def __init__(self, specimen, **given):
        super().__init__(DirectInstrument(VirtualMicroscope(specimen, time_scale=1e5), **given))
        self.delivered = 0.0
        self.act = lambda kind, number: None
        self.made = {"overview": 0, "spectrum": 0, "frame": 0}

    def _exposed(self, kind, seconds):
        self.delivered += seconds * E
        self.made[kind] += 1
        self.act(kind, self.made[kind])

    def overview(self, spec):
        taken = super().overview(spec)
        self._exposed("overview", spec.time_s)
        return taken

    def spectrum(self, position, spec):
        taken = super().spectrum(position, spec)
        self._exposed("spectrum", spec.exposure_s)
        return taken

    def camera_frame(self, spec):
        taken = super().camera_frame(spec)
        self._exposed("frame", spec.exposure_s)
        return taken


@pytest.fixture
def witness(plasmonic, monkeypatch):
    monkeypatch.setattr(gate, "tamed", lambda call: call)  # nothing of the program survives the end of its process
    return Witness(plasmonic)


def killed(given, instrument, folder, locks, **more):
    """A run of a process that ends without another word when the instrument raises ``KilledError``."""
    engine = Engine(given, instrument, folder, lock_folder=locks, beam_current_pA=BEAM_PA, **more)
    finish = engine._finish
    engine._finish = lambda end: None if isinstance(engine.error, KilledError) else finish(end)
    engine.run()
    return engine


def kill_at(kind, number):
    def act(what, n):
        if (what, n) == (kind, number):
            raise KilledError

    return act


SITE = SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15) for name in PAIR})
STAGE = AlignmentStage(spec=AlignmentSpec(frame=FrameSpec(exposure_s=0.02, binning=16)), every=2)


@pytest.mark.parametrize("kind", ["overview", "spectrum", "frame"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_run_killed_in_an_exposure_has_paid_for_it(kind, number, witness, tmp_path, locks):
    given = plan(align=STAGE, drift=DriftCheck(every=2, pixels=32))
    witness.act = kill_at(kind, number)
    engine = killed(given, witness, tmp_path / "run", locks, site=SITE)
    state = fold(RunReader(tmp_path / "run").records)
    assert isinstance(engine.error, KilledError)
    assert state.dose_e == pytest.approx(witness.delivered)
    witness.act = lambda what, n: None
    resumed = killed(None, witness, tmp_path / "run", locks, site=SITE)
    assert resumed.status.ending == "completed"
    longest = max(given.overview.time_s, given.spectrum.exposure_s) * E
    assert witness.delivered * (1 - 1e-9) <= resumed.state.dose_e <= witness.delivered + longest
    assert resumed._guardian.account.dose_e == pytest.approx(resumed.state.dose_e)


def test_overviews_of_which_nothing_came_are_paid_for_again_and_again(witness, tmp_path, locks):
    witness.act = lambda what, n: (_ for _ in ()).throw(KilledError()) if what == "overview" and n <= 5 else None
    folder = tmp_path / "run"
    for turn in range(6):
        engine = killed(plan() if turn == 0 else None, witness, folder, locks)
    assert witness.made["overview"] == 6
    assert engine.state.dose_e == pytest.approx(witness.delivered)


def test_a_look_that_fails_costs_its_dose(witness, tmp_path, locks):
    def fail(what, n):
        if what == "overview" and n == 2:
            raise BadFrameError("The frame is torn.")

    witness.act = fail
    engine = run(plan(drift=DriftCheck(every=2, pixels=32)), witness, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert witness.made["overview"] == 3
    assert engine.state.dose_e == pytest.approx(witness.delivered)
    assert "Drift could not be looked for" in engine.state.warnings[0]


def test_the_dose_that_was_spent_before_an_interruption_counts_after_it(witness, tmp_path, locks):
    one = plan().spectrum.exposure_s * E
    budget = Budget(points=6, dose_e=plan().overview.time_s * E + 4.5 * one)
    witness.act = kill_at("spectrum", 3)
    killed(plan(budget=budget), witness, tmp_path / "run", locks, site=BLANKED)
    witness.act = lambda what, n: None
    resumed = killed(None, witness, tmp_path / "run", locks, site=BLANKED)
    assert "budget" in resumed.status.reason
    assert witness.made["spectrum"] == 4
    assert resumed.state.dose_e <= budget.dose_e
    (unknown,) = [p for p in resumed.state.points.values() if "unknown" in p.fault]
    assert unknown.exposed
    assert unknown.dose_e == pytest.approx(one)


def test_an_exposure_of_which_nothing_is_known_counts_by_what_it_may_have_cost(witness, tmp_path, locks):
    """The beam is twice as strong as was thought when the run was cut off, and so is all that comes after."""
    one = plan().spectrum.exposure_s * E
    budget = Budget(points=9, dose_e=plan().overview.time_s * E + 9.5 * one)
    witness.act = kill_at("spectrum", 3)
    killed(plan(budget=budget), witness, tmp_path / "run", locks, site=BLANKED)
    witness.act = lambda what, n: None
    resumed = Engine(None, witness, tmp_path / "run", lock_folder=locks, beam_current_pA=2 * BEAM_PA, site=BLANKED)
    resumed.run()
    assert "budget" in resumed.status.reason
    (unknown,) = [p for p in resumed.state.points.values() if "unknown" in p.fault]
    assert unknown.dose_e == pytest.approx(2 * one)
    assert witness.made["spectrum"] == 3 + 2, "of 9.5, 2 were spent, 2 may have been, and 2 more are taken twice"
    assert resumed.state.dose_e <= budget.dose_e


@pytest.mark.parametrize("current", [math.nan, -50.0, math.inf, 0.0, True, None])
def test_only_a_finite_current_above_zero_counts_dose(current, instrument, tmp_path, locks):
    limited = plan(budget=Budget(points=6, dose_e=1e8))
    engine = Engine(limited, instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=current)
    engine.run()
    assert "beam current is not known" in engine.status.reason
    assert not instrument.commands
    site = SiteLimits(beam_current_pA=BEAM_PA)
    engine = Engine(limited, instrument, tmp_path / "b", lock_folder=locks, beam_current_pA=current, site=site)
    engine.run()
    assert engine.status.ending == "completed"
    assert 0 < engine.state.dose_e <= 1e8


def test_the_first_current_that_is_one_counts():
    assert usable_current(math.nan, None, -1.0, 12, 50.0) == 12.0
    assert usable_current(None, math.inf) is None


class Longer(Witness):
    """A camera that exposes longer than it is asked to, and says so."""

    factor = 10.0

    def spectrum(self, position, spec):
        longer = spec.model_copy(update={"exposure_s": spec.exposure_s * self.factor})
        told = {"hardware_source": {"exposure": longer.exposure_s}}
        return dataclasses.replace(super().spectrum(position, longer), metadata=told)


def test_the_exposure_that_the_camera_tells_is_what_is_paid(plasmonic, tmp_path, locks):
    longer = Longer(plasmonic)
    budget = Budget(points=20, dose_e=plan().overview.time_s * E + 35 * 0.05 * E)
    engine = Engine(
        plan(budget=budget), longer, tmp_path / "run", lock_folder=locks, beam_current_pA=BEAM_PA, site=BLANKED
    )
    engine.start()
    until(lambda: engine.status.phase == "suspended", 20)
    assert "exposed for 0.5 s instead of 0.05 s" in engine.status.reason
    assert longer.made["spectrum"] == 1
    engine.resume()  # somebody has seen it and goes on
    assert engine.join(20)
    assert "budget" in engine.status.reason
    assert longer.made["spectrum"] == 4  # the dose of a fifth as it is asked for would be too much
    assert engine.state.dose_e == pytest.approx(longer.delivered)
    assert [p.fault for p in engine.state.failed] == ["exposure"]
    assert RunReader(tmp_path / "run").spectra().shape[0] == 4  # nothing is thrown away


def test_a_camera_that_tells_nonsense_of_its_exposure_is_not_believed(plasmonic, tmp_path, locks):
    class Odd(Witness):
        told = iter([math.nan, 0.001, "long", -3, None, True, [1]] * 3)

        def spectrum(self, position, spec):
            told = {"hardware_source": {"exposure": next(self.told)}}
            return dataclasses.replace(super().spectrum(position, spec), metadata=told)

    odd = Odd(plasmonic)
    engine = run(plan(), odd, tmp_path / "run", locks)
    assert engine.status.ending == "completed"
    assert engine.state.dose_e == pytest.approx(odd.delivered)


class Wandering(Witness):
    """A spectrometer whose axis is moved after three spectra."""

    def __init__(self, specimen, **moved):
        super().__init__(specimen)
        self.moved = moved

    def spectrum(self, position, spec):
        taken = super().spectrum(position, spec)
        if self.made["spectrum"] != 4:
            return taken
        return dataclasses.replace(taken, energy=dataclasses.replace(taken.energy, **self.moved))


def test_a_scale_that_changes_pauses_the_run(plasmonic, tmp_path, locks):
    wandering = Wandering(plasmonic, scale=0.02)
    engine = Engine(plan(), wandering, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.status.phase == "suspended", 20)
    assert "energy axis has changed" in engine.status.reason
    assert engine.state.exposures == 4
    engine.resume()
    assert engine.join(20)
    assert len(engine.state.measured) == 5
    assert [p.fault for p in engine.state.failed] == ["axis"]


@pytest.mark.parametrize(("units", "taken"), [("meV", True), ("keV", True), ("channels", False), ("", False)])
def test_an_axis_is_an_energy_or_refused(units, taken, plasmonic, tmp_path, locks):
    factor = {"meV": 1e3, "keV": 1e-3}.get(units, 1.0)

    class Other(Witness):
        def spectrum(self, position, spec):
            made = super().spectrum(position, spec)
            energy = made.energy
            return dataclasses.replace(made, energy=type(energy)(energy.offset * factor, energy.scale * factor, units))

    engine = Engine(plan(), Other(plasmonic), tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.join(0) or engine.waits_for_help, 20)
    if taken:
        assert engine.status.ending == "completed"
        assert engine.state.spectra.units == "eV"
        assert 0 < engine.state.spectra.scale < 0.1
    else:
        assert "not in eV" in engine.status.reason
        assert engine.state.exposures == 1  # another one would have the same
        engine.stop()
        assert engine.join(5)


def test_the_sites_limits_of_dose_and_time_hold_without_the_plans(witness, tmp_path, locks):
    one = 0.05 * E
    site = BLANKED.model_copy(update={"max_dose_e": plan().overview.time_s * E + 2.5 * one})
    engine = run(plan(), witness, tmp_path / "dose", locks, site=site)
    assert "dose" in engine.status.reason
    assert witness.made["spectrum"] == 2
    site = BLANKED.model_copy(update={"max_time_s": 10.1})
    many = plan(spectrum=SpectrumSpec(exposure_s=10.0), budget=Budget(points=200))
    engine = run(many, witness, tmp_path / "time", locks, site=site)
    assert "10.1 s allowed" in engine.status.reason


def test_the_time_that_the_beam_stands_is_kept_apart(witness, tmp_path, locks):
    engine = Engine(plan(budget=Budget(points=60)), witness, tmp_path / "run", lock_folder=locks)
    engine.start()
    until(lambda: engine.status.points >= 2, 20)
    engine.pause()
    until(lambda: engine.status.phase == "paused", 20)
    time.sleep(0.5)
    engine.stop()
    assert engine.join(10)
    state = fold(RunReader(tmp_path / "run").records)
    assert 0.5 < state.stood_s < state.elapsed_s
    assert state.dose_e == engine._guardian.account.dose_e


def test_the_beam_stands_until_it_is_lifted():
    account = Account(BEAM_PA)
    assert account.moved_on(1.0) == 0
    account.stand(2.0)
    assert account.moved_on(3.5) == 1.5
    account.stand(3.9)
    account.lift(4.0)
    assert account.moved_on(9.0) == 0.5
    assert account.moved_on(9.5) == 0
    account.stand(10.0)
    assert account.moved_on(9.0) == 0, "a clock that goes back"
    assert account.stood_s == 2.0


def test_exposures_are_no_standing():
    account = Account(BEAM_PA)
    account.stand(0.0)
    account.exposed(1.0, 1.25)
    assert account.untold_s(1.25) == 0.25
    account.lift(1.5)
    account.exposed(0.125, 2.0)  # it took longer than was asked for
    assert account.stood_e(3.0) == account.dose_of(0.375)
    account.exposed(5.0, 3.0)  # it was cut short
    assert account.moved_on(3.0) == 0


def test_what_cannot_be_written_down_is_not_exposed(witness):
    def refuse(exposure):
        raise InstrumentError("no room")

    guardian = Guardian(witness, beam_current_pA=BEAM_PA, on_expose=refuse)
    guardian.open()
    for expose in (lambda: guardian.overview(plan().overview), lambda: guardian.camera_frame(FrameSpec())):
        with pytest.raises(InstrumentError, match="no room"):
            expose()
    assert guardian.account.dose_e == 0
    assert witness.delivered == 0


def test_an_abort_between_writing_down_and_exposing_costs_nothing(witness):
    guardian = Guardian(witness, beam_current_pA=BEAM_PA, on_expose=lambda exposure: guardian.close_gate())
    guardian.open()
    with pytest.raises(GateClosedError):
        guardian.overview(plan().overview)
    assert guardian.account.dose_e == 0
    assert witness.delivered == 0


def test_an_overview_that_failed_is_paid_for(witness, tmp_path, locks):
    def fail(what, n):
        raise InstrumentError("The scan is stuck.")

    witness.act = fail
    engine = Engine(plan(), witness, tmp_path / "run", lock_folder=locks, beam_current_pA=BEAM_PA)
    engine.start()
    until(lambda: engine.state.phase == "suspended")
    assert "The scan is stuck." in engine.status.reason
    engine.stop()
    assert engine.join(60)
    assert engine.status.ending == "stopped"
    assert engine.state.dose_e == pytest.approx(witness.delivered)


def test_steering_in_mid_run_keeps_the_account(witness, tmp_path, locks):
    box = []
    more = Stepper(ev.Measured, lambda: box[0].steer(ev.SetBudget(budget=Budget(points=9, dose_e=1e12))), nth=3)
    engine = Engine(plan(), witness, tmp_path / "run", lock_folder=locks, beam_current_pA=BEAM_PA, observers=(more,))
    box.append(engine)
    engine.run()
    assert len(engine.state.measured) == 9
    assert engine.state.dose_e == pytest.approx(witness.delivered)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.float16, Fraction, Decimal, np.array, int])
def test_a_current_counts_whatever_kind_of_number_it_is(kind):
    assert usable_current(kind(200), 50.0) == 200.0


@pytest.mark.parametrize("current", ["200", b"200", np.array([200.0]), 200j, [200.0], True, Decimal("NaN"), 10**400])
def test_what_is_no_current_does_not_count(current):
    assert usable_current(current, 50.0) == 50.0


def test_every_line_of_the_journal_may_be_damaged_and_the_dose_still_counts(plasmonic, tmp_path, locks):
    """Whichever line a bit flips in, a resumed run never says less than the specimen got, and says what was lost."""
    first = Witness(plasmonic)
    given = plan(budget=Budget(points=3), drift=DriftCheck(every=2, pixels=32))
    killed(given, first, tmp_path / "run", locks)
    lines = (tmp_path / "run" / EVENTS).read_bytes().splitlines(keepends=True)
    started = 1 + next(k for k, line in enumerate(lines) if b'"started"' in line)
    for k in range(started, len(lines) - 1):
        folder = shutil.copytree(tmp_path / "run", tmp_path / f"run-{k}")
        (folder / EVENTS).write_bytes(b"".join([*lines[:k], lines[k].replace(b":", b";", 1), *lines[k + 1 :]]))
        reader = RunReader(folder)
        assert reader.lost.events == len(lines) - k - 1
        assert str(reader.lost) in gather(folder).problems
        second = Witness(plasmonic)
        resumed = killed(None, second, folder, locks)
        assert resumed.status.ending == "completed"
        assert any("damaged" in warning for warning in resumed.state.warnings)
        assert_booked(resumed, first.delivered + second.delivered)
        assert resumed._guardian.account.dose_e == pytest.approx(resumed.state.dose_e)


def assert_booked(engine, delivered):
    """Never less than the specimen got, nor more than by an overview, where its own line was the damaged one."""
    state = fold(RunReader(engine.folder).records)
    assert delivered * (1 - 1e-9) <= state.dose_e <= delivered + 2 * plan().overview.time_s * E


def damage(folder, k):
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    lines = [line for line in lines if b'"finished"' not in line]
    lines[k] = lines[k].replace(b":", b";", 1)
    (folder / EVENTS).write_bytes(b"".join(lines))


@pytest.mark.parametrize("where", [(0.3, 0.2), (0.2, 0.6), (0.5, 0.5), (0.9, 0.1), (0.1, 0.9), (0.6, 0.95)])
def test_a_journal_may_be_damaged_twice_and_the_dose_still_counts(where, plasmonic, tmp_path, locks):
    witness = Witness(plasmonic)
    killed(plan(budget=Budget(points=6), drift=DriftCheck(every=3, pixels=32)), witness, tmp_path / "run", locks)
    for part in where:
        damage(tmp_path / "run", max(1, int(part * len(RunReader(tmp_path / "run").records))))
        resumed = killed(None, witness, tmp_path / "run", locks)
        assert resumed.status.ending == "completed"
        assert_booked(resumed, witness.delivered)


def test_closing_a_damaged_run_counts_and_says_what_was_lost(plasmonic, tmp_path, locks):
    witness = Witness(plasmonic)
    killed(plan(), witness, tmp_path / "run", locks)
    damage(tmp_path / "run", len(RunReader(tmp_path / "run").records) // 2)
    said = str(RunReader(tmp_path / "run").lost)
    close_unfinished(tmp_path / "run", "discarded")
    reader = RunReader(tmp_path / "run")
    assert reader.state.dose_e >= witness.delivered * (1 - 1e-9)
    assert said in reader.state.warnings
    assert str(reader.lost) == said


def test_what_only_lost_events_name_is_not_written_over(plasmonic, tmp_path, locks):
    folder = tmp_path / "run"
    killed(plan(agent=DeepKernelAgent(seeds=3), budget=Budget(points=6)), Witness(plasmonic), folder, locks)
    kept = {path.name: path.stat().st_ino for path in folder.glob("*.npy")}  # what is written anew has another
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    damage(folder, next(k for k, line in enumerate(lines) if b'"prepared"' in line))
    killed(None, Witness(plasmonic), folder, locks)
    assert len(kept) > 1
    assert {name: (folder / name).stat().st_ino for name in kept} == kept


class Overrunning(Witness):
    """Images that are not of the size of the overview take a hundred times as long as was asked for, and say so."""

    usable = False

    def overview(self, spec):
        taken = super().overview(spec)
        if spec.pixels == plan().overview.pixels:
            return taken
        self.delivered += 99 * spec.time_s * E
        image = taken.image if self.usable else np.resize(taken.image, (300, 300))
        return Overview(image, taken.frame, {"hardware_source": {"exposure": 100 * spec.time_s}})


@pytest.mark.parametrize("usable", [False, True])
def test_an_image_that_took_longer_is_booked_as_it_was_and_somebody_is_asked(usable, plasmonic, tmp_path, locks):
    instrument = Overrunning(plasmonic)
    instrument.usable = usable
    given = plan(drift=DriftCheck(every=2, pixels=32), budget=Budget(points=7))
    engine = Engine(given, instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=BEAM_PA)
    engine.start()
    until(lambda: engine.waits_for_help)
    assert "instead of" in engine.status.reason
    assert engine.state.exposures == 2
    engine.resume()
    assert engine.join(60)
    assert engine.state.finished.ending == "completed"  # whoever has resumed has seen it
    assert fold(RunReader(tmp_path / "run").records).dose_e == pytest.approx(instrument.delivered)
    assert engine._guardian.account.dose_e == pytest.approx(instrument.delivered)


def test_an_overview_that_the_journal_does_not_know_is_refused_and_the_run_can_be_mended(plasmonic, tmp_path, locks):
    folder = tmp_path / "run"
    killed(plan(budget=Budget(points=6)), Witness(plasmonic), folder, locks)
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    cut = next(k for k, line in enumerate(lines) if b'"type":"measured","id":3' in line)
    whole = b"".join(lines[: cut + 1])
    documents = [json.loads(line[9:]) for line in whole.splitlines()]
    decided = [d["event"] for d in documents if d["event"]["type"] == "decided"]
    decided[2]["candidate"] = 10**6
    (folder / EVENTS).write_bytes(b"".join(line_of(json.dumps(d).encode()) for d in documents))
    refused = killed(None, Witness(plasmonic), folder, locks)
    assert "does not fit the journal" in str(refused.error)
    assert refused.state.finished is None
    (folder / EVENTS).write_bytes(whole)
    assert killed(None, Witness(plasmonic), folder, locks).state.finished.ending == "completed"


def test_a_shorter_exposure_than_asked_for_gives_nothing_back():
    account = Account(BEAM_PA)
    account.pay(1.0)
    account.settle(1.0, 0.25)
    assert account.dose_e == account.last_e == pytest.approx(E)
