"""Decisions beside the exposure: the agent thinks on a thread of its own, and what it says is checked.

An agent may hang, raise, or suggest what makes no sense; the run goes on under a space-filling policy, or pauses, as
the plan says.
"""

from __future__ import annotations

import math
import numbers
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from autoexp.agent import Agent, Finisher, Forethinker, Prediction, Predictor, Suggestion
from autoexp.agents import make_agent
from autoexp.agents.space_filling import SpaceFillingPolicy
from autoexp.patches import Candidates
from autoexp.plan import Plan
from autoexp.state import Point, RunState
from autoexp.text import clean
from autoexp.threads import Call, one_blas_thread, tamed

T = TypeVar("T")
RETRIES = 3
ON_THE_SPOT = 1e-6
"""Fractions of the field within which two positions are the same."""


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


class _Visits:
    """Which candidates and positions were exposed or are to be; kept up from state to state of one run."""

    def __init__(self) -> None:
        self._counted = 0
        self._open: set[int] = set()
        self._candidates: set[int] = set()
        self._spots: set[tuple[int, int]] = set()

    def holds(self, candidate: int | None, position: tuple[float, float], state: RunState) -> bool:
        """Whether a candidate or a position has been visited in a state, or is about to be."""
        self._catch_up(state)
        pending = [state.points[i] for i in self._open]
        if candidate is not None and (candidate in self._candidates or any(p.candidate == candidate for p in pending)):
            return True
        y, x = _spot(position)
        near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
        return not near.isdisjoint(self._spots) or any(_spot(p.position) in near for p in pending)

    def _catch_up(self, state: RunState) -> None:
        """Take in the points that are new, and those that were open before."""
        new = range(self._counted, max(self._counted, state.next_id))
        self._counted = max(self._counted, state.next_id)
        for i in sorted(self._open.union(new)):
            point = state.points.get(i)
            if point is not None:
                self._take_in(i, point)

    def _take_in(self, i: int, point: Point) -> None:
        if point.status in ("decided", "exposing"):
            self._open.add(i)
            return
        self._open.discard(i)
        if point.exposed:
            self._spots.add(_spot(point.position))
            if point.candidate is not None:
                self._candidates.add(point.candidate)


def _spot(position: tuple[float, float]) -> tuple[int, int]:
    return round(position[0] / ON_THE_SPOT), round(position[1] / ON_THE_SPOT)


def in_plain_types(suggestion: Suggestion) -> Suggestion:
    """A suggestion whose numbers are Python's own and whose reason is clean text.

    Raises:
        TypeError, ValueError, OverflowError: a part of it is something else; the message says which, in words.
    """
    if not isinstance(suggestion.reason, str):
        raise TypeError("a reason that is no text")
    candidate = suggestion.candidate
    if candidate is not None and (isinstance(candidate, bool) or not isinstance(candidate, numbers.Integral)):
        raise TypeError(f"candidate {clean(repr(candidate), 80)}, which does not exist")
    position = suggestion.position
    if isinstance(position, str) or not isinstance(position, Sequence | np.ndarray) or len(position) != 2:
        raise TypeError(f"the position {clean(repr(position), 80)}, which is no pair of numbers")
    y, x = (_number(p) for p in position)
    told = {
        name: None if (value := getattr(suggestion, name)) is None else _number(value)
        for name in ("mean", "std", "acquisition")
    }
    where = None if candidate is None else int(candidate)
    return Suggestion(where, (y, x), clean(suggestion.reason, 1000), **told)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError("numbers that are not finite")
    return float(value)


def checked_prediction(prediction: object, candidates: int) -> Prediction | None:
    """A prediction that can be shown and saved: a mean and a deviation for every candidate; None where it is none."""
    if not isinstance(prediction, Prediction):
        return None
    try:
        mean, std = (np.array(part, dtype=np.float64) for part in (prediction.mean, prediction.std))
    except (TypeError, ValueError):
        return None
    if mean.shape != (candidates,) or std.shape != (candidates,) or not isinstance(prediction.after, numbers.Integral):
        return None
    return replace(prediction, mean=mean, std=std, after=int(prediction.after))


