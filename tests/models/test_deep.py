"""The published deep kernel: a smoke test with torch, and what is said without it."""

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
