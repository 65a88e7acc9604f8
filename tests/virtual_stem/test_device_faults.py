"""The queue of faults, and what they make of a frame; how Swift takes them is in test_devices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_specimens import quick

from virtual_stem.faults import CONTROL_FAULTS, FRAME_FAULTS, DeviceError, Fault, Faults, Spoiler

FRAME = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def faults():
    return Faults("camera", FRAME_FAULTS)


def turns(faults, n):
    return [faults.take() for _ in range(n)]


def test_nothing_armed_nothing_happens(faults):
    assert turns(faults, 3) == [None, None, None]


@quick
@given(times=st.integers(0, 5), after=st.integers(0, 5))
def test_a_fault_comes_when_it_was_told_to(times, after):
    faults = Faults("camera", FRAME_FAULTS)
    faults.arm("nan", times=times, after=after)
    assert turns(faults, after + times + 2) == [None] * after + [Fault.NAN] * times + [None, None]


def test_faults_come_in_the_order_of_arming(faults):
    faults.arm("dark")
    faults.arm(Fault.STALE)
    assert turns(faults, 3) == [Fault.DARK, Fault.STALE, None]


def test_a_lasting_fault_stays_until_cleared(faults):
    faults.arm("dark", times=None, after=1)
    assert turns(faults, 4) == [None, Fault.DARK, Fault.DARK, Fault.DARK]
    faults.clear()
    assert faults.take() is None


@pytest.mark.parametrize(("kind", "says"), [("raises", "failed"), ("disconnected", "disconnected")])
def test_what_raises_raises_once(faults, kind, says):
    faults.arm(kind)
    with pytest.raises(DeviceError, match=f"camera.*{says}"):
        faults.take()
    assert faults.take() is None


@pytest.mark.parametrize(("kinds", "kind"), [(FRAME_FAULTS, "stuck"), (CONTROL_FAULTS, "nan"), (FRAME_FAULTS, "odd")])
def test_what_a_device_cannot_show_is_refused(kinds, kind):
    with pytest.raises(ValueError, match=kind):
        Faults("device", kinds).arm(kind)


class TestSpoiler:
    def test_a_good_frame_passes(self):
        assert Spoiler(9.0, 1.0).spoil(FRAME, None) is FRAME

    def test_stale_repeats_the_last_frame(self):
        spoiler = Spoiler(9.0, 1.0)
        spoiler.spoil(FRAME, None)
        assert np.array_equal(spoiler.spoil(FRAME + 1, Fault.STALE), FRAME)
        assert np.array_equal(spoiler.spoil(FRAME + 2, Fault.STALE), FRAME)

    def test_the_first_frame_cannot_be_stale(self):
        assert np.array_equal(Spoiler(9.0, 1.0).spoil(FRAME, Fault.STALE), FRAME)

    def test_nan_is_in_one_channel_of_every_row_and_the_original_is_left_alone(self):
        spoiled = Spoiler(9.0, 1.0).spoil(FRAME, Fault.NAN)
        assert np.isnan(spoiled).sum(axis=0).tolist() == [0, 3, 0, 0]
        assert np.isfinite(FRAME).all()

    def test_saturated(self):
        assert (Spoiler(9.0, 1.0).spoil(FRAME, Fault.SATURATED) == 9.0).all()

    def test_dark_frames_are_noise_and_differ(self):
        spoiler = Spoiler(9.0, 2.0)
        big = np.full((200, 200), 1e6, np.float32)
        first, second = (spoiler.spoil(big, Fault.DARK) for _ in range(2))
        assert first.std() == pytest.approx(2.0, rel=0.05)
        assert not np.array_equal(first, second)
