"""What is believed of how two controls move the disk, for many instruments at once.

A move u of the controls shifts the disk by a response J of unknown rotation, handedness, scale, anisotropy and shear,
by more or less of it over the field, and not all at once; besides, the disk drifts:

    s = (1 + g·p/H) J u,    p' = p + (1 - λ) s + l + v,    l' = λ s,    z = p + noise

with p the position, H half the camera, g the slope of the gain, λ the lag, l what is still to come of the move before,
v the drift, z what is measured. All of (J, v, g, λ, p, l) is followed by an extended Kalman filter (Kalman 1960;
Jazwinski 1970, chapter 8). Lengths are in pixels of a camera that is 255 pixels wide, from its middle.

Were J a similarity, one move would tell its scale and rotation, and leave open only whether the axes are mirrored; how
clean or messy the instrument is nobody knows either. So there is one filter for each handedness and each
:class:`Character`, weighted by how well it foresaw what came (sums of Gaussians: Alspach & Sorenson 1972; multiple
models: Magill 1965).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.intp]

J, DRIFT, SLOPE, LAG, PLACE, LATE = slice(0, 4), slice(4, 6), slice(6, 8), 8, slice(9, 11), slice(11, 13)
SIZE = 13
ROUNDING = 1 / 12
"""Variance of what rounding to whole pixels takes away."""
MIRROR = np.diag([1.0, -1.0])
QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
LEAST = -12.0
"""No hypothesis is given up: its weight, as a logarithm, stays within this of the best one's."""


@dataclass(frozen=True)
class Character:
    """One kind of instrument: how far it may be from an ideal one, as standard deviations.

    Attributes:
        distortion: of each element of J about a similarity, relative to its scale.
        action: of a shift, relative to its length.
        read_px: of a measured position per axis, rounding aside.
        drift_px: of the drift per axis, pixels a move.
        slope: of the gain's change from the middle to the border, per axis.
        lag: mean and standard deviation of the part of a move that comes one move late.
        wander: by which J changes from one move to the next, relative to its scale.
    """

    distortion: float
    action: float
    read_px: float
    drift_px: float
    slope: float
    lag: tuple[float, float]
    wander: float = 0.002


QUIET = Character(0.02, 0.002, 0.05, 0.02, 0.01, (0.0, 0.005))
MESSY = Character(0.15, 0.02, 0.4, 0.12, 0.1, (0.07, 0.045))
WILD = Character(0.2, 0.08, 1.0, 0.4, 0.2, (0.14, 0.09))


