"""What each event means for the state of a run: dose, settings, points, times."""

from __future__ import annotations

import dataclasses
import math

import pytest
from helpers import plan

from autoexp import events as ev
from autoexp.errors import PlanError
from autoexp.plan import Budget, DeepKernelAgent, ExpectedHypervolumeImprovement, RandomAgent, Region
from autoexp.scalarizers import Window
from autoexp.state import RunState, fold

RECORD = ev.RecordRef(index=0, crc32=0)


def records(*events, times=()):
    times = [*times, *(0.0 for _ in events[len(times) :])]
    return [
        ev.Record(seq=i, utc="2026-11-26T06:00:00+00:00", elapsed_s=t, event=e)
        for i, (e, t) in enumerate(zip(events, times, strict=True))
    ]


def started(**given):
    return ev.Started(run_id="a", plan=plan(**given), software={}, instrument={})


def decided(number, **given):
    given = {"candidate": number, "position": (0.5, 0.5), "reason": "why not", "agent": "random", **given}
    return ev.Decided(id=number, **given)


def measured(number, value, dose_e=10.0, **given):
    return ev.Measured(id=number, record=RECORD, value=value, noise=0.5, dose_e=dose_e, **given)


def exposing(number, **given):
    return ev.Exposing(id=number, exposure_s=0.1, **given)


def prepared(dose_e):
    overview = ev.ArrayRef(file="overview.npy", crc32=0)
    return ev.Prepared(overview=overview, shape=(64, 64), fov_nm=None, candidates=225, dose_e=dose_e)


def drifted(shift, since_s, certain=True, dose_e=0.0):
    return ev.Drifted(
        shift=shift, significance=9.0, certain=certain, since_s=since_s, exposures=0, dose_e=dose_e
    )  # fmt: skip


def looked(dose_e):
    return ev.Looked(
        values=(0.0, 0.0), center=None, residual_px=None, residual_mrad=None, aligned=False, dose_e=dose_e
    )  # fmt: skip


def after(*events, **given):
    return fold(records(started(), *events, **given))


# --- dose


def begun(what, dose_e):
    return ev.ExposureBegun(what=what, exposure_s=0.1, dose_e=dose_e, stood_s=2.0)


SETTLED = {"overview": prepared, "drift": lambda dose_e: drifted((0.0, 0.0), 1.0, dose_e=dose_e), "frame": looked}


@pytest.mark.parametrize("what", SETTLED)
def test_an_image_is_paid_for_before_and_settled_after(what):
    settle = SETTLED[what]
    assert after(begun(what, 100.0)).dose_e == 100.0
    assert after(begun(what, 100.0), settle(130.0)).dose_e == 130.0
    twice = after(begun(what, 100.0), settle(130.0), begun(what, 100.0))
    assert twice.dose_e == 230.0
    assert after(settle(70.0)).dose_e == 70.0  # written before there was paying beforehand
    assert after(begun(what, 100.0)).stood_s == 2.0
    if what != "overview":  # of which there is one
        assert after(begun(what, 100.0), settle(100.0), settle(70.0)).dose_e == 170.0


def test_a_spectrum_is_paid_for_before_and_settled_after():
    before = (decided(0), exposing(0, dose_e=10.0, stood_s=3.0))
    assert after(*before).dose_e == 10.0
    assert after(*before, measured(0, 1.0, dose_e=12.0)).dose_e == 12.0
    assert after(*before, ev.Failed(id=0, fault="nan", message="", dose_e=10.0)).dose_e == 10.0
    assert after(*before, ev.Skipped(id=0, reason="unknown", exposed=True, dose_e=10.0)).dose_e == 10.0
    assert after(*before, ev.Restored(problems=[], stood_s=4.0)).stood_s == 7.0
    assert after(decided(0), exposing(0), measured(0, 1.0)).dose_e == 10.0


def test_a_point_counts_from_the_moment_that_the_shutter_may_be_open():
    assert after(decided(0)).exposures == 0
    assert after(decided(0), exposing(0)).exposures == 1
    assert after(decided(0), ev.Skipped(id=0, reason="drifted out")).exposures == 0
    assert after(decided(0), exposing(0), ev.Skipped(id=0, reason="unknown", exposed=True)).exposures == 1


# --- points


def test_what_an_agent_learns_of_a_point():
    def status(*events):
        outcome = after(decided(0), *events).points[0].outcome
        return outcome and outcome.status

    assert status() is None
    assert status(exposing(0)) is None
    assert status(ev.Skipped(id=0, reason="drifted out")) is None
    assert status(exposing(0), ev.Skipped(id=0, reason="unknown", exposed=True)) == "skipped"
    assert status(exposing(0), ev.Failed(id=0, fault="nan", message="")) == "failed"
    assert status(exposing(0), measured(0, math.nan)) == "failed"
    assert status(exposing(0), measured(0, 3.0)) == "ok"


@pytest.mark.parametrize(("goal", "best"), [("maximize", 2), ("minimize", 0)])
def test_the_best_point_serves_the_goal_and_has_a_number(goal, best):
    points = [e for i, v in enumerate((1.0, 2.0, 3.0, math.nan)) for e in (decided(i), exposing(i), measured(i, v))]
    state = fold(records(started(agent=DeepKernelAgent(goal=goal)), *points))
    assert state.best().id == best
    assert [p.id for p in state.scored] == [0, 1, 2]
    assert len(state.measured) == 4


