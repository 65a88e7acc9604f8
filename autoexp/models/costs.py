"""What it costs to measure somewhere: the way there, and the damage already done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autoexp.models.kernel import Array
from autoexp.patches import Candidates
from autoexp.plan import Costs

Position = tuple[float, float]


class CostMap:
    """Costs at all candidates, as exposures follow one another.

    Args:
        candidates: the n candidates.
        costs: their rates.
    """

    def __init__(self, candidates: Candidates, costs: Costs):
        self._shape = np.asarray(candidates.image.shape)
        self._points = candidates.centres
        self._costs = costs
        self._damage = np.zeros(len(candidates) if costs.damage else 1)
        self._last: Position | None = None

    def expose(self, position: Position) -> None:
        """Remember that a position (y, x), in fractions of the overview, was exposed, and that the probe is there."""
        self._damage = self._damage + self._damage_by(position)
        self._last = position

    def at_all(self, pending: Sequence[Position]) -> Array:
        """(n,), or (1,) where all cost the same, once the positions in flight are exposed as well."""
        cost = self._damage + sum(map(self._damage_by, pending), np.zeros(1))
        last = pending[-1] if pending else self._last
        if last is not None and self._costs.travel:
            cost = cost + self._costs.travel * self._away(last, slice(None)) / self._shape[1]
        return cost

    def nearest(self, rows: npt.NDArray[np.intp], pending: Sequence[Position]) -> int:
        """The one of some candidates that is nearest to where the probe will be; the first of them at the start."""
        last = pending[-1] if pending else self._last
        return int(rows[0] if last is None or len(rows) == 1 else rows[self._away(last, rows).argmin()])

    def _damage_by(self, position: Position) -> Array:
        """A Gaussian about one exposed position."""
        if not self._costs.damage:
            return np.zeros(1)
        away = self._away(position, slice(None)) / self._costs.damage_px
        return np.asarray(self._costs.damage * np.exp(-(away**2) / 2))

    def _away(self, position: Position, rows: npt.NDArray[np.intp] | slice) -> Array:
        """Distances of candidates from a position, pixels of the overview."""
        return np.asarray(np.linalg.norm(self._points[rows] - np.asarray(position) * self._shape, axis=1))
