"""Decisions beside the exposure: the agent thinks on a thread of its own, and what it says is checked.

An agent may hang, raise, or suggest what makes no sense; the run goes on under a space-filling policy, or pauses, as
the plan says.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from autoexp.agent import Agent, Finisher, Forethinker, Prediction, Predictor, Suggestion
from autoexp.agents import make_agent
from autoexp.agents.space_filling import SpaceFillingPolicy
from autoexp.patches import Candidates
from autoexp.plan import Plan
from autoexp.state import RunState
from autoexp.threads import Call, one_blas_thread

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
        prediction: what the agent's model expects over the whole field, if it has one.
        warning: what went wrong on the way, for the operator.
        failed: whether the agent itself could not be used.
        finished: why nothing more need be measured, where the agent says so.
    """

    suggestion: Suggestion | None
    agent: str
    known: int = 0
    pending: tuple[int, ...] = ()
    decision_s: float = 0.0
    prediction: Prediction | None = None
    warning: str | None = None
    failed: bool = False
    finished: str = ""


def allowed_in(candidates: Candidates, state: RunState) -> Candidates:
    """The candidates among which a run may choose: in its regions, and in the field however far it has drifted."""
    assert state.settings is not None
    restricted = candidates.restricted(state.settings.regions)
    return restricted.within(state.shifts()) if state.looks else restricted


def _work(agent: Forethinker) -> None:
    with one_blas_thread():
        agent.work_ahead()


@dataclass
class _Advisor:
    """An agent and what it has learned; a new one is made whenever settings change, so that threads never share one."""

    agent: Agent | None = None
    learned: set[int] = field(default_factory=set)
    making: threading.Lock = field(default_factory=threading.Lock)


class Decider:
    """Owns the agent of a run.

    Args:
        plan: seed, deadline and fallback.
        candidates: where one may measure, no region applied.
        state: the run so far; its settings are in force.
        clock: monotonic seconds.
    """

    def __init__(
        self, plan: Plan, candidates: Candidates, state: RunState, clock: Callable[[], float] = time.monotonic
    ):
        self._plan = plan
        self._all = candidates
        self._clock = clock
        self.configure(state)

    def follow(self, state: RunState) -> None:
        """Take drift into account; the agent is only made anew if other candidates are in the field than before."""
        if not np.array_equal(allowed_in(self._all, state).allowed, self._candidates.allowed):
            self.configure(state)

    def configure(self, state: RunState) -> None:
        """Put settings in force; the agent is made anew and learns all outcomes again at its next decision."""
        assert state.settings is not None
        self._settings = state.settings
        self._candidates = allowed_in(self._all, state)
        self._advisor = _Advisor()
        self._call: Call[Decision] | None = None
        self.set_aside = False

    def prepare(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Make the agent, which on a large overview takes minutes, before the first decision has a deadline.

        What goes wrong shows, and is coped with, at that decision.
        """
        advisor = self._advisor
        call = Call(lambda: self._make(advisor), "autoexp-preparation")
        while not call.wait(0.05) and not cancelled():
            pass

    def begin(self, state: RunState) -> None:
        """Start to decide what comes after the points that are known or in flight in ``state``."""
        advisor = self._advisor
        self._call = Call(lambda: self._decide(advisor, state), "autoexp-decision")

    def fetch(self, state: RunState, cancelled: Callable[[], bool] = lambda: False) -> Decision | None:
        """The decision, waiting for it up to the plan's deadline; None if cancelled meanwhile, to be fetched later."""
        if self._call is None:
            self.begin(state)
        assert self._call is not None
        deadline = self._clock() + self._plan.decision_deadline_s
        while not self._call.wait(0.02):
            if cancelled():
                return None
            if self._clock() > deadline:
                return self._fall_back(state, f"it did not answer within {self._plan.decision_deadline_s:g} s")
        call, self._call = self._call, None
        try:
            return call.result()
        except Exception as error:  # an agent is foreign code: whatever it raises must not end the run
            return self._fall_back(state, str(error) or type(error).__name__)

    def predict(self, state: RunState) -> Prediction | None:
        """What the agent's model expects once it has learned everything in ``state``; None if it does not say."""
        if self._call is not None and not self._call.wait(self._plan.decision_deadline_s):
            return None
        advisor = self._advisor
        call = Call(lambda: self._predict(advisor, state), "autoexp-prediction")
        return call.result() if call.wait(self._plan.decision_deadline_s) else None

    def _predict(self, advisor: _Advisor, state: RunState) -> Prediction | None:
        with one_blas_thread():
            agent = self._learn(advisor, state)
            return agent.predict() if isinstance(agent, Predictor) else None

    def _decide(self, advisor: _Advisor, state: RunState) -> Decision:
        begun = self._clock()
        with one_blas_thread():
            agent = self._learn(advisor, state)
            suggestion, warning = self._ask(agent, state)
            prediction = agent.predict() if isinstance(agent, Predictor) else None
        if isinstance(agent, Forethinker) and agent.has_work:
            Call(lambda: _work(agent), "autoexp-work-ahead")
        return Decision(
            suggestion,
            agent.name if warning is None else SpaceFillingPolicy.name,
            known=len(state.outcomes),
            pending=tuple(p.id for p in state.pending),
            decision_s=self._clock() - begun,
            prediction=prediction,
            warning=warning,
            finished=agent.finished if suggestion is None and isinstance(agent, Finisher) else "",
        )

    def _learn(self, advisor: _Advisor, state: RunState) -> Agent:
        """The advisor's agent, which then knows every outcome of ``state``."""
        agent = self._make(advisor)
        new = [(i, outcome) for i, outcome in state.outcomes if i not in advisor.learned]
        if new:
            agent.ingest([outcome for _, outcome in new])
            advisor.learned |= {i for i, _ in new}
        return agent

    def _make(self, advisor: _Advisor) -> Agent:
        with advisor.making:
            if advisor.agent is None:
                settings = self._settings
                advisor.agent = make_agent(settings.agent, self._candidates, self._plan.seed, settings.budget.points)
            return advisor.agent

    def _ask(self, agent: Agent, state: RunState) -> tuple[Suggestion | None, str | None]:
        """A usable suggestion; asks up to three times, then fills space, and says so."""
        pending = [p.suggestion for p in state.pending]
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
            if isinstance(suggestions[0], Suggestion):
                refused.append(suggestions[0])
        instead = self._fill_space(state, pending)
        return instead, f"The {agent.name} agent suggested {fault}; a space-filling point is measured instead."

    def _fill_space(self, state: RunState, pending: Sequence[Suggestion]) -> Suggestion | None:
        filler = SpaceFillingPolicy(self._candidates, self._plan.seed)
        filler.ingest([outcome for _, outcome in state.outcomes])
        return next(iter(filler.suggest(1, pending)), None)

    def _fault_of(self, suggestion: object, visited: set[int | None]) -> str:
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
        """Set the agent aside: from here on space is filled, until settings are put in force anew."""
        name = self._settings.agent.kind
        self.set_aside = True
        self._call = None
        self._advisor = _Advisor(SpaceFillingPolicy(self._candidates, self._plan.seed))
        decision = self._decide(self._advisor, state)
        return replace(decision, warning=f"The {name} agent was set aside: {why}", failed=True)
