from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nion.utils import Geometry
from plain_specimens import quick

from virtual_stem.geometry import ScanGeometry

sizes = st.floats(1.0, 1e4)
places = st.floats(-1e4, 1e4)
angles = st.floats(-7.0, 7.0)
fractions = st.floats(-0.5, 1.5)
geometries = st.builds(lambda h, w, y, x, r: ScanGeometry((h, w), (y, x), r), sizes, sizes, places, places, angles)


@quick
@given(geometries, fractions, fractions)
def test_there_and_back(geometry, y, x):
    assert geometry.to_fractions(geometry.to_stage([y, x])) == pytest.approx([y, x], abs=1e-6)


@quick
@given(geometries, fractions, fractions)
def test_rotation_has_the_sense_of_swift(geometry, y, x):
    offset = Geometry.FloatPoint(y=(y - 0.5) * geometry.fov_nm[0], x=(x - 0.5) * geometry.fov_nm[1])
    turned = offset.rotate(geometry.rotation_rad) + Geometry.FloatPoint(*geometry.center_nm)
    assert geometry.to_stage([y, x]) == pytest.approx([turned.y, turned.x], abs=1e-6)


@quick
@given(geometries, st.integers(1, 9), st.integers(1, 9))
def test_pixels_lie_at_their_centres(geometry, h, w):
    points = geometry.pixel_centres((h, w))
    assert points.shape == (h, w, 2)
    assert points[h - 1, 0] == pytest.approx(geometry.to_stage([(h - 0.5) / h, 0.5 / w]), abs=1e-6)


@quick
@given(geometries, st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(0.05, 0.8), fractions, fractions)
def test_a_part_lies_where_its_fractions_say(geometry, cy, cx, size, y, x):
    part = geometry.part((cy, cx), (size, size))
    whole = geometry.to_stage([cy + (y - 0.5) * size, cx + (x - 0.5) * size])
    assert part.to_stage([y, x]) == pytest.approx(whole, abs=1e-6)


def test_a_part_turns_against_its_own_rotation():
    assert ScanGeometry((10, 10), (0, 0), 0.5).part((0.5, 0.5), rotation_rad=0.2).rotation_rad == pytest.approx(0.3)


@pytest.mark.parametrize(("shape", "fov"), [((64, 64), (90, 90)), ((32, 64), (45, 90)), ((64, 32), (90, 45))])
def test_the_longer_side_spans_the_field_of_view(shape, fov):
    assert ScanGeometry.spanning(90.0, shape).fov_nm == pytest.approx(fov)


def test_axes_are_the_sides():
    down, across = ScanGeometry((20, 10), (0, 0), 0.3).axes
    assert np.hypot(*down) == pytest.approx(20)
    assert np.hypot(*across) == pytest.approx(10)
    assert down @ across == pytest.approx(0, abs=1e-9)
