"""A trained policy on instruments it was not trained on: it says where disks should go, the filter gets them there.

A policy knows the axes on which it was trained, and cannot find out what those of an instrument are. The filter does
(:class:`autoexp.agents.aligner.Aligner`): the shift that an action of the policy caused in training is brought about by
the controls of the instrument, as their response is believed to be. What is not expected to lead nearer to the goal is
not done; the filter's own move is made instead. The filter also makes the first moves, until the response is known,
looks for disks that are lost, and goes the last way if the policy learned to stop farther from the goal than is asked.
"""

from __future__ import annotations

import numpy as np
from pydantic import ValidationError

from autoexp.agents.aligner import Aligner, Caution, Flags, limited
from autoexp.errors import PlanError
from autoexp.fields import explain
from autoexp.models.response import PLACE, Array, Belief, Indices, loss_probability
from autoexp.training.instruments import PAPER_BINNING, PAPER_STEP_PX, observed, rotations
from autoexp.training.learning import DiskSettings, Training
from autoexp.training.policies import Policy

OBSERVED, ACTIONS = 5, 2
WORTH = 0.5
"""A move is made if at least this part of its length, and of a pixel, brings the disk nearer, as expected."""
SAFE = 0.01
"""Probability that it loses the disk up to which a move is made."""


class Trained:
    """A policy that was trained on ``BrightFieldDisk-v0``, in pixels of a camera of 255.

    Args:
        policy: as :func:`autoexp.training.learning.train` keeps it.

    Attributes:
        response: (2, 2) of the controls that it was trained with, pixels a unit.
        reaches_px: how far from the goal it learned to stop.

    Raises:
        PlanError: it was trained for something else.
    """

    def __init__(self, policy: Policy):
        environment = environment_of(policy)
        self._policy = policy
        self._to_bins = PAPER_BINNING / environment.binning
        self._step_size = environment.step_size
        self.response = environment.scale * rotations(np.deg2rad(environment.rotation_deg or 0.0))
        self.reaches_px = environment.tolerance / self._to_bins

    def moves(self, away: Array) -> Array:
        """The moves (m, 2) of those controls that it makes of disks so far (m, 2) from their goals."""
        seen = observed(np.round(away * self._to_bins), self._step_size)
        return self._policy.act(seen).astype(float) * PAPER_STEP_PX * self._step_size / 100


class PolicyAligner(Aligner):
    """Decides the moves of n instruments by a policy.

    Args:
        trained: the policy.
        n: as for :class:`~autoexp.agents.aligner.Aligner`, and so are the others.

    Attributes:
        followed: (n,) moves so far that were the policy's.
        overruled: (n,) moves so far that it would have made, and the filter made others.
    """

    def __init__(
        self,
        trained: Trained,
        n: int,
        visible_px: float,
        tolerance_px: float,
        belief: Belief | None = None,
        caution: Caution | None = None,
    ):
        super().__init__(n, visible_px, tolerance_px, belief, caution)
        self._trained = trained
        self.followed = np.zeros(n, int)
        self.overruled = np.zeros(n, int)

    def _step(self, at: Indices, goals: Array) -> Array:
        """The policy's moves where they may be trusted, else the filter's."""
        moves, place = super()._step(at, goals), self.belief.likeliest(at)[:, PLACE]
        wanted = self._wanted(at, place, goals)
        far = np.linalg.norm(place - goals, axis=1) > self._trained.reaches_px
        good = far & self._leads_there(at, wanted, place, goals)
        self.followed[at[good]] += 1
        self.overruled[at[far & ~good]] += 1
        return np.where(good[:, None], wanted, moves)

    def _wanted(self, at: Indices, place: Array, goals: Array) -> Array:
        """The moves (m, 2) that shift the disks as the policy wants, if the likeliest is true."""
        shift = self._trained.moves(place - goals) @ self._trained.response.T
        likeliest = self.belief.log_weight[at].argmax(axis=1)
        return limited(self.belief.aims(at, place + shift)[np.arange(len(at)), likeliest], self._caution.largest)

    def _leads_there(self, at: Indices, moves: Array, place: Array, goals: Array) -> Flags:
        """Whether moves (m, 2) bring disks nearer by enough of their length, and keep them on the camera."""
        weights = self.belief.weights[at]
        mean, S = (part[:, :, 0] for part in self.belief.foresee(at, moves[:, None]))

        def expected(values: Array) -> Array:
            return np.asarray((weights * values).sum(axis=1))

        left = np.sqrt(expected(((mean - goals[:, None]) ** 2).sum(axis=-1)))
        shift = np.sqrt(expected(((mean - place[:, None]) ** 2).sum(axis=-1)))
        gained = np.linalg.norm(place - goals, axis=1) - left
        safe = expected(loss_probability(mean, S, self._visible)) <= SAFE
        return np.asarray(safe & (gained >= WORTH * np.maximum(shift, 1.0)))


class Pilot:
    """A policy as what decides the moves of alignments, one after the other: pass it as ``make_aligner``.

    Args:
        policy: as :func:`autoexp.training.learning.train` keeps it.

    Raises:
        PlanError: it was trained for something else.
    """

    def __init__(self, policy: Policy):
        self._trained = Trained(policy)
        self._latest: PolicyAligner | None = None

    def __call__(
        self, n: int, visible_px: float, tolerance_px: float, belief: Belief, caution: Caution
    ) -> PolicyAligner:
        """What decides the next alignment."""
        self._latest = PolicyAligner(self._trained, n, visible_px, tolerance_px, belief, caution)
        return self._latest

    def share(self) -> dict[str, int]:
        """Of the latest alignment: moves that were the policy's, and moves of the filter's in the place of such."""
        latest = self._latest
        followed, overruled = (0, 0) if latest is None else (latest.followed.sum(), latest.overruled.sum())
        return {"moves": int(followed), "overruled": int(overruled)}


def environment_of(policy: Policy) -> DiskSettings:
    """On what a policy was trained.

    Raises:
        PlanError: not on the bright-field disk.
    """
    first, last = policy.layers[0][0], policy.layers[-1][0]
    if first.shape[1] != OBSERVED or last.shape[0] != ACTIONS:
        raise PlanError(
            f"The policy takes {first.shape[1]} numbers and gives {last.shape[0]}; one that centres the disk takes "
            f"{OBSERVED} and gives {ACTIONS}. Train one with: autoexp train"
        )
    try:
        return Training.model_validate(policy.card["training"]).environment
    except KeyError as error:
        raise PlanError(
            "The policy's card does not say on what it was trained. Train one with: autoexp train"
        ) from error
    except ValidationError as error:
        raise PlanError(
            "The policy's card does not say on what it was trained, in a way that can be used:\n"
            f"{explain(error)}\nTrain one with: autoexp train"
        ) from error
