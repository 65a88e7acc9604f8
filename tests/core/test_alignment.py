"""Centring the disk of the virtual microscope, whose response nobody has told, through the guardian."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.errors import (
    BadFrameError,
    DisconnectedError,
    GateClosedError,
    InstrumentError,
    LimitError,
    PlanError,
    ReadbackError,
)
from autoexp.guardian import Guardian
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import AlignmentSpec, FrameSpec
from autoexp.tasks.alignment import AlignmentTask
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.optics import Optics

PAIR = ("CAperture.y", "CAperture.x")
LIMITS = SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15) for name in PAIR})
SPEC = AlignmentSpec(frame=FrameSpec(exposure_s=0.05, binning=16))


@pytest.fixture
def make(plasmonic):
    """A guarded virtual microscope with an optics of its own, the disk shifted by some angle (y, x) in rad."""

    def made(seed=0, shift=(0.03, -0.04), limits=LIMITS, **optics):
        hidden = dataclasses.replace(Optics.hidden(seed), **optics)
        microscope = VirtualMicroscope(plasmonic, optics=hidden, time_scale=1000)
        off = np.linalg.solve(np.asarray(hidden.deflector_to_rad), np.subtract(shift, hidden.misalignment_rad))
        for name, value in zip(PAIR, off, strict=True):
            microscope.controls[name] = float(value)
        instrument = FaultyInstrument(DirectInstrument(microscope))
        guardian = Guardian(instrument, limits)
        guardian.open()
        return microscope, instrument, guardian

    return made


def where(microscope):
    """Where the disk truly is, mrad."""
    deflector = np.array([microscope.controls[name] for name in PAIR])
    return 1e3 * float(np.hypot(*microscope.optics.disk_centre(deflector)))


@pytest.mark.parametrize("seed", range(12))
def test_the_disk_is_centred_in_a_few_frames_and_then_in_fewer(make, seed):
    microscope, _, guardian = make(seed)
    task = AlignmentTask(guardian, SPEC)
    first = task.run()
    assert first.success
    assert len(first.looks) <= 6
    assert where(microscope) < 2.0  # a pixel of these frames is 1.6 mrad
    before = guardian.value("CAperture.x")
    guardian.move("CAperture.x", before + 0.04)
    again = task.run()
    assert again.success
    assert len(again.looks) <= 3
    J = np.asarray(microscope.optics.deflector_to_rad)
    assert again.response.mirrored in (bool(np.linalg.det(J) < 0), None)
    assert again.response.px_per_unit == pytest.approx(1000 / 1.5625 * math.sqrt(abs(np.linalg.det(J))), rel=0.12)


def test_what_was_learned_is_the_response_and_is_put_into_words(make):
    (c, s) = math.cos(0.7), math.sin(0.7)
    _, _, guardian = make(deflector_to_rad=((c, -s), (s, c)))
    task = AlignmentTask(guardian, SPEC)
    response = task.run().response
    for name in (*PAIR, *PAIR):  # until moves went both ways
        if response.mirrored is None:
            guardian.move(name, guardian.value(name) + 0.03)
            response = task.run().response
    assert response.rotation_deg == pytest.approx(math.degrees(0.7), abs=2)
    assert not response.mirrored
    assert response.confidence > 0.95
    assert (
        response.describe()
        == f"turned by {response.rotation_deg:.0f}°, {response.px_per_unit:.4g} px a unit, not mirrored"
    )


def test_another_goal_and_a_finer_tolerance(make):
    _, _, guardian = make()
    spec = SPEC.model_copy(update={"goal": (0.6, 0.35), "tolerance_px": 0.2, "frame": FrameSpec(binning=8)})
    found = AlignmentTask(guardian, spec).run()
    assert found.success
    disk = found.looks[-1].disk
    np.testing.assert_allclose(disk.center, (0.6 * 256 - 0.5, 0.35 * 256 - 0.5), atol=0.3)
    assert found.looks[-1].residual_mrad == pytest.approx(found.looks[-1].residual_px * 200 / 256)


def test_an_empty_frame_never_counts_as_centred(make):
    microscope, _, guardian = make()
    microscope.controls["BeamCurrent"] = 0.0
    before = {name: guardian.value(name) for name in PAIR}
    found = AlignmentTask(guardian, SPEC).run()
    assert not found.success
    assert "no disk is to be seen" in found.reason
    assert len(found.looks) == 1
    assert {name: guardian.value(name) for name in PAIR} == before


def test_everything_is_put_back_or_kept_as_is_wanted(make):
    microscope, _, guardian = make()
    before = {name: microscope.controls[name] for name in PAIR}
    AlignmentTask(guardian, SPEC).run()
    assert guardian.restore() == []
    assert {name: microscope.controls[name] for name in PAIR} == before
    with pytest.raises(GateClosedError):
        guardian.open()
    microscope, _, guardian = make()
    AlignmentTask(guardian, SPEC).run()
    guardian.keep()
    guardian.restore()
    assert where(microscope) < 2.0


def test_limits_hold_and_are_spoken_of(make):
    narrow = SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15, step=0.004) for name in PAIR})
    _, instrument, guardian = make(limits=narrow)
    spec = SPEC.model_copy(update={"frames": 60})
    assert AlignmentTask(guardian, spec).run().success
    moves = {name: [] for name in PAIR}
    for kind, what in instrument.commands:
        if kind == "set":
            moves[what[0]].append(what[1])
    for values in moves.values():
        assert np.abs(np.diff(values)).max() <= 0.004
    with pytest.raises(PlanError, match=r"do not list C10"):
        AlignmentTask(guardian, SPEC.model_copy(update={"controls": ("C10", "CAperture.x")}))


def test_where_a_limit_is_in_the_way_it_says_so(make):
    microscope, _, guardian = make(shift=(0.05, 0.05))
    here = {name: microscope.controls[name] for name in PAIR}
    guardian.site = SiteLimits(controls={n: ControlLimits(low=here[n] - 2e-3, high=here[n] + 2e-3) for n in PAIR})
    with pytest.raises(InstrumentError, match="at the end of what the limits allow"):
        AlignmentTask(guardian, SPEC).run()


def test_a_move_that_a_limit_cuts_short_teaches_nothing_wrong(make):
    """What is learned is from what was really moved."""
    microscope, _, guardian = make(shift=(0.06, 0.05))
    before = {name: microscope.controls[name] for name in PAIR}
    spans = {name: sorted((0.0, before[name])) for name in PAIR}
    tight = {n: ControlLimits(low=low - 0.012, high=high + 0.012) for n, (low, high) in spans.items()}
    guardian.site = SiteLimits(controls=tight)
    task = AlignmentTask(guardian, SPEC.model_copy(update={"frames": 40}))
    found = task.run()
    assert found.success
    J = np.asarray(microscope.optics.deflector_to_rad)
    assert found.response.px_per_unit == pytest.approx(1000 / 1.5625 * math.sqrt(abs(np.linalg.det(J))), rel=0.15)


def test_a_disk_of_which_a_part_is_blocked_is_not_called_centred(make, monkeypatch):
    microscope, _, guardian = make()
    frames = microscope.disk_frame

    def blocked(exposure_s, shape):
        frame = frames(exposure_s, shape)
        frame[:, : shape[1] // 2] *= 0.2
        return frame

    monkeypatch.setattr(microscope, "disk_frame", blocked)
    found = AlignmentTask(guardian, SPEC.model_copy(update={"frames": 8})).run()
    assert not found.success
    assert "blocked" in found.reason or "not at its goal" in found.reason


@pytest.mark.parametrize(
    ("fault", "error"),
    [("disconnected", DisconnectedError), ("raises", InstrumentError), ("wrong-shape", BadFrameError)],
)
def test_a_frame_that_does_not_come_ends_it_and_everything_is_put_back(make, fault, error):
    microscope, instrument, guardian = make()
    before = {name: microscope.controls[name] for name in PAIR}
    instrument.arm(None, fault)
    with pytest.raises(error):
        AlignmentTask(guardian, SPEC).run()
    assert {name: microscope.controls[name] for name in PAIR} != before
    assert guardian.restore() == []
    assert {name: microscope.controls[name] for name in PAIR} == before


@pytest.mark.parametrize("fault", ["dark", "saturated", "nan"])
def test_a_bad_frame_on_the_way_does_not_end_it(make, fault):
    microscope, instrument, guardian = make()
    instrument.arm(None, fault)
    assert AlignmentTask(guardian, SPEC).run().success
    assert where(microscope) < 2.0


def test_a_control_that_is_stuck_is_noticed_at_once(make):
    _, instrument, guardian = make()
    instrument.stuck.add("CAperture.x")
    with pytest.raises(ReadbackError, match=r"CAperture\.x was set"):
        AlignmentTask(guardian, SPEC).run()


def test_it_ends_when_it_is_not_wanted_any_more(make):
    _, _, guardian = make()
    looks = []
    found = AlignmentTask(guardian, SPEC, on_look=looks.append, wanted=lambda: len(looks) < 2).run()
    assert found.reason == "ended on request"
    assert len(looks) == len(found.looks) == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(PAIR),
            st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.2, -0.2, 1e9, float("nan")]),
        ),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_no_agent_gets_past_the_limits(plasmonic, asked):
    """Whatever is asked for, what reaches the instrument is within range and step."""
    microscope = VirtualMicroscope(plasmonic, time_scale=1000)
    instrument = FaultyInstrument(DirectInstrument(microscope))
    limits = {name: ControlLimits(low=-0.1, high=0.1, step=0.05) for name in PAIR}
    guardian = Guardian(instrument, SiteLimits(controls=limits))
    entry = guardian.open()
    for name, value in asked:
        before = microscope.controls[name]
        try:
            guardian.move(name, value)
        except LimitError:
            assert microscope.controls[name] == before
        assert -0.1 <= microscope.controls[name] <= 0.1
        assert abs(microscope.controls[name] - before) <= 0.05
    assert guardian.restore() == []
    assert {name: microscope.controls[name] for name in PAIR} == pytest.approx(entry, abs=1e-9)


@pytest.mark.parametrize(
    "given_", [{"controls": ("a", "a")}, {"goal": (0.5, 1.0)}, {"tolerance_px": 0}, {"frames": 1}, {"px_per_unit": -1}]
)
def test_settings_that_make_no_sense_are_refused(given_):
    with pytest.raises(ValueError, match=r"\w{3}"):
        AlignmentSpec(**given_)
