"""Brings disks to their goals in a few moves, on instruments whose axes, scale and handedness are not known.

A first move that is too short to lose the disk shows scale and rotation; each further one is the best in expectation by
what is believed (:mod:`autoexp.models.response`), and what comes of it corrects the belief. What has been learned is
kept for the next alignment. A disk that is lost all the same is brought back by undoing the move. When something
happens that a changed response explains better than the one believed, it is learned anew from that very move.

It decides for many instruments at once, each by itself: thousands of simulated ones, or the one in the room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.models.response import PLACE, Array, Belief, Indices, loss_probability

Flags = npt.NDArray[np.bool_]

PARTS = np.array([1.0, 0.85, 0.7, 0.5, 0.35, 0.24, 0.16, 0.1, 0.06])
"""How much of the way to the goal is considered."""
ROUND = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)
LENGTHS_PX = np.array([3.0, 7.0, 16.0, 40.0])
ROOM = np.array([0.25, 0.5, 0.75, 1.0])
"""Moves all round are considered too, by these lengths and by these parts of the way to the border: they tell more."""
LOST = 0.3
"""Probability that a changed response loses the disk."""
GOLDEN = np.pi * (3 - np.sqrt(5))
LEAST_PX, BORDER_PX, BOLD_PX = 0.7, 0.5, 6.0
"""Shortest first move; and nearer to the border than this, where every other direction loses the disk however short the
move is, it is one that tells something."""


@dataclass(frozen=True)
class Caution:
    """How careful it is. Lengths are in pixels of a camera that is 255 pixels wide.

    Attributes:
        most: farthest that a unit of the controls may shift the disk; a pixel is what is expected.
        largest: farthest that each control may go in a move, in its units.
        probe_px: longest first move, if the response is as expected.
        visible_shift_px: a first move that shifts the disk by less is repeated, longer.
        undecided: what it costs not to know the handedness after a move, and
        loss: what it costs to lose the disk, and
        cramped: how much each logarithm of the way to the border is worth; all in the unit of the cost, the logarithm
            of the squared distance.
        changes: how probable it is that the response has changed since the last alignment, and since the last move.
    """

    most: float = 2.2
    largest: float = 100.0
    probe_px: float = 30.0
    visible_shift_px: float = 1.0
    undecided: float = 8.0
    loss: float = 42.0
    cramped: float = 0.5
    changes: tuple[float, float] = (0.5, 0.01)


class Aligner:
    """Decides the moves of n instruments.

    Args:
        n: how many.
        visible_px: farther than this from the middle, along either axis, a disk is lost. Positions are in pixels of a
            camera that is 255 pixels wide, measured from its middle.
        tolerance_px: a disk so near to its goal is there.
        belief: what is believed of them to begin with; nothing, by default.
        caution: how careful it is.

    Attributes:
        belief: what is believed of them now.
    """

    def __init__(
        self,
        n: int,
        visible_px: float,
        tolerance_px: float,
        belief: Belief | None = None,
        caution: Caution | None = None,
    ):
        self.belief = belief or Belief(n, visible_px)
        self._visible = visible_px
        self._tolerance = tolerance_px
        self._caution = caution or Caution()
        self._heading = np.full((n, 2), np.nan)  # of the first moves, until the response is known
        self._reach = np.ones(n)  # how much farther than at first they go
        self._inward = np.zeros(n, bool)  # whether they turn round a move that has lost the disk
        self._last = np.zeros((n, 2))  # the last move
        self._before = np.full((n, 2), np.nan)  # where the disk was before ...
        self._since = np.zeros((n, 2))  # ... these moves, taken together
        self._lost_by = np.zeros((n, 2))  # the moves that have lost the disk ...
        self._searches = np.zeros(n, int)  # ... and how often it was looked for since
        self._fresh = np.ones(n, bool)  # whether nothing was seen of the response in this alignment

    def begin(self) -> None:
        """Another alignment: where disks were before is of no use, what moves them still is."""
        self._before[:] = np.nan
        self._since[:] = 0.0
        self._searches[:] = 0
        self._inward[:] = False
        self._fresh[:] = True

    def next_moves(self, positions: Array, goals: Array, which: Flags) -> Array:
        """The next moves (n, 2) of the controls, relative to where they are; zero where none is asked for.

        Args:
            positions: (n, 2) of the disks, pixels from the middle of the camera; NaN where there is no disk.
            goals: (n, 2) where they should be.
            which: (n,) for which a move is asked.
        """
        seen = ~np.isnan(positions).any(axis=1)
        moves = np.zeros_like(goals)
        self.see(positions, which)
        if len(lost := np.flatnonzero(which & ~seen)):
            moves[lost] = self._search(lost)
        if len(probed := np.flatnonzero(which & seen & ~self.belief.known)):
            moves[probed] = self._probe(probed, positions[probed], goals[probed])
        if len(known := np.flatnonzero(which & seen & self.belief.known)):
            moves[known] = self._step(known, goals[known])
        self._last[which] = moves[which]
        self._since[which] += moves[which]
        return moves

    def see(self, positions: Array, which: Flags) -> None:
        """Learn from where disks are (n, 2), without another move: at the end of an alignment, and before each."""
        self._learn(np.flatnonzero(which & ~np.isnan(positions).any(axis=1)), positions)

    def made(self, moves: Array) -> None:
        """Say by how much (n, 2) the controls really went, where that is not what was asked for."""
        self._since += moves - self._last
        self._last[:] = moves

    def _learn(self, at: Indices, positions: Array) -> None:
        """Take in what the moves have caused since the disk was last seen, or since the first that showed nothing."""
        moved = ~np.isnan(self._before[at]).any(axis=1) & self._away(at)
        known, found = self.belief.known[at], self._searches[at] > 0
        if len(new := at[known & ~moved & ~found]):
            self.belief.place(new, positions[new])
        if len(unknown := at[moved & ~known]):
            self._meet(unknown, positions)
        if len(followed := at[known & (moved | found)]):
            self._follow(followed, positions)
        self._searches[at] = 0
        done = at[~moved | self.belief.known[at]]
        self._before[done], self._since[done] = positions[done], 0.0

    def _follow(self, at: Indices, positions: Array) -> None:
        """Correct what is believed; begin anew where it is likelier that the response has changed."""
        z, before = positions[at], self._before[at]
        self.belief.predict(at, self._last[at])
        changed = self._change(at) + _anything(z - before, self.belief.likeliest(at)[:, PLACE] - before)
        renew = changed > self.belief.density(at, z)
        if len(same := at[~renew]):
            self.belief.update(same, positions[same])
        if len(anew := at[renew]):
            self._meet(anew, positions)
        self._fresh[at] = False

    def _meet(self, at: Indices, positions: Array) -> None:
        """Begin to believe, where the disk has visibly moved; else go on, or the other way if that leads out."""
        shift = positions[at] - self._before[at]
        visible = (np.linalg.norm(shift, axis=1) >= self._caution.visible_shift_px) & self._away(at)
        if len(on := at[visible]):
            self.belief.begin(on, self._before[on], self._since[on], positions[on])
            self._reach[on], self._inward[on] = 1.0, False
        off = at[~visible]
        self.belief.known[off] = False
        ahead = np.sign(np.einsum("mi,mi->m", self._heading[off], self._since[off]))
        outward = ahead * (np.abs(positions[off]).max(axis=1) - np.abs(self._before[off]).max(axis=1))
        self._heading[off] *= np.where(outward > 0, -1.0, 1.0)[:, None]
        self._reach[off] *= np.where(outward > 0, 1.0, np.where(outward < 0, 2.0, 1.4))

    def _search(self, at: Indices) -> Array:
        """Where no disk is: first back to where it was last seen, then around there, farther and farther."""
        k = self._searches[at]
        if len(lost := at[k == 0]):
            self._lose(lost)
        self.belief.known[at[k > 0]] = False
        self._inward[at] = (k == 0) & ~self.belief.known[at]
        self._searches[at] += 1
        way, length = self._lost_by[at], np.linalg.norm(self._lost_by[at], axis=1)
        angle = np.arctan2(-way[:, 1], -way[:, 0]) + np.maximum(k - 1, 0) * GOLDEN
        self._heading[at] = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        radius = np.where(k == 0, 0.0, np.maximum(length / 2, 2.0) * 1.4 ** (k - 1))
        return limited(radius[:, None] * self._heading[at] - self._since[at], self._caution.largest)

    def _lose(self, at: Indices) -> None:
        """Take in that the last move has lost the disk, which may tell handedness, or that the response has changed."""
        self._lost_by[at] = self._since[at]
        self._reach[at] = 1.0
        if len(known := at[self.belief.known[at]]):
            before = self.belief.log_weight[known]
            changed = self._change(known) + np.log(LOST) > self.belief.miss(known, self._last[known], self._visible)
            self.belief.known[known] = ~changed
            self.belief.log_weight[known[changed]] = before[changed]

    def _away(self, at: Indices) -> Flags:
        """Whether (m,) the moves since the disk was last seen have not just led there and back."""
        return np.asarray(np.abs(self._since[at]).max(axis=1) > 1e-6 * self._caution.largest)

    def _change(self, at: Indices) -> Array:
        """Logarithm (m,) of the probability that the response has changed before the last move."""
        since_alignment, since_move = self._caution.changes
        return np.asarray(np.log(np.where(self._fresh[at], since_alignment, since_move)))

    def _probe(self, at: Indices, positions: Array, goals: Array) -> Array:
        """Moves that cannot lose the disk whatever their direction turns out to be, but right at the border."""
        c = self._caution
        ahead, beside = np.abs(positions).max(axis=1), np.abs(positions).min(axis=1)
        room = self._visible - ahead
        inside = np.minimum(self._visible + ahead, self._visible - beside)
        room = np.where(self._inward[at], np.maximum(room, inside), room)
        length = np.where(room < BORDER_PX, BOLD_PX, np.maximum(room / c.most, LEAST_PX)) * self._reach[at]
        away = goals - positions
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        self._heading[at] = np.where(np.isnan(self._heading[at]), away, self._heading[at])
        return limited(np.minimum(length, c.probe_px)[:, None] * self._heading[at], c.largest)

    def _step(self, at: Indices, goals: Array) -> Array:
        """The best of some moves, as far as one can see."""
        moves = self._candidates(at, goals)
        mean, S = self.belief.foresee(at, moves)
        best = self._cost(at, mean, S, goals).argmin(axis=1)
        return np.asarray(moves[np.arange(len(at)), best])

    def _candidates(self, at: Indices, goals: Array) -> Array:
        """Moves (m, c, 2): whole or part of the way to the goal by each hypothesis or by several; and all round."""
        aims, weights = self.belief.aims(at, goals), self.belief.weights[at]
        half = aims.shape[1] // 2
        common = np.einsum("mk,mki->mi", weights, aims)[:, None]
        aims = np.concatenate([aims, common, (aims[:, :half] + aims[:, half:]) / 2], axis=1)
        ahead = limited(aims, self._caution.largest)[:, :, None] * PARTS[:, None]
        room = np.maximum(self._visible - np.abs(self.belief.likeliest(at)[:, PLACE]).max(axis=1), 0.5)
        lengths = np.concatenate([room[:, None] * ROOM, np.broadcast_to(LENGTHS_PX, (len(at), 4))], axis=1)
        scale = np.sqrt(np.abs(np.linalg.det(self.belief.response(at))))
        around = limited(lengths[:, :, None, None] / scale[:, None, None, None] * ROUND, self._caution.largest)
        return np.concatenate([ahead.reshape(len(at), -1, 2), around.reshape(len(at), -1, 2)], axis=1)

    def _cost(self, at: Indices, mean: Array, S: Array, goals: Array) -> Array:
        """What each move is expected to cost (m, c): distance left, a disk that is lost, handedness in doubt."""
        weights = self.belief.weights[at]
        squared = ((goals[:, None, None] - mean) ** 2).sum(axis=-1) + np.trace(S, axis1=-2, axis2=-1)
        cost = np.log(squared + self._tolerance**2 / 2)
        cost += self._caution.loss * loss_probability(mean, S, self._visible)
        cost -= self._caution.cramped * np.log(np.maximum(self._visible - np.abs(mean).max(axis=-1), 1.0))
        return np.asarray(np.einsum("mk,mkc->mc", weights, cost) + self._caution.undecided * doubt(weights, mean, S))


MakeAligner = Callable[[int, float, float, Belief, Caution], Aligner]
"""Makes what decides, from how many instruments, what is visible, the tolerance, belief and caution."""


def limited(moves: npt.NDArray[np.floating[Any]], largest: float) -> Array:
    """Moves (..., 2) in the same direction, none of whose parts is longer than may be."""
    longest = np.abs(moves).max(axis=-1, keepdims=True)
    return np.asarray(moves * np.minimum(1.0, largest / np.maximum(longest, 1e-9)))


def doubt(weights: Array, mean: Array, S: Array) -> Array:
    """How undecided (m, c) the handedness will be after a move, 0 to 1, by the likeliest hypothesis of each.

    The overlap of two normal densities as Bhattacharyya (1943) measures it.
    """
    half = weights.shape[1] // 2
    rows, a, b = np.arange(len(weights)), weights[:, :half], weights[:, half:]
    i, j = a.argmax(axis=1), half + b.argmax(axis=1)
    apart = mean[rows, i] - mean[rows, j]
    both = S[rows, i] + S[rows, j] + 0.5 * np.eye(2)
    squared = np.einsum("mci,mcij,mcj->mc", apart, np.linalg.inv(both), apart)
    return np.asarray(4 * (a.sum(axis=1) * b.sum(axis=1))[:, None] * np.exp(-squared / 4))


def _anything(shift: Array, expected: Array) -> Array:
    """Logarithm (m,) of the density of a shift (m, 2) if the response was scaled, or turned and scaled, by anything."""
    length, foreseen = (np.maximum(np.linalg.norm(v, axis=1), 1.0) for v in (shift, expected))
    scaled = _normal(np.log(length / foreseen), 0.4) - 2 * np.log(length)  # of the logarithm of the length, per area
    along = np.einsum("mi,mi->m", shift, expected) / (length * foreseen)
    turn = np.arccos(np.clip(along, -1.0, 1.0))
    return np.asarray(scaled + np.logaddexp(_normal(turn, 0.1), -np.log(2 * np.pi)) - np.log(2))


def _normal(x: Array, sigma: float) -> Array:
    return np.asarray(-0.5 * (x / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi)))