@dataclass
class _Advisor:
    """An agent and what it has learned; a new one is made whenever settings change, so that threads never share one.

    Attributes:
        agent: None until it is needed.
        learned: ids of the points that it knows.
        settled: so many outcomes, from the first, are among them and need not be looked at again.
        visits: where was measured.
        making: held while the agent is made.
    """

    agent: Agent | None = None
    learned: set[int] = field(default_factory=set)
    settled: int = 0
    visits: _Visits = field(default_factory=_Visits)
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

    def configure(self, state: RunState) -> None:
        """Put settings in force; the agent is made anew and learns all outcomes again at its next decision."""
        assert state.settings is not None
        self._settings = state.settings
        self._candidates = allowed_in(self._all, state)
        self._advisor = _Advisor()
        self._call: Call[Decision] | None = None
        self.set_aside = False

    def follow(self, state: RunState) -> None:
        """Take drift into account; the agent is only made anew if other candidates are in the field than before."""
        now = allowed_in(self._all, state)
        if not np.array_equal(now.allowed, self._candidates.allowed):
            self.configure(state)
        else:
            self._candidates = now  # a position that is no candidate's may leave the field all the same

    def prepare(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Make the agent, which on a large overview takes minutes, before the first decision has a deadline.

        What goes wrong shows, and is coped with, at that decision.
        """
        advisor = self._advisor
        call = Call(tamed(lambda: self._make(advisor)), "autoexp-preparation")
        while not call.wait(0.05) and not cancelled():
            pass

    def begin(self, state: RunState) -> None:
        """Start to decide what comes after the points that are known or in flight in ``state``."""
        advisor = self._advisor
        self._call = Call(tamed(lambda: self._decide(advisor, state)), "autoexp-decision")

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

    def predict(self, state: RunState, cancelled: Callable[[], bool] = lambda: False) -> Prediction | None:
        """What the agent's model expects once it has learned everything in ``state``; None if it does not say."""
        if self._call is not None and not self._comes(self._call, cancelled):
            return None
        advisor = self._advisor
        call = Call(tamed(lambda: self._predict(advisor, state)), "autoexp-prediction")
        return call.result() if self._comes(call, cancelled) else None

    def _comes(self, call: Call[T], cancelled: Callable[[], bool]) -> bool:
        """Whether a call ends before the plan's deadline."""
        deadline = self._clock() + self._plan.decision_deadline_s
        while not call.wait(0.02):
            if cancelled() or self._clock() > deadline:
                return False
        return True

    def _predict(self, advisor: _Advisor, state: RunState) -> Prediction | None:
        with one_blas_thread():
            agent = self._learn(advisor, state)
            return self._prediction(agent)

    def _prediction(self, agent: Agent) -> Prediction | None:
        if not isinstance(agent, Predictor) or (told := agent.predict()) is None:
            return None
        return checked_prediction(told, len(self._candidates))

    def _decide(self, advisor: _Advisor, state: RunState) -> Decision:
        begun = self._clock()
        with one_blas_thread():
            agent = self._learn(advisor, state)
            suggestion, warning = self._ask(advisor, agent, state)
            prediction = self._prediction(agent)
        if isinstance(agent, Forethinker) and agent.has_work:
            Call(tamed(lambda: _work(agent)), "autoexp-work-ahead")
        return Decision(
            suggestion,
            clean(str(agent.name), 80) if warning is None else SpaceFillingPolicy.name,
            known=len(state.outcomes),
            pending=tuple(p.id for p in state.pending),
            decision_s=self._clock() - begun,
            prediction=prediction,
            warning=warning,
            finished=clean(str(agent.finished)) if suggestion is None and isinstance(agent, Finisher) else "",
        )

    def _learn(self, advisor: _Advisor, state: RunState) -> Agent:
        """The advisor's agent, which then knows every outcome of ``state``."""
        agent = self._make(advisor)
        new = [(i, outcome) for i, outcome in state.outcomes.since(advisor.settled) if i not in advisor.learned]
        if new:
            agent.ingest([outcome for _, outcome in new])
            advisor.learned |= {i for i, _ in new}
        advisor.settled = max(advisor.settled, len(state.points.learned))
        return agent

    def _make(self, advisor: _Advisor) -> Agent:
        with advisor.making:
            if advisor.agent is None:
                settings = self._settings
                advisor.agent = make_agent(settings.agent, self._candidates, self._plan.seed, settings.budget.points)
            return advisor.agent

    def _ask(self, advisor: _Advisor, agent: Agent, state: RunState) -> tuple[Suggestion | None, str | None]:
        """A usable suggestion; asks up to three times, then fills space, and says so."""
        pending = [p.suggestion for p in state.pending]
        refused: list[Suggestion] = []
        fault = ""
        for _ in range(RETRIES):
            suggestions = agent.suggest(1, [*pending, *refused])
            if not suggestions:
                return None, None
            found, fault = self._checked(suggestions[0], advisor, state)
            if found is not None and not fault:
                return found, None
            if found is not None:
                refused.append(found)
        instead = self._fill_space(state, pending)
        return instead, f"The {agent.name} agent suggested {fault}; a space-filling point is measured instead."

    def _fill_space(self, state: RunState, pending: Sequence[Suggestion]) -> Suggestion | None:
        filler = SpaceFillingPolicy(self._candidates, self._plan.seed)
        filler.ingest([outcome for _, outcome in state.outcomes])
        return next(iter(filler.suggest(1, pending)), None)

    def _checked(self, suggestion: object, advisor: _Advisor, state: RunState) -> tuple[Suggestion | None, str]:
        """A suggestion in plain types, and what is wrong with it, in words; None where it cannot even be read."""
        if not isinstance(suggestion, Suggestion):
            return None, f"{clean(repr(suggestion), 80)}, which is no suggestion"
        try:
            plain = in_plain_types(suggestion)
        except (TypeError, ValueError, OverflowError) as error:
            return None, str(error)
        return plain, self._fault_of(plain, advisor, state)

    def _fault_of(self, suggestion: Suggestion, advisor: _Advisor, state: RunState) -> str:
        """Why a suggestion is not to be measured, in words; empty if it may be."""
        candidate, position = suggestion.candidate, suggestion.position
        if not all(0 <= p <= 1 for p in position):
            return f"a position outside the field, {position}"
        if candidate is not None:
            if not 0 <= candidate < len(self._candidates):
                return f"candidate {candidate}, which does not exist"
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
        name = self._settings.agent.kind
        self.set_aside = True
        self._call = None
        self._advisor = _Advisor(SpaceFillingPolicy(self._candidates, self._plan.seed))
        decision = self._decide(self._advisor, state)
        return replace(decision, warning=f"The {name} agent was set aside: {why}", failed=True)
