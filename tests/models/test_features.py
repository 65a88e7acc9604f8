"""Views of candidates: the same however the overview is tiled, finite whatever it holds, and small in memory."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from autoexp.models import features
from autoexp.models.descriptors import derivatives, windows
from autoexp.models.features import compute_views, standardised, views_of
from autoexp.models.tiles import Frame, block_mean
from autoexp.patches import cut
from autoexp.plan import PatchSpec, Region


def textured(shape, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    return (100 + 20 * np.sin(y / 7) * np.cos(x / 11) + rng.normal(0, 2, shape)).astype(dtype)


def same(a, b, atol=2e-4):
    """Whether two sets of views are the same to the model, which only sees distances."""
    for one, other in zip(a.arrays, b.arrays, strict=True):
        rows = np.linspace(0, len(one) - 1, 40).astype(int)
        gaps = [np.linalg.norm(v[rows, None] - v[None, rows], axis=-1) for v in (one, other)]
        np.testing.assert_allclose(*gaps, atol=atol)


@pytest.mark.parametrize("spec", [PatchSpec(), PatchSpec(pixels=33, stride=7), PatchSpec(pixels=5, stride=3)])
def test_each_view_is_standardised_as_a_whole(spec):
    candidates = cut(textured((160, 224)), spec)
    views = compute_views(candidates)
    assert views.names == ("derivatives", "patch", "random", "position")
    assert views.structured
    for view in views.arrays:
        assert view.shape[0] == len(candidates)
        assert view.dtype == np.float32
        np.testing.assert_allclose(view.mean(0), 0, atol=1e-4)
        assert view.var(0).sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((300, 200), PatchSpec(pixels=16, stride=5)),
        ((300, 200), PatchSpec(pixels=48, stride=9, border="reflect")),
        ((70, 300), PatchSpec(pixels=8, stride=3, border="reflect")),
    ],
)
def test_the_size_of_the_tiles_does_not_matter(shape, spec, monkeypatch):
    candidates = cut(textured(shape), spec)
    whole = compute_views(candidates)
    monkeypatch.setattr("autoexp.models.tiles.TILE_PX", 64)
    same(whole, compute_views(candidates))


def test_an_overview_on_disk_is_seen_as_one_in_memory(tmp_path):
    image = textured((256, 192))
    np.save(tmp_path / "overview.npy", image)
    mapped = np.load(tmp_path / "overview.npy", mmap_mode="r")
    for a, b in zip(
        compute_views(cut(image, PatchSpec())).arrays, compute_views(cut(mapped, PatchSpec())).arrays, strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_large_overview_on_disk_takes_little_memory(tmp_path):
    """A 4096 x 4096 overview (64 MB) at the stride of the largest one: far less than the image is held."""
    image = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.float32, (4096, 4096))
    for row in range(0, 4096, 512):
        image[row : row + 512] = textured((512, 4096), seed=row)
    del image
    mapped = np.load(tmp_path / "large.npy", mmap_mode="r")
    candidates = cut(mapped, PatchSpec(pixels=32, stride=32))
    gc.collect()
    tracemalloc.start()
    views = compute_views(candidates)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(views) == 16384
    assert peak < 48e6


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_brightness_and_contrast_do_not_matter(scale, offset):
    image = textured((96, 96)).astype(np.float64)
    spec = PatchSpec(pixels=16, stride=8)
    same(compute_views(cut(image, spec)), compute_views(cut((image + offset) * scale, spec)), atol=2e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_every_real_type_will_do(dtype):
    image = np.round(textured((96, 96)))
    same(compute_views(cut(image, PatchSpec())), compute_views(cut(image.astype(dtype), PatchSpec())), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0, 1e6])
def test_a_constant_overview_stays_finite_and_says_that_it_shows_nothing(value):
    views = compute_views(cut(np.full((64, 80), value, np.float32), PatchSpec(pixels=16, stride=4)))
    assert all(np.isfinite(view).all() for view in views.arrays)
    assert not views.structured
    assert views.arrays[-1].any()


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((16, 16), PatchSpec(pixels=16, stride=8)),
        ((1, 1), PatchSpec(border="reflect")),
        ((3, 200), PatchSpec(border="reflect")),
    ],
)
def test_the_smallest_overviews(shape, spec):
    views = compute_views(cut(textured(shape), spec))
    assert all(np.isfinite(view).all() for view in views.arrays)


def test_windows_are_the_patches():
    candidates = cut(textured((90, 70)), PatchSpec(pixels=8, stride=3, border="reflect"))
    frame = Frame.of(candidates)
    for indices, tile, centres in frame.tiles(16):
        expected = frame.patches(candidates, indices).reshape(-1, 8, 8)
        np.testing.assert_allclose(windows(tile, centres, 8), expected, atol=1e-5)


def test_derivatives_of_a_slope():
    y, x = np.mgrid[:64, :64].astype(np.float32)
    found = derivatives(3 * y + 4 * x, np.array([[32.0, 30.0]]), 16)[0].reshape(-1, 5)
    np.testing.assert_allclose(found[0, 0], 3 * 31.5 + 4 * 29.5, rtol=1e-4)
    np.testing.assert_allclose(found[:2, 1], [5, 10], rtol=1e-3)
    np.testing.assert_allclose(found[:2, 2:4], 0, atol=1e-2)


def test_block_means_leave_out_what_fills_no_block():
    image = np.arange(35, dtype=np.float32).reshape(5, 7)
    np.testing.assert_allclose(block_mean(image, 2), [[4, 6, 8], [18, 20, 22]])
    np.testing.assert_array_equal(block_mean(image, 1), image)


def test_views_are_computed_once_and_forgotten_with_the_candidates(monkeypatch):
    calls = []
    compute = features.compute_views
    monkeypatch.setattr(features, "compute_views", lambda c: calls.append(c) or compute(c))
    candidates = cut(textured((64, 64)), PatchSpec())
    region = Region(id="a", kind="exclude", top=0, left=0, bottom=0.5, right=0.5)
    assert views_of(candidates) is views_of(candidates.restricted([region]))
    assert len(calls) == 1
    known = len(features._known)
    calls.clear()
    del candidates
    gc.collect()
    assert len(features._known) == known - 1


def test_standardising_nothing():
    assert not standardised(np.full((5, 3), 2.0)).any()
