"""Deep kernel learning: a Gaussian process on what the overview shows chooses where the next spectrum is worth most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autoexp.agent import Outcome, Prediction, Suggestion
from autoexp.models import acquisition
from autoexp.models.costs import CostMap, Position
from autoexp.models.features import Views, views_of
from autoexp.models.kernel import Array
from autoexp.models.posterior import Posterior
from autoexp.models.seeding import SpaceFilling
from autoexp.models.stopping import chance_of_better
from autoexp.models.surrogate import FrozenViews, Model, Surrogate
from autoexp.patches import Candidates
from autoexp.plan import (
    DeepKernelAgent,
    ExpectedHypervolumeImprovement,
    ExpectedImprovement,
    MaximumVariance,
    ProbabilityOfImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)

STREAM = 12
EQUAL = 1e-9
LARGEST = 1e100
"""A value beyond is none that was measured, and its square would be infinite."""
STRIPS = 64
"""Points of a front of compromises that are looked at: of more, so many in even steps."""
Mask = npt.NDArray[np.bool_]


class DeepKernelPolicy:
    """Fills space at first, then follows an acquisition function on a model that learns every outcome.

    What it suggests is a function of the candidates, the plan, the seed, the outcomes in their order, and what is
    pending; how the outcomes were handed in, one by one or all at once, makes no difference.

    Args:
        candidates: where it may measure.
        spec: its part of the plan.
        seed: the run's seed.

    Raises:
        MissingDependencyError: ``spec.kernel`` needs a library that is not installed.
    """

    name = "deep-kernel"

    def __init__(self, candidates: Candidates, spec: DeepKernelAgent, seed: int):
        self._candidates = candidates
        self._spec = spec
        self._seed = seed
        self._views = views_of(candidates)
        self._space = SpaceFilling(self._views)
        self._costs = CostMap(candidates, spec.costs)
        self._free = candidates.allowed.copy()
        self._handed_in = 0
        model = _model(spec.kernel, candidates, self._views, seed)
        self._surrogate = Surrogate(model, spec.goal, spec.seeds, spec.refit_every)
        self._second: Surrogate | None = None
        if isinstance(spec.acquisition, ExpectedHypervolumeImprovement):
            self._second = Surrogate(model, spec.acquisition.second_goal, spec.seeds, spec.refit_every)
        self._prediction: Prediction | None = None
        self._finished = ""

    def suggest(self, n: int, pending: Sequence[Suggestion] = ()) -> list[Suggestion]:
        """Up to ``n`` candidates; each takes those before it, and all that are pending, as if they were measured."""
        if self.finished:
            return []
        rows = [self._row(s.candidate, s.position) for s in pending]
        places = [s.position for s in pending]
        free = self._free.copy()
        for row, suggestion in zip(rows, pending, strict=True):
            free[row] &= not self._covers(row, suggestion.candidate, suggestion.position)
        found: list[Suggestion] = []
        while len(found) < n and free.any():
            rng = np.random.default_rng([self._seed, STREAM, self._handed_in + len(rows)])
            posterior = self._surrogate.posterior
            decided = None if posterior is None else self._decide(posterior, free, rows, places, rng)
            suggestion = decided or self._fill(free, rows, rng)
            assert suggestion.candidate is not None
            free[suggestion.candidate] = False
            rows.append(suggestion.candidate)
            places.append(suggestion.position)
            found.append(suggestion)
        return found

    @property
    def finished(self) -> str:
        """Why nothing more need be measured, in words; empty while there is something."""
        return self._finished

    def ingest(self, outcomes: Sequence[Outcome]) -> None:
        """Learn finite values; whatever became of them, measured places are not suggested again."""
        if not outcomes:
            return
        for outcome in outcomes:
            row = self._row(outcome.candidate, outcome.position)
            self._space.add(row)
            self._costs.expose(outcome.position)
            self._handed_in += 1
            self._free[row] &= not self._covers(row, outcome.candidate, outcome.position)
            if outcome.status == "ok":
                _learn(self._surrogate, row, outcome.value, outcome.noise)
                if self._second is not None and outcome.second is not None:
                    _learn(self._second, row, outcome.second, outcome.second_noise)
        if self._views.structured:
            for surrogate in self._surrogates:
                surrogate.refresh()
        self._prediction = self._surrogate.predict()
        self._finished = self._enough()

    @property
    def has_work(self) -> bool:
        """Whether a refit may be made while a spectrum is being taken."""
        return any(surrogate.has_work for surrogate in self._surrogates)

    def work_ahead(self) -> None:
        """Make the refits that are due; decisions need them a few spectra later."""
        for surrogate in self._surrogates:
            surrogate.work_ahead()

    @property
    def _surrogates(self) -> list[Surrogate]:
        return [self._surrogate, *([self._second] if self._second is not None else [])]

    def predict(self) -> Prediction | None:
        """Mean and standard deviation for every candidate; None while space is filled."""
        return self._prediction

    def _row(self, candidate: int | None, position: tuple[float, float]) -> int:
        """The candidate whose description serves for a position."""
        return self._candidates.nearest(position) if candidate is None else candidate

    def _covers(self, row: int, candidate: int | None, position: tuple[float, float]) -> bool:
        """Whether a measurement at a position is one of the candidate ``row``, to half a pixel of the overview."""
        away = (self._candidates.positions[row] - np.asarray(position)) * self._candidates.image.shape
        return candidate is not None or bool(np.hypot(*away) < 0.5)

    def _fill(self, free: Mask, rows: Sequence[int], rng: np.random.Generator) -> Suggestion:
        """A point far from all others."""
        row = self._space.choose(free, rows, rng)
        y, x = self._candidates.positions[row]
        return Suggestion(row, (float(y), float(x)), self._why_filling())

    def _why_filling(self) -> str:
        if not self._views.structured:
            return "the overview shows nothing but one grey level, so there is nothing to learn from: filling space"
        if len(self._surrogate) >= max(2, self._spec.seeds):
            return f"all {len(self._surrogate)} values so far are equal, so there is nothing to learn: filling space"
        return "first look: unlike all points so far, in structure or in place"

    def _decide(
        self,
        posterior: Posterior,
        free: Mask,
        rows: Sequence[int],
        places: Sequence[Position],
        rng: np.random.Generator,
    ) -> Suggestion | None:
        """The candidate that is worth most, less what it costs; the nearest of equals; None if none has a worth."""
        with posterior.believing(rows, self._surrogate.pending_noise()):
            values = self._values(posterior, free, rows, rng) - self._costs.at_all(places)
            values = np.where(free & (values == values), values, -np.inf)
            highest = values.max()
            if not np.isfinite(highest):
                return None
            row = self._costs.nearest(np.flatnonzero(values >= highest - EQUAL * max(1.0, abs(highest))), places)
            mean, std = posterior.mean[row], np.sqrt(posterior.variance[row])
            reason = self._why(mean, std, posterior)
        y, x = self._candidates.positions[row]
        predicted = self._prediction
        assert predicted is not None
        return Suggestion(
            row,
            (float(y), float(x)),
            reason,
            mean=float(predicted.mean[row]),
            std=float(predicted.std[row]),
            acquisition=float(values[row]),
        )

    def _values(self, posterior: Posterior, free: Mask, rows: Sequence[int], rng: np.random.Generator) -> Array:
        """The acquisition function at every candidate, (n,)."""
        std = np.sqrt(posterior.variance)
        best = posterior.mean[posterior.best()]
        match self._spec.acquisition:
            case ExpectedImprovement(xi=xi):
                return acquisition.log_expected_improvement(posterior.mean, std, best, xi)
            case UpperConfidenceBound(beta=beta):
                return acquisition.upper_confidence_bound(posterior.mean, std, beta)
            case ProbabilityOfImprovement(xi=xi):
                return acquisition.log_probability_of_improvement(posterior.mean, std, best, xi)
            case MaximumVariance():
                return acquisition.maximum_variance(std)
            case ThompsonSampling():
                return acquisition.thompson_sample(posterior, free, rng)
            case ExpectedHypervolumeImprovement():
                return self._compromises(posterior, std, rows)

    def _compromises(self, posterior: Posterior, std: Array, rows: Sequence[int]) -> Array:
        """What each candidate (n,) would add to the front; what the first value alone promises, where only that varies.

        The front is that of the expected targets of what was measured; the corner from which the area is counted lies a
        tenth of the front's extent below its lowest values (Ishibuchi et al. 2018 say why not at them).
        """
        second = self._second.posterior if self._second else None
        if self._second is None or second is None:
            return acquisition.upper_confidence_bound(posterior.mean, std)
        with second.believing(rows, self._second.pending_noise()):
            mean = np.stack([posterior.mean, second.mean])
            known = mean[:, posterior.measured].T
            front = acquisition.thinned(known[acquisition.undominated(known)], STRIPS)
            corner = front.min(axis=0) - 0.1 * np.maximum(np.ptp(front, axis=0), 1e-3)
            both = np.stack([std, np.sqrt(second.variance)])
            return acquisition.log_expected_hypervolume_improvement(mean, both, front, corner)

    def _enough(self) -> str:
        """Why it is time to stop, if the plan has a rule for that and it is met; empty otherwise."""
        rule, posterior, scale, free = self._spec.stop, self._surrogate.posterior, self._surrogate.scale, self._free
        if rule is None or posterior is None or scale is None or not free.any():
            return ""
        std = self._surrogate.calibrated_std()
        within = f"{rule.within * abs(scale.scale):.3g}"
        if isinstance(self._spec.acquisition, MaximumVariance):
            return "" if std[free].max() > rule.within else f"no value is uncertain by more than ±{within}"
        chance = chance_of_better(posterior.mean, std, free, posterior.best(), rule.within)
        if chance > rule.risk:
            return ""
        better = "higher" if self._spec.goal == "maximize" else "lower"
        return f"the chance of anything {better} than the best by more than {within} is at most {chance:.1%}"

    def _why(self, mean: float, std: float, posterior: Posterior) -> str:
        """One sentence for the operator; ``mean`` and ``std`` are the noise-free target's."""
        scale, fit = self._surrogate.scale, self._surrogate.fit
        assert scale is not None and fit is not None
        value, spread = float(mean * scale.scale + scale.centre), float(std * abs(scale.scale))
        high, highest = ("high", "highest") if self._spec.goal == "maximize" else ("low", "lowest")
        uncertain = std**2 > 0.5 * fit.hyper.signal
        match self._spec.acquisition:
            case MaximumVariance():
                judgement = "where the map is least certain"
            case ThompsonSampling():
                judgement = f"{highest} of one map drawn from all that are plausible"
            case ExpectedHypervolumeImprovement():
                judgement = "widens the front of the best compromises"
            case _ if mean > posterior.mean[posterior.best()]:
                judgement = f"likely the {highest} so far" + (", though uncertain" if uncertain else "")
            case _ if mean > 0:
                judgement = f"likely {high}" + (", and uncertain" if uncertain else "")
            case _:
                judgement = f"may be {high}: little is known of such a place"
        trouble = f"; {self._surrogate.trouble}" if self._surrogate.trouble else ""
        return f"predicted {value:.3g} ± {spread:.1g}: {judgement}{trouble}"


def _learn(surrogate: Surrogate, row: int, value: float, noise: float) -> None:
    """Learn a value if it is a number whose square is one; a noise that is none is taken as zero."""
    if abs(value) < LARGEST:
        surrogate.learn(row, value, noise if abs(noise) < LARGEST else 0.0)


def _model(kernel: str, candidates: Candidates, views: Views, seed: int) -> Model:
    if kernel == "views":
        return FrozenViews(views)
    from autoexp.models.deep import DeepKernel, JoinedKernel

    return DeepKernel(candidates, views, seed) if kernel == "deep" else JoinedKernel(candidates, views, seed)
