"""A small field to learn on: views, measured points, targets and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from autoexp.models.kernel import Array, Hyperparameters


class Problem(NamedTuple):
    """A Gaussian process on three views of 200 candidates, 30 of them measured."""

    views: tuple[Array, ...]
    rows: np.ndarray
    y: Array
    noise: Array
    hyper: Hyperparameters

    def _repr_pretty_(self, printer, cycle):
        printer.text("problem")  # Hypothesis writes arguments out; these arrays are too long for that

    @property
    def measured(self) -> tuple[Array, ...]:
        return tuple(view[self.rows] for view in self.views)


@pytest.fixture(scope="session")
def problem() -> Problem:
    rng = np.random.default_rng(3)
    raw = [rng.standard_normal((200, d)) for d in (5, 3, 2)]
    views = tuple((view - view.mean(0)) / np.sqrt(view.var(0).sum()) for view in raw)
    rows = rng.permutation(200)[:30]
    y = np.sin(3 * views[0][rows, 0]) + views[2][rows, 1] + 0.1 * rng.standard_normal(30)
    y = (y - y.mean()) / y.std()
    hyper = Hyperparameters(np.array([0.6, 0.2, 0.4]), np.array([0.5, 1.1, 0.3]), 0.04)
    return Problem(views, rows, y, rng.uniform(0, 0.1, 30), hyper)
