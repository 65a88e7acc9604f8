"""A judge of moves that is learned: how many more moves an alignment takes after each.

The aligner's own cost of a move is written down by hand. Here instead the number of moves that followed was recorded in
simulated alignments, partly with moves that were not the best, and a small network learned to foresee it: one step of
policy iteration, on what is believed after the decision (Powell 2011, chapter 4). Where the network is the wiser, the
aligner takes fewer moves with it; where it is not, its own cost decides, which it never leaves by far.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from autoexp.agents.aligner import Aligner
from autoexp.errors import PlanError
from autoexp.models.response import Array, Belief
from autoexp.training.alignments import Alignments, Flags, align
from autoexp.training.instruments import CLEAN, HALF_PX, MESSY, VISIBLE_PX, WIDE, Instruments, Ranges

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
        """See :class:`autoexp.agents.aligner.Judge`."""
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

    def save(self, path: pathlib.Path) -> None:
        """Write it as JSON."""
        layers = [[weight.tolist(), bias.tolist()] for weight, bias in self.layers]
        document = {"mean": self.mean.tolist(), "std": self.std.tolist(), "layers": layers, "margin": self.margin}
        path.write_text(json.dumps(document) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: pathlib.Path) -> LearnedJudge:
        """Read one.

        Raises:
            PlanError: it is none.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            layers = tuple((np.array(weight, float), np.array(bias, float)) for weight, bias in document["layers"])
            judge = cls(np.array(document["mean"], float), np.array(document["std"], float), layers, document["margin"])
            foreseen = judge.moves_left(np.zeros(judge.mean.shape))
        except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise PlanError(f"{path} holds no judge of moves: {error}") from error
        if not np.isfinite(foreseen):
            raise PlanError(f"{path} holds numbers that are not finite.")
        return judge


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


class _Recorded(Aligner):
    """An aligner that remembers on what it decided, and when."""

    def __init__(self, n: int, belief: Belief, judge: _Explorer):
        super().__init__(n, VISIBLE_PX, TOLERANCE_PX, belief, judge=judge)
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
        aligner = Aligner(n, VISIBLE_PX, TOLERANCE_PX, Belief(n, HALF_PX, ranges.rounded), judge=one)
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
