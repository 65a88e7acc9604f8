"""What can be steered while a run goes on, and how each command changes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from autoexp import events as ev
from autoexp.errors import PlanError
from autoexp.persistent import PersistentList, PersistentSet
from autoexp.plan import AgentSpec, Budget, DeepKernelAgent, Goal, Plan, Region, require_second
from autoexp.scalarizers import Scalarizer


@dataclass(frozen=True)
class Settings:
    """All that can be steered while a run goes on. Every command maps one of these to the next.

    Attributes:
        scalarizer: what a spectrum is worth.
        agent: who decides.
        budget: when to stop.
        second: another value of a spectrum, beside the first.
        regions: where to measure, and where not.
        requests: what the operator asked to measure, taken up or not.
        asked: the ids of these requests.
    """

    scalarizer: Scalarizer
    agent: AgentSpec
    budget: Budget
    second: Scalarizer | None = None
    regions: tuple[Region, ...] = ()
    requests: PersistentList[ev.MeasureHere] = field(default_factory=PersistentList)
    asked: PersistentSet[str] = field(default_factory=PersistentSet)

    @classmethod
    def of(cls, plan: Plan) -> Settings:
        """The settings with which a plan begins."""
        return cls(plan.scalarizer, plan.agent, plan.budget, plan.second, plan.regions)

    def advised_as(self, other: Settings) -> bool:
        """Whether an agent would be told and asked the same; if not, it has to be made anew."""
        relevant = ("scalarizer", "second", "agent", "regions")
        return all(getattr(self, name) == getattr(other, name) for name in relevant)

    @property
    def goal(self) -> Goal:
        """What the agent is after; policies without a goal of their own are judged as if they sought the maximum."""
        return getattr(self.agent, "goal", "maximize")

    def after(self, command: ev.Steering) -> Settings:
        """The settings once a command (other than undo) is in force.

        Raises:
            PlanError: the command makes no sense here; the message says why.
        """
        settings = self._changed(command)
        try:
            require_second(settings.agent, settings.second)
        except ValueError as error:
            raise PlanError(f"{str(error)[0].upper()}{str(error)[1:]}.") from error
        return settings

    def _changed(self, command: ev.Steering) -> Settings:
        match command:
            case ev.SetScalarizer():
                return replace(self, scalarizer=command.scalarizer)
            case ev.SetSecond():
                return replace(self, second=command.scalarizer, agent=command.agent or self.agent)
            case ev.SetAgent():
                return replace(self, agent=command.agent)
            case ev.SetAcquisition():
                if not isinstance(self.agent, DeepKernelAgent):
                    raise PlanError(
                        f"The {self.agent.kind} agent has no acquisition function; choose deep-kernel first."
                    )
                return replace(self, agent=self.agent.model_copy(update={"acquisition": command.acquisition}))
            case ev.SetBudget():
                return replace(self, budget=command.budget)
            case ev.AddRegion():
                kept = tuple(r for r in self.regions if r.id != command.region.id)
                return replace(self, regions=(*kept, command.region))
            case ev.RemoveRegion():
                if all(r.id != command.id for r in self.regions):
                    raise PlanError(f"There is no region {command.id!r} to remove.")
                return replace(self, regions=tuple(r for r in self.regions if r.id != command.id))
            case ev.MeasureHere():
                if command.id in self.asked:
                    raise PlanError(f"The request {command.id!r} was made before.")
                return replace(self, requests=self.requests.append(command), asked=self.asked.add(command.id))
        raise PlanError(f"{command.kind} does not change settings.")
