"""What an aligner is held against: one that is told the response, and the classical one that is told nothing."""

from __future__ import annotations

import numpy as np

from autoexp.agents.aligner import limited
from autoexp.training.alignments import Flags
from autoexp.training.instruments import Array, Instruments


class Informed:
    """Knows the response and the drift of each instrument, but neither its lag nor how its gain varies.

    No controller that takes instruments to be linear does better: the floor.

    Args:
        instruments: of which it is told.
        largest: farthest that each control may go in a move, in its units.
    """

    def __init__(self, instruments: Instruments, largest: float = 100.0):
        self._instruments = instruments
        self._largest = largest
        self._last = np.zeros((len(instruments), 2))

    def begin(self) -> None:
        """Nothing to be done."""

    def see(self, positions: Array, which: Flags) -> None:
        """Nothing to be learned."""

    def next_moves(self, positions: Array, goals: Array, which: Flags) -> Array:
        """Straight to the goal; where the disk is lost, back."""
        seen = ~np.isnan(positions)
        away = np.where(seen, goals - np.where(seen, positions, 0.0) - self._instruments.drift, 0.0)
        moves = np.linalg.solve(self._instruments.response, away[..., None])[..., 0]
        self._last = np.where(seen, limited(moves, self._largest), -self._last)
        return self._last


class Secant:
    """Broyden's method (1965), from a nominal response: turned by nothing, of scale one.

    A lost disk is brought back by undoing the move.

    Args:
        n: how many instruments.
        largest: farthest that each control may go in a move, in its units.
        remembers: whether the response is kept from one alignment to the next.
    """

    def __init__(self, n: int, largest: float = 100.0, remembers: bool = True):
        self._largest = largest
        self._remembers = remembers
        self._response = np.tile(np.eye(2), (n, 1, 1))
        self._before = np.full((n, 2), np.nan)
        self._last = np.zeros((n, 2))

    def begin(self) -> None:
        """Another alignment."""
        self._before[:] = np.nan
        if not self._remembers:
            self._response[:] = np.eye(2)

    def see(self, positions: Array, which: Flags) -> None:
        """Correct the response by what the last move has done."""
        self._correct(positions, which)

    def next_moves(self, positions: Array, goals: Array, which: Flags) -> Array:
        """Correct the response by what the last move has done, then go for the goal by it."""
        self._correct(positions, which)
        seen = ~np.isnan(positions)
        away = np.where(seen, goals - np.where(seen, positions, 0.0), 0.0)
        moves = limited(np.linalg.solve(self._response, away[..., None])[..., 0], self._largest)
        moves = np.where(seen, moves, -self._last)
        self._before[which], self._last[which] = positions[which], moves[which]
        return moves

    def _correct(self, positions: Array, which: Flags) -> None:
        squared = (self._last**2).sum(axis=1)
        wrong = positions - self._before - np.einsum("nij,nj->ni", self._response, self._last)
        usable = ~np.isnan(wrong).any(axis=1) & (squared > 1e-12)
        correction = wrong[:, :, None] * self._last[:, None] / np.maximum(squared, 1e-12)[:, None, None]
        response = self._response + np.where(usable[:, None, None], correction, 0.0)
        regular = np.abs(np.linalg.det(response)) > 1e-3
        better = np.where(regular[:, None, None], response, np.eye(2))
        self._response = np.where(which[:, None, None], better, self._response)
