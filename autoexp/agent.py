"""The border to agents: an agent only decides. No I/O, no clock; randomness from the run's seed and the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Suggestion:
    """A position that is worth a spectrum, and why.

    Attributes:
        candidate: index into the candidates, or None for a position that is not one of them.
        position: (y, x), fractions of the overview.
        reason: one sentence for the operator.
        mean: predicted value, where the agent predicts.
        std: predicted standard deviation.
        acquisition: value of the acquisition function.
    """

    candidate: int | None
    position: tuple[float, float]
    reason: str
    mean: float | None = None
    std: float | None = None
    acquisition: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a suggestion.

    Attributes:
        status: ``ok``, ``failed`` (nothing usable came), or ``skipped`` (it was not carried out).
        candidate: as in the suggestion.
        position: as in the suggestion.
        value: the scalarizer's value; NaN unless ``ok``.
        noise: standard deviation of the value from counting statistics.
        second: the second scalarizer's value, where there is one.
        second_noise: its standard deviation.
    """

    status: Literal["ok", "failed", "skipped"]
    candidate: int | None
    position: tuple[float, float]
    value: float = float("nan")
    noise: float = 0.0
    second: float | None = None
    second_noise: float = 0.0


@runtime_checkable
class Agent(Protocol):
    """Decides where to measure next."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def suggest(self, n: int, pending: Sequence[Suggestion] = ()) -> list[Suggestion]:
        """Up to ``n`` positions to measure next; fewer, or none, when nothing is left.

        Args:
            n: how many.
            pending: suggestions whose outcome is not known yet; none of them is suggested again.
        """
        ...

    def ingest(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from outcomes; each is handed in once."""
        ...


@dataclass(frozen=True)
class Evidence:
    """What the measured points say of the kernels that might explain them.

    Attributes:
        density: for each kernel that was considered the mean log density, in nats a point, that it gives to points
            which it has not seen; the higher, the better it foresees.
        shares: for each description of the candidates its share of the model's variance, in all 1.
    """

    density: Mapping[str, float]
    shares: Mapping[str, float]

    @property
    def preferred(self) -> str:
        """The kernel that foresees best."""
        return max(self.density, key=lambda name: self.density[name])

    @property
    def behind(self) -> dict[str, float]:
        """By how many nats a point each other kernel foresees less well."""
        best = self.preferred
        return {name: self.density[best] - density for name, density in self.density.items() if name != best}

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """The descriptions and their shares, the largest first."""
        return sorted(self.shares.items(), key=lambda item: -item[1])


@dataclass(frozen=True)
class Prediction:
    """What a model expects at every candidate.

    Attributes:
        mean: (n,) in the scalarizer's units.
        std: (n,) standard deviation of a new measurement, its noise included.
        after: number of measured points that it rests on.
        coverage: share of measured points inside their own leave-one-out 90 % interval, or None.
        evidence: which kernel the measured points prefer, or None.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    after: int
    coverage: float | None = None
    evidence: Evidence | None = None


@runtime_checkable
class Predictor(Protocol):
    """An agent with a model of the whole field."""

    def predict(self) -> Prediction | None:
        """The current prediction, or None before there is one."""
        ...


@runtime_checkable
class Finisher(Protocol):
    """An agent that knows when enough has been measured; it need not."""

    @property
    def finished(self) -> str:
        """Why nothing more need be measured, in words for the operator; empty while there is something."""
        ...


@runtime_checkable
class Forethinker(Protocol):
    """An agent with long work that later decisions need, which may be done meanwhile, on another thread; optional.

    Decisions may be asked for while it goes on, and must come out the same whether it was done beforehand or not.
    """

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do."""
        ...

    def work_ahead(self) -> None:
        """Do it."""
        ...
