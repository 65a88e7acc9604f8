"""Brings the disk to its goal in a few moves, on an instrument whose axes, scale and handedness are not known.

One move that cannot lose the disk shows scale and rotation; the second already goes for the goal, by the likelier
handedness; what comes of it corrects the belief (:mod:`autoexp.models.response`). Moves are those that bring the disk
nearest to the goal in expectation, among those that keep it on the camera with confidence, whichever hypothesis holds.
What has been learned is kept for the next alignment. A disk that is lost all the same is brought back by undoing the
move, and learning starts anew, with smaller moves; so it does when the response turns out to have changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoexp.models.response import Array, Belief, Hypothesis, Noise

PARTS = tuple(0.7**k for k in range(12))
UNDECIDED = 3.0
"""What it costs not to know the handedness after a move, as a logarithm of the squared distance to the goal."""


@dataclass(frozen=True)
class Caution:
    """How careful it is.

    Attributes:
        nominal: pixels that a unit of the controls is expected to shift the disk.
        most: how many times more it may be.
        largest: longest move, units of the controls.
        probe_px: longest first move, in pixels of the nominal scale.
        deviations: how many standard deviations inside the camera the disk has to be expected.
        forgets: factor by which the covariance grows with each move, as the response may change over the field.
        visible_shift_px: a first move that shifts the disk by less is repeated, longer.
        surprise: standard deviations beyond which the response is taken to have changed.
    """

    nominal: float = 1.0
    most: float = 2.2
    largest: float = 100.0
    probe_px: float = 30.0
    deviations: float = 2.0
    forgets: float = 1.1
    visible_shift_px: float = 1.5
    surprise: float = 5.0


class Aligner:
    """Decides each move of one instrument.

    Args:
        visible_px: farther than this from the middle, along either axis, the disk is lost.
        noise: how well shifts are known.
        caution: how careful it is.
    """

    def __init__(self, visible_px: float, noise: Noise | None = None, caution: Caution | None = None):
        self.belief = Belief(noise)
        self._visible = visible_px
        self._caution = caution or Caution()
        self._reach = 1.0
        self._heading: Array | None = None
        self._losses = 0
        self._undone = False
        self._move: Array | None = None
        self._position: Array | None = None

    def begin(self) -> None:
        """Another alignment: where the disk was before is of no use, what moves it still is."""
        self._move = self._position = None
        self._undone = False

    def next_move(self, position: Array | None, goal: Array) -> Array:
        """The next move (2,) of the controls, relative to where they are.

        Args:
            position: (2,) of the disk, pixels from the middle of the camera; None if there is no disk.
            goal: (2,) where it should be.
        """
        if position is None:
            return self._undo()
        if self._move is not None and self._position is not None and not self._undone:
            self._learn(self._move, position - self._position)
        self._undone = False
        move = self._step(position, goal) if self.belief.known else self._probe(position, goal)
        self._move, self._position = move, position
        return move

    def _learn(self, move: Array, shift: Array) -> None:
        known = self.belief.known
        if not known and np.linalg.norm(shift) < self._caution.visible_shift_px:
            self._reach *= 2  # too little to tell anything
            assert self._position is not None and self._heading is not None
            if np.abs(self._position + shift).max() > np.abs(self._position).max():
                self._heading = -self._heading
            return
        self.belief.loosen(self._caution.forgets)
        surprise = self.belief.learn(move, shift)
        if known and surprise > self._caution.surprise:
            if np.linalg.norm(shift) > 5:
                self.belief.begin(move, shift)
            else:
                self.belief.hypotheses = []

    def _undo(self) -> Array:
        """Back to where the disk was last seen; what was believed has proved wrong."""
        assert self._move is not None, "the disk has to be on the camera when an alignment begins"
        back = -self._move
        self.belief.hypotheses = []
        ahead = back / max(float(np.linalg.norm(back)), 1e-9)
        # the other way leads inside, save in a corner: then one of the two across does
        self._heading = np.array([-ahead[1], ahead[0]]) if self._losses % 2 else ahead
        self._losses += 1
        self._undone = True
        self._move = back
        return back

    def _probe(self, position: Array, goal: Array) -> Array:
        """A move that cannot lose the disk whatever its direction turns out to be."""
        c = self._caution
        room = (self._visible - float(np.abs(position).max())) / (c.nominal * c.most)
        if self._heading is None:
            away = goal - position
            self._heading = away / max(float(np.linalg.norm(away)), 1e-9)
        length = min(max(room, 0.5) * self._reach, c.probe_px / c.nominal, c.largest)
        return np.asarray(length * self._heading)

    def _step(self, position: Array, goal: Array) -> Array:
        """The best of some moves that keep the disk on the camera."""
        moves = self._candidates(goal - position)
        cost, outside = (np.array(x) for x in zip(*(self._judge(m, position, goal) for m in moves), strict=True))
        if (outside <= 0).any():
            return moves[int(np.where(outside <= 0, cost, np.inf).argmin())]
        return moves[int(outside.argmin())]

    def _candidates(self, away: Array) -> list[Array]:
        """What would reach the goal by each hypothesis, and by what they have in common; whole, and parts of it."""
        aims = [_towards(h, away) for h in self.belief.hypotheses]
        if len(aims) > 1:
            aims.append(np.mean(aims, axis=0))
        largest = self._caution.largest
        aims = [aim * min(1.0, largest / max(float(np.linalg.norm(aim)), 1e-9)) for aim in aims]
        return [aim * part for aim in aims for part in PARTS]

    def _judge(self, move: Array, position: Array, goal: Array) -> tuple[float, float]:
        """Expected logarithm of the squared distance to the goal, and how far outside the disk may be, pixels."""
        cost, outside = 0.0, -np.inf
        foreseen = [h.foresee(move, self.belief.noise) for h in self.belief.hypotheses]
        weights = self.belief.weights
        if len(foreseen) > 1:
            (a, A), (b, B) = foreseen
            apart = float((a - b) @ np.linalg.solve((A + B) / 2, a - b))
            cost = UNDECIDED * 4 * float(weights.prod()) * float(np.exp(-apart / 8))
        for weight, (shift, S) in zip(weights, foreseen, strict=True):
            if weight < 0.01:
                continue
            there = position + shift
            cost += weight * float(np.log(((goal - there) ** 2).sum() + np.trace(S)))
            farthest = np.abs(there) + self._caution.deviations * np.sqrt(np.diag(S))
            outside = max(outside, float(farthest.max()) - self._visible)
        return cost, outside


def _towards(h: Hypothesis, away: Array) -> Array:
    """The move that is expected to leave the least squared distance, its uncertain effect included."""
    J, rows = h.response, h.covariance[:4, :4]
    spread = rows[:2, :2] + rows[2:, 2:]
    return np.asarray(np.linalg.solve(J.T @ J + spread, J.T @ (away - h.drift)))
