"""A map of what the overview shows, for the eye: an autoencoder puts patches that look alike side by side.

Two numbers for each patch, from which a small network draws the patch again as well as it can (Hinton & Salakhutdinov
2006, "Reducing the dimensionality of data with neural networks"; for autonomous microscopy Roccapriore et al. 2022). It
shows the operator where in the space of structures the experiment has been. For deciding it is of no use: of all
descriptions that were tried it predicted worst.

In plain arrays, so that it needs no torch and does not hold the interpreter while Swift draws.
"""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from autoexp.models.features import sampled_patches
from autoexp.models.tiles import Frame, Map
from autoexp.patches import Candidates

HIDDEN = (64, 32)
LATENT = 2
STEPS = 600
BATCH = 256
RATE = 3e-3
DECAYS = 0.9, 0.999
BREATH_S = 0.002
"""Pause after each step of training: whoever else needs the interpreter, such as a window, comes first."""


class Autoencoder:
    """A perceptron with a waist of two, symmetric, tanh inside; trained by Adam (Kingma & Ba 2015).

    Args:
        inputs: pixels of a patch.
        rng: draws the first weights and the batches.
    """

    def __init__(self, inputs: int, rng: np.random.Generator):
        sizes = (inputs, *HIDDEN, LATENT, *reversed(HIDDEN), inputs)
        self._waist = len(HIDDEN) + 1
        self._rng = rng
        self._weights = [
            (rng.standard_normal((wide, narrow)) * np.sqrt(1 / wide)).astype(np.float32)
            for wide, narrow in pairwise(sizes)
        ]
        self._biases = [np.zeros(size, np.float32) for size in sizes[1:]]

    def train(self, patches: Map, cancelled: threading.Event) -> None:
        """Learn to draw standardised patches (n, p) again."""
        parameters = [*self._weights, *self._biases]
        first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
        for step in range(1, STEPS + 1):
            if cancelled.wait(BREATH_S):
                return
            batch = patches[self._rng.integers(len(patches), size=BATCH)]
            for p, slope, m, v in zip(parameters, self._slopes(batch), first, second, strict=True):
                m += (1 - DECAYS[0]) * (slope - m)
                v += (1 - DECAYS[1]) * (slope**2 - v)
                p -= RATE * (m / (1 - DECAYS[0] ** step)) / (np.sqrt(v / (1 - DECAYS[1] ** step)) + 1e-8)

    def encode(self, patches: Map) -> Map:
        """The two numbers (n, 2) of each patch (n, p)."""
        return self._forward(patches)[self._waist]

    def error(self, patches: Map) -> float:
        """Mean square of what is lost when patches (n, p) are drawn again."""
        return float(np.mean((self._forward(patches)[-1] - patches) ** 2))

    def _forward(self, x: Map) -> list[Map]:
        """Input and output of every layer; waist and output are linear."""
        values, last = [x], len(self._weights)
        for layer, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True), 1):
            x = x @ weight + bias
            values.append(x if layer in (self._waist, last) else np.tanh(x))
            x = values[-1]
        return values

    def _slopes(self, batch: Map) -> list[Map]:
        """Gradients of half the squared error of a batch, by weights and then by biases."""
        values, last = self._forward(batch), len(self._weights)
        back = (values[-1] - batch) / len(batch)
        weights, biases = [], []
        for layer in range(last, 0, -1):
            if layer not in (self._waist, last):
                back = back * (1 - values[layer] ** 2)
            weights.append(values[layer - 1].T @ back)
            biases.append(back.sum(axis=0))
            back = back @ self._weights[layer - 1].T
        return [*reversed(weights), *reversed(biases)]


def latent_map(candidates: Candidates, seed: int = 0, cancelled: threading.Event | None = None) -> Map | None:
    """Where each candidate lies (n, 2) among all structures, 0 to 1; None if cancelled, or if all patches are alike.

    Some seconds for most overviews; the far tenth of a percent on each side is moved to the border.
    """
    cancelled = cancelled or threading.Event()
    frame = Frame.of(candidates)
    patches = sampled_patches(candidates, frame)
    mean, spread = patches.mean(axis=0), float(patches.std())
    if spread < 1e-6:
        return None
    network = Autoencoder(patches.shape[1], np.random.default_rng([seed, 17]))
    network.train((patches - mean) / spread, cancelled)
    parts = []
    for block in frame.patch_blocks(candidates, np.arange(len(candidates))):
        if cancelled.is_set():
            return None
        parts.append(network.encode((block - mean) / spread))
    found = np.concatenate(parts)
    low, high = np.quantile(found, [0.001, 0.999], axis=0)
    return np.asarray(np.clip((found - low) / np.maximum(high - low, 1e-9), 0, 1), dtype=np.float32)


def density(places: Map, side: int) -> npt.NDArray[np.float32]:
    """How many candidates lie where in the map, (side, side), as a logarithm from 0 to 1; empty places are 0."""
    edges = np.linspace(0, 1, side + 1)
    counts = np.log1p(np.histogram2d(places[:, 0], places[:, 1], bins=(edges, edges))[0])
    return np.asarray(counts / max(counts.max(), 1e-9), dtype=np.float32)
