"""The agents that come with the package, and how one is made from its part of the plan."""

from __future__ import annotations

from autoexp.agent import Agent
from autoexp.agents.static import FeaturePolicy, GridPolicy, ListPolicy, RandomPolicy
from autoexp.errors import PlanError
from autoexp.patches import Candidates
from autoexp.plan import AgentSpec, DeepKernelAgent, FeatureAgent, GridAgent, ListAgent, RandomAgent


def make_agent(spec: AgentSpec, candidates: Candidates, seed: int, budget: int) -> Agent:
    """The agent that a plan asks for.

    Args:
        spec: its part of the plan.
        candidates: where it may measure.
        seed: the run's seed.
        budget: number of spectra that it can count on.

    Raises:
        MissingDependencyError: a library that it needs is not installed.
    """
    match spec:
        case GridAgent():
            return GridPolicy(candidates, budget)
        case RandomAgent():
            return RandomPolicy(candidates, seed)
        case ListAgent():
            return ListPolicy(candidates, spec.positions)
        case FeatureAgent():
            return FeaturePolicy(candidates, spec)
        case DeepKernelAgent():
            from autoexp.agents.deep_kernel import DeepKernelPolicy

            return DeepKernelPolicy(candidates, spec, seed)
    raise PlanError(f"There is no agent of kind {spec.kind!r}.")
