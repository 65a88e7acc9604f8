"""From overview to candidates: borders, positions, regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexp.errors import PlanError
from autoexp.patches import cut
from autoexp.plan import OverviewSpec, PatchSpec, Plan, Region

sizes = st.integers(16, 90)


@given(height=sizes, width=sizes, pixels=st.integers(2, 16), stride=st.integers(1, 20))
def test_inside_patches_are_the_image_itself(height, width, pixels, stride):
    image = np.arange(height * width, dtype=np.float32).reshape(height, width)
    candidates = cut(image, PatchSpec(pixels=pixels, stride=stride))
    rows, columns = candidates.shape
    assert len(candidates) == rows * columns
    patches = candidates.patches(np.arange(len(candidates))).reshape(rows, columns, pixels, pixels)
    expected = np.lib.stride_tricks.sliding_window_view(image, (pixels, pixels))[::stride, ::stride]
    np.testing.assert_array_equal(patches, expected)
    centre = candidates.centres.reshape(rows, columns, 2)[0, 0]
    np.testing.assert_allclose(centre, pixels / 2)


@given(height=sizes, width=sizes, pixels=st.integers(2, 16), stride=st.integers(1, 20))
def test_reflected_patches_never_wrap(height, width, pixels, stride):
    image = np.arange(height * width, dtype=np.float32).reshape(height, width)
    candidates = cut(image, PatchSpec(pixels=pixels, stride=stride, border="reflect"))
    assert candidates.positions.min() >= 0
    assert candidates.positions.max() <= 1
    pad = pixels
    mirrored = np.pad(image, pad, mode="reflect")
    corner = np.floor(candidates.centres - pixels / 2 + 0.5 + 1e-6).astype(int) + pad
    assert len(np.unique(corner, axis=0)) == len(corner)
    for index in {0, len(candidates) // 2, len(candidates) - 1}:
        y, x = corner[index]
        np.testing.assert_array_equal(candidates.patches(index)[0], mirrored[y : y + pixels, x : x + pixels])


@given(size=st.integers(32, 200), pixels=st.integers(2, 32), stride=st.integers(1, 40))
def test_a_plan_counts_its_candidates_rightly(size, pixels, stride):
    for border in ("inside", "reflect"):
        spec = PatchSpec(pixels=pixels, stride=stride, border=border)
        plan = Plan(overview=OverviewSpec(pixels=size), patches=spec)
        assert plan.candidates() == len(cut(np.zeros((size, size), np.float32), spec))


def test_regions():
    candidates = cut(np.zeros((64, 64), np.float32), PatchSpec(pixels=8, stride=8))
    assert candidates.allowed.all()
    here = Region(id="a", kind="include", top=0, left=0, bottom=0.5, right=0.5)
    there = Region(id="b", kind="include", top=0.5, left=0.5, bottom=1, right=1)
    hole = Region(id="c", kind="exclude", top=0, left=0, bottom=0.2, right=0.2)
    allowed = candidates.restricted([here, there, hole]).allowed.reshape(8, 8)
    assert allowed[:4, :4].sum() == 12
    assert allowed[4:, 4:].all()
    assert not allowed[:4, 4:].any()
    assert candidates.restricted([]).allowed.all()
    with pytest.raises(ValueError, match="top < bottom"):
        Region(id="d", kind="include", top=0.5, left=0, bottom=0.5, right=1)


def test_the_nearest_candidate():
    candidates = cut(np.zeros((64, 32), np.float32), PatchSpec(pixels=8, stride=8))
    for index in (0, 5, len(candidates) - 1):
        assert candidates.nearest(tuple(candidates.positions[index])) == index


def test_an_image_on_disk_is_not_loaded_whole(tmp_path):
    path = tmp_path / "overview.npy"
    image = np.lib.format.open_memmap(path, "w+", np.float32, (4096, 4096))
    image[100:116, 200:216] = 7
    candidates = cut(np.load(path, mmap_mode="r"), PatchSpec(pixels=16, stride=4))
    assert isinstance(candidates.image, np.memmap)
    index = candidates.nearest((108 / 4096, 208 / 4096))
    np.testing.assert_array_equal(candidates.patches(index)[0], 7)


@pytest.mark.parametrize("shape", [(15, 64), (64, 15), (1, 1)])
def test_an_image_smaller_than_a_patch_is_refused(shape):
    with pytest.raises(PlanError, match="No patch"):
        cut(np.zeros(shape, np.float32), PatchSpec(pixels=16))
