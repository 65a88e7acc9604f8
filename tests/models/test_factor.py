"""The large factor of the posterior: in blocks or at once, on the processor or a torch device, and when a GPU fails."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from autoexp.models import factor as module
from autoexp.models import posterior as posterior_module
from autoexp.models.factor import HostFactor, TorchFactor, factor, has_gpu
from autoexp.models.kernel import Hyperparameters, prior_draw
from autoexp.models.posterior import Posterior


def learned(problem, start=20, dtype=np.float64):
    """A posterior that was conditioned on some points, has learned the others, and has believed two for a while."""
    rows, y, noise = problem.rows, problem.y, problem.noise
    posterior = Posterior(problem.views, problem.hyper, rows[:start], y[:start], noise[:start], dtype)
    for i in range(start, len(rows)):
        posterior.observe(int(rows[i]), y[i], noise[i])
    with posterior.believing([1, 2], 0.02) as believed:
        assert believed.variance[1] < posterior.variance[3]
    return posterior


def assert_equal(a, b, tolerance=1e-10):
    np.testing.assert_allclose(a.mean, b.mean, atol=tolerance)
    np.testing.assert_allclose(a.variance, b.variance, atol=tolerance)
    columns = np.arange(0, 200, 9)
    drawn = [posterior.draw(columns, np.random.default_rng(0)) for posterior in (a, b)]
    np.testing.assert_allclose(drawn[0], drawn[1], atol=10 * tolerance)


def on_torch(monkeypatch, kind=TorchFactor):
    """Posteriors made from now on keep their factor on a torch device: the processor, there being no GPU."""
    monkeypatch.setattr(posterior_module, "factor", lambda views, hyper, n, dtype: kind(views, hyper, n, dtype, "cpu"))


@pytest.fixture
def in_small_blocks(monkeypatch):
    monkeypatch.setattr(
        module, "_blocks", lambda total, n, values: (slice(i, min(i + 7, total)) for i in range(0, total, 7))
    )


def test_candidates_in_blocks_equal_candidates_at_once(problem, request):
    at_once = learned(problem)
    request.getfixturevalue("in_small_blocks")
    assert_equal(learned(problem), at_once, 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 3e-5)])
def test_a_torch_device_gives_the_same_posterior(problem, monkeypatch, dtype, tolerance):
    pytest.importorskip("torch")
    expected = learned(problem)
    on_torch(monkeypatch)
    assert_equal(learned(problem, dtype=dtype), expected, tolerance)


def test_a_torch_device_in_blocks_and_with_more_points_than_there_was_room_for(problem, monkeypatch, in_small_blocks):
    pytest.importorskip("torch")
    expected = learned(problem, start=1)
    on_torch(monkeypatch)
    monkeypatch.setattr(module, "room_for", lambda count: count)
    assert_equal(learned(problem, start=1), expected)


@pytest.mark.parametrize("after", [0, 1, 4, 11])
def test_when_the_gpu_fails_the_processor_goes_on(problem, monkeypatch, caplog, after):
    """Whenever it fails: while conditioning, while learning, and while something is believed."""
    torch = pytest.importorskip("torch")

    class Failing(TorchFactor):
        calls = 0

        def _kernel(self, rows, part):
            Failing.calls += 1
            if Failing.calls > after:
                raise torch.OutOfMemoryError("the device is full")
            return super()._kernel(rows, part)

    expected = learned(problem)
    on_torch(monkeypatch, Failing)
    assert_equal(learned(problem), expected)
    assert "The GPU failed; the processor goes on: the device is full" in caplog.text


def test_when_the_gpu_has_no_room_to_grow_the_processor_goes_on(problem, monkeypatch, caplog):
    torch = pytest.importorskip("torch")

    class Small(TorchFactor):
        def _empty(self, rows):
            if rows > 21:
                raise torch.OutOfMemoryError("the device is full")
            return super()._empty(rows)

    expected = learned(problem)
    on_torch(monkeypatch, Small)
    monkeypatch.setattr(module, "room_for", lambda count: count)
    assert_equal(learned(problem), expected)
    assert "the processor goes on: the device is full" in caplog.text


def test_an_error_of_the_processor_is_not_hidden(problem, monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(HostFactor, "condition", broken)
    with pytest.raises(RuntimeError, match="broken"):
        learned(problem)


def test_without_a_driver_torch_is_not_asked(monkeypatch):
    def none(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", none)
    has_gpu.cache_clear()
    try:
        assert has_gpu() is False
    finally:
        has_gpu.cache_clear()


def test_few_candidates_stay_on_the_processor_and_so_do_many_where_the_gpu_has_no_room(problem, monkeypatch):
    asked = []

    class Full:
        def __init__(self, views, *_):
            asked.append(len(views[0]))
            raise MemoryError("full")

    monkeypatch.setattr(module, "has_gpu", lambda: True)
    monkeypatch.setattr(module, "TorchFactor", Full)
    assert isinstance(factor(problem.views, problem.hyper, 5, np.float32), HostFactor)
    many = tuple(np.repeat(view, 250, axis=0) for view in problem.views)
    assert isinstance(factor(many, problem.hyper, 5, np.float32), HostFactor)
    assert asked == [50_000]


def test_on_a_gpu(problem, monkeypatch):
    """Where there is one: the same posterior."""
    if not has_gpu():
        pytest.skip("there is no GPU")
    expected = learned(problem)
    monkeypatch.setattr(module, "GPU_FROM", 0)
    assert isinstance(factor(problem.views, problem.hyper, 5, np.float64), TorchFactor)
    assert_equal(learned(problem), expected, 1e-9)


@pytest.mark.parametrize("device", ["host", "torch"])
def test_single_precision_is_as_good_as_double_after_a_thousand_points(device, monkeypatch):
    """Smooth targets with little noise, the first third conditioned and the others learned one by one."""
    if device == "torch":
        pytest.importorskip("torch")
        on_torch(monkeypatch)
    hyper = Hyperparameters(np.array([1.0, 0.5]), np.array([20.0, 20.0]), 5e-4)
    rng = np.random.default_rng(0)
    views = tuple(v / np.sqrt(v.var(0).sum()) for v in (rng.uniform(0, 1, (1500, d)) for d in (2, 3)))
    truth = prior_draw(views, hyper, rng)
    rows = rng.permutation(1500)[:1200]
    y, noise = truth[rows] + 0.02 * rng.standard_normal(1200), np.full(1200, 1e-4)
    made = {}
    for dtype in (np.float32, np.float64):
        made[dtype] = Posterior(views, hyper, rows[:400], y[:400], noise[:400], dtype, more=800)
        for i in range(400, 1200):
            made[dtype].observe(int(rows[i]), y[i], noise[i])
    single, double = made[np.float32], made[np.float64]
    std = np.sqrt(double.variance)
    assert np.sqrt(np.mean(((single.mean - double.mean) / std) ** 2)) < 0.07
    assert np.abs(np.sqrt(single.variance) / std - 1).mean() < 0.01