class Belief:
    """What is believed of n instruments.

    Args:
        n: how many.
        half_px: half the width of their cameras, pixels.
        rounded: whether measured positions are whole pixels.
        characters: of which kinds they may be.

    Attributes:
        mean: (n, k, 13) of the k hypotheses: J row by row, drift, slope, lag, position, what is late.
        covariance: (n, k, 13, 13).
        log_weight: (n, k), not normalised.
        known: (n,) whether J is believed to be known.
        ever: (n,) whether it was known before.
    """

    def __init__(
        self,
        n: int,
        half_px: float,
        rounded: bool = True,
        characters: tuple[Character, ...] = (QUIET, MESSY, WILD),
    ):
        self._half = half_px
        kinds = [c for _ in range(2) for c in characters]
        self._mirrored = np.repeat([False, True], len(characters))
        self._distortion, self._action, self._drift, self._slope, self._wander = (
            np.array([getattr(c, name) for c in kinds])
            for name in ("distortion", "action", "drift_px", "slope", "wander")
        )
        self._lag = np.array([c.lag for c in kinds])
        self._read = np.array([c.read_px**2 + (ROUNDING if rounded else 0.0) for c in kinds])
        k = len(kinds)
        self.mean = np.zeros((n, k, SIZE))
        self.covariance = np.zeros((n, k, SIZE, SIZE))
        self.log_weight = np.zeros((n, k))
        self.known = np.zeros(n, bool)
        self.ever = np.zeros(n, bool)

    @property
    def weights(self) -> Array:
        """Weights (n, k) of the hypotheses, in all 1 for each instrument."""
        weights = np.exp(self.log_weight - self.log_weight.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    @property
    def handedness(self) -> Array:
        """Probability (n,) that the axes are mirrored."""
        return np.asarray(self.weights[:, self._mirrored].sum(axis=1))

    def likeliest(self, at: Indices) -> Array:
        """Mean (m, 13) of the most probable hypothesis."""
        return np.asarray(self.mean[at, self.log_weight[at].argmax(axis=1)])

    def response(self, at: Indices) -> Array:
        """J (m, 2, 2) of the most probable hypothesis, pixels a unit of the controls."""
        return self.likeliest(at)[:, J].reshape(-1, 2, 2)

    def place(self, at: Indices, z: Array) -> None:
        """Another alignment begins: disks are at z (m, 2), and what was late has come."""
        self.mean[at, :, PLACE] = z[:, None]
        self.mean[at, :, LATE] = 0.0
        self.covariance[at, :, PLACE.start :, :] = 0.0
        self.covariance[at, :, :, PLACE.start :] = 0.0
        for axis in range(PLACE.start, PLACE.stop):
            self.covariance[at, :, axis, axis] = self._read

    def begin(self, at: Indices, before: Array, moves: Array, after: Array) -> None:
        """Start anew from one move (m, 2) that brought the disk from ``before`` to ``after``.

        What was believed earlier, if anything was, still tells handedness and shape: as much of it is kept as turning
        and scaling leaves of it. A unit of the controls is expected to shift the disk, whichever way, by about a pixel,
        or by as much as earlier if that was more; so a short shift, of which most may be noise, tells little.
        """
        ever = self.ever[at]
        base = np.where(ever[:, None, None], self.response(at), np.eye(2))
        was_mirrored = ever & (np.linalg.det(base) < 0)
        scale2 = np.maximum(np.abs(np.linalg.det(base)), 1.0)[:, None, None]
        kinds = len(self._mirrored) // 2
        weights = self.weights[at]
        character = np.logaddexp(np.log(weights[:, :kinds] + weights[:, kinds:] + 1e-9), np.log(0.03))
        for k in range(2 * kinds):
            mirrored = bool(self._mirrored[k])
            B = np.where((was_mirrored != mirrored)[:, None, None], base @ MIRROR, base)
            Q = _turn(np.einsum("mij,mj->mi", B, moves), after - before)
            lag, lag_std = self._lag[k]
            response = Q @ B / (1 - lag)
            scale = np.sqrt(np.abs(np.linalg.det(response)))[:, None]
            mean = np.zeros((len(at), SIZE))
            mean[:, J], mean[:, LAG], mean[:, PLACE] = response.reshape(-1, 4), lag, before
            variance = np.zeros((len(at), SIZE))
            variance[:, J] = (self._distortion[k] * scale) ** 2
            variance[:, DRIFT], variance[:, SLOPE] = self._drift[k] ** 2, self._slope[k] ** 2
            variance[:, LAG], variance[:, PLACE] = lag_std**2, self._read[k]
            self.mean[at, k] = mean
            covariance = variance[:, :, None] * np.eye(SIZE)
            # turned by anything and scaled by much
            for similar in (response, QUARTER @ response):
                v = similar.reshape(-1, 4) / np.maximum(scale, 1e-9)
                covariance[:, J, J] += scale2 * v[:, :, None] * v[:, None]
            self.covariance[at, k] = covariance
            # axes are seldom mirrored, and if they were, a move would hardly go on in its old direction
            straight = Q[:, 0, 0] > 0.98 * np.hypot(Q[:, 0, 0], Q[:, 1, 0])
            alike = np.where(was_mirrored != mirrored, np.log(0.1), np.where(straight, np.log(5.0), 0.0))
            self.log_weight[at, k] = np.where(ever, alike + character[:, k % kinds], 0.0)
        self.known[at] = self.ever[at] = True
        expectation = self.mean[at]
        expectation[..., J] = 0.0
        self.predict(at, moves)
        self.mean[at] = expectation  # that J fits the move is where to linearise; the move is to count only once
        kept = self.log_weight[at]
        self.update(at, after)
        self.log_weight[at] = kept  # each was made to fit this move, so that it tells nothing

    def foresee(self, at: Indices, moves: Array) -> tuple[Array, Array]:
        """Where some moves (m, c, 2) would bring the disks: mean (m, k, c, 2) and covariance (m, k, c, 2, 2)."""
        mean = self.mean[at]
        place, F, shift, _ = self._step(mean, moves)
        m, k, c = place.shape[:3]
        FP = (F.reshape(m, k, 2 * c, SIZE) @ self.covariance[at]).reshape(F.shape)
        at_once = (1 - mean[..., LAG])[..., None] ** 2 * self._noise(shift)
        return place, FP @ F.swapaxes(-1, -2) + at_once[..., None, None] * np.eye(2)

    def predict(self, at: Indices, moves: Array) -> None:
        """Take in that a move (m, 2) was made."""
        mean = self.mean[at]
        place, F_place, shift, F_shift = (part[:, :, 0] for part in self._step(mean, moves[:, None]))
        lag = mean[..., LAG, None]
        F = np.broadcast_to(np.eye(SIZE), (*mean.shape, SIZE)).copy()
        F[:, :, PLACE], F[:, :, LATE] = F_place, lag[..., None] * F_shift
        F[:, :, LATE, LAG] += shift
        mean = mean.copy()
        mean[..., PLACE], mean[..., LATE] = place, lag * shift
        covariance = F @ self.covariance[at] @ F.swapaxes(-1, -2)
        parts = np.concatenate([1 - lag, lag], axis=-1)  # of the action noise: what comes at once, what comes late
        noise = self._noise(shift[:, :, None])[..., None] * parts[..., None] * parts[..., None, :]
        for axis in range(2):
            both = slice(PLACE.start + axis, SIZE, 2)
            covariance[..., both, both] += noise
        scale2 = (mean[..., J] ** 2).sum(axis=-1) / 2
        for i in range(J.start, J.stop):
            covariance[..., i, i] += self._wander**2 * scale2
        self.mean[at], self.covariance[at] = mean, covariance

    def update(self, at: Indices, z: Array) -> Array:
        """Take in where disks were seen (m, 2); returns the logarithm (m,) of the density that this was given."""
        wrong, S, inverse = self._innovation(at, z)
        P = self.covariance[at]
        gain = P[..., PLACE] @ inverse
        self.mean[at] += np.einsum("mkij,mkj->mki", gain, wrong)
        P = P - gain @ P[..., PLACE, :]
        self.covariance[at] = (P + P.swapaxes(-1, -2)) / 2
        return self._weigh(at, _normal(wrong, S, inverse))

    def miss(self, at: Indices, moves: Array, visible: float) -> Array:
        """Take in that moves (m, 2) were made, and that no disk is seen any more.

        Args:
            visible: farther than this from the middle, along either axis, a disk is not seen.

        Returns:
            the logarithm (m,) of the probability that this was given.
        """
        mean, S = self.foresee(at, moves[:, None])
        given = self._weigh(at, np.log(np.clip(loss_probability(mean[:, :, 0], S[:, :, 0], visible), 1e-12, 1.0)))
        self.predict(at, moves)
        return given

    def density(self, at: Indices, z: Array) -> Array:
        """Logarithm (m,) of the density that the belief gives to a position (m, 2)."""
        return np.asarray(special.logsumexp(np.log(self.weights[at]) + _normal(*self._innovation(at, z)), axis=1))

    def _innovation(self, at: Indices, z: Array) -> tuple[Array, Floats, Floats]:
        """By how much positions (m, 2) are off what was expected, (m, k, 2); its covariance, and the inverse."""
        S = self.covariance[at][..., PLACE, PLACE] + self._read[:, None, None] * np.eye(2)
        return z[:, None] - self.mean[at, :, PLACE], S, np.linalg.inv(S)

    def _weigh(self, at: Indices, density: Array) -> Array:
        """Weigh hypotheses by the logarithm (m, k) of what each gave to what came; returns that of all (m,)."""
        joint = np.log(self.weights[at]) + density
        self.log_weight[at] = np.maximum(joint - joint.max(axis=1, keepdims=True), LEAST)
        return np.asarray(special.logsumexp(joint, axis=1))

    def aims(self, at: Indices, goals: Array) -> Array:
        """For each hypothesis the move (m, k, 2) that leaves the least squared distance to the goal, as expected.

        What J is not known for shortens the move.
        """
        mean, P = self.mean[at], self.covariance[at]
        gain = 1 + np.einsum("mki,mki->mk", mean[..., SLOPE], mean[..., PLACE]) / self._half
        factor = np.maximum(1 - mean[..., LAG], 0.2) * np.maximum(gain, 0.2)
        response = mean[..., J].reshape(*factor.shape, 2, 2) * factor[..., None, None]
        away = goals[:, None] - mean[..., PLACE] - mean[..., LATE] - mean[..., DRIFT]
        spread = (P[..., 0:2, 0:2] + P[..., 2:4, 2:4]) * factor[..., None, None] ** 2
        normal = response.swapaxes(-1, -2) @ response + spread
        return np.asarray(np.linalg.solve(normal, response.swapaxes(-1, -2) @ away[..., None])[..., 0])

    def _step(self, mean: Array, moves: Array) -> tuple[Array, Array, Array, Array]:
        """One step of the dynamics under moves (m, c, 2).

        Returns:
            next position (m, k, c, 2) and its derivative by the state (m, k, c, 2, 13); the whole shift that the moves
            cause, (m, k, c, 2), and its derivative.
        """
        m, k = mean.shape[:2]
        place, slope, lag = mean[..., PLACE] / self._half, mean[..., SLOPE], mean[..., LAG]
        gain = (1 + np.einsum("mki,mki->mk", slope, place))[..., None, None]
        asked = np.einsum("mkij,mcj->mkci", mean[..., J].reshape(m, k, 2, 2), moves)
        shift = gain * asked
        F_shift = np.zeros((*asked.shape, SIZE))
        F_shift[..., 0, 0:2] = F_shift[..., 1, 2:4] = gain * moves[:, None]
        F_shift[..., SLOPE] = asked[..., None] * place[:, :, None, None]
        F_shift[..., PLACE] = asked[..., None] * slope[:, :, None, None] / self._half
        now = (1 - lag)[..., None, None]
        position = mean[..., None, PLACE] + now * shift + (mean[..., LATE] + mean[..., DRIFT])[:, :, None]
        F = now[..., None] * F_shift
        F[..., LAG] -= shift
        for part in (PLACE, DRIFT, LATE):
            F[..., part] += np.eye(2)
        return position, F, shift, F_shift

    def _noise(self, shift: Array) -> Array:
        """Variance (m, k, c) of shifts (m, k, c, 2) along each axis, from the action noise."""
        return np.asarray(self._action[:, None] ** 2 * (shift**2).sum(axis=-1))


def loss_probability(mean: Array, covariance: Array, visible: float) -> Array:
    """Probability (...) that a disk expected at ``mean`` (..., 2) is off the camera, on any side."""
    std = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    return np.asarray(special.ndtr((np.abs(mean) - visible) / std).sum(axis=-1))


def _normal(deviation: Array, covariance: Floats, inverse: Floats) -> Array:
    """Logarithm of normal densities of deviations (..., 2)."""
    squared = np.einsum("...i,...ij,...j->...", deviation, inverse, deviation)
    return np.asarray(-0.5 * (squared + np.log(np.linalg.det(covariance))) - np.log(2 * np.pi))


def _turn(a: Array, b: Array) -> Array:
    """The rotations with a scale (m, 2, 2) that turn vectors a (m, 2) into b (m, 2)."""
    squared = np.maximum((a * a).sum(axis=-1), 1e-12)
    real = (a * b).sum(axis=-1) / squared
    imaginary = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / squared
    return np.stack([np.stack([real, -imaginary], axis=-1), np.stack([imaginary, real], axis=-1)], axis=-2)
