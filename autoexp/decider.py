"""Decisions beside the exposure: the agent thinks on a thread of its own, and what it says is checked.

An agent may hang, raise, or suggest what makes no sense; the run goes on under a space-filling policy, or pauses, as
the plan says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from autoexp.advice import AdviceError, checked_prediction, checked_suggestion, shown
from autoexp.advisor import CANDIDATE_S, MAKING, Advisor
from autoexp.agent import Agent, Finisher, Prediction, Predictor, Suggestion
from autoexp.agents import make_agent
from autoexp.agents.space_filling import SpaceFillingPolicy
from autoexp.patches import Candidates
from autoexp.plan import Plan
from autoexp.state import RunState
from autoexp.text import clean
from autoexp.threads import Call
from autoexp.visits import ON_THE_SPOT

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
        self._begin_anew(state)

    def configure(self, state: RunState) -> None:
        """Put settings in force; the agent is made anew and learns all outcomes again at its next decision."""
        self._advisor.leave()
        self._begin_anew(state)

    def _begin_anew(self, state: RunState) -> None:
        assert state.settings is not None
        settings = self._settings = state.settings
        candidates = self._candidates = allowed_in(self._all, state)
        self.set_aside = False
        self._be_advised_by(lambda: make_agent(settings.agent, candidates, self._plan.seed, settings.budget.points))

    def _be_advised_by(self, make: Callable[[], Agent]) -> None:
        """Have an agent of which nothing has been asked yet."""
        answer_s = self._plan.decision_deadline_s
        making_s = MAKING * answer_s + CANDIDATE_S * len(self._all)
        self._advisor = Advisor(make, answer_s, making_s, self._clock)
        self._call: Call[Decision] | None = None
        self._waits_since: float | None = None
        self._unready = ""

    def follow(self, state: RunState) -> None:
        """Take drift into account; the agent is only made anew if other candidates are in the field than before."""
        now = allowed_in(self._all, state)
        if not np.array_equal(now.allowed, self._candidates.allowed):
            self.configure(state)
        else:
            self._candidates = now  # a position that is no candidate's may leave the field all the same

    def prepare(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Make the agent, which on a large overview takes minutes, before the first decision.

        It has ten times the plan's deadline for that, and a millisecond more for each candidate. What goes wrong is
        said, and coped with, at that decision.
        """
        begun, call = self._clock(), self._advisor.prepare()
        while not call.wait(0.05) and not cancelled() and not self._unready:
            self._unready = self._advisor.overdue(begun)

    def begin(self, state: RunState) -> None:
        """Start to decide what comes after the points that are known or in flight in ``state``."""
        advisor = self._advisor
        self._waits_since = None
        self._call = advisor.begin(lambda agent: self._decide(advisor, agent, state))

    def fetch(self, state: RunState, cancelled: Callable[[], bool] = lambda: False) -> Decision | None:
        """The decision, waiting for it up to the plan's deadline; None if cancelled meanwhile, to be fetched later.

        Where the agent has yet to be made, or is still busy with what it was asked before, that has its own deadline.
        """
        if self._unready:
            return self._fall_back(state, self._unready)
        if self._call is None:
            self.begin(state)
        assert self._call is not None
        if self._waits_since is None:
            self._waits_since = self._clock()
        while not self._call.wait(0.02):
            if cancelled():
                return None
            if late := self._advisor.overdue(self._waits_since):
                return self._fall_back(state, late)
        call, self._call, self._waits_since = self._call, None, None
        try:
            return call.result()
        except Exception as error:  # an agent is foreign code: whatever it raises must not end the run
            return self._fall_back(state, str(error) or type(error).__name__)

    def predict(self, state: RunState, cancelled: Callable[[], bool] = lambda: False) -> Prediction | None:
        """What the agent's model expects once it has learned everything in ``state``; None if it does not say.

        It is waited for up to the plan's deadline, and as long again for what it was asked before.

        Raises:
            AdviceError: what it says is no prediction.
            Exception: whatever the agent raises.
        """
        advisor = self._advisor
        begun, call = self._clock(), advisor.begin(lambda agent: self._predict(advisor, agent, state))
        self._call = None
        while not call.wait(0.02):
            late = self._clock() > begun + 2 * self._plan.decision_deadline_s
            if late or cancelled() or advisor.overdue(begun):
                return None
        return call.result()

    def _predict(self, advisor: Advisor, agent: Agent, state: RunState) -> Prediction | None:
        advisor.learn(agent, state)
        return self._prediction(agent, state)

    def _prediction(self, agent: Agent, state: RunState) -> Prediction | None:
        told = agent.predict() if isinstance(agent, Predictor) else None
        return None if told is None else checked_prediction(told, len(self._all), len(state.outcomes))

    def _decide(self, advisor: Advisor, agent: Agent, state: RunState) -> Decision:
        begun = self._clock()
        name = clean(str(agent.name), 80)
        advisor.learn(agent, state)
        suggestion, warning = self._ask(advisor, agent, name, state)
        prediction, remark = self._foresee(advisor, agent, name, state)
        finished = clean(str(agent.finished)) if suggestion is None and isinstance(agent, Finisher) else ""
        advisor.let_work_ahead(agent)
        return Decision(
            suggestion,
            name if warning is None else SpaceFillingPolicy.name,
            known=len(state.outcomes),
            pending=tuple(p.id for p in state.pending),
            decision_s=self._clock() - begun,
            prediction=prediction,
            warning=" ".join(said for said in (warning, remark) if said) or None,
            finished=finished,
        )

    def _foresee(
        self, advisor: Advisor, agent: Agent, name: str, state: RunState
    ) -> tuple[Prediction | None, str | None]:
        """The agent's prediction; none, and why, where it cannot be used, which is said once of each agent."""
        try:
            return self._prediction(agent, state), None
        except Exception as error:  # a decision is no worse for it
            fault = str(error) if isinstance(error, AdviceError) else f"nothing, but raised {type(error).__name__}"
        if "prediction" in advisor.said:
            return None, None
        advisor.said.add("prediction")
        return None, f"The {name} agent predicted {fault}; its predictions are not shown."

    def _ask(self, advisor: Advisor, agent: Agent, name: str, state: RunState) -> tuple[Suggestion | None, str | None]:
        """A usable suggestion; asks up to three times, then fills space, and says so."""
        pending = [p.suggestion for p in state.pending]
        refused: list[Suggestion] = []
        fault = ""
        for _ in range(RETRIES):
            suggestions = agent.suggest(1, [*pending, *refused])
            if isinstance(suggestions, list | tuple) and not suggestions:
                return None, None
            try:
                if not isinstance(suggestions, list | tuple):
                    raise AdviceError("nothing that is a list")
                found = checked_suggestion(suggestions[0])
            except Exception as error:  # its parts are foreign code too
                fault = str(error) if isinstance(error, AdviceError) else f"what raised {type(error).__name__}"
                continue
            if not (fault := self._fault_of(found, advisor, state)):
                return found, None
            refused.append(found)
        instead = self._fill_space(state, pending)
        return instead, f"The {name} agent suggested {fault}; a space-filling point is measured instead."

    def _fill_space(self, state: RunState, pending: Sequence[Suggestion]) -> Suggestion | None:
        filler = SpaceFillingPolicy(self._candidates, self._plan.seed)
        filler.ingest([outcome for _, outcome in state.outcomes])
        return next(iter(filler.suggest(1, pending)), None)

    def _fault_of(self, suggestion: Suggestion, advisor: Advisor, state: RunState) -> str:
        """Why a suggestion is not to be measured, in words; empty if it may be."""
        candidate, position = suggestion.candidate, suggestion.position
        if not all(0 <= p <= 1 for p in position):
            return f"a position outside the field, {position}"
        if candidate is not None:
            if not 0 <= candidate < len(self._candidates):
                return f"candidate {shown(candidate)}, which does not exist"
            if not self._candidates.allowed[candidate]:
                return f"candidate {candidate}, where regions forbid to measure"
            own = self._candidates.positions[candidate]
            if not np.abs(own - position).max() <= ON_THE_SPOT:
                return f"candidate {candidate} at {position}, which is not its position"
        elif not self._candidates.allows(position):
            return f"the position {position}, where regions forbid to measure"
        if advisor.visits.holds(candidate, position, state):
            return (
                f"candidate {candidate}, which is measured already"
                if candidate is not None
                else (f"the position {position}, which is measured already")
            )
        return ""

    def _fall_back(self, state: RunState, why: str) -> Decision:
        """Set the agent aside: from here on space is filled, until settings are put in force anew."""
        self.set_aside = True
        self._advisor.leave()
        self._be_advised_by(lambda: SpaceFillingPolicy(self._candidates, self._plan.seed))
        call = self._advisor.begin(partial(self._decide, self._advisor, state=state))
        while not call.wait(1.0):
            pass  # this is our own, and nothing that it does takes long
        name = self._settings.agent.kind
        return replace(call.result(), warning=f"The {name} agent was set aside: {why}", failed=True)
