"""What it costs to go somewhere, and to measure where damage was done."""

from __future__ import annotations

import numpy as np
import pytest

from autoexp.models.costs import CostMap
from autoexp.patches import cut
from autoexp.plan import Costs, PatchSpec


@pytest.fixture
def candidates():
    return cut(np.zeros((40, 80), np.float32), PatchSpec(pixels=2, stride=2))


def test_nothing_costs_nothing(candidates):
    costs = CostMap(candidates, Costs())
    costs.expose((0.5, 0.5))
    assert costs.at_all([(0.1, 0.1)]).tolist() == [0.0]


def test_a_way_as_long_as_the_field_is_wide_costs_one_rate(candidates):
    costs = CostMap(candidates, Costs(travel=3.0))
    assert costs.at_all([]).tolist() == [0.0]
    costs.expose(tuple(candidates.positions[0]))
    paid = costs.at_all([]).reshape(candidates.shape)
    np.testing.assert_allclose(paid[0], 3.0 * np.arange(40) * 2 / 80, atol=1e-12)
    np.testing.assert_allclose(paid[:, 0], 3.0 * np.arange(20) * 2 / 80, atol=1e-12)


def test_the_way_begins_where_the_probe_will_be(candidates):
    costs = CostMap(candidates, Costs(travel=1.0))
    costs.expose(tuple(candidates.positions[0]))
    assert costs.at_all([tuple(candidates.positions[33])]).argmin() == 33
    assert costs.at_all([]).argmin() == 0


def test_damage_adds_up_and_fades_with_distance(candidates):
    costs = CostMap(candidates, Costs(damage=2.0, damage_px=4.0))
    spot = tuple(candidates.positions[410])
    costs.expose(spot)
    once = costs.at_all([])
    assert once[410] == pytest.approx(2.0)
    assert once[411] == pytest.approx(2.0 * np.exp(-((2 / 4) ** 2) / 2))
    np.testing.assert_allclose(costs.at_all([spot]), 2 * once)
    np.testing.assert_array_equal(costs.at_all([]), once)


def test_the_nearest_of_several(candidates):
    costs = CostMap(candidates, Costs())
    rows = np.array([3, 90, 700])
    assert costs.nearest(rows, []) == 3
    costs.expose(tuple(candidates.positions[701]))
    assert costs.nearest(rows, []) == 700
    assert costs.nearest(rows, [tuple(candidates.positions[92])]) == 90
