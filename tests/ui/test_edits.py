"""Edits of the panel's fields against the settings of a run, which others steer too; without a window."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nion.utils import Model

from autoexp import events as ev
from autoexp import plan as planning
from autoexp import scalarizers
from autoexp.commands import CommandQueue
from autoexp.errors import PlanError
from autoexp.state import RunState, Settings
from autoexp.status import Status
from nionswift_plugin.autoexp_ui import edits, steering_sync
from nionswift_plugin.autoexp_ui import form as form_module

CASES = int(os.environ.get("AUTOEXP_FUZZ", "200"))

WINDOW = scalarizers.Window(low_eV=1.2, high_eV=2.0)
SCORES = [
    WINDOW,
    scalarizers.Edge(low_eV=5.0, high_eV=6.0, background_low_eV=3.0, background_high_eV=4.0),
    scalarizers.Ratio(numerator=WINDOW, denominator=scalarizers.Window(low_eV=3.0, high_eV=3.5)),
    scalarizers.PeakWidth(low_eV=1.0, high_eV=3.0),
    scalarizers.Similarity(reference=(1.0, 2.0, 3.0), offset_eV=0.0, scale_eV=0.5),
    scalarizers.Function(name="mine"),
]
SECONDS = [None, WINDOW, SCORES[1], SCORES[-1]]
TRADING = planning.ExpectedHypervolumeImprovement(second_goal="minimize")
AGENTS = [
    planning.GridAgent(),
    planning.RandomAgent(),
    planning.ListAgent(positions=((0.1, 0.2), (0.3, 0.4))),
    planning.FeatureAgent(size_px=5.0, polarity="dark"),
    planning.DeepKernelAgent(),
    planning.DeepKernelAgent(kernel="joined", refit_every=7, costs=planning.Costs(travel=1.0), seeds=3),
    planning.DeepKernelAgent(
        acquisition=planning.ExpectedImprovement(xi=0.2), stop=planning.StopRule(within=0.5, risk=0.01), goal="minimize"
    ),
    planning.DeepKernelAgent(acquisition=TRADING, costs=planning.Costs(damage=2.0)),
]
BUDGETS = [
    planning.Budget(points=40),
    planning.Budget(points=50, time_s=600.0),
    planning.Budget(points=60, dose_e=1e9),
    planning.Budget(points=70, time_s=90.0, dose_e=2e9),
]
REGION = planning.Region(id="theirs", kind="exclude", top=0.1, left=0.2, bottom=0.33, right=0.7)
ENERGIES = st.sampled_from([0.5, 1.0, 1.5, 2.5, 3.2, 4.5, 5.5, 7.0])
FIELDS = {
    "scalarizer": st.integers(0, len(form_module.SCALARIZERS) - 1),
    "agent": st.integers(0, len(form_module.AGENTS) - 1),
    "acquisition": st.integers(0, len(form_module.ACQUISITIONS) - 1),
    "goal": st.integers(0, 1),
    "other_goal": st.integers(0, 1),
    "parameter": st.sampled_from([-1.0, 0.0, 0.5, 3.0]),
    "seeds": st.integers(0, 20),
    "enough": st.sampled_from([0.0, 0.1, 0.7]),
    "points": st.integers(0, 200),
    "minutes": st.sampled_from([0.0, 1.0, 12.5]),
    "fov_nm": st.sampled_from([100.0, 200.0]),
    **dict.fromkeys((*edits.ENDS, *edits.OTHER_ENDS), ENERGIES),
}
CHANGES = {
    "points": {"budget.points"},
    "minutes": {"budget.time_s"},
    "goal": {"agent.goal"},
    "seeds": {"agent.seeds"},
    "enough": {"agent.stop", "agent.stop.within", "agent.stop.risk"},
    "parameter": {"agent.acquisition.beta", "agent.acquisition.xi"},
    "other_goal": {"agent.acquisition.second_goal"},
    "other_low_eV": {"second.low_eV"},
    "other_high_eV": {"second.high_eV"},
    "low_eV": {"scalarizer.low_eV", "scalarizer.numerator.low_eV"},
    "high_eV": {"scalarizer.high_eV", "scalarizer.numerator.high_eV"},
    "second_low_eV": {"scalarizer.background_low_eV", "scalarizer.denominator.low_eV"},
    "second_high_eV": {"scalarizer.background_high_eV", "scalarizer.denominator.high_eV"},
    "fov_nm": set(),
}
"""What an edit of a field may change in the settings; a choice may change its own part and nothing else."""
PARTS = {"scalarizer": "scalarizer", "agent": "agent", "acquisition": "agent.acquisition"}

plans = st.builds(
    lambda scalarizer, agent, second, budget: planning.Plan(
        scalarizer=scalarizer,
        agent=agent,
        second=second or (WINDOW if agent == AGENTS[-1] else None),
        budget=budget,
        regions=(REGION,),
    ),
    st.sampled_from(SCORES),
    st.sampled_from(AGENTS),
    st.sampled_from(SECONDS),
    st.sampled_from(BUDGETS),
)
no_number = st.none()
edited = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda name: st.tuples(st.just(name), st.one_of(FIELDS[name], FIELDS[name], no_number))
)
theirs = st.one_of(
    st.builds(lambda s: ev.SetScalarizer(scalarizer=s), st.sampled_from(SCORES)),
    st.builds(lambda a: ev.SetAgent(agent=a), st.sampled_from(AGENTS)),
    st.builds(lambda s, a: ev.SetSecond(scalarizer=s, agent=a), st.sampled_from(SECONDS), st.sampled_from(AGENTS)),
    st.builds(lambda b: ev.SetBudget(budget=b), st.sampled_from(BUDGETS)),
    st.just(ev.SetAcquisition(acquisition=planning.MaximumVariance())),
    st.just(ev.AddRegion(region=REGION.model_copy(update={"id": "another"}))),
    st.just(ev.RemoveRegion(id="theirs")),
    st.just(ev.Undo()),
)


class Run:
    """The part of an engine that is steered: its own queue, and its own fold."""

    def __init__(self, plan):
        self.plan = plan
        self.state = RunState(settings=Settings.of(plan))
        self.status = Status()
        self.answers = steering_sync.Answers()
        self.accepted = []
        self.sent = []
        self.queue = CommandQueue()

    def steer(self, command):
        self.sent.append(command)
        return self.queue.put(command)

    def by_another(self, command):
        self.queue.put(command)

    def obey(self, most=1000):
        for _ in range(most):
            if (command := self.queue.take()) is None:
                return
            refused = None
            try:
                self.state = self.state.steered(command)
                self.accepted.append(command)
            except PlanError as error:
                refused = str(error)
            event = ev.Steered(command=command, refused=refused)
            self.answers(ev.Record(seq=0, utc="2026-11-26T00:00:00+00:00", elapsed_s=0.0, event=event), self.state)


class NothingDrawn:
    """Live data before anything is shown."""

    def display_item(self, key):
        return None


class Panel:
    """A form in step with a run."""

    def __init__(self, plan):
        self.run = Run(plan)
        self.said = []
        self.form = form_module.PlanForm(Model.PropertyModel[str]("{}"))
        self.sync = steering_sync.SteeringSync(
            None, self.form, self.run, self.run.answers, NothingDrawn(), self.said.append
        )
        self._listener = self.form.edited_event.listen(self.sync.form_edited)

    @property
    def settings(self):
        return self.run.state.settings

    def edit(self, **values):
        """As the operator; what is no number is typed."""
        for name in [n for n, value in values.items() if value is None and n in form_module.NUMBERS]:
            self.form.enter(name, "nonsense")
            assert self.form.flagged.__getattr__(name).value or name not in self.form.mistakes()
            del values[name]
        self.form.set(**values)

    def settle(self):
        """Until everything is sent, obeyed and shown."""
        for _ in range(4):
            self.sync.steer()
            self.run.obey()
        self.sync.steer()

    def half_entered(self):
        return self.sync._half_entered

    def shows_what_is_in_force(self):
        shown = edits.fields_of(self.settings)
        return {n: v for n, v in shown.items() if self.form.value(n) != v and n not in self.half_entered()} == {}


def leaves(told, path=""):
    """Every value in the settings under its path."""
    if isinstance(told, dict) and told:
        return {
            k: v for name, part in told.items() for k, v in leaves(part, f"{path}.{name}" if path else name).items()
        }
    return {path: told}


def told(one):
    parts = {name: getattr(one, name) for name in ("scalarizer", "second", "agent", "budget")}
    plain = {name: part.model_dump() if part is not None else None for name, part in parts.items()}
    return leaves({**plain, "regions": one.regions, "requests": one.requests})


def differing(before, after):
    one, other = told(before), told(after)
    return {path for path in one.keys() | other.keys() if one.get(path, ...) != other.get(path, ...)}


def allowed(name, path):
    if name in CHANGES:
        return path in CHANGES[name]
    trading = name in ("agent", "acquisition") and path.split(".")[0] == "second"
    return path == PARTS[name] or path.startswith(f"{PARTS[name]}.") or trading


@settings(deadline=None, max_examples=CASES)
@given(plans, st.lists(st.one_of(edited, theirs), max_size=12))
def test_an_edit_changes_the_edited_field_and_nothing_else(plan, steps):
    panel = Panel(plan)
    panel.settle()
    assert panel.run.sent == [], "showing a run steers nothing"
    for step in steps:
        before, half, sent = panel.settings, set(panel.half_entered()), len(panel.run.sent)
        if isinstance(step, tuple):
            panel.edit(**dict([step]))
            panel.settle()
            names = {step[0], *half}
            changed = differing(before, panel.settings)
            assert all(any(allowed(name, path) for name in names) for path in changed), (step, changed)
        else:
            panel.run.by_another(step)
            panel.settle()
            assert len(panel.run.sent) == sent, "the panel answers nobody"
        assert panel.shows_what_is_in_force()


@settings(deadline=None, max_examples=CASES)
@given(
    plans,
    st.lists(st.one_of(edited, theirs, st.integers(0, 2), st.just("turn"), st.just("undo")), max_size=20),
)
def test_two_clients_end_with_the_accepted_commands_in_order(plan, steps):
    panel = Panel(plan)
    edits_made = 0
    for step in steps:
        if isinstance(step, tuple):
            panel.edit(**dict([step]))
            edits_made += 1
        elif step == "turn":
            panel.sync.steer()
        elif step == "undo":
            panel.sync.undo()
            edits_made += 1
        elif isinstance(step, int):
            panel.run.obey(most=step)
        else:
            panel.run.by_another(step)
    panel.settle()
    state = RunState(settings=Settings.of(plan))
    for command in panel.run.accepted:
        state = state.steered(command)
    assert panel.settings == state.settings
    assert panel.shows_what_is_in_force()
    assert panel.sync._settings == panel.settings
    assert len(panel.run.sent) <= edits_made
    panel.settle()
    assert len(panel.run.sent) <= edits_made, "and then it is quiet"


RESUMED = planning.Plan(
    scalarizer=SCORES[-1],
    second=SCORES[1],
    agent=AGENTS[2],
    budget=planning.Budget(points=40, time_s=600.0, dose_e=1e9),
)


def test_points_of_a_run_that_the_fields_cannot_express():
    panel = Panel(RESUMED)
    assert panel.form.scalarizer_kind == panel.form.agent_kind == form_module.ANOTHER
    panel.edit(points=77)
    panel.settle()
    expected = RESUMED.model_copy(update={"budget": RESUMED.budget.model_copy(update={"points": 77})})
    assert panel.settings == Settings.of(expected)
    assert panel.run.sent == [ev.SetBudget(budget=expected.budget)]
    in_words = "; ".join(edits.not_shown(panel.settings))
    assert all(text in in_words for text in ("“mine”", "2 positions", "edge", "1.0·10⁹"))


@pytest.mark.parametrize("change", [{"low_eV": 0.5}, {"second_high_eV": 9.0}, {"target": {"reference": [1.0, 2.0]}}])
def test_a_score_without_a_window_is_never_converted(change):
    panel = Panel(RESUMED)
    panel.edit(**change)
    panel.settle()
    assert "“mine”" in panel.said[-1]
    assert panel.run.sent == []
    panel.edit(scalarizer=0, low_eV=0.6, high_eV=0.9)
    panel.settle()
    assert panel.settings.scalarizer == scalarizers.Window(low_eV=0.6, high_eV=0.9)
    assert panel.settings.second == RESUMED.second
    assert panel.said[-1] == ""


def test_another_is_shown_and_cannot_be_chosen():
    panel = Panel(planning.Plan())
    for field in ("scalarizer", "agent"):
        panel.edit(**{field: form_module.index_of(field, form_module.ANOTHER)})
        panel.settle()
        assert "plan" in panel.said[-1]
        assert panel.form.value(field) == 0
    assert panel.run.sent == []


def test_the_weight_is_changed_in_the_agent_of_the_other_client():
    panel = Panel(planning.Plan())
    panel.edit(parameter=3.0)
    panel.sync.steer()
    costly = planning.DeepKernelAgent(costs=planning.Costs(travel=2.0), kernel="joined")
    panel.run.by_another(ev.SetAgent(agent=costly))
    panel.edit(parameter=4.0)
    panel.settle()
    assert panel.settings.agent == costly.model_copy(update={"acquisition": planning.UpperConfidenceBound(beta=4.0)})


def test_two_edits_during_one_exposure_are_both_in_force():
    panel = Panel(planning.Plan(budget=planning.Budget(points=60, dose_e=1e9)))
    panel.edit(points=80)
    panel.sync.steer()
    panel.edit(minutes=5.0)
    panel.settle()
    assert panel.settings.budget == planning.Budget(points=80, time_s=300.0, dose_e=1e9)


def test_a_window_is_entered_end_by_end():
    panel = Panel(planning.Plan())
    panel.edit(low_eV=3.4)
    panel.settle()
    assert "marked field" in panel.said[-1]
    assert "above the upper end" in panel.form.problems.low_eV.value
    assert panel.form.value("low_eV") == 3.4
    panel.edit(points=70)
    panel.edit(high_eV=4.2)
    panel.settle()
    assert panel.settings.scalarizer == scalarizers.Window(low_eV=3.4, high_eV=4.2)
    assert panel.settings.budget.points == 70


def test_what_is_half_entered_is_given_up_by_undo_and_by_another_window():
    panel = Panel(planning.Plan())
    panel.edit(points=70)
    panel.edit(low_eV=3.4)
    panel.sync.undo()
    panel.settle()
    assert (panel.form.value("low_eV"), panel.form.value("points")) == (1.1, 60)
    panel.edit(low_eV=3.4)
    panel.settle()
    panel.run.by_another(ev.SetScalarizer(scalarizer=WINDOW))
    panel.settle()
    assert (panel.form.value("low_eV"), panel.form.value("high_eV")) == (1.2, 2.0)


def test_an_edit_after_undo_waits_for_what_the_undo_leaves():
    panel = Panel(planning.Plan())
    panel.edit(points=70)
    panel.sync.undo()
    panel.edit(minutes=2.0)
    panel.settle()
    assert panel.settings.budget == planning.Budget(points=60, time_s=120.0)
    assert panel.run.accepted[1] == ev.Undo()


def test_what_is_being_typed_is_not_replaced():
    panel = Panel(planning.Plan())
    panel.form.typing.add("points")
    panel.run.by_another(ev.SetBudget(budget=planning.Budget(points=90, time_s=60.0)))
    panel.settle()
    assert (panel.form.value("points"), panel.form.value("minutes")) == (60, 1.0)
    panel.form.typing.clear()
    panel.settle()
    assert panel.form.value("points") == 90
    assert panel.run.sent == []


def test_nonsense_is_refused_and_the_fields_go_back():
    panel = Panel(planning.Plan())
    for change, word in (
        ({"points": 0}, "points"),
        ({"seeds": 0}, "seeds"),
        ({"parameter": -1.0}, "beta"),
    ):
        panel.edit(**change)
        panel.settle()
        assert word in panel.said[-1]
        assert panel.shows_what_is_in_force()
    assert panel.run.sent == []


def test_a_command_that_the_run_refuses_is_explained_and_taken_back():
    panel = Panel(planning.Plan())
    panel.edit(parameter=3.0)
    panel.sync.steer()
    panel.run.queue = CommandQueue()
    panel.run.by_another(ev.SetAgent(agent=planning.GridAgent()))
    panel.run.by_another(ev.SetAcquisition(acquisition=planning.UpperConfidenceBound(beta=3.0)))
    panel.settle()
    assert "no acquisition function" in panel.said[-1]
    assert panel.shows_what_is_in_force()


def test_a_full_queue_is_explained_and_the_field_goes_back():
    panel = Panel(planning.Plan())
    panel.run.queue = CommandQueue(capacity=0)
    panel.edit(points=90)
    panel.settle()
    assert "Try again" in panel.said[-1]
    assert panel.form.value("points") == 60
