"""The map of structures: that it learns, that alike patches lie side by side, and that it can be cut short."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from scipy import optimize

from autoexp.models.latent import Autoencoder, density, latent_map
from autoexp.patches import cut
from autoexp.plan import PatchSpec


@pytest.fixture(scope="module")
def stripes():
    """Left half horizontal stripes, right half vertical ones, and noise."""
    y, x = np.mgrid[:128, :128]
    image = np.where(x < 64, np.sin(y * np.pi / 4), np.sin(x * np.pi / 4))
    noise = 0.1 * np.random.default_rng(0).standard_normal((128, 128))
    return cut((image + noise).astype(np.float32), PatchSpec(pixels=8, stride=8))


def test_gradients_are_right():
    rng = np.random.default_rng(1)
    network = Autoencoder(12, rng)
    network._weights = [w.astype(np.float64) for w in network._weights]
    network._biases = [b.astype(np.float64) for b in network._biases]
    batch = rng.standard_normal((5, 12))

    def half_error(flat):
        network._weights[2][:] = flat.reshape(network._weights[2].shape)
        return 0.5 * float(((network._forward(batch)[-1] - batch) ** 2).sum()) / len(batch)

    def slope(flat):
        half_error(flat)
        return network._slopes(batch)[2].ravel()

    assert optimize.check_grad(half_error, slope, network._weights[2].ravel().copy()) < 1e-5


def test_training_loses_less_than_the_mean_does():
    rng = np.random.default_rng(2)
    angle = rng.uniform(0, 2 * np.pi, 600)[:, None]
    patches = np.sin(np.linspace(0, 6, 32)[None] + angle).astype(np.float32)
    network = Autoencoder(32, rng)
    network.train(patches, threading.Event())
    assert network.error(patches) < 0.1 * patches.var()


def test_alike_patches_lie_side_by_side(stripes):
    places = latent_map(stripes)
    assert places.shape == (256, 2)
    assert places.min() >= 0
    assert places.max() <= 1
    kind = stripes.positions[:, 1] < 0.5
    away = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(256)
    assert (kind[away.argmin(axis=1)] == kind).mean() > 0.9
    np.testing.assert_array_equal(places, latent_map(stripes))


def test_nothing_to_see_and_cut_short(stripes):
    assert latent_map(cut(np.full((64, 64), 2.0, np.float32), PatchSpec(pixels=8, stride=8))) is None
    cancelled = threading.Event()
    cancelled.set()
    assert latent_map(stripes, cancelled=cancelled) is None


def test_one_candidate():
    places = latent_map(cut(np.arange(64, dtype=np.float32).reshape(8, 8), PatchSpec(pixels=8, stride=8)))
    assert places is None or places.shape == (1, 2)


def test_density_counts_where_candidates_are():
    seen = density(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]], np.float32), 4)
    assert seen[0, 0] == 1.0
    assert 0 < seen[3, 3] < 1
    assert np.count_nonzero(seen) == 2
