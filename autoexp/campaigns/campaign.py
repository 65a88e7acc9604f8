"""Campaigns on recorded data: what would this policy have measured, and how good was it?"""

from __future__ import annotations

import pathlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from autoexp.agent import Agent, Outcome, Predictor, Suggestion
from autoexp.agents import make_agent
from autoexp.campaigns import metrics
from autoexp.campaigns.datasets import Dataset, load
from autoexp.campaigns.formats import DatasetError
from autoexp.documents import read_json, shown
from autoexp.errors import AgentError, PlanError
from autoexp.fields import MAX_SEED, Number, Whole, explain
from autoexp.patches import Candidates
from autoexp.plan import AgentSpec, DeepKernelAgent, Goal, Model, ZeroLossSpec
from autoexp.scalarizers import Scalarizer, Scores

MAX_JSON_BYTES = 1 << 28
"""Of a replay. As Python's lists it takes several times as much."""
DIGITS = 7
AgentMaker = Callable[[AgentSpec, Candidates, int, int], Agent]
Watcher = Callable[[int, int], None]
SHORT = {
    "expected-improvement": "EI",
    "upper-confidence-bound": "UCB",
    "probability-of-improvement": "PI",
    "thompson-sampling": "Thompson",
    "maximum-variance": "max. variance",
}


Points = Annotated[Whole, Field(ge=0, le=1_000_000)]
Index = Annotated[Whole, Field(ge=0)]


class Campaign(Model):
    """What to try on a dataset."""

    agent: AgentSpec = DeepKernelAgent()
    scalarizer: Scalarizer | None = Field(None, description="what to look for; none where values are recorded")
    zero_loss: ZeroLossSpec | None = Field(None, description="measure energies from each spectrum's zero-loss peak")
    budget: Whole = Field(100, ge=1, le=1_000_000, description="points of each run")
    seeds: Whole = Field(1, ge=1, le=10_000, description="number of runs")
    first_seed: Whole = Field(0, ge=0, le=MAX_SEED - 10_000, description="seed of the first run; the others follow")
    patch: Whole | None = Field(None, ge=2, le=512, description="side of a patch, pixels of the overview")
    in_flight: Whole = Field(0, ge=0, le=64, description="points whose result is not back when the next is decided")
    checkpoints: tuple[Points, ...] = Field(
        (25, 50, 100), max_length=1000, description="numbers of points after which to keep the map"
    )

    @property
    def label(self) -> str:
        """The policy in a few words."""
        acquisition = getattr(self.agent, "acquisition", None)
        return self.agent.kind if acquisition is None else f"{self.agent.kind}, {SHORT[acquisition.kind]}"


class Checkpoint(Model):
    """The prediction for every candidate after a number of points; the deviation includes a measurement's noise."""

    mean: tuple[Number, ...]
    std: tuple[Number, ...]

    @model_validator(mode="after")
    def _go_together(self) -> Checkpoint:
        if len(self.mean) != len(self.std):
            raise ValueError("each prediction needs its standard deviation")
        return self


