"""The plainest learner: a Gaussian process on position alone, blind to the overview. What sees must beat it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoexp.agent import Outcome, Prediction, Suggestion
from autoexp.models.acquisition import upper_confidence_bound
from autoexp.models.features import Views, views_of
from autoexp.models.seeding import SpaceFilling
from autoexp.models.surrogate import FrozenViews, Surrogate
from autoexp.patches import Candidates
from autoexp.plan import AgentSpec


class PositionPolicy:
    """As the default agent, with one view only.

    Args:
        candidates: where it may measure.
        seed: the run's seed.
    """

    name = "position"

    def __init__(self, candidates: Candidates, seed: int):
        self._positions = candidates.positions
        position = views_of(candidates).arrays[-1]
        views = Views(("position",), (position,))
        self._surrogate = Surrogate(FrozenViews(views), "maximize", 10, 5)
        self._space = SpaceFilling(Views(("position", "position"), (position, position)))
        self._free = np.ones(len(position), bool)
        self._rng = np.random.default_rng([seed, 3])

    @classmethod
    def make(cls, spec: AgentSpec, candidates: Candidates, seed: int, budget: int) -> PositionPolicy:
        """As agents of the package are made; it has no settings."""
        return cls(candidates, seed)

    def suggest(self, n: int, pending: Sequence[Suggestion] = ()) -> list[Suggestion]:
        """One position."""
        posterior = self._surrogate.posterior
        if posterior is None:
            row = self._space.choose(self._free, [], self._rng)
        else:
            bound = upper_confidence_bound(posterior.mean, np.sqrt(posterior.variance))
            row = int(np.where(self._free, bound, -np.inf).argmax())
        y, x = self._positions[row]
        return [Suggestion(row, (float(y), float(x)), "highest bound")]

    def ingest(self, outcomes: Sequence[Outcome]) -> None:
        """Learn finite values."""
        for outcome in outcomes:
            assert outcome.candidate is not None
            self._free[outcome.candidate] = False
            self._space.add(outcome.candidate)
            if np.isfinite(outcome.value):
                self._surrogate.learn(outcome.candidate, outcome.value, outcome.noise)
        self._surrogate.refresh()

    def predict(self) -> Prediction | None:
        """What it expects everywhere."""
        return self._surrogate.predict()
