"""What the panel's fields show of the settings in force, and what an edited field changes in them: that field only."""

from __future__ import annotations

import functools
import typing
from collections.abc import Collection

from autoexp import events as ev
from autoexp import plan as planning
from autoexp import scalarizers
from autoexp.errors import PlanError
from autoexp.state import Settings
from nionswift_plugin.autoexp_ui import form as form_module
from nionswift_plugin.autoexp_ui import texts
from nionswift_plugin.autoexp_ui.translation import translate as _

Path = tuple[str, ...]

ENDS = ("low_eV", "high_eV", "second_low_eV", "second_high_eV")
OTHER_ENDS = {"other_low_eV": "low_eV", "other_high_eV": "high_eV"}
GROUPS = (
    frozenset({"scalarizer", "target", *ENDS}),
    frozenset({"agent", "acquisition", "goal", "parameter", "seeds", "enough", "other_goal", *OTHER_ENDS}),
    frozenset({"points", "minutes"}),
)
"""Fields that go into the same command. All others belong to the plan alone and steer nothing."""
STEERING = frozenset[str]().union(*GROUPS)


class HalfEnteredError(PlanError):
    """A window runs downward as long as only one of its ends has been entered."""


# --- what is shown


def fields_of(settings: Settings) -> dict[str, typing.Any]:
    """The fields that show what is in force; those that have nothing to show are not among them."""
    scalarizer, budget = settings.scalarizer, settings.budget
    values: dict[str, typing.Any] = {
        "scalarizer": form_module.index_of("scalarizer", scalarizer.kind),
        "points": budget.points,
        "minutes": (budget.time_s or 0.0) / 60,
        **_agent_fields(settings.agent),
    }
    shown: dict[str, typing.Any]
    shown = {name: functools.reduce(getattr, path, scalarizer) for name, path in _ends(scalarizer).items()}
    if isinstance(scalarizer, scalarizers.Similarity):  # its ends may be left to the reference
        shown["low_eV"], shown["high_eV"] = scalarizer.windows()[0]
    if isinstance(settings.second, scalarizers.Window):
        shown |= {name: getattr(settings.second, end) for name, end in OTHER_ENDS.items()}
    return values | shown


def not_shown(settings: Settings) -> list[str]:
    """What is in force and has no field, in words. No edit changes it."""
    found = []
    if isinstance(settings.scalarizer, scalarizers.Function):
        found.append(_("the score “{name}”").format(name=settings.scalarizer.name))
    if isinstance(settings.agent, planning.ListAgent):
        found.append(_("a list of {n} positions").format(n=len(settings.agent.positions)))
    if settings.second is not None and not (_trades(settings.agent) and _is_window(settings.second)):
        found.append(_("a second score, {what}").format(what=settings.second.describe()))
    if settings.budget.dose_e is not None:
        found.append(_("at most {dose}").format(dose=texts.electrons(settings.budget.dose_e)))
    if isinstance(settings.agent, planning.DeepKernelAgent) and settings.agent.costs != planning.Costs():
        found.append(_("costs of travel and damage"))
    return found


def _agent_fields(agent: planning.AgentSpec) -> dict[str, typing.Any]:
    kind = _kind_of(agent)
    if not isinstance(agent, planning.DeepKernelAgent):
        return {"agent": form_module.index_of("agent", kind)}
    acquisition = agent.acquisition
    parameter = form_module.PARAMETERS.get(acquisition.kind)
    other_goal = getattr(acquisition, "second_goal", None)
    return {
        "agent": form_module.index_of("agent", kind),
        "acquisition": form_module.index_of("acquisition", acquisition.kind),
        "goal": form_module.index_of("goal", agent.goal),
        "seeds": agent.seeds,
        **({"parameter": getattr(acquisition, parameter)} if parameter else {}),
        **({"other_goal": form_module.index_of("other_goal", other_goal)} if other_goal else {}),
        "enough": agent.stop.within if agent.stop else 0.0,
    }


# --- what an edit changes


def commands(form: form_module.PlanForm, names: Collection[str], settings: Settings) -> list[ev.Steering]:
    """The commands that bring edited fields into force.

    Args:
        form: what is entered.
        names: the fields that were edited; all others are left as they are in force, whatever is entered in them.
        settings: what is in force.

    Raises:
        HalfEnteredError: a window is none as long as its other end is not entered too.
        PlanError: what was entered makes no sense, or the settings in force hold something that has no such field.
    """
    asked: list[ev.Steering] = []
    scalarizer = _scalarizer(form, names, settings.scalarizer)
    agent = _agent(form, names, settings.agent)
    second = _second(form, names, settings, agent)
    budget = _budget(form, names, settings.budget)
    if scalarizer != settings.scalarizer:
        asked.append(ev.SetScalarizer(scalarizer=scalarizer))
    if second != settings.second:
        other = agent if agent != settings.agent else None
        asked.append(ev.SetSecond(scalarizer=second, agent=other))
    elif agent != settings.agent:
        asked.append(_agent_command(agent, settings.agent))
    if budget != settings.budget:
        asked.append(ev.SetBudget(budget=budget))
    return asked


def _scalarizer(
    form: form_module.PlanForm, names: Collection[str], present: scalarizers.Scalarizer
) -> scalarizers.Scalarizer:
    if "scalarizer" in names and form_module.index_of("scalarizer", present.kind) != form.value("scalarizer"):
        return form.make_scalarizer()
    if isinstance(present, scalarizers.Function) and not {*ENDS, "target"}.isdisjoint(names):
        text = _("This run's score is “{name}”, which has no window to edit here. Choose what to look for first.")
        raise PlanError(text.format(name=present.name))
    told = present.model_dump()
    for name, path in _ends(present).items():
        if name in names:
            functools.reduce(lambda part, key: part[key], path[:-1], told)[path[-1]] = form.value(name)
    if "target" in names and isinstance(present, scalarizers.Similarity) and form.value("target"):
        told |= form.value("target")
    return _parsed(told)


