from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_specimens import quick

from virtual_stem.geometry import ScanGeometry
from virtual_stem.stage import DoseMap, Drift, Probe

times = st.floats(0, 500)


class TestDrift:
    @quick
    @given(times, st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
    def test_a_steady_drift_is_velocity_times_time(self, time, velocity):
        assert Drift(velocity).offset_nm(time) == pytest.approx(np.multiply(velocity, time))

    @quick
    @given(st.lists(times, min_size=1, max_size=8), st.integers(0, 1000))
    def test_the_walk_is_the_same_in_whatever_order_one_asks(self, asked, seed):
        first = Drift(walk_nm_sqrt_s=0.3, seed=seed)
        together = Drift(walk_nm_sqrt_s=0.3, seed=seed).offset_nm(np.array(asked))
        assert np.array([first.offset_nm(t) for t in reversed(asked)])[::-1] == pytest.approx(together)

    def test_the_walk_spreads_with_the_square_root_of_time(self):
        at = np.array([25.0, 100.0])
        ends = np.array([Drift(walk_nm_sqrt_s=0.5, seed=s).offset_nm(at) for s in range(400)])
        assert ends[:, 0].std() == pytest.approx(0.5 * 5, rel=0.1)
        assert ends[:, 1].std() == pytest.approx(0.5 * 10, rel=0.1)

    def test_the_walk_has_no_jumps(self):
        offsets = Drift(walk_nm_sqrt_s=1.0).offset_nm(np.linspace(0, 300, 300_001))
        assert np.abs(np.diff(offsets, axis=0)).max() < 0.05

    def test_seeds_differ(self):
        assert not np.allclose(*(Drift(walk_nm_sqrt_s=1.0, seed=s).offset_nm(50.0) for s in (0, 1)))

    @pytest.mark.parametrize(
        ("drift", "still"), [(Drift(), True), (Drift((0.0, 0.1)), False), (Drift(walk_nm_sqrt_s=0.1), False)]
    )
    def test_is_still(self, drift, still):
        assert drift.is_still is still


class TestProbe:
    def test_it_needs_to_have_been_parked(self):
        with pytest.raises(ValueError, match="parked"):
            Probe().at(0.0)

    def test_the_first_position_is_reached_at_once(self):
        probe = Probe(settle_s=1.0)
        probe.park(np.array([3.0, 4.0]), 10.0)
        assert probe.at(10.0) == pytest.approx([3, 4])

    def test_it_is_on_its_way_until_it_has_settled(self):
        probe = Probe(settle_s=2.0)
        probe.park(np.zeros(2), 0.0)
        probe.park(np.array([8.0, 0.0]), 1.0)
        assert probe.at(1.0) == pytest.approx([0, 0])
        assert 4 < probe.at(2.0)[0] < 8
        assert probe.at(3.0) == pytest.approx([8, 0])

    def test_the_same_target_again_changes_nothing(self):
        probe = Probe(settle_s=2.0)
        probe.park(np.zeros(2), 0.0)
        probe.park(np.array([8.0, 0.0]), 1.0)
        before = probe.at(2.0)
        probe.park(np.array([8.0, 0.0]), 1.9)
        assert probe.at(2.0) == pytest.approx(before)

    @quick
    @given(st.floats(0, 3), st.floats(0, 5), st.floats(0, 2))
    def test_the_shares_of_an_exposure_add_up(self, settle, start, duration):
        probe = Probe(settle)
        probe.park(np.zeros(2), 0.0)
        probe.park(np.array([10.0, -5.0]), 1.0)
        positions, shares, when = probe.way(1.0 + start, duration)
        assert shares.sum() == pytest.approx(1)
        assert (shares >= 0).all()
        assert len(positions) == len(shares) == len(when)
        assert (when >= 1.0 + start - 1e-9).all()
        assert (when <= 1.0 + start + duration + 1e-9).all()

    def test_a_settled_probe_stays(self):
        probe = Probe(0.1)
        probe.park(np.zeros(2), 0.0)
        probe.park(np.ones(2), 1.0)
        positions, shares, _ = probe.way(2.0, 0.5)
        assert positions == pytest.approx(np.ones((1, 2)))
        assert shares == pytest.approx([1.0])


places = st.floats(-40, 40)


class TestDoseMap:
    @quick
    @given(places, places, st.floats(0.1, 5), st.floats(1, 1e8))
    def test_a_parked_probe_leaves_all_its_electrons(self, y, x, probe_nm, electrons):
        dose = DoseMap(200.0, pixels=200, probe_nm=probe_nm)
        dose.add_point(np.array([y, x]), electrons)
        assert dose.total_electrons == pytest.approx(electrons, rel=1e-4)

    @quick
    @given(places, places, st.floats(0.2, 80), st.floats(0.2, 80), st.floats(-4, 4), st.floats(1, 1e8))
    def test_a_scan_inside_the_map_leaves_all_its_electrons(self, y, x, height, width, rotation, electrons):
        dose = DoseMap(200.0, pixels=200)
        dose.add_area(ScanGeometry((height, width), (y, x), rotation), electrons)
        assert dose.total_electrons == pytest.approx(electrons, rel=1e-4)

    @pytest.mark.parametrize("rotation", [0.0, 0.5])
    def test_a_scan_spreads_evenly_over_its_field_and_nowhere_else(self, rotation):
        dose = DoseMap(200.0, pixels=400)
        field = ScanGeometry((80.0, 40.0), (10.0, -20.0), rotation)
        dose.add_area(field, 3.2e6)
        fractions = np.random.default_rng(0).uniform(0.05, 0.95, (200, 2))
        assert dose.at(field.to_stage(fractions)) == pytest.approx(1000.0, rel=0.02)
        assert dose.at(field.to_stage([[1.1, 0.5], [-0.1, 0.5], [0.5, 1.1], [0.5, -0.1]])) == pytest.approx(0.0)

    def test_only_what_falls_on_the_map_is_kept(self):
        dose = DoseMap(100.0, pixels=100)
        dose.add_area(ScanGeometry((200.0, 200.0)), 4e6)
        assert dose.total_electrons == pytest.approx(1e6, rel=0.01)
        assert dose.at(np.array([[0.0, 0.0]])) == pytest.approx(100.0, rel=0.01)

    @pytest.mark.parametrize("place", [(500.0, 0.0), (0.0, -500.0)])
    def test_what_misses_the_map_changes_nothing(self, place):
        dose = DoseMap(100.0, pixels=100)
        dose.add_point(np.array(place), 1e6)
        dose.add_area(ScanGeometry((20.0, 20.0), place), 1e6)
        assert dose.total_electrons == 0.0
        assert dose.at(np.array([place])) == pytest.approx(0.0)

    def test_dose_adds_up(self):
        dose = DoseMap(100.0, pixels=100)
        for _ in range(3):
            dose.add_point(np.zeros(2), 1e5)
        assert dose.total_electrons == pytest.approx(3e5, rel=1e-4)
