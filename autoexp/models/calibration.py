"""Intervals that hold where nothing was measured: the spread of the residuals as a function of the prediction.

Points are measured where high values are expected, and there values scatter more than in the background. One noise for
the whole field then makes intervals too wide almost everywhere. So the squared leave-one-out residuals, which should be
one on average wherever one looks, are regressed on the predicted mean,

    E[r² | m] = exp(b m),

by the quasi-likelihood of a variance (Davidian & Carroll 1987, "Variance function estimation"), with a normal prior
that holds b near zero while there are few points. At the mean of all targets, m = 0, the model is believed: a level to
be fitted, and weights for what was not measured (Shimodaira 2000), helped some specimens and made single runs worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoexp.models.kernel import Array

PRECISION = 1.0
STEPS = 50
OUTLIER = 5.0
"""Standard deviations beyond which a residual counts no more: one spoilt spectrum must not widen everything."""


@dataclass(frozen=True)
class ResidualSpread:
    """By what factor standard deviations have to be multiplied, as a function of the predicted mean.

    Attributes:
        slope: b.
        low: lowest mean from which it was learned; below, the factor stays as it is there.
        high: highest such mean.
    """

    slope: float
    low: float
    high: float

    @classmethod
    def of(cls, mean: Array, std: Array, y: Array) -> ResidualSpread:
        """From leave-one-out means and standard deviations (n,) of standardised targets (n,)."""
        squared = np.minimum(np.abs(y - mean) / std, OUTLIER) ** 2
        return cls(_slope(mean, squared), float(mean.min()), float(mean.max()))

    def factor(self, mean: Array) -> Array:
        """(n,) for predicted means (n,)."""
        return np.asarray(np.exp(self.slope * np.clip(mean, self.low, self.high) / 2))


def _slope(mean: Array, squared: Array) -> float:
    """The minimum of a convex function, by Newton's method; a step that does not descend is halved."""

    def value(b: float) -> float:
        return float(0.5 * (b * mean + squared * np.exp(-b * mean)).sum() + 0.5 * PRECISION * b**2)

    b, now = 0.0, value(0.0)
    for _ in range(STEPS):
        pull = squared * np.exp(-b * mean)
        step = float((0.5 * mean @ (1 - pull) + PRECISION * b) / (0.5 * mean**2 @ pull + PRECISION))
        with np.errstate(over="ignore", invalid="ignore"):  # a step too far
            while not (then := value(b - step)) <= now and abs(step) > 1e-12:
                step /= 2
        if not then <= now or abs(step) < 1e-10:
            break
        b, now = b - step, then
    return b