def test_new_scores_replace_all_there_was():
    state = after(
        decided(0),
        exposing(0),
        measured(0, 1.0, second=2.0, second_noise=0.25),
        ev.Rescored(values={0: 5.0}, noises={}),
    )
    point = state.points[0]
    assert (point.value, point.noise, point.second, point.second_noise) == (5.0, 0.0, None, 0.0)
    again = state.apply(records(ev.Rescored(values={0: 6.0}, noises={0: 1.0}, seconds={0: 7.0}))[0]).points[0]
    assert (again.value, again.noise, again.second) == (6.0, 1.0, 7.0)


# --- steering


def steered(*commands, **given):
    return fold(records(started(**given), *(ev.Steered(command=c) for c in commands)))


def region(name, right=0.5):
    return Region(id=name, kind="exclude", top=0, left=0, bottom=1, right=right)


def test_each_undo_takes_back_one_command():
    state = steered(
        ev.SetBudget(budget=Budget(points=7)), ev.SetAgent(agent=RandomAgent()), ev.AddRegion(region=region("a"))
    )
    once, twice = (fold(records(*[ev.Steered(command=ev.Undo())] * n), state) for n in (1, 2))
    assert once.settings.regions == ()
    assert (once.settings.budget.points, twice.settings.budget.points) == (7, 7)
    thrice = fold(records(*[ev.Steered(command=ev.Undo())] * 3), state)
    assert thrice.settings.budget.points == 6
    assert thrice.undone == 3
    with pytest.raises(PlanError, match="nothing to undo"):
        thrice.steered(ev.Undo())


def test_a_refused_command_changes_nothing():
    before = after()
    refused = ev.Steered(command=ev.SetBudget(budget=Budget(points=99)), refused="no")
    assert after(refused) == dataclasses.replace(before, seq=1)


def test_a_region_replaces_one_of_its_name():
    state = steered(ev.AddRegion(region=region("a")), ev.AddRegion(region=region("b")))
    state = state.steered(ev.AddRegion(region=region("a", 0.25)))
    assert state.settings.regions == (region("b"), region("a", 0.25))
    assert state.steered(ev.RemoveRegion(id="b")).settings.regions == (region("a", 0.25),)
    with pytest.raises(PlanError, match="no region 'c'"):
        state.steered(ev.RemoveRegion(id="c"))


def test_a_request_is_made_once_and_open_until_it_is_taken_up():
    here = ev.MeasureHere(id="here", position=(0.5, 0.5))
    state = steered(here)
    assert state.requests == [here]
    with pytest.raises(PlanError, match="made before"):
        state.steered(here)
    assert state.apply(records(decided(0, request="here", agent="operator"))[0]).requests == []


def test_which_settings_need_another_agent():
    settings = after().settings
    same = settings.after(ev.SetBudget(budget=Budget(points=50)))
    assert same.advised_as(settings)
    assert settings.after(ev.MeasureHere(id="a", position=(0.5, 0.5))).advised_as(settings)
    for command in (
        ev.AddRegion(region=region("a")),
        ev.SetScalarizer(scalarizer=Window(low_eV=2, high_eV=3)),
        ev.SetSecond(scalarizer=Window(low_eV=2, high_eV=3)),
        ev.SetAgent(agent=DeepKernelAgent()),
    ):
        assert not settings.after(command).advised_as(settings), command.kind


def test_two_values_are_needed_to_trade_them():
    compromise = DeepKernelAgent(acquisition=ExpectedHypervolumeImprovement())
    with pytest.raises(PlanError, match=r"^Expected-hypervolume"):
        after().steered(ev.SetAgent(agent=compromise))
    both = after().steered(ev.SetSecond(scalarizer=Window(low_eV=2, high_eV=3), agent=compromise))
    with pytest.raises(PlanError, match="second scalarizer"):
        both.steered(ev.SetSecond(scalarizer=None))


def test_without_a_run_there_is_nothing_to_steer():
    with pytest.raises(PlanError, match="no run"):
        RunState().steered(ev.Undo())


# --- times and drift


def test_only_the_time_of_running_is_measuring_time():
    state = after(
        ev.PhaseChanged(phase="running"),
        ev.Warned(message="a"),
        ev.PhaseChanged(phase="paused"),
        ev.PhaseChanged(phase="running"),
        ev.Warned(message="b"),
        times=(0.0, 10.0, 13.0, 14.0, 50.0, 52.0),
    )
    assert state.measuring_s == pytest.approx(3.0 + 1.0 + 2.0)
    assert state.elapsed_s == 52.0


def test_only_looks_that_are_certain_move_positions():
    sure, unsure = drifted((0.0, 0.1), 10.0), drifted((0.5, 0.5), 11.0, certain=False)
    assert after(sure, unsure).drift(10.0) == pytest.approx((0.0, 0.1))
    assert after(unsure).drift(11.0) == (0.0, 0.0)
    assert len(after(sure, unsure).looks) == 2
