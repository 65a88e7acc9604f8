"""A judge of moves that is learned: how many more moves an alignment takes after each.

The aligner's own cost of a move is written down by hand. Here instead the number of moves that followed was recorded in
simulated alignments, partly with moves that were not the best, and a small network learned to foresee it: one step of
policy iteration, on what is believed after the decision (Powell 2011, chapter 4). Where the network is the wiser, the
aligner takes fewer moves with it; where it is not, its own cost decides, which it never leaves by far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from autoexp.agents.aligner import Aligner, doubt
from autoexp.models.response import PLACE, Array, Belief, Indices, J, loss_probability
from autoexp.training.alignments import Alignments, Flags, align
from autoexp.training.instruments import CLEAN, HALF_PX, MESSY, VISIBLE_PX, WIDE, Instruments, Ranges

Judge = Callable[[Array, Array], Array]

TOLERANCE_PX, LIMIT, MOST = 3.0, 60, 12
HIDDEN, EPOCHS, BATCH, RATE = 16, 30, 1024, 3e-3
MARGIN = 0.2
"""A move is taken only if its own cost is within this of the least: a natural logarithm of the squared distance."""
EXPLORE = 0.3
"""Share of the moves in training that are drawn by chance, the better the likelier."""


@dataclass(frozen=True)
class LearnedJudge:
    """Chooses, among the moves that are nearly the best by their own cost, the one with the fewest moves to come.

    Attributes:
        mean: (f,) of the features, and
        std: (f,) their standard deviation, in training.
        layers: weights (out, in) and biases (out,).
        margin: how much more a move may cost than the cheapest.
    """

    mean: Array
    std: Array
    layers: tuple[tuple[Array, Array], ...]
    margin: float = MARGIN

    def __call__(self, features: Array, cost: Array) -> Array:
        """What decides (m, c): moves to come, of those that cost nearly as little as the cheapest."""
        near = cost <= cost.min(axis=1, keepdims=True) + self.margin
        return np.where(near, self.moves_left(features), np.inf)

    def moves_left(self, features: Array) -> Array:
        """How many more moves (...) are foreseen, from features (..., f)."""
        x = np.clip((features - self.mean) / self.std, -6, 6)
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = x * special.expit(x)
        return np.asarray(x[..., 0])


class JudgedAligner(Aligner):
    """An aligner whose moves are chosen by a judge.

    Args:
        n: how many instruments.
        belief: what is believed of them to begin with.
        judge: says what decides (m, c), the least being best, from the features (m, c, f) of each move and its cost.
    """

    def __init__(self, n: int, belief: Belief, judge: Judge):
        super().__init__(n, VISIBLE_PX, TOLERANCE_PX, belief)
        self._judge = judge

    def _cost(self, at: Indices, mean: Array, S: Array, goals: Array) -> Array:
        return self._judge(self._features(at, mean, S, goals), super()._cost(at, mean, S, goals))

    def _features(self, at: Indices, mean: Array, S: Array, goals: Array) -> Array:
        """What tells of each move (m, c, 11), lengths in units of the tolerance, mostly as logarithms.

        Distance left with and without its uncertainty; that uncertainty; probability to be there, and to be lost; room
        to the border; doubt of the handedness; how far it goes; how little J is known; how messy, how wild it is.
        """
        weights, belief = self.belief.weights[at], self.belief
        own, covariance = belief.mean[at], belief.covariance[at]
        tolerance2 = self._tolerance**2
        off2, variance = ((goals[:, None, None] - mean) ** 2).sum(axis=-1), np.trace(S, axis1=-2, axis2=-1) / 2
        there = (1 - np.exp(-tolerance2 / (2 * variance))) * np.exp(-off2 / (2 * variance + tolerance2))
        shift = np.linalg.norm(mean - own[:, :, None, PLACE], axis=-1)
        unknown = np.trace(covariance[..., J, J], axis1=-2, axis2=-1) / np.maximum((own[..., J] ** 2).sum(-1), 1e-9)
        half = weights.shape[1] // 2
        kinds = weights[:, :half] + weights[:, half:]

        def expected(values: Array) -> Array:
            return np.asarray(np.einsum("mk,mkc->mc", weights, values))

        moves = [
            expected(np.log((off2 + 2 * variance) / tolerance2 + 0.5)),
            np.log(expected(off2) / tolerance2 + 0.25),
            expected(np.log(variance / tolerance2)),
            expected(there),
            expected(loss_probability(mean, S, self._visible)),
            expected(np.log(np.maximum(self._visible - np.abs(mean).max(axis=-1), 1.0))),
            doubt(weights, mean, S),
            np.log1p(expected(shift) / self._tolerance),
        ]
        states = [np.minimum(np.sqrt((unknown * weights).sum(axis=1)), 3.0), kinds[:, 1], kinds[:, -1]]
        each = [np.broadcast_to(state[:, None], moves[0].shape) for state in states]
        return np.stack([*moves, *each], axis=-1)


class _Explorer:
    """Records what it judges by, and now and then takes a move that is not the best.

    Args:
        seed: of the chance.
    """

    def __init__(self, seed: int):
        self._random = np.random.default_rng(seed)
        self._features: Array = np.empty((0, 0, 0))
        self._best: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def __call__(self, features: Array, cost: Array) -> Array:
        explored = self._random.random(len(cost)) < EXPLORE
        drawn = np.where(explored[:, None], cost - self._random.gumbel(size=cost.shape), cost)
        self._features, self._best = features, drawn.argmin(axis=1)
        return np.asarray(drawn)

    def taken(self) -> Array:
        """Features (m, f) of the moves that were taken last."""
        return np.asarray(self._features[np.arange(len(self._best)), self._best])


class _Recorded(JudgedAligner):
    """One that remembers on what it decided, and when."""

    def __init__(self, n: int, belief: Belief, judge: _Explorer):
        super().__init__(n, belief, judge)
        self._explorer = judge
        self.decided: list[tuple[int, npt.NDArray[np.intp], Array]] = []
        self._now = 0

    def begin(self) -> None:
        super().begin()
        self.decided, self._now = [], 0

    def next_moves(self, positions: Array, goals: Array, which: Flags) -> Array:
        moves = super().next_moves(positions, goals, which)
        self._now += 1
        return moves

    def _step(self, at: npt.NDArray[np.intp], goals: Array) -> Array:
        moves = super()._step(at, goals)
        self.decided.append((self._now, at, self._explorer.taken()))
        return moves


def learn_judge(
    instruments: int = 1500, rounds: int = 2, seed: int = 0, ranges: Sequence[Ranges] = (CLEAN, MESSY, WIDE)
) -> LearnedJudge:
    """Learn from simulated alignments; needs torch, and takes about a minute on one core.

    Args:
        instruments: of each kind.
        rounds: alignments of each, one after the other.
        seed: of instruments, exploration and network.
        ranges: the kinds.
    """
    samples = [_experience(kind, instruments, rounds, seed + i) for i, kind in enumerate(ranges)]
    features, left = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    return LearnedJudge(mean, std, _fit((features - mean) / std, left, seed))


def compare(judge: LearnedJudge, ranges: Ranges, n: int, rounds: int, seed: int) -> tuple[list[Alignments], ...]:
    """The same alignments without the judge, and with it."""
    found: list[list[Alignments]] = []
    for one in (None, judge):
        instruments = Instruments(ranges, n, seed)
        belief = Belief(n, HALF_PX, ranges.rounded)
        aligner = JudgedAligner(n, belief, one) if one else Aligner(n, VISIBLE_PX, TOLERANCE_PX, belief)
        found.append([])
        for i in range(rounds):
            if i:
                instruments.start()
            found[-1].append(align(instruments, aligner, TOLERANCE_PX, LIMIT))
    return tuple(found)


def _experience(ranges: Ranges, n: int, rounds: int, seed: int) -> tuple[Array, Array]:
    """Features of decisions, and how many moves came after each."""
    instruments = Instruments(ranges, n, 10_000 + seed)
    aligner = _Recorded(n, Belief(n, HALF_PX, ranges.rounded), _Explorer(seed))
    features: list[Array] = []
    left: list[Array] = []
    for i in range(rounds):
        if i:
            instruments.start()
        moves = align(instruments, aligner, TOLERANCE_PX, LIMIT).moves
        features += [taken for _, _, taken in aligner.decided]
        left += [np.minimum(moves[at] - now - 1.0, MOST) for now, at, _ in aligner.decided]
    return np.concatenate(features), np.concatenate(left)


def _fit(x: Array, y: Array, seed: int) -> tuple[tuple[Array, Array], ...]:
    """A small network, by least squares."""
    torch: Any = import_module("torch")
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(x.shape[1], HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1)
    )
    inputs, wanted = (torch.tensor(values, dtype=torch.float32) for values in (np.clip(x, -6, 6), y))
    steps = EPOCHS * -(-len(x) // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(inputs[batch])[:, 0], wanted[batch]).backward()
            optimizer.step()
            schedule.step()
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    return tuple(
        (layer.weight.detach().numpy().astype(float), layer.bias.detach().numpy().astype(float)) for layer in linear
    )
