"""A model of the whole field that learns one outcome after another, and is a function of their sequence alone.

Hyperparameters are fitted anew when the number of outcomes meets a schedule, on exactly that many outcomes and from
fixed starts; between refits every outcome adds one row to the posterior. A refit takes longer than an exposure, so it
is only in force some outcomes later, and may be made meanwhile on another thread. That too depends on nothing but the
number of outcomes: a model that is made anew after a crash and is given all outcomes at once predicts, bit by bit, what
it would have predicted had it learned them one by one.

What a decision and a refit cost is bounded, however many outcomes there are: :class:`Bounds`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from autoexp.agent import Evidence, Prediction
from autoexp.errors import AgentError, MissingDependencyError
from autoexp.models.calibration import ResidualSpread
from autoexp.models.features import Views
from autoexp.models.fit import STARTS, fit_map, leave_one_out_density
from autoexp.models.kernel import Array, Hyperparameters, Priors
from autoexp.models.posterior import Posterior
from autoexp.models.schedule import in_force, lag, refits, replaced
from autoexp.models.targets import Standardisation, is_constant
from autoexp.plan import Goal

Rows = npt.NDArray[np.intp]
ALL = "all descriptions"
POSITION = "position alone"
LEVEL_90 = 1.6448536269514722
IN_FLIGHT = 16
"""Points that may be believed at once before room has to be made for more."""


@dataclass(frozen=True)
class Bounds:
    """From where on a model costs no more, whatever it has learned.

    Attributes:
        exact: outcomes up to which the posterior is exact; a refit that comes into force later sums up.
        kept: points that stand for all others when they are summed up.
        fitted: outcomes that hyperparameters are fitted to; of more, so many in even steps.
    """

    exact: int = 2000
    kept: int = 1000
    fitted: int = 500


@dataclass(frozen=True)
class Fit:
    """What a fit decides: how candidates are described, and the hyperparameters of the kernel on that.

    Attributes:
        views: of all candidates.
        hyper: of the kernel on them.
        density: for each kernel that was considered, how well it foresees; see :class:`autoexp.agent.Evidence`.
    """

    views: Views
    hyper: Hyperparameters
    density: Mapping[str, float] = field(default_factory=dict)

    @property
    def evidence(self) -> Evidence | None:
        """What the operator is told of it; None where no kernel was compared with another."""
        if not self.density:
            return None
        shares = self.hyper.variance / self.hyper.signal
        return Evidence(self.density, dict(zip(self.views.names, shares.tolist(), strict=True)))


@dataclass(frozen=True)
class _Made:
    """A refit: what was fitted, the posterior over the outcomes that it rests on, and their scale."""

    fit: Fit
    posterior: Posterior
    scale: Standardisation
    trouble: str


class Model(Protocol):
    """Something that can be fitted: a function of its arguments, without memory."""

    @property
    def initial(self) -> Fit:
        """What holds before anything is fitted, and when a fit cannot be used."""
        ...

    def fit(self, rows: Rows, y: Array, noise: Array) -> Fit:
        """Fit to standardised targets (n,) with known noise variances (n,) at the candidates ``rows``."""
        ...


@dataclass(frozen=True)
class FrozenViews:
    """The default: views that never change, and hyperparameters by maximum a posteriori."""

    views: Views

    @property
    def initial(self) -> Fit:
        count = len(self.views.arrays)
        return Fit(self.views, Priors.of(count).modes(count))

    def fit(self, rows: Rows, y: Array, noise: Array) -> Fit:
        measured = tuple(view[rows] for view in self.views.arrays)
        hyper = fit_map(measured, y, noise)
        blind = fit_map(measured[-1:], y, noise, starts=STARTS[:1])
        density = {
            ALL: leave_one_out_density(measured, hyper, y, noise),
            POSITION: leave_one_out_density(measured[-1:], blind, y, noise),
        }
        return Fit(self.views, hyper, density)


class Surrogate:
    """Learns outcomes, refits on schedule, and holds the posterior over all candidates.

    Args:
        model: what is fitted.
        goal: whether high or low values are wanted.
        first: outcomes before the first fit.
        every: outcomes between fits, at least.
        dtype: in which the posterior's large factor is kept.
        bounds: on what it costs.

    Attributes:
        posterior: over all candidates, in standardised targets; None until there is something to model.
        scale: how values and targets are related, as of the last refit.
        trouble: what went wrong with the last refit, in words; empty if nothing did.
    """

    def __init__(
        self,
        model: Model,
        goal: Goal,
        first: int,
        every: int,
        dtype: npt.DTypeLike = np.float32,
        bounds: Bounds = Bounds(),
    ):
        self._model = model
        self._bounds = bounds
        self._candidates = len(model.initial.views)
        self._goal = goal
        self._first = max(2, first)
        self._every = every
        self._dtype = dtype
        self._rows: list[int] = []
        self._values: list[float] = []
        self._noise: list[float] = []
        self._fits: dict[int, Fit] = {}
        self._fitted_at = 0
        self._making = threading.Lock()
        self._made: dict[int, _Made] = {}
        self._calibrated: tuple[ResidualSpread, float] | None = None
        self.posterior: Posterior | None = None
        self.scale: Standardisation | None = None
        self.trouble = ""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def fit(self) -> Fit | None:
        """The fit in force."""
        return self._fits.get(self._fitted_at)

    def learn(self, row: int, value: float, noise: float) -> None:
        """Remember one finite value at a candidate, with the standard deviation of its counting noise."""
        self._rows.append(row)
        self._values.append(value)
        self._noise.append(noise)

    def refresh(self) -> None:
        """Bring the posterior up to date with all that was learned.

        Raises:
            MissingDependencyError: a library that the model needs is not installed.
        """
        while self._first <= len(self) and is_constant(np.asarray(self._values[: self._first])):
            self._first += 1
        if len(self) < self._first:
            return
        at = in_force(len(self), self._first, self._every, self._candidates)
        if at != self._fitted_at:
            if at not in self._made and not self._making.locked():
                self.posterior = None  # before the next is made: each may be large
            made = self._make(at)
            self.posterior, self.scale, self.trouble = made.posterior, made.scale, made.trouble
            self._fitted_at = at
            with self._making:
                self._made = {n: later for n, later in self._made.items() if n > at}
                self._fits = {n: fit for n, fit in self._fits.items() if n >= at}
        assert self.posterior is not None and self.scale is not None
        self._calibrated = None
        for i in range(len(self.posterior), len(self)):
            y, noise = self._targets(self.scale, slice(i, i + 1))
            self.posterior.observe(self._rows[i], float(y[0]), float(noise[0]))

    def predict(self) -> Prediction | None:
        """What a measurement at each candidate is expected to give; None while there is nothing to model."""
        posterior, scale, fit = self.posterior, self.scale, self.fit
        if posterior is None or scale is None or fit is None:
            return None
        spread, coverage = self._calibration(posterior)
        mean, std = scale.backward(posterior.mean, posterior.variance + fit.hyper.noise)
        std = std * spread.factor(posterior.mean)
        return Prediction(mean, std, after=len(posterior), coverage=coverage, evidence=fit.evidence)

    def calibrated_std(self) -> Array:
        """Standard deviation (n,) of the noise-free standardised target, as far as residuals bear it out."""
        posterior = self.posterior
        assert posterior is not None
        spread, _ = self._calibration(posterior)
        return np.asarray(np.sqrt(posterior.variance) * spread.factor(posterior.mean))

    def _calibration(self, posterior: Posterior) -> tuple[ResidualSpread, float]:
        """Spread of the residuals and coverage, computed once for what is known."""
        if self._calibrated is None:
            self._calibrated = posterior.calibration(LEVEL_90)
        return self._calibrated

    def pending_noise(self) -> float:
        """Noise variance that a target in flight is expected to have."""
        assert self.scale is not None
        return float(self.scale.forward_noise(np.sqrt(np.mean(np.square(self._noise)))))

    @property
    def has_work(self) -> bool:
        """Whether a refit is due that is not in force yet, and has not been made or begun."""
        if self.posterior is None or self._making.locked():
            return False
        return self._due > self._fitted_at and self._due not in self._made

    def work_ahead(self) -> None:
        """Make the refit that is due, if there is one; on any thread, also while outcomes are learned."""
        if self.has_work:
            self._make(self._due)

    @property
    def _due(self) -> int:
        return refits(len(self), self._first, self._every, self._candidates)[-1]

    def _make(self, at: int) -> _Made:
        """The refit to the first ``at`` outcomes, made now unless it was or is being made beforehand."""
        with self._making:
            if at not in self._made:
                self._made[at] = self._refit(at)
            return self._made[at]

    def _refit(self, at: int) -> _Made:
        """Fit to the first ``at`` outcomes, or take the last good fit if that fails."""
        values, noise = np.asarray(self._values[:at]), np.asarray(self._noise[:at])
        scale = Standardisation.of(values, noise, self._goal)
        rows, y, variance = np.asarray(self._rows[:at]), scale.forward(values), scale.forward_noise(noise)
        try:
            some = self._fitted(at)
            fit = self._model.fit(rows[some], y[some], variance[some])
            posterior = self._checked(fit, rows, y, variance)
            trouble = ""
        except MissingDependencyError:
            raise
        except Exception as error:  # whatever a fit raises, the run goes on with the last good one
            fit, posterior = self._last_good(at, rows, y, variance)
            trouble = f"the fit to {at} points failed ({error}); the one before it is used"
        self._fits[at] = fit
        return _Made(fit, posterior, scale, trouble)

    def _last_good(self, at: int, rows: Rows, y: Array, noise: Array) -> tuple[Fit, Posterior]:
        """The fit before the one on ``at`` outcomes; where it is of no use for these, what holds before any fit."""
        try:
            fit = self._fit_before(at)
            return fit, self._checked(fit, rows, y, noise)
        except (AgentError, np.linalg.LinAlgError):
            return self._model.initial, self._condition(self._model.initial, rows, y, noise)

    def _fit_before(self, at: int) -> Fit:
        """The fit that was made before the one on ``at`` outcomes, found again if it never was."""
        earlier = [n for n in refits(at, self._first, self._every, self._candidates) if n < at]
        if not earlier:
            return self._model.initial
        if earlier[-1] not in self._fits:
            self._refit(earlier[-1])
        return self._fits[earlier[-1]]

    def _fitted(self, at: int) -> Rows:
        """Which of the first ``at`` outcomes hyperparameters are fitted to."""
        return np.unique(np.linspace(0, at - 1, min(at, self._bounds.fitted)).astype(np.intp))

    def _condition(self, fit: Fit, rows: Rows, y: Array, noise: Array) -> Posterior:
        at = len(rows)
        keep = self._bounds.kept if at + lag(at, self._candidates) > self._bounds.exact else None
        more = replaced(at, self._every, self._candidates) - at + IN_FLIGHT
        return Posterior(fit.views.arrays, fit.hyper, rows, y, noise, self._dtype, keep, more)

    def _checked(self, fit: Fit, rows: Rows, y: Array, noise: Array) -> Posterior:
        """The posterior, if it says anything."""
        posterior = self._condition(fit, rows, y, noise)
        if not (np.isfinite(posterior.mean).all() and np.isfinite(posterior.variance).all()):
            raise AgentError("the prediction is not finite")
        if np.ptp(posterior.mean) < 1e-9 and len(fit.views) > 1:
            raise AgentError("the prediction is the same everywhere")
        return posterior

    def _targets(self, scale: Standardisation, part: slice) -> tuple[Array, Array]:
        values, noise = np.asarray(self._values[part]), np.asarray(self._noise[part])
        return scale.forward(values), scale.forward_noise(noise)
