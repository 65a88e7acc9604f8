"""The published deep kernel, alone and joined with the views: what it learns, and what is said without torch."""

from __future__ import annotations

import numpy as np
import pytest

from autoexp.errors import MissingDependencyError
from autoexp.models import deep
from autoexp.models.features import compute_views
from autoexp.patches import cut
from autoexp.plan import PatchSpec


@pytest.fixture(scope="module")
def candidates():
    rng = np.random.default_rng(0)
    image = np.kron(rng.normal(size=(16, 16)), np.ones((8, 8))) + 0.1 * rng.normal(size=(128, 128))
    return cut(image.astype(np.float32), PatchSpec(pixels=8, stride=8))


def test_without_torch_the_message_holds_the_line_that_installs_it(candidates, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(deep, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install torch==[\d.]+ gpytorch"):
        deep.DeepKernel(candidates, compute_views(candidates), 0)


def test_it_learns_what_patches_show(candidates):
    torch = pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
    pytest.importorskip("gpytorch", reason="gpytorch is not installed", exc_type=ImportError)
    from autoexp.models.posterior import Posterior

    state = torch.random.get_rng_state()
    target = candidates.patches(np.arange(len(candidates))).mean(axis=(1, 2)).astype(np.float64)
    target = (target - target.mean()) / target.std()
    rows, rest = np.arange(0, 256, 4), np.setdiff1d(np.arange(256), np.arange(0, 256, 4))
    model = deep.DeepKernel(candidates, compute_views(candidates), seed=1)
    fits = [model.fit(rows, target[rows], np.zeros(len(rows))) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].views.arrays[0], fits[1].views.arrays[0])
    np.testing.assert_array_equal(fits[0].hyper.log, fits[1].hyper.log)
    assert torch.equal(torch.random.get_rng_state(), state), "torch's global generator was used"
    assert torch.get_default_dtype() == torch.float32
    posterior = Posterior(fits[0].views.arrays, fits[0].hyper, rows, target[rows], np.zeros(len(rows)))
    assert np.corrcoef(posterior.mean[rest], target[rest])[0, 1] > 0.6
    assert fits[0].views.names == ("deep",)


@pytest.mark.parametrize("count", [2, 3])
def test_the_fewest_points(candidates, count):
    pytest.importorskip("gpytorch", reason="gpytorch is not installed", exc_type=ImportError)
    model = deep.DeepKernel(candidates, compute_views(candidates), seed=1)
    fit = model.fit(np.arange(count), np.linspace(-1, 1, count), np.zeros(count))
    assert np.isfinite(fit.hyper.log).all()
    assert np.isfinite(fit.views.arrays[0]).all()


def joined(candidates):
    pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
    pytest.importorskip("gpytorch", reason="gpytorch is not installed", exc_type=ImportError)
    return deep.JoinedKernel(candidates, compute_views(candidates), seed=1)


def test_the_network_joins_only_by_evidence_that_nobody_has_trained_on(candidates):
    """Targets that have nothing to do with the image are no reason to let it join; each fit is reproducible."""
    model = joined(candidates)
    rows, nothing = np.arange(0, 256, 4), np.zeros(64)
    chance = []
    for seed in range(6):
        y = np.random.default_rng(seed).standard_normal(64)
        fit = model.fit(rows, y, nothing)
        chance.append("deep" in fit.views.names)
        assert set(fit.density) == {"all descriptions", "with the network", "position alone"}
        assert set(fit.evidence.shares) == set(fit.views.names)
    again = model.fit(rows, y, nothing)
    np.testing.assert_array_equal(again.hyper.log, fit.hyper.log)
    assert again.density == fit.density
    assert sum(chance) <= 2


def test_the_network_joins_what_only_it_can_describe(candidates):
    """Frozen views that are noise, and a target that the patch shows: the network is wanted."""
    model = joined(candidates)
    rng = np.random.default_rng(0)
    noise = tuple(rng.standard_normal((256, 2)).astype(np.float32) / np.sqrt(2) for _ in range(2))
    blind = deep.Views(("chance", "position"), noise)
    model._frozen = deep.FrozenViews(blind)
    target = candidates.patches(np.arange(256)).mean(axis=(1, 2)).astype(np.float64)
    target = (target - target.mean()) / target.std()
    rows = np.arange(0, 256, 3)
    fit = model.fit(rows, target[rows], np.zeros(len(rows)))
    assert fit.views.names == ("chance", "deep", "position")
    assert fit.evidence.preferred == "with the network"
    assert fit.evidence.shares["deep"] > 0.3


def test_with_few_points_the_views_are_alone(candidates):
    fit = joined(candidates).fit(np.arange(10), np.linspace(-1, 1, 10), np.zeros(10))
    assert "deep" not in fit.views.names
