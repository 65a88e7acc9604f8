"""Alignments of many simulated instruments at once, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from autoexp.training.instruments import Array, Instruments

Flags = npt.NDArray[np.bool_]


class Controller(Protocol):
    """Decides the moves of n instruments."""

    def begin(self) -> None:
        """Another alignment begins."""
        ...

    def see(self, positions: Array, which: Flags) -> None:
        """Take in where some disks are (n, 2) that need no further move."""
        ...

    def next_moves(self, positions: Array, goals: Array, which: Flags) -> Array:
        """Moves (n, 2) from measured positions (n, 2), NaN where there is no disk, for those that are not aligned."""
        ...


@dataclass(frozen=True)
class Alignments:
    """One alignment of each of n instruments.

    Attributes:
        moves: (n,) that were needed; as many as were allowed, where that was too few.
        aligned: (n,) whether it was reached.
        lost: (n,) whether the disk was ever not on the camera.
        residual_px: (n,) how far the disk truly is from its goal in the end.
    """

    moves: npt.NDArray[np.int_]
    aligned: Flags
    lost: Flags
    residual_px: Array

    @property
    def needed(self) -> npt.NDArray[np.int_]:
        """Moves of those that were aligned."""
        return self.moves[self.aligned]


def align(instruments: Instruments, controller: Controller, tolerance_px: float, limit: int = 60) -> Alignments:
    """Bring each disk to within the tolerance of its goal, as measured.

    Args:
        instruments: where they are; they are moved.
        controller: decides.
        tolerance_px: how near is near enough.
        limit: moves that are allowed.
    """
    n = len(instruments)
    moves, lost, active = np.full(n, limit), np.zeros(n, bool), np.ones(n, bool)
    controller.begin()
    for step in range(limit + 1):
        seen = instruments.measure()
        missing = np.isnan(seen).any(axis=1)
        done = active & (np.linalg.norm(seen - instruments.goals, axis=1) <= tolerance_px)
        moves[done] = step
        lost |= active & missing
        controller.see(seen, done)
        active &= ~done
        if step == limit or not active.any():
            break
        instruments.move(controller.next_moves(seen, instruments.goals, active), active)
    residual = np.linalg.norm(instruments.positions - instruments.goals, axis=1)
    return Alignments(moves, ~active, lost, residual)
