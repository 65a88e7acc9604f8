"""Decisions beside the exposure: the agent thinks on a thread of its own, and what it says is checked.

An agent may hang, raise, or suggest what makes no sense; the run goes on under a space-filling policy, or pauses, as
the plan says.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoexp.agent import Agent, Prediction, Predictor, Suggestion
from autoexp.agents import make_agent
from autoexp.agents.space_filling import SpaceFillingPolicy
from autoexp.errors import AgentError, MissingDependencyError
from autoexp.patches import Candidates
from autoexp.plan import Plan
from autoexp.state import RunState, Settings

RETRIES = 3


@dataclass(frozen=True)
class Decision:
    """A suggestion that has been checked.

    Attributes:
        suggestion: what to measure; None if nothing is left.
        agent: who decided.
        known: number of outcomes that the decision rests on.
        pending: ids of points in flight that it took into account.
        decision_s: how long it took.
        warning: what went wrong on the way, for the operator.
        failed: whether the agent itself could not be used.
    """

    suggestion: Suggestion | None
    agent: str
    known: int = 0
    pending: tuple[int, ...] = ()
    decision_s: float = 0.0
    warning: str | None = None
    failed: bool = False


class Task:
    """One call on a thread of its own; daemonic, since an agent that hangs must not keep the program alive."""

    def __init__(self, call: Callable[[], Any], name: str):
        self._call = call
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error
        finally:
            self._done.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether the call has ended, waiting at most so long."""
        return self._done.wait(timeout_s)

    def result(self) -> Any:
        """What the call returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result


class Decider:
    """Owns the agent of a run.

    Args:
        plan: seed, deadline and fallback.
        candidates: where one may measure, no region applied.
        settings: the agent and regions in force.
        clock: monotonic seconds.
    """

    def __init__(
        self, plan: Plan, candidates: Candidates, settings: Settings, clock: Callable[[], float] = time.monotonic
    ):
        self._plan = plan
        self._all = candidates
        self._clock = clock
        self._pending: Task | None = None
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Put new settings in force: the agent is made anew and learns all outcomes again at its next decision."""
        self._settings = settings
        self._candidates = self._all.restricted(settings.regions)
        self._agent: Agent | None = None
        self._ingested: set[int] = set()
        self._pending = None
        self._set_aside = False

    @property
    def busy(self) -> bool:
        """Whether a decision is under way or waiting to be fetched."""
        return self._pending is not None

    def begin(self, state: RunState) -> None:
        """Start to decide what comes after the points that are known or in flight in ``state``."""
        self._pending = Task(lambda: self._decide(state), "autoexp-decision")

    def fetch(self, state: RunState, cancelled: Callable[[], bool]) -> Decision | None:
        """The decision, waiting for it up to the plan's deadline; None if cancelled meanwhile."""
        if self._pending is None:
            self.begin(state)
        task, self._pending = self._pending, None
        assert task is not None
        deadline = self._clock() + self._plan.decision_deadline_s
        while not task.wait(0.02):
            if cancelled():
                return None
            if self._clock() > deadline:
                return self._fall_back(state, f"it did not answer within {self._plan.decision_deadline_s:g} s")
        try:
            decision: Decision = task.result()
        except MissingDependencyError as error:
            return replace(self._fall_back(state, str(error)), failed=True)
        except Exception as error:  # an agent is foreign code: whatever it raises must not end the run
            return self._fall_back(state, f"{type(error).__name__}: {error}")
        return decision

    def predict(self) -> Prediction | None:
        """The model's present prediction, if the agent in force has one."""
        return self._agent.predict() if isinstance(self._agent, Predictor) and not self._set_aside else None

    def _decide(self, state: RunState) -> Decision:
        begun = self._clock()
        agent = self._ensure_agent()
        outcomes = state.outcomes
        new = [(i, o) for i, o in outcomes if i not in self._ingested]
        agent.ingest([outcome for _, outcome in new])
        self._ingested |= {i for i, _ in new}
        pending = [p.suggestion for p in state.pending]
        suggestion, warning = self._ask(agent, state, pending)
        return Decision(
            suggestion,
            agent.name if warning is None else "space-filling",
            known=len(outcomes),
            pending=tuple(p.id for p in state.pending),
            decision_s=self._clock() - begun,
            warning=warning,
        )

    def _ensure_agent(self) -> Agent:
        if self._set_aside:
            return self._space_filling()
        if self._agent is None:
            settings = self._settings
            self._agent = make_agent(settings.agent, self._candidates, self._plan.seed, settings.budget.points)
        return self._agent

    def _space_filling(self) -> Agent:
        if not isinstance(self._agent, SpaceFillingPolicy):
            self._agent = SpaceFillingPolicy(self._candidates, self._plan.seed)
            self._ingested = set()
        return self._agent

    def _ask(
        self, agent: Agent, state: RunState, pending: Sequence[Suggestion]
    ) -> tuple[Suggestion | None, str | None]:
        """A usable suggestion; asks up to three times, then fills space, and says so."""
        visited = {p.candidate for p in state.points.values() if p.exposed or p.status == "decided"}
        refused: list[Suggestion] = []
        fault = ""
        for _ in range(RETRIES):
            suggestions = agent.suggest(1, [*pending, *refused])
            if not suggestions:
                return None, None
            fault = self._fault_of(suggestions[0], visited)
            if not fault:
                return suggestions[0], None
            refused.append(suggestions[0])
        filler = SpaceFillingPolicy(self._candidates, self._plan.seed)
        filler.ingest([o for _, o in state.outcomes])
        found = filler.suggest(1, pending)
        return (found[0] if found else None), f"The {agent.name} agent suggested {fault}; a space-filling point instead."

    def _fault_of(self, suggestion: Suggestion, visited: set[int | None]) -> str:
        """What is wrong with a suggestion, in words; empty if nothing is."""
        if not isinstance(suggestion, Suggestion):
            return f"{suggestion!r}, which is no suggestion"
        numbers = (*suggestion.position, suggestion.mean, suggestion.std, suggestion.acquisition)
        if not all(n is None or (isinstance(n, int | float) and math.isfinite(n)) for n in numbers):
            return "numbers that are not finite"
        if not all(0 <= p <= 1 for p in suggestion.position):
            return f"a position outside the field, {suggestion.position}"
        if suggestion.candidate is None:
            return ""
        if not 0 <= suggestion.candidate < len(self._candidates):
            return f"candidate {suggestion.candidate}, which does not exist"
        if suggestion.candidate in visited:
            return f"candidate {suggestion.candidate}, which is measured already"
        if not self._candidates.allowed[suggestion.candidate]:
            return f"candidate {suggestion.candidate}, where regions forbid to measure"
        return ""

    def _fall_back(self, state: RunState, why: str) -> Decision:
        """Set the agent aside; the next decisions fill space until new settings are made."""
        name = self._agent.name if self._agent else self._settings.agent.kind
        self._set_aside = True
        self._agent = None
        self._ingested = set()
        try:
            decision = self._decide(state)
        except Exception as error:
            raise AgentError(f"Neither the {name} agent nor the fallback could decide: {error}") from error
        return replace(decision, warning=f"The {name} agent was set aside: {why}", failed=True)