def _parsed(told: dict[str, typing.Any]) -> scalarizers.Scalarizer:
    try:
        return scalarizers.parse_scalarizer(told)
    except PlanError as error:
        raise HalfEnteredError(_("Not in force yet: see the marked field.")) from error


def _ends(scalarizer: scalarizers.Scalarizer) -> dict[str, Path]:
    """Which fields show the ends of its windows, and where in it they are found."""
    match scalarizer:
        case scalarizers.Function():
            return {}
        case scalarizers.Ratio():
            first, second = ("numerator",), ("denominator",)
            ends = (*first, "low_eV"), (*first, "high_eV"), (*second, "low_eV"), (*second, "high_eV")
            return dict(zip(ENDS, ends, strict=True))
        case scalarizers.Edge():
            names = "low_eV", "high_eV", "background_low_eV", "background_high_eV"
            return {field: (name,) for field, name in zip(ENDS, names, strict=True)}
    return {field: (field,) for field in ENDS[:2]}


def _agent(form: form_module.PlanForm, names: Collection[str], present: planning.AgentSpec) -> planning.AgentSpec:
    changes: dict[str, typing.Any] = {}
    if "agent" in names and form_module.index_of("agent", _kind_of(present)) != form.value("agent"):
        if not (isinstance(present, planning.DeepKernelAgent) and form.learns):
            return form.make_agent()
        changes["kernel"] = form_module.KERNELS[form.agent_kind]
    if not isinstance(present, planning.DeepKernelAgent):
        return present
    if "goal" in names:
        changes["goal"] = form.goal
    if "seeds" in names:
        changes["seeds"] = form.value("seeds")
    if "enough" in names:
        changes["stop"] = _stop(form.value("enough"), present.stop)
    acquisition = _acquisition(form, names, present.acquisition)
    return _with(present, acquisition=acquisition, **changes)


def _acquisition(form: form_module.PlanForm, names: Collection[str], present: planning.Acquisition) -> typing.Any:
    if "acquisition" in names and form.acquisition_kind != present.kind:
        return form.make_acquisition()
    parameter = form_module.PARAMETERS.get(present.kind)
    if "parameter" in names and parameter:
        return _with(present, **{parameter: form.value("parameter")})
    if "other_goal" in names and isinstance(present, planning.ExpectedHypervolumeImprovement):
        return _with(present, second_goal=form.other_goal)
    return present


def _stop(within: float | None, present: planning.StopRule | None) -> planning.StopRule | None:
    return _with(present or planning.StopRule(), within=within) if within else None


def _second(
    form: form_module.PlanForm, names: Collection[str], settings: Settings, agent: planning.AgentSpec
) -> scalarizers.Scalarizer | None:
    """A second score comes and goes with the choice to trade two values, unless it is one that has no fields."""
    second = settings.second
    if second is None:
        return form.make_other_window() if _trades(agent) else None
    if _trades(settings.agent) and not _trades(agent) and _is_window(second):
        return None
    if OTHER_ENDS.keys().isdisjoint(names):
        return second
    if not _is_window(second):
        text = _("The second score of this run is {what}; it has no fields here and stays as it is.")
        raise PlanError(text.format(what=second.describe()))
    return _parsed(second.model_dump() | {end: form.value(n) for n, end in OTHER_ENDS.items() if n in names})


def _budget(form: form_module.PlanForm, names: Collection[str], present: planning.Budget) -> planning.Budget:
    changes: dict[str, typing.Any] = {}
    if "points" in names:
        changes["points"] = form.value("points")
    if "minutes" in names:
        changes["time_s"] = form.value("minutes") * 60 if form.value("minutes") else None
    return _with(present, **changes)


def _agent_command(agent: planning.AgentSpec, present: planning.AgentSpec) -> ev.Steering:
    """The smallest one, so that what another client changes in the agent meanwhile is not reverted."""
    if not (isinstance(agent, planning.DeepKernelAgent) and isinstance(present, planning.DeepKernelAgent)):
        return ev.SetAgent(agent=agent)
    acquisition = agent.acquisition
    alone = agent == present.model_copy(update={"acquisition": acquisition})
    return ev.SetAcquisition(acquisition=acquisition) if alone else ev.SetAgent(agent=agent)


M = typing.TypeVar("M", bound=planning.Model)


def _with(part: M, **changes: typing.Any) -> M:
    """A part of the settings with some of its values changed, checked."""
    return planning.checked(type(part), **{**dict(part), **changes}) if changes else part


def _kind_of(agent: planning.AgentSpec) -> str:
    """As the panel lists it."""
    if not isinstance(agent, planning.DeepKernelAgent):
        return agent.kind
    return next(kind for kind, kernel in form_module.KERNELS.items() if kernel == agent.kernel)


def _trades(agent: planning.AgentSpec) -> bool:
    """Whether an agent trades two values against each other."""
    compromise = planning.ExpectedHypervolumeImprovement
    return isinstance(agent, planning.DeepKernelAgent) and isinstance(agent.acquisition, compromise)


def _is_window(scalarizer: scalarizers.Scalarizer) -> bool:
    return isinstance(scalarizer, scalarizers.Window)
