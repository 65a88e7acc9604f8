"""A site's limits: which file holds for which instrument, what may be moved without one, what is refused."""

from __future__ import annotations

import pytest

from autoexp.errors import PlanError
from autoexp.instrument import Identity
from autoexp.limits import DEFLECTORS, ControlLimits, SiteLimits, check_controls, limits_file, site_limits
from autoexp.plan import AlignmentSpec

STEM = Identity("nion/stem 1", "The STEM", simulated=False)


def test_an_instrument_without_a_file_may_not_be_moved_at_all(tmp_path):
    assert site_limits(STEM, tmp_path) == SiteLimits()
    named_alike = Identity("usim_stem_controller", "The STEM", simulated=False)
    assert site_limits(named_alike, tmp_path).controls == {}
    unknown = Identity("another simulator", "Another", simulated=True)
    assert site_limits(unknown, tmp_path).controls == {}


@pytest.mark.parametrize("key", ["usim_stem_controller", "virtual_stem|scan"])
def test_the_disk_of_a_known_simulator_may_be_moved(key, tmp_path):
    found = site_limits(Identity(key, "Simulator", simulated=True), tmp_path)
    assert set(found.controls) == set(DEFLECTORS)
    assert all(limits.high - limits.low == pytest.approx(0.3) for limits in found.controls.values())


def test_the_file_of_an_instrument_holds_for_it_alone(tmp_path):
    asked = SiteLimits(max_exposure_s=0.5, controls={"C10": ControlLimits(low=-1, high=1)})
    path = limits_file(STEM, tmp_path)
    assert path.parent == tmp_path
    path.write_text(asked.model_dump_json(), encoding="utf-8")
    assert site_limits(STEM, tmp_path) == asked
    assert site_limits(Identity("nion stem 2", "Another", simulated=False), tmp_path) == SiteLimits()
    simulator = Identity("usim", "Simulator", simulated=True)
    limits_file(simulator, tmp_path).write_text(asked.model_dump_json(), encoding="utf-8")
    assert site_limits(simulator, tmp_path) == asked  # also where there would be defaults


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "a/b", "..\\x"])
def test_no_key_leads_out_of_the_folder(key, tmp_path):
    path = limits_file(Identity(key, "Odd", simulated=False), tmp_path)
    assert path.resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("missing", ["CAperture.y", "CAperture.x"])
def test_each_control_of_an_alignment_has_to_be_listed(missing):
    listed = {name: ControlLimits(low=-1, high=1) for name in DEFLECTORS if name != missing}
    with pytest.raises(PlanError, match=f"do not list {missing}"):
        check_controls(SiteLimits(controls=listed), AlignmentSpec())
    with pytest.raises(PlanError, match="do not list"):
        check_controls(SiteLimits(), AlignmentSpec())
    both = {name: ControlLimits(low=-1, high=1) for name in DEFLECTORS}
    check_controls(SiteLimits(controls=both), AlignmentSpec())


def test_how_far_a_readback_may_differ():
    assert ControlLimits(low=-2, high=2).readback_tolerance == pytest.approx(4e-9)
    assert ControlLimits(low=-2, high=2, tolerance=0.25).readback_tolerance == 0.25
    assert ControlLimits(low=-2, high=2, tolerance=0).readback_tolerance == 0


@pytest.mark.parametrize(
    "text",
    [
        '{"max_exposure_s": 0}',
        '{"max_exposure_s": -1}',
        '{"max_dose_e": 0}',
        '{"max_time_s": -5}',
        '{"beam_current_pA": 0}',
        '{"controls": {"C10": {"low": 0}}}',
        '{"controls": {"C10": {"low": 0, "high": 1, "step": 0}}}',
        '{"controls": {"C10": {"low": 0, "high": 1, "step": -1}}}',
        '{"controls": {"C10": {"low": 0, "high": 1, "rate": -1}}}',
        '{"controls": {"C10": {"low": 0, "high": 1, "settle_s": 61}}}',
        '{"controls": {"C10": {"low": 0, "high": 1, "tolerance": -1}}}',
        '{"controls": {"C10": {"low": NaN, "high": 1}}}',
        '{"controls": {"C10": {"low": 0, "high": Infinity}}}',
        '{"controls": {"C10": {"low": 0, "high": 1, "step": 1.1}}}',
        '{"controls": {"C10": {"low": 0, "high": 1, "tolerance": 0.2}}}',
        '{"controls": []}',
        "[]",
    ],
)
def test_limits_that_limit_nothing_are_refused(text, tmp_path):
    path = tmp_path / "site.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError, match="site's limits"):
        SiteLimits.read(path)
