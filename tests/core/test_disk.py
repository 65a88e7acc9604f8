"""Finding the bright-field disk on a frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

from autoexp.disk import center_of_mass, find_disk

SIDE = 200


def frame(center, radius, counts=30.0, ground=1.0, edge=1.0, side=SIDE, seed=0):
    """A disk with a soft edge, in Poisson noise."""
    y, x = np.mgrid[:side, :side]
    inside = special.expit((radius - np.hypot(y - center[0], x - center[1])) / edge)
    return np.random.default_rng(seed).poisson(ground + counts * inside).astype(np.float64)


def off(found, center):
    return float(np.hypot(found.center[0] - center[0], found.center[1] - center[1]))


@given(st.floats(60, 140), st.floats(60, 140), st.floats(12, 50), st.floats(0.5, 200), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_a_disk_is_found_as_precisely_as_its_counts_allow(y, x, radius, counts, seed):
    found = find_disk(frame((y, x), radius, counts, ground=counts / 20, seed=seed))
    if counts * np.pi * radius**2 < 1500 and found is None:
        return  # too few counts to tell
    assert found is not None
    # an edge of so many counts a pixel, along so many pixels
    bound = 6 / np.sqrt(counts * radius) + 0.05
    assert off(found, (y, x)) < bound
    assert found.radius == pytest.approx(radius, abs=2 * bound + 0.3)
    assert max(found.std) < bound
    assert found.visible > 0.99


@given(st.floats(-8, 208), st.floats(40, 160), st.floats(20, 50), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_disk_that_is_cut_off_keeps_its_centre(a, b, radius, swapped):
    center = (a, b) if swapped else (b, a)
    found = find_disk(frame(center, radius))
    assert found is not None
    assert off(found, center) < 1.0
    if not 0 <= a <= SIDE:
        assert found.visible < 0.55
        whole = center_of_mass(frame(center, radius))
        assert np.hypot(whole[0] - center[0], whole[1] - center[1]) > 5  # which is why it is not the measure


def test_errors_are_as_large_as_is_said():
    said, are = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        center = rng.uniform(60, 140, 2)
        found = find_disk(frame(center, 30.0, counts=10, seed=seed))
        said.append(found.std)
        are.append(np.subtract(found.center, center))
    ratio = np.sqrt(np.mean(np.square(are))) / np.sqrt(np.mean(np.square(said)))
    assert 0.7 < ratio < 1.6


@pytest.mark.parametrize(
    "empty",
    [
        np.zeros((SIDE, SIDE)),
        np.full((SIDE, SIDE), 7.0),
        np.full((SIDE, SIDE), np.nan),
        np.linspace(0, 100, SIDE)[:, None] + np.zeros((SIDE, SIDE)),
        np.eye(SIDE) * 50,
    ],
    ids=["dark", "all bright", "no numbers", "a gradient", "a line"],
)
def test_where_there_is_no_disk_there_is_none(empty):
    assert find_disk(empty) is None
    noisy = np.random.default_rng(0).poisson(np.nan_to_num(empty) + 2.0)
    assert find_disk(noisy) is None


def test_noise_is_hardly_ever_taken_for_a_disk():
    found = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        image = rng.poisson(rng.choice([0.02, 0.5, 10.0, 1000.0]), (SIDE, SIDE)).astype(float)
        image[rng.integers(SIDE, size=5), rng.integers(SIDE, size=5)] = 1e5
        found += find_disk(image) is not None
    assert found == 0


def test_hot_pixels_saturation_and_what_the_specimen_writes_into_it_do_not_move_it():
    center = (90.3, 111.8)
    plain = frame(center, 35.0, counts=60)
    rng = np.random.default_rng(1)
    hot = plain.copy()
    hot[rng.integers(SIDE, size=40), rng.integers(SIDE, size=40)] = 60_000
    assert off(find_disk(hot), center) < 0.2
    assert off(find_disk(np.minimum(plain, 50)), center) < 0.2
    shadow = 1 + 0.2 * ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 4) / 0.07
    assert off(find_disk(plain * np.clip(shadow, 0.3, 2)), center) < 1.0
    broken = plain.copy()
    broken[:, 50] = np.nan
    assert off(find_disk(broken), center) < 0.2


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, -3.0, 1e3])
def test_units_and_dark_level_do_not_matter(scale, offset):
    center = (80.0, 120.0)
    found = find_disk((frame(center, 30.0) + offset) * scale)
    assert off(found, center) < 0.3
    assert found.brightness == pytest.approx(30.0 * scale, rel=0.05)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_frames_of_any_kind_of_number(dtype):
    assert off(find_disk(frame((80, 120), 30.0).astype(dtype)), (80, 120)) < 0.3


def test_large_and_long_frames():
    assert off(find_disk(frame((900.5, 400.25), 160.0, side=1200)), (900.5, 400.25)) < 0.2
    long = np.zeros((60, 400))
    y, x = np.mgrid[:60, :400]
    long[np.hypot(y - 30, x - 320) < 18] = 40
    found = find_disk(np.random.default_rng(0).poisson(long + 1))
    assert off(found, (30, 320)) < 0.5
    assert found.offset((60, 400)) == pytest.approx((0.5, 120.5), abs=0.5)


@pytest.mark.parametrize("shape", [(5, 100), (100,), (10, 10, 3)])
def test_what_is_no_frame_is_refused(shape):
    with pytest.raises(ValueError, match="camera frame"):
        find_disk(np.zeros(shape))
