"""The state of a run: a fold over its events, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from autoexp import events as ev
from autoexp.agent import Outcome, Suggestion
from autoexp.drift import Shift, extrapolated
from autoexp.errors import PlanError
from autoexp.plan import AgentSpec, Budget, DeepKernelAgent, Goal, Plan, Region, require_second
from autoexp.scalarizers import Scalarizer

PointStatus = Literal["decided", "exposing", "measured", "failed", "skipped"]


@dataclass(frozen=True)
class Settings:
    """All that can be steered while a run goes on. Every command maps one of these to the next."""

    scalarizer: Scalarizer
    agent: AgentSpec
    budget: Budget
    second: Scalarizer | None = None
    regions: tuple[Region, ...] = ()
    requests: tuple[ev.MeasureHere, ...] = ()

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
                if any(r.id == command.id for r in self.requests):
                    raise PlanError(f"The request {command.id!r} was made before.")
                return replace(self, requests=(*self.requests, command))
        raise PlanError(f"{command.kind} does not change settings.")


@dataclass(frozen=True)
class Point:
    """One decision and what became of it."""

    id: int
    candidate: int | None
    position: tuple[float, float]
    reason: str
    agent: str
    status: PointStatus = "decided"
    mean: float | None = None
    std: float | None = None
    request: str | None = None
    value: float = float("nan")
    noise: float = 0.0
    second: float | None = None
    second_noise: float = 0.0
    record: int | None = None
    fault: str = ""
    dose_e: float = 0.0
    exposed: bool = False

    @property
    def compared(self) -> tuple[float, float] | None:
        """Both values, where there are two and both are numbers."""
        if self.second is None or not (math.isfinite(self.value) and math.isfinite(self.second)):
            return None
        return self.value, self.second

    @property
    def suggestion(self) -> Suggestion:
        """The point as the agent suggested it."""
        return Suggestion(self.candidate, self.position, self.reason, self.mean, self.std)

    @property
    def outcome(self) -> Outcome | None:
        """What the agent is to learn of it; None while that is not known, and if it was never exposed."""
        if self.status in ("decided", "exposing") or (self.status == "skipped" and not self.exposed):
            return None
        scored = self.status == "measured" and math.isfinite(self.value)
        status: Literal["ok", "failed", "skipped"] = (
            "ok" if scored else "skipped" if self.status == "skipped" else "failed"
        )
        return Outcome(status, self.candidate, self.position, self.value, self.noise, self.second, self.second_noise)


@dataclass(frozen=True)
class RunState:
    """Where a run stands after some of its events."""

    seq: int = -1
    run_id: str = ""
    plan: Plan | None = None
    settings: Settings | None = None
    history: tuple[Settings, ...] = ()
    undone: int = 0
    phase: ev.Phase = "idle"
    phase_reason: str = ""
    prepared: ev.Prepared | None = None
    prepared_s: float = 0.0
    looks: tuple[ev.Drifted, ...] = ()
    aligning: bool = False
    alignments: tuple[ev.Aligned, ...] = ()
    disk: ev.Looked | None = None
    spectra: ev.SpectraOpened | None = None
    points: dict[int, Point] = field(default_factory=dict)
    dose_e: float = 0.0
    paid: dict[str, float] = field(default_factory=dict)
    stood_s: float = 0.0
    elapsed_s: float = 0.0
    measuring_s: float = 0.0
    warnings: tuple[str, ...] = ()
    snapshot: dict[str, float] = field(default_factory=dict)
    predicted: ev.Predicted | None = None
    finished: ev.Finished | None = None

    @property
    def measured(self) -> list[Point]:
        """Points with a usable spectrum, in the order of their decisions; unscored ones have the value NaN."""
        return [p for p in self.points.values() if p.status == "measured"]

    @property
    def scored(self) -> list[Point]:
        """Measured points to which the scalarizer gives a number."""
        return [p for p in self.measured if math.isfinite(p.value)]

    @property
    def failed(self) -> list[Point]:
        """Points that were exposed and gave nothing usable."""
        return [p for p in self.points.values() if p.status == "failed"]

    @property
    def pending(self) -> list[Point]:
        """Points that were decided or begun and whose outcome is not known."""
        return [p for p in self.points.values() if p.status in ("decided", "exposing")]

    @property
    def next_id(self) -> int:
        """Number of the next point."""
        return max(self.points, default=-1) + 1

    @property
    def measured_count(self) -> int:
        """How many points have a usable spectrum."""
        return len(self.measured)

    @property
    def requests(self) -> list[ev.MeasureHere]:
        """What the operator asked to measure and nobody has taken up yet."""
        taken = {p.request for p in self.points.values()}
        return [r for r in self.settings.requests if r.id not in taken] if self.settings else []

    @property
    def exposures(self) -> int:
        """Exposures that the budget has paid for."""
        return sum(p.exposed for p in self.points.values())

    @property
    def outcomes(self) -> list[tuple[int, Outcome]]:
        """All known outcomes with the ids of their points, in the order of the decisions."""
        return [(p.id, outcome) for p in self.points.values() if (outcome := p.outcome) is not None]

    def drift(self, elapsed_s: float) -> Shift:
        """How far (y, x) the specimen is taken to have moved at a time of the run, fractions of the field."""
        looks = [(look.since_s, look.shift) for look in self.looks if look.certain]
        return extrapolated(looks, elapsed_s - self.prepared_s)

    def shifts(self) -> tuple[Shift, Shift]:
        """Between which shifts the drift is until the next look."""
        return self.drift(-math.inf), self.drift(math.inf)

    def best(self) -> Point | None:
        """The measured point that serves the goal best."""
        sign = -1 if self.settings and self.settings.goal == "minimize" else 1
        return max(self.scored, key=lambda p: sign * p.value, default=None)

    def steered(self, command: ev.Steering) -> RunState:
        """The state once a steering command is in force.

        Raises:
            PlanError: the command makes no sense here; the message says why.
        """
        if self.settings is None:
            raise PlanError("There is no run to steer.")
        if isinstance(command, ev.Undo):
            if not self.history:
                raise PlanError("There is nothing to undo.")
            return replace(self, settings=self.history[-1], history=self.history[:-1], undone=self.undone + 1)
        return replace(self, settings=self.settings.after(command), history=(*self.history, self.settings))

    def apply(self, record: ev.Record) -> RunState:
        """The state after one more event."""
        state = _apply(self, record.event)
        passed = record.elapsed_s - self.elapsed_s if self.phase == "running" else 0.0
        measuring_s = self.measuring_s + max(0.0, passed)
        prepared_s = record.elapsed_s if isinstance(record.event, ev.Prepared) else self.prepared_s
        return replace(
            state, seq=record.seq, elapsed_s=record.elapsed_s, measuring_s=measuring_s, prepared_s=prepared_s
        )


def fold(records: Iterable[ev.Record], state: RunState | None = None) -> RunState:
    """The state after all of the records."""
    state = state or RunState()
    for record in records:
        state = state.apply(record)
    return state


def _apply(state: RunState, event: ev.Event) -> RunState:
    match event:
        case ev.Started():
            return replace(state, run_id=event.run_id, plan=event.plan, settings=Settings.of(event.plan))
        case ev.Snapshot():
            return replace(state, snapshot=dict(event.controls))
        case ev.ExposureBegun():
            paid = {**state.paid, event.what: event.dose_e}
            stood_s = state.stood_s + event.stood_s
            return replace(state, paid=paid, dose_e=state.dose_e + event.dose_e, stood_s=stood_s)
        case ev.Prepared():
            return replace(_settled(state, "overview", event.dose_e), prepared=event)
        case ev.SpectraOpened():
            return replace(state, spectra=event)
        case ev.Decided():
            point = Point(
                event.id,
                event.candidate,
                event.position,
                event.reason,
                event.agent,
                mean=event.mean,
                std=event.std,
                request=event.request,
            )
            return replace(state, points={**state.points, event.id: point})
        case ev.Exposing():
            state = replace(state, stood_s=state.stood_s + event.stood_s)
            return _update(state, event.id, status="exposing", exposed=True, dose_e=event.dose_e)
        case ev.Measured():
            return _update(
                state,
                event.id,
                status="measured",
                value=event.value,
                noise=event.noise,
                second=event.second,
                second_noise=event.second_noise,
                record=event.record.index,
                dose_e=event.dose_e,
            )
        case ev.Failed():
            record = event.record.index if event.record else None
            return _update(state, event.id, status="failed", fault=event.fault, record=record, dose_e=event.dose_e)
        case ev.Skipped():
            return _update(
                state, event.id, status="skipped", fault=event.reason, dose_e=event.dose_e, exposed=event.exposed
            )
        case ev.Steered():
            return state if event.refused else state.steered(event.command)
        case ev.Rescored():
            points = {i: _rescored(p, event) if i in event.values else p for i, p in state.points.items()}
            return replace(state, points=points)
        case ev.PhaseChanged():
            return replace(state, phase=event.phase, phase_reason=event.reason)
        case ev.Predicted():
            return replace(state, predicted=event)
        case ev.Warned():
            return replace(state, warnings=(*state.warnings, event.message))
        case ev.Drifted():
            return replace(_settled(state, "drift", event.dose_e), looks=(*state.looks, event))
        case ev.AlignmentBegun():
            return replace(state, aligning=True)
        case ev.Looked():
            return replace(_settled(state, "frame", event.dose_e), disk=event)
        case ev.Aligned():
            return replace(state, aligning=False, alignments=(*state.alignments, event))
        case ev.Restored():
            return replace(state, stood_s=state.stood_s + event.stood_s)
        case ev.Finished():
            return replace(state, finished=event)
    return state


def _settled(state: RunState, what: str, dose_e: float) -> RunState:
    """An exposure that was paid for beforehand, or never was (format 1), has really taken ``dose_e``."""
    paid = dict(state.paid)
    return replace(state, dose_e=state.dose_e + dose_e - paid.pop(what, 0.0), paid=paid)


def _rescored(point: Point, event: ev.Rescored) -> Point:
    return replace(
        point,
        value=event.values[point.id],
        noise=event.noises.get(point.id, 0.0),
        second=event.seconds.get(point.id),
        second_noise=event.second_noises.get(point.id, 0.0),
    )


def _update(state: RunState, point_id: int, **changes: object) -> RunState:
    old = state.points[point_id]
    new = replace(old, **changes)  # type: ignore[arg-type]
    return replace(state, points={**state.points, point_id: new}, dose_e=state.dose_e + new.dose_e - old.dose_e)