class Run(Model):
    """One run of a policy.

    Attributes:
        seed: its seed.
        measured: candidates in the order of their measurement; row-major where the data are a grid.
        scalar: the value of each.
        decision_s: time that each decision took, what was learned for it included, s.
        checkpoints: predictions by number of points.
    """

    seed: int
    measured: tuple[Index, ...]
    scalar: tuple[Number | None, ...]
    decision_s: tuple[Number, ...]
    checkpoints: dict[Annotated[str, Field(pattern=r"^\d{1,7}$")], Checkpoint] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_whole(self) -> Run:
        if not len(self.measured) == len(self.scalar) == len(self.decision_s):
            raise ValueError("each point needs its candidate, its value and the time of its decision")
        return self

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The measured values (m,), NaN where there was no number."""
        return np.array([np.nan if v is None else v for v in self.scalar], dtype=float)


class Replay(Model):
    """The runs of one campaign on one dataset, with the truth to judge them by.

    Attributes:
        dataset: what it ran on; under ``truth`` the value of every candidate.
        plan: what was tried.
        runs: one for each seed.
    """

    dataset: dict[str, Any]
    plan: Campaign
    runs: tuple[Run, ...]

    @model_validator(mode="after")
    def _has_a_truth(self) -> Replay:
        truth = self.dataset.get("truth", [])
        if not isinstance(truth, list | tuple) or not all(v is None or type(v) in (int, float) for v in truth):
            raise ValueError("the truth of the dataset must be a list of numbers")
        if any(i >= len(truth) for run in self.runs for i in run.measured):
            raise ValueError("a run measured a candidate that the dataset does not have")
        return self

    @property
    def truth(self) -> npt.NDArray[np.float64]:
        """The value of every candidate (n,), NaN where the scalarizer gives no number."""
        return np.array([np.nan if v is None else v for v in self.dataset.get("truth", ())], dtype=float)

    def to_json(self) -> str:
        """``{"dataset": ..., "plan": ..., "runs": [...]}``."""
        return self.model_dump_json()

    @classmethod
    def read(cls, path: str | pathlib.Path) -> Replay:
        """Read what :meth:`to_json` wrote.

        Raises:
            DatasetError: it cannot be read or used.
        """
        try:
            return cls.model_validate(read_json(path, "The replay", MAX_JSON_BYTES))
        except ValidationError as error:
            raise DatasetError(f"{shown(path)} is no replay:\n{explain(error)}") from error
        except PlanError as error:
            raise DatasetError(str(error)) from error

    def summary(self, goal: Goal | None = None) -> dict[str, Any]:
        """How good it was, medians and means over the seeds; see :func:`summarize`."""
        return summarize(self, goal)


def replay(
    dataset: Dataset | str | pathlib.Path,
    campaign: Campaign | None = None,
    watch: Watcher | None = None,
    make: AgentMaker = make_agent,
    **changes: Any,
) -> Replay:
    """Run a campaign on recorded data.

    >>> from autoexp import campaigns
    >>> result = campaigns.replay("session.npz", scalarizer=Window(low_eV=1.1, high_eV=1.7), budget=100, seeds=5)
    >>> result.summary()

    Args:
        dataset: what to run on, or its file.
        campaign: what to try.
        watch: called after each point with the run's number and its points.
        make: makes the agent of a run, for one of your own; called as :func:`autoexp.agents.make_agent` is.
        changes: fields of :class:`Campaign` that differ from ``campaign``.

    Raises:
        PlanError: the dataset or the campaign cannot be used.
        AgentError: the agent suggested what cannot be measured.
        MissingDependencyError: a library that the agent needs is not installed.
    """
    dataset = dataset if isinstance(dataset, Dataset) else load(dataset)
    campaign = (campaign or Campaign()).model_copy(update=changes)
    scores = dataset.score(campaign.scalarizer, campaign.zero_loss)
    candidates = dataset.candidates(campaign.patch)
    campaign = campaign.model_copy(update={"patch": candidates.spec.pixels})
    runs = []
    for number in range(campaign.seeds):
        seed = campaign.first_seed + number
        agent = make(campaign.agent, candidates, seed, min(campaign.budget, len(candidates)))
        told = (lambda done, number=number: watch(number, done)) if watch else None
        runs.append(_Recording(agent, candidates, scores, campaign).run(seed, told))
    described = {**dataset.describe(), "truth": [_number(v) for v in scores.value]}
    return Replay(dataset=described, plan=campaign, runs=tuple(runs))


class _Flight(NamedTuple):
    suggestion: Suggestion
    outcome: Outcome


class _Recording:
    """One run of one agent on recorded values."""

    def __init__(self, agent: Agent, candidates: Candidates, scores: Scores, campaign: Campaign):
        self._agent = agent
        self._candidates = candidates
        self._scores = scores
        self._campaign = campaign
        self._in_flight: deque[_Flight] = deque()
        self._measured: dict[int, None] = {}  # in the order of measurement
        self._learned = 0
        self._checkpoints: dict[str, Checkpoint] = {}

    def run(self, seed: int, told: Callable[[int], None] | None) -> Run:
        """Decide and look up, until the budget is used or nothing is left."""
        decision_s: list[float] = []
        while len(self._measured) < self._campaign.budget:
            spent = self._learn(self._campaign.in_flight)
            begun = time.perf_counter()
            suggestions = self._agent.suggest(1, [flight.suggestion for flight in self._in_flight])
            spent += time.perf_counter() - begun
            if not suggestions:
                break
            self._measure(suggestions[0])
            decision_s.append(round(spent, 6))
            if told:
                told(len(self._measured))
        self._learn(0)
        return Run(
            seed=seed,
            measured=tuple(self._measured),
            scalar=tuple(_number(self._scores.value[i]) for i in self._measured),
            decision_s=tuple(decision_s),
            checkpoints=self._checkpoints,
        )

    def _learn(self, leave: int) -> float:
        """Hand in what is back; returns the time that the agent took."""
        spent = 0.0
        while len(self._in_flight) > leave:
            outcome = self._in_flight.popleft().outcome
            begun = time.perf_counter()
            self._agent.ingest([outcome])
            spent += time.perf_counter() - begun
            self._learned += 1
            self._keep_map()
        return spent

    def _measure(self, suggestion: Suggestion) -> None:
        index = suggestion.candidate
        if index is None:
            index = self._candidates.nearest(suggestion.position)
        if not 0 <= index < len(self._candidates) or index in self._measured:
            raise AgentError(f"The {self._agent.name} agent suggested candidate {index}, which cannot be measured.")
        value, noise = float(self._scores.value[index]), float(self._scores.std[index])
        status: Any = "ok" if np.isfinite(value) else "failed"
        outcome = Outcome(status, suggestion.candidate, suggestion.position, value, noise)
        self._measured[int(index)] = None
        self._in_flight.append(_Flight(suggestion, outcome))

    def _keep_map(self) -> None:
        if self._learned not in self._campaign.checkpoints or not isinstance(self._agent, Predictor):
            return
        prediction = self._agent.predict()
        if prediction is not None:
            self._checkpoints[str(self._learned)] = Checkpoint(
                mean=_rounded(prediction.mean), std=_rounded(prediction.std)
            )


def summarize(result: Replay, goal: Goal | None = None) -> dict[str, Any]:
    """Medians and means over the seeds.

    Args:
        result: the runs.
        goal: what counts as good; the agent's own goal by default.

    Returns:
        ``points_to_90`` and ``points_to_95`` (median number of points to that share of the best value, None where
        most runs did not get there), ``recall_50`` and ``recall_100`` (mean share of the top 1 % found by then),
        ``error_N``, ``coverage_N`` and ``nlpd_N`` at each checkpoint, ``decision_s`` (median).
    """
    truth, goal = result.truth, goal or metrics.goal_of(result.plan.agent)
    shares = [metrics.share_of_best(run.values, truth, goal) for run in result.runs]
    recalls = [metrics.recall(run.measured, truth, goal) for run in result.runs]
    table: dict[str, Any] = {"policy": result.plan.label, "dataset": result.dataset.get("name", "")}
    for level in (90, 95):
        found = [metrics.points_to(share, level / 100) for share in shares]
        middle = float(np.median([np.inf if n is None else n for n in found])) if found else np.inf
        table[f"points_to_{level}"] = middle if np.isfinite(middle) else None
    for points in (50, 100):
        table[f"recall_{points}"] = _mean(r[points - 1] for r in recalls if len(r) >= points)
    for points in sorted({int(n) for run in result.runs for n in run.checkpoints}):
        found_maps = [quality_at(run, points, truth) for run in result.runs]
        judged = [quality for quality in found_maps if quality is not None]
        for name in ("error", "coverage", "nlpd"):
            table[f"{name}_{points}"] = _mean(getattr(quality, name) for quality in judged)
    times = [t for run in result.runs for t in run.decision_s]
    table["decision_s"] = float(np.median(times)) if times else None
    return table


def quality_at(run: Run, points: int, truth: npt.NDArray[np.float64]) -> metrics.MapQuality | None:
    """How well a run knew the rest after a number of points; None where that was not kept."""
    kept = run.checkpoints.get(str(points))
    if kept is None or len(kept.mean) != len(truth):
        return None
    return metrics.map_quality(np.array(kept.mean), np.array(kept.std), truth, run.measured[:points])


def _mean(values: Iterable[float]) -> float | None:
    collected = list(values)
    return float(np.mean(collected)) if collected else None


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rounded(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """To seven significant digits, which keeps files small and is more than any model knows."""
    return tuple(float(f"{v:.{DIGITS}g}") for v in np.asarray(values, dtype=float).ravel())
