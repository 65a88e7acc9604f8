"""What is believed of how two controls move the disk: a sum of two Gaussians, one for each handedness.

A move u of the controls shifts the disk by d = J u + v, where the 2 x 2 response J is unknown in rotation, handedness,
scale, anisotropy and shear, and v is drift. Were J known to be a similarity, one move that shows d would tell its scale
and rotation, and leave open only whether the axes are mirrored. So after the first move there are two hypotheses,

    J± = |d| / |u| R(±), J± u = d,   R(+) a rotation, R(-) a reflection,

each with the covariance that anisotropy and shear give to it, and each followed by a Kalman filter on (J, v) (Kalman
1960; sums of Gaussians: Alspach & Sorenson 1972). Their weights follow from how well they foresaw what came.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DISTORTION = 0.25
"""Standard deviation of each element of J about a similarity, relative to its scale."""
DRIFT_PX = 0.2
ROUNDING = 1 / 12


@dataclass(frozen=True)
class Noise:
    """How well a shift is known.

    Attributes:
        read_px: standard deviation of a measured position per axis, rounding aside.
        action: standard deviation of a shift, relative to its length: noise of the deflectors, gain that varies over
            the field, lag.
        rounded: whether positions are whole pixels.
    """

    read_px: float = 0.35
    action: float = 0.05
    rounded: bool = True

    def covariance(self, shift: Array) -> Array:
        """Covariance (2, 2) of a measured difference of two positions."""
        read = 2 * (self.read_px**2 + (ROUNDING if self.rounded else 0.0))
        return np.asarray((read + (self.action**2) * float(shift @ shift)) * np.eye(2))


@dataclass
class Hypothesis:
    """One Gaussian over (J row by row, drift).

    Attributes:
        mean: (6,).
        covariance: (6, 6).
        log_weight: logarithm of its weight, not normalised.
    """

    mean: Array
    covariance: Array
    log_weight: float = 0.0

    @property
    def response(self) -> Array:
        """Expected J (2, 2), pixels a unit of the controls."""
        return self.mean[:4].reshape(2, 2)

    @property
    def drift(self) -> Array:
        """Expected drift (2,), pixels a move."""
        return self.mean[4:]

    def foresee(self, move: Array, noise: Noise) -> tuple[Array, Array]:
        """Mean (2,) and covariance (2, 2) of the measured shift that a move will cause."""
        H = _design(move)
        shift = H @ self.mean
        return shift, H @ self.covariance @ H.T + noise.covariance(shift)

    def learn(self, move: Array, shift: Array, noise: Noise) -> float:
        """Take in what a move has caused; returns how many standard deviations off it was."""
        H = _design(move)
        expected, S = self.foresee(move, noise)
        wrong = shift - expected
        gain = np.linalg.solve(S, H @ self.covariance).T
        self.mean = self.mean + gain @ wrong
        self.covariance = self.covariance - gain @ H @ self.covariance
        self.covariance = (self.covariance + self.covariance.T) / 2
        squared = float(wrong @ np.linalg.solve(S, wrong))
        self.log_weight -= 0.5 * (squared + float(np.log(np.linalg.det(S))))
        return float(np.sqrt(squared))


class Belief:
    """Everything that is believed of the response; empty before the first move that was seen.

    Args:
        noise: how well shifts are known.
    """

    def __init__(self, noise: Noise | None = None):
        self.noise = noise or Noise()
        self.hypotheses: list[Hypothesis] = []

    @property
    def known(self) -> bool:
        """Whether anything is believed yet."""
        return bool(self.hypotheses)

    @property
    def weights(self) -> Array:
        """Weights of the hypotheses, in all 1."""
        logs = np.array([h.log_weight for h in self.hypotheses])
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum())

    def begin(self, move: Array, shift: Array) -> None:
        """Start anew from one move and the shift that it caused, as far as it was a similarity that caused it."""
        self.hypotheses = [_similarity(move, shift, mirrored, self.noise) for mirrored in (False, True)]

    def learn(self, move: Array, shift: Array) -> float:
        """Take in a move and the shift that it caused.

        Returns:
            how many standard deviations off the most probable hypothesis was.
        """
        if not self.known:
            self.begin(move, shift)
            return 0.0
        before = self.weights
        off = [h.learn(move, shift, self.noise) for h in self.hypotheses]
        surprise = off[int(before.argmax())] if before.max() > 0.9 else min(off)
        weights = self.weights
        if len(self.hypotheses) > 1 and weights.min() < 1e-4:
            self.hypotheses = [self.hypotheses[int(weights.argmax())]]
        return surprise

    def loosen(self, factor: float) -> None:
        """Believe what is known of J with a covariance that is so many times larger, as before it may have changed."""
        for h in self.hypotheses:
            h.covariance = h.covariance * factor


def _design(move: Array) -> Array:
    """H (2, 6) with H (J, v) = J u + v."""
    H = np.zeros((2, 6))
    H[0, :2] = H[1, 2:4] = move
    H[0, 4] = H[1, 5] = 1.0
    return H


def _similarity(move: Array, shift: Array, mirrored: bool, noise: Noise) -> Hypothesis:
    """The similarity of one handedness that turns a move into a shift, with what may be distorted about it."""
    onto = np.array([[shift[0], -shift[1]], [shift[1], shift[0]]])
    if mirrored:
        onto = onto @ np.diag([1.0, -1.0])
    J = onto @ np.array([[move[0], move[1]], [-move[1], move[0]]]) / float(move @ move)
    scale = float(np.linalg.norm(shift) / np.linalg.norm(move))
    spread = np.concatenate([np.full(4, (DISTORTION * scale) ** 2), np.full(2, DRIFT_PX**2)])
    found = Hypothesis(np.concatenate([J.ravel(), np.zeros(2)]), np.diag(spread))
    found.learn(move, shift, noise)
    found.log_weight = 0.0
    return found
