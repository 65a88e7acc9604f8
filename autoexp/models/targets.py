"""Targets on a common scale: what the operator wants is always high, about zero, and about one wide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoexp.models.kernel import Array
from autoexp.plan import Goal

LOUDEST = 1e12
"""Noise variance of a target from which on it says nothing at all: more would only spoil the arithmetic."""


@dataclass(frozen=True)
class Standardisation:
    """The affine map between a scalarizer's values and the model's targets, and how loud counting noise is.

    Attributes:
        centre: value that becomes zero, in the scalarizer's units.
        scale: value that becomes one, less the centre; negative if low values are wanted.
        noise: (intercept, slope) of the variance of counting noise as a linear function of the value. Counts are
            Poisson, so for intensities this is exact; for other scalarizers it is the best straight line.
        noise_range: least and greatest variance seen; the line is not trusted beyond.
    """

    centre: float
    scale: float
    noise: tuple[float, float]
    noise_range: tuple[float, float]

    @classmethod
    def of(cls, values: Array, noise: Array, goal: Goal) -> Standardisation:
        """From (n,) finite values and the standard deviations (n,) of their counting noise."""
        centre, spread = float(values.mean()), _spread(values)
        variance = noise**2
        square = len(values) * spread**2
        slope = float(((values - centre) @ variance) / square) if square > 0 else 0.0
        return cls(
            centre=centre,
            scale=(spread or 1.0) * (1 if goal == "maximize" else -1),
            noise=(float(variance.mean()) - slope * centre, slope),
            noise_range=(float(variance.min()), float(variance.max())),
        )

    def forward(self, values: Array) -> Array:
        """Targets from values."""
        return (values - self.centre) / self.scale

    def forward_noise(self, noise: Array) -> Array:
        """Noise variances of targets from standard deviations of values."""
        return np.minimum((noise / self.scale) ** 2, LOUDEST)

    def backward(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of a new measurement, counting noise included.

        Args:
            mean: (n,) of the target.
            variance: (n,) of the target, all noise but counting noise included.
        """
        values = mean * self.scale + self.centre
        return values, np.sqrt(variance * self.scale**2 + self.counting(values))

    def counting(self, values: Array) -> Array:
        """Expected variance (n,) of the counting noise of a measurement that gives these values."""
        return np.clip(self.noise[0] + self.noise[1] * values, *self.noise_range)


def is_constant(values: Array) -> bool:
    """Whether there is nothing to learn from these values: all equal, to rounding."""
    return len(values) < 2 or float(np.ptp(values)) <= 1e-12 * float(np.abs(values).max())


def _spread(values: Array) -> float:
    """Standard deviation, also of values whose squares are too small to be numbers."""
    spread = float(values.std())
    unit = float(np.abs(values).max())
    return spread if spread > 1e-140 or unit == 0 else float((values / unit).std()) * unit
