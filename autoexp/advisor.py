"""An agent at work: it is asked one thing after the other, never two at once, and told every outcome once, in order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from autoexp.agent import Agent, Forethinker
from autoexp.errors import AutoexpError
from autoexp.state import RunState
from autoexp.threads import Call, InTurn, one_blas_thread, tamed
from autoexp.visits import Visits

T = TypeVar("T")
UNREADY, SILENT = "it was not ready", "it did not answer"
MAKING = 10.0
"""How many times the time of a decision an agent may take to be made,"""
CANDIDATE_S = 1e-3
"""and how much more for each candidate, s; describing one takes 0.02 to 0.06 ms."""


class _SupersededError(AutoexpError):
    """Something else was asked meanwhile."""


class Advisor:
    """An agent that may hang or raise, on a thread of its own; it is made there by what is asked first.

    Once it has raised it is not called again: what it knows then is not known.

    Args:
        make: makes the agent.
        answer_s: how long it may take over an answer, s.
        making_s: how long it may take to be made, s.
        clock: monotonic seconds.

    Attributes:
        visits: where was measured, as far as the agent knows.
        said: what was said of the agent to the operator already.
    """

    def __init__(
        self, make: Callable[[], Agent], answer_s: float, making_s: float, clock: Callable[[], float] = time.monotonic
    ):
        self._make = make
        self._agent: Agent | None = None
        self._answer_s, self._making_s, self._clock = answer_s, making_s, clock
        self._line = InTurn("autoexp-agent")
        self._latest: object = None
        self._fault: Exception | None = None
        self._stage = (UNREADY, making_s, clock())
        self._learned: set[int] = set()
        self._settled = 0
        self._ahead: Call[None] | None = None
        self.visits = Visits()
        self.said: set[str] = set()

    def begin(self, ask: Callable[[Agent], T]) -> Call[T]:
        """Ask the agent something, as soon as it has answered what it is busy with; what still waited is dropped.

        The call raises what the agent raises, now or before.
        """
        turn = self._latest = object()
        return self._line.begin(lambda: self._answer(tamed(lambda: self._put(ask)), turn))

    def prepare(self) -> Call[None]:
        """Have the agent made."""
        return self.begin(lambda agent: None)

    def overdue(self, since: float) -> str:
        """Why the agent is not to be waited for any longer by one who waits since then; empty if it is."""
        failed, limit_s, begun = self._stage
        return f"{failed} within {limit_s:g} s" if self._clock() > max(since, begun) + limit_s else ""

    def leave(self) -> None:
        """Ask nothing more: what waits is dropped, and a call that hangs is left behind."""
        self._latest = None

    def learn(self, agent: Agent, state: RunState) -> None:
        """Tell the agent every outcome of a state that it does not know yet; only from within what it is asked."""
        new = [(i, outcome) for i, outcome in state.outcomes.since(self._settled) if i not in self._learned]
        self._settled = max(self._settled, len(state.points.learned))
        self._learned |= {i for i, _ in new}
        if new:
            agent.ingest([outcome for _, outcome in new])

    def let_work_ahead(self, agent: Agent) -> None:
        """Let an agent that can do so work beside what it is asked; never on two things at once."""
        if isinstance(agent, Forethinker) and agent.has_work and (self._ahead is None or self._ahead.wait(0)):
            self._ahead = Call(tamed(lambda: _work(agent)), "autoexp-work-ahead")

    def _answer(self, put: Callable[[], T], turn: object) -> T:
        if turn is not self._latest:
            raise _SupersededError("something else was asked meanwhile")
        if self._fault is not None:
            raise self._fault
        try:
            return put()
        except Exception as error:
            self._fault = error
            raise

    def _put(self, ask: Callable[[Agent], T]) -> T:
        with one_blas_thread():
            if self._agent is None:
                self._stage = (UNREADY, self._making_s, self._clock())
                self._agent = self._make()
            self._stage = (SILENT, self._answer_s, self._clock())
            return ask(self._agent)


def _work(agent: Forethinker) -> None:
    with contextlib.suppress(Exception), one_blas_thread():  # what goes wrong shows at a decision
        agent.work_ahead()
