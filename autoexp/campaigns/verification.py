"""Makes every decision of a finished or interrupted run again, and compares it with what the log says."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoexp import events as ev
from autoexp.agent import Agent, Suggestion
from autoexp.agents import make_agent
from autoexp.agents.space_filling import SpaceFillingPolicy
from autoexp.campaigns.formats import DatasetError
from autoexp.decider import RETRIES, allowed_in
from autoexp.errors import AutoexpError, RunLogError
from autoexp.patches import Candidates, cut
from autoexp.runlog import RunReader
from autoexp.state import RunState

ON_THE_SPOT = 1e-9  # fractions of the field


@dataclass(frozen=True)
class Difference:
    """A decision that came out otherwise.

    Attributes:
        id: the point.
        agent: who decided.
        recorded: candidate and position in the log.
        replayed: candidate and position now; None where nothing was suggested.
    """

    id: int
    agent: str
    recorded: tuple[int | None, tuple[float, float]]
    replayed: tuple[int | None, tuple[float, float]] | None


@dataclass(frozen=True)
class Verification:
    """Whether a run's decisions follow from its log.

    Attributes:
        run_id: the run.
        decisions: how many were made by agents.
        operator: how many points the operator asked for.
        differences: those that came out otherwise.
    """

    run_id: str
    decisions: int
    operator: int
    differences: tuple[Difference, ...]

    @property
    def reproduced(self) -> int:
        """How many came out the same."""
        return self.decisions - len(self.differences)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "run": self.run_id,
            "decisions": self.decisions,
            "reproduced": self.reproduced,
            "operator": self.operator,
            "differences": [vars(d) for d in self.differences],
        }


def verify(folder: str | pathlib.Path) -> Verification:
    """Decide again, step by step, on what was known at each step.

    Raises:
        RunLogError: there is no run, or it cannot be read.
        DatasetError: the run ended before its overview was taken.
        MissingDependencyError: a library that the agent needs is not installed.
    """
    reader = RunReader(folder)
    try:
        return _verified(reader)
    except AutoexpError:
        raise
    except Exception as error:  # a journal may have been edited, and agents raise what they like at what makes no sense
        raise RunLogError(
            f"The decisions of the run {reader.folder.name} cannot be made again; its journal and its overview do not "
            f"belong together: {error!r}"
        ) from error


def _verified(reader: RunReader) -> Verification:
    prepared = next(reader.events(ev.Prepared), None)
    started = next(reader.events(ev.Started), None)
    if prepared is None or started is None:
        raise DatasetError(f"The run {reader.folder.name} ended before its overview was taken; there is nothing in it.")
    _ = reader.state  # events that contradict each other are refused before anything is decided
    witness = _Witness(started, cut(reader.array(prepared.overview), started.plan.patches))
    for record in reader.records:
        witness.see(record)
    return witness.verification()


class _Witness:
    """Follows a log as the decider followed the run."""

    def __init__(self, started: ev.Started, candidates: Candidates):
        self._run_id = started.run_id
        self._plan = started.plan
        self._all = candidates
        self._state = RunState()
        self._decisions = 0
        self._operator = 0
        self._differences: list[Difference] = []

    def see(self, record: ev.Record) -> None:
        """One more event: decide again before it if it is a decision, then take it in."""
        event = record.event
        if isinstance(event, ev.Decided):
            self._decided(event)
        before = self._state
        self._state = self._state.apply(record)
        resumed = isinstance(event, ev.PhaseChanged) and event.phase == "preparing"
        if self._state.settings and (resumed or self._differ(before)):
            self._configure(self._state)

    def verification(self) -> Verification:
        """What came out."""
        return Verification(self._run_id, self._decisions, self._operator, tuple(self._differences))

    def _configure(self, state: RunState) -> None:
        assert state.settings is not None
        self._settings = state.settings
        self._candidates = allowed_in(self._all, state)
        self._agent: Agent | None = None
        self._ingested: set[int] = set()

    def _differ(self, before: RunState) -> bool:
        """Whether the agent has to be made anew."""
        old, new = before.settings, self._state.settings
        assert new is not None
        if old is None or not new.advised_as(old):
            return True
        drifted = len(before.looks) != len(self._state.looks)
        return drifted and not np.array_equal(allowed_in(self._all, self._state).allowed, self._candidates.allowed)

    def _decided(self, decided: ev.Decided) -> None:
        if decided.agent == "operator":
            self._operator += 1
            return
        self._decisions += 1
        found = self._ask(decided)
        if found is None or not _same(decided, found):
            replayed = (found.candidate, found.position) if found else None
            recorded = decided.candidate, decided.position
            self._differences.append(Difference(decided.id, decided.agent, recorded, replayed))

    def _ask(self, decided: ev.Decided) -> Suggestion | None:
        """What the agent suggests; asked again, as the decider does, where that has been measured already."""
        agent = self._again(decided)
        points = self._state.points
        given = [i for i, _ in self._state.outcomes[: decided.known]] + list(decided.pending)
        visited = {points[i].candidate for i in given} - {None}
        pending = [points[i].suggestion for i in decided.pending]
        for _ in range(RETRIES):
            found = next(iter(agent.suggest(1, pending)), None)
            if found is None or found.candidate not in visited:
                return found
            pending.append(found)
        return found

    def _again(self, decided: ev.Decided) -> Agent:
        """The agent as it was when it decided, with all that it knew."""
        known = self._state.outcomes[: decided.known]
        if decided.agent == SpaceFillingPolicy.name:
            filler = SpaceFillingPolicy(self._candidates, self._plan.seed)
            filler.ingest([outcome for _, outcome in known])
            return filler
        if self._agent is None:
            budget = self._settings.budget.points
            self._agent = make_agent(self._settings.agent, self._candidates, self._plan.seed, budget)
        self._agent.ingest([outcome for i, outcome in known if i not in self._ingested])
        self._ingested |= {i for i, _ in known}
        return self._agent


def _same(decided: ev.Decided, suggestion: Suggestion) -> bool:
    if decided.candidate is not None:
        return decided.candidate == suggestion.candidate
    return all(abs(a - b) < ON_THE_SPOT for a, b in zip(decided.position, suggestion.position, strict=True))
