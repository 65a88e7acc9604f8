"""What a plan can ask for, and what it cannot."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from autoexp.documents import MAX_BYTES
from autoexp.errors import PlanError
from autoexp.plan import (
    AlignmentSpec,
    Budget,
    DriftCheck,
    Model,
    OverviewSpec,
    PatchSpec,
    Plan,
    Region,
    SpectrumSpec,
)

SMALL = {"overview": OverviewSpec(pixels=64, dwell_us=4.0), "patches": PatchSpec(pixels=8, stride=4)}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "text",
    [
        '{"spectrum": {"exposure_s": %s}}',
        '{"overview": {"center_nm": [%s, 0]}}',
        '{"scalarizer": {"kind": "window", "low_eV": %s, "high_eV": 2}}',
        '{"limits": {"controls": {"C10": [%s, 1]}}}',
        '{"agent": {"kind": "list", "positions": [[%s, 0.5]]}}',
    ],
)
def test_every_number_is_finite(text, number):
    with pytest.raises(PlanError):
        Plan.from_json(text % number)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_every_part_of_a_plan_refuses_what_is_not_finite_whatever_kind_its_number_is_of(number):
    class Part(Model):
        plain: float = 0.0
        several: tuple[float, ...] = ()

    for given in ({"plain": number}, {"several": (1.0, number)}):
        with pytest.raises(ValidationError, match="finite"):
            Part(**given)


@pytest.mark.parametrize("text", ['{"bugdet": {}}', '{"budget": {"pionts": 1}}', '{"agent": {"kind": "grid", "x": 1}}'])
def test_a_field_that_is_not_known_is_named(text):
    with pytest.raises(PlanError, match=r"bugdet|pionts|x"):
        Plan.from_json(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"top": 0.5, "bottom": 0.5},
        {"left": 0.5, "right": 0.5},
        {"top": 0.6, "bottom": 0.5},
        {"left": 0.6, "right": 0.5},
        {"right": 1.1},
        {"top": -0.1},
        {"left": math.nan},
    ],
)
def test_a_region_has_an_area_within_the_field(wrong):
    right = {"id": "a", "kind": "exclude", "top": 0.0, "left": 0.0, "bottom": 1.0, "right": 1.0}
    Region(**right)
    with pytest.raises(ValidationError):
        Region(**{**right, **wrong})


@pytest.mark.parametrize("goal", [(0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0), (0.5, -1.0)])
def test_the_disk_is_brought_onto_the_frame(goal):
    with pytest.raises(ValidationError, match="outside the frame"):
        AlignmentSpec(goal=goal)


def test_two_controls_are_two():
    with pytest.raises(ValidationError, match="the same"):
        AlignmentSpec(controls=("CAperture.y", "CAperture.y"))


def test_a_patch_fits_into_the_overview():
    assert Plan(overview=OverviewSpec(pixels=16), patches=PatchSpec(pixels=16)).candidates() == 1
    with pytest.raises(ValidationError, match="does not fit"):
        Plan(overview=OverviewSpec(pixels=16), patches=PatchSpec(pixels=17))


def test_a_plan_has_a_size_up_to_which_it_is_read():
    text = Plan().to_json()
    assert Plan.from_json(text + " " * (MAX_BYTES - len(text))) == Plan()
    with pytest.raises(PlanError):
        Plan.from_json(text + " " * (MAX_BYTES - len(text) + 1))


def test_the_estimate_counts_everything_that_takes_time():
    plan = Plan(**SMALL, spectrum=SpectrumSpec(exposure_s=0.1, settle_s=0.05), budget=Budget(points=10))
    plain = plan.estimate(50.0)
    assert plain.points == 10
    assert plain.time_s == pytest.approx(64**2 * 4e-6 + 10 * (0.1 + 0.05 + 0.02))
    assert plain.dose_e == pytest.approx((64**2 * 4e-6 + 10 * 0.1) * 50 * 6.241509074e6)
    look_s = 64**2 * 4e-6
    drifting = plan.model_copy(update={"drift": DriftCheck(every=5)}).estimate(50.0)
    assert drifting.time_s == pytest.approx(plain.time_s + 2 * look_s)
    assert drifting.dose_e == pytest.approx(plain.dose_e + 2 * look_s * 50 * 6.241509074e6)
    assert plan.estimate().dose_e is None
    short = plan.model_copy(update={"budget": Budget(points=10, time_s=1.0)}).estimate()
    assert (short.points, short.time_s) == (5, 1.0)


def test_what_is_written_is_what_is_read():
    plan = Plan(**SMALL, name="ünïcode", regions=(Region(id="a", kind="include", top=0, left=0, bottom=1, right=0.5),))
    assert Plan.from_json(plan.to_json()) == plan
    assert json.loads(plan.to_json())["name"] == "ünïcode"
