"""What is typed into the fields for numbers is in force as it stands, or marked and not in force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nion.utils import Model

from autoexp import plan as planning
from autoexp.errors import PlanError
from nionswift_plugin.autoexp_ui import form as form_module
from nionswift_plugin.autoexp_ui.alignment import form as alignment_form
from nionswift_plugin.autoexp_ui.entries import EntryError, Number

EXPOSURE = form_module.NUMBERS["exposure_ms"]
POINTS = form_module.NUMBERS["points"]
MINUTES = form_module.NUMBERS["minutes"]


def a_form():
    return form_module.PlanForm(Model.PropertyModel[str]("{}"))


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        (EXPOSURE, "12,5", 12.5),
        (EXPOSURE, "1,3", 1.3),
        (EXPOSURE, " 50 ", 50),
        (EXPOSURE, "5e1", 50),
        (EXPOSURE, ".5", 0.5),
        (EXPOSURE, "0,125", 0.125),
        (POINTS, "1e3", 1000),
        (POINTS, "12.0", 12),
        (MINUTES, "", 0),
        (MINUTES, "0", 0),
        (Number(), "\N{MINUS SIGN}1", -1),
    ],
)
def test_a_number_is_understood(field, text, value):
    assert field.parse(text) == value


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        (EXPOSURE, "", "wanted"),
        (EXPOSURE, "abc", "“abc” is not a number"),
        (EXPOSURE, "12,5ms", "not a number"),
        (EXPOSURE, "1,250", "two ways"),
        (EXPOSURE, "1.234,5", "two ways"),
        (EXPOSURE, "1,2,3", "two ways"),
        (EXPOSURE, "nan", "not a number"),
        (EXPOSURE, "inf", "not a number"),
        (EXPOSURE, "1e400", "not a number|too large"),
        (EXPOSURE, "1e999", "too large"),
        (EXPOSURE, "٣", "not a number"),
        (EXPOSURE, "1_0", "not a number"),
        (EXPOSURE, "0x10", "not a number"),
        (EXPOSURE, "-50", "at least 0.001 ms"),
        (EXPOSURE, "1e9", "at most 600,000 ms"),
        (POINTS, "12.7", "whole number"),
        (POINTS, "1e9", "at most 1,000,000"),
        (POINTS, "0", "at least 1"),
        (POINTS, "1,000", "two ways"),
        (MINUTES, "-3", "at least"),
        (form_module.NUMBERS["drift_every"], "2.5", "whole"),
    ],
)
def test_what_is_no_such_number_is_refused_in_the_units_of_the_field(field, text, says):
    with pytest.raises(EntryError, match=says):
        field.parse(text)


@given(st.sampled_from(sorted(form_module.NUMBERS)), st.floats(-1e7, 1e7), st.booleans())
def test_what_is_shown_is_read_as_the_same(name, value, comma):
    field = form_module.NUMBERS[name]
    text = field.show(round(value) if field.whole else value)
    try:
        read = field.parse(text.replace(".", ",") if comma else text)
    except EntryError:
        return
    assert read == (round(value) if field.whole else value)


@given(st.lists(st.tuples(st.sampled_from(sorted(form_module.NUMBERS)), st.text("0123456789.,-+e x", max_size=6))))
def test_what_stands_in_a_field_is_in_the_plan_or_marked(typed):
    form = a_form()
    for name, text in typed:
        form.enter(name, text)
        shown = getattr(form.entries, name).value
        if name in form._misread:
            assert shown == text
        else:
            assert form_module.NUMBERS[name].parse(shown) == form.value(name)
    try:
        plan = form.make_plan("x", "scan", "camera")
    except PlanError:
        assert form.mistakes() or form.value("pixels") < form.value("patch_px") or form.value("stride_px")
        return
    assert not form.mistakes()
    assert plan.spectrum.exposure_s * 1000 == pytest.approx(float(EXPOSURE.parse(form.entries.exposure_ms.value)))
    assert plan.budget.points == POINTS.parse(form.entries.points.value)
    assert plan.overview.fov_nm == form_module.NUMBERS["fov_nm"].parse(form.entries.fov_nm.value)


def test_what_is_not_understood_stays_marked_and_is_not_stored():
    stored = Model.PropertyModel[str]("{}")
    form = form_module.PlanForm(stored)
    edited = []
    listener = form.edited_event.listen(edited.append)
    form.enter("exposure_ms", "12,5")
    assert edited == [{"exposure_ms"}]
    assert form.entries.exposure_ms.value == "12.5"
    form.enter("exposure_ms", "12,5x")
    assert form.entries.exposure_ms.value == "12,5x"
    assert form.flagged.exposure_ms.value
    assert form.value("exposure_ms") == 12.5
    assert len(edited) == 1
    with pytest.raises(PlanError, match="marked field"):
        form.make_plan("x", "scan", "camera")
    form.follow(exposure_ms=20.0)  # what is in force elsewhere is shown, and the mark is gone
    assert form.entries.exposure_ms.value == "20"
    assert not form.flagged.exposure_ms.value
    form.enter("exposure_ms", "abc")
    form.enter("exposure_ms", "20")
    assert not form.flagged.exposure_ms.value
    assert form_module.PlanForm(stored).value("exposure_ms") == 20.0
    del listener


def test_windows_that_run_downward_are_marked_where_they_are():
    form = a_form()
    form.set(scalarizer=1, low_eV=400.0, high_eV=420.0, second_low_eV=390.0, second_high_eV=380.0)
    assert "above the upper end" in form.problems.second_low_eV.value
    form.set(second_low_eV=300.0, second_high_eV=410.0)
    assert "before the edge" in form.problems.second_low_eV.value
    form.set(second_low_eV=-5.0, second_high_eV=310.0)
    assert "above 0 eV" in form.problems.second_low_eV.value
    form.set(scalarizer=0)  # there is one window only
    assert not form.mistakes()
    form.enter("second_low_eV", "rubbish")
    assert not form.mistakes()
    form.set(scalarizer=1)
    assert "second_low_eV" in form.mistakes()


def test_the_alignment_panel_has_the_same_fields():
    form = alignment_form.AlignmentForm(Model.PropertyModel[str]("{}"))
    form.set(controls="a.y,a.x")
    form.enter("tolerance_px", "1,5")
    assert form.make_spec().tolerance_px == 1.5
    form.enter("frames", "many")
    with pytest.raises(PlanError, match="“many”"):
        form.make_spec()
    assert math.isclose(planning.AlignmentSpec().tolerance_px, 1.0)
