"""What an instrument hands back is a frame, or is refused in words; nothing of it ends a run."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from fuzz import CASES
from helpers import plan, until
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.engine import Engine
from autoexp.errors import AxisError, BadFrameError
from autoexp.frames import checked_camera_frame, checked_exposure, checked_overview, checked_spectrum
from autoexp.guardian import Guardian
from autoexp.instrument import CameraFrame, EnergyCalibration, FrameOfReference, Overview, Spectrum
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import AlignmentSpec, AlignmentStage, DriftCheck, FrameSpec, OverviewSpec
from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope

PAIR = ("CAperture.y", "CAperture.x")
SITE = SiteLimits(controls={name: ControlLimits(low=-0.15, high=0.15) for name in PAIR})

numbers = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.just(10**400),
    st.just(Decimal("1e400")),
    st.just(Fraction(1, 3)),
    st.sampled_from([np.float32(2), np.int64(3), np.array(1.5), np.array([1.0, 2.0]), np.datetime64("2026-01-01")]),
    st.lists(st.integers(), max_size=2),
)
shapes = st.sampled_from([(), (0,), (1,), (16,), (16, 16), (0, 16), (16, 16, 3)])
dtypes = st.sampled_from(["<f4", "<f8", ">f8", "f2", "<i4", "u1", "?", "c8", "O", "U3", "M8[s]"])


@st.composite
def arrays(draw):
    """Arrays of any kind, plain or masked, some full of what float32 cannot hold; and what is no array."""
    if draw(st.integers(0, 9)) == 0:
        return draw(numbers)
    dtype = np.dtype(draw(dtypes))
    array = np.zeros(draw(shapes), dtype)
    if dtype.kind == "f" and array.size:
        array[...] = draw(st.sampled_from([0.0, 1e39, math.nan, math.inf])) if dtype.itemsize == 8 else 1.0
    return np.ma.masked_equal(array, 0) if dtype.kind in "fi" and draw(st.booleans()) else array


metadata = st.one_of(numbers, st.builds(lambda s: {"hardware_source": {"exposure": s}}, numbers))
energies = st.one_of(numbers, st.builds(EnergyCalibration, numbers, numbers, st.one_of(st.just("eV"), numbers)))
fields = st.one_of(
    numbers, st.builds(FrameOfReference, st.tuples(numbers, numbers), st.tuples(numbers, numbers), numbers)
)


def is_plain(array, dimensions):
    return type(array) is np.ndarray and array.dtype == np.float32 and array.ndim == dimensions and array.size > 0


@given(st.one_of(numbers, st.builds(Spectrum, arrays(), energies, numbers, numbers, metadata)))
@settings(max_examples=CASES, deadline=None)
def test_a_spectrum_is_one_or_is_refused(taken):
    try:
        found = checked_spectrum(taken)
    except (BadFrameError, AxisError):
        return
    assert is_plain(found.counts, 1)
    assert math.isfinite(found.energy.offset)
    assert math.isfinite(found.energy.scale)
    assert 0 < found.energy.scale < math.inf
    assert found.energy.units == "eV"
    assert found.frame_number is None or type(found.frame_number) is int
    assert found.counts_per_electron is None or 0 < found.counts_per_electron < math.inf
    assert found.exposed_s is None or 0 <= found.exposed_s < math.inf


@given(st.one_of(numbers, st.builds(Overview, arrays(), fields, metadata)))
@settings(max_examples=CASES, deadline=None)
def test_an_overview_is_one_or_is_refused(taken):
    try:
        found = checked_overview(taken)
    except BadFrameError:
        return
    assert is_plain(found.image, 2)
    assert found.frame is None or (min(found.frame.fov_nm) > 0 and all(map(math.isfinite, found.frame.center_nm)))


@given(st.one_of(numbers, st.builds(CameraFrame, arrays(), numbers, numbers)))
@settings(max_examples=CASES, deadline=None)
def test_a_frame_of_the_disk_is_one_or_is_refused(taken):
    try:
        found = checked_camera_frame(taken)
    except BadFrameError:
        return
    assert is_plain(found.image, 2)
    assert found.mrad_per_px is None or 0 < found.mrad_per_px < math.inf
    assert found.exposed_s is None or 0 <= found.exposed_s < math.inf


def test_what_is_masked_or_too_large_is_no_number():
    counts = np.ma.masked_equal(np.arange(16), 5)
    assert np.flatnonzero(np.isnan(checked_spectrum(Spectrum(counts, EnergyCalibration(0, 1))).counts)) == [5]
    counts = np.where(np.arange(16) == 7, 1e39, 1.0)
    assert np.flatnonzero(~np.isfinite(checked_spectrum(Spectrum(counts, EnergyCalibration(0, 1))).counts)) == [7]


@pytest.mark.parametrize("width", [math.nan, math.inf, -1.0, 0.0, "1", True])
def test_a_width_of_a_pixel_that_is_none_is_left_out(width):
    assert checked_camera_frame(CameraFrame(np.ones((16, 16)), width)).mrad_per_px is None


@pytest.mark.parametrize("gain", [math.nan, math.inf, -1.0, 0.0, "1", True])
def test_a_gain_that_is_none_is_left_out(gain):
    taken = Spectrum(np.ones(16), EnergyCalibration(0.0, 1.0), None, gain)
    assert checked_spectrum(taken).counts_per_electron is None


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf, None, "1"])
def test_an_overview_has_a_size(size):
    with pytest.raises(BadFrameError, match="calibration"):
        checked_overview(Overview(np.ones((16, 16)), FrameOfReference((1.0, size))))


def test_an_exposure_counts_as_long_as_it_was_if_that_can_be():
    assert [checked_exposure(told, 2.0) for told in (None, 1.0, 2.0, 3.0)] == [2.0, 2.0, 2.0, 3.0]
    with pytest.raises(BadFrameError, match="cannot be"):
        checked_exposure(1e26, 2.0)


# --- in a run

NONSENSE = {
    "nothing": lambda taken: None,
    "a dict": lambda taken: {},
    "text": lambda taken: _with_array(taken, lambda a: np.full(a.shape, "3.5")),
    "objects": lambda taken: _with_array(taken, lambda a: np.full(a.shape, object())),
    "complex": lambda taken: _with_array(taken, lambda a: a + 1j),
    "colour": lambda taken: _with_array(taken, lambda a: np.stack([a] * 3, -1)),
    "empty": lambda taken: _with_array(taken, lambda a: a[:0]),
    "smaller": lambda taken: _with_array(taken, lambda a: a[: len(a) // 2]),
    "a calibration of nothing": lambda taken: dataclasses.replace(
        taken, **{"frame" if isinstance(taken, Overview) else "energy": 7} if not isinstance(taken, CameraFrame) else {}
    ),
    "an exposure of ages": lambda taken: (
        dataclasses.replace(taken, exposed_s=1e300)
        if isinstance(taken, CameraFrame)
        else dataclasses.replace(taken, metadata={"hardware_source": {"exposure": 1e300}})
    ),
}


def _with_array(taken, change):
    name = "counts" if isinstance(taken, Spectrum) else "image"
    return dataclasses.replace(taken, **{name: change(getattr(taken, name))})


class Senseless(FaultyInstrument):
    """From the second of a kind on, hands back nonsense in the place of what it has taken."""

    def __init__(self, instrument, kind, nonsense):
        super().__init__(instrument)
        self.kind, self.nonsense, self.left = kind, nonsense, 2

    def _spoiled(self, kind, taken):
        self.left -= kind == self.kind
        return self.nonsense(taken) if kind == self.kind and self.left <= 0 else taken

    def overview(self, spec):
        return self._spoiled("overview", super().overview(spec))

    def spectrum(self, position, spec):
        return self._spoiled("spectrum", super().spectrum(position, spec))

    def camera_frame(self, spec):
        return self._spoiled("frame", super().camera_frame(spec))


@pytest.mark.parametrize("kind", ["overview", "spectrum", "frame"])
@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_never_ends_a_run(kind, what, plasmonic, tmp_path, locks):
    """It is a frame that was lost: the run goes on, or waits for somebody; controls that were moved are put back."""
    direct = DirectInstrument(VirtualMicroscope(plasmonic, time_scale=1e5))
    for name, value in zip(PAIR, (0.01, -0.02), strict=True):
        direct.set(name, value)
    instrument = Senseless(direct, kind, NONSENSE[what])
    stage = AlignmentStage(spec=AlignmentSpec(frame=FrameSpec(exposure_s=0.02, binning=16)))
    given = plan(align=stage if kind == "frame" else None, drift=DriftCheck(every=2, pixels=32))
    engine = Engine(given, instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0, site=SITE)
    engine.start()
    until(lambda: engine.join(0) or engine.state.phase in ("suspended", "paused"))
    assert engine.error is None
    assert engine.state.finished is None or engine.state.finished.ending == "completed"
    engine.stop()
    assert engine.join(60)
    assert engine.state.finished.ending in ("stopped", "completed")
    if kind == "frame" and engine.state.finished.ending == "stopped":
        assert [direct.get(name) for name in PAIR] == pytest.approx([0.01, -0.02])


@pytest.mark.parametrize("what", NONSENSE)
def test_an_overview_that_fails_is_taken_again_when_somebody_has_helped(what, plasmonic, tmp_path, locks):
    instrument = FaultyInstrument(DirectInstrument(VirtualMicroscope(plasmonic, time_scale=1e5)))
    take, failing = instrument.overview, [True]
    instrument.overview = lambda spec: NONSENSE[what](take(spec)) if failing else take(spec)
    engine = Engine(plan(), instrument, tmp_path / "run", lock_folder=locks, beam_current_pA=50.0)
    engine.start()
    until(lambda: engine.join(0) or engine.state.phase == "suspended" or engine.state.prepared is not None)
    if what == "smaller":  # an overview like others, as nobody knows how it should be
        assert engine.join(60)
        return
    assert engine.state.phase == "suspended"
    failing.clear()
    engine.resume()
    assert engine.join(60)
    assert engine.state.finished.ending == "completed"
    frames = sum(kind == "overview" for kind, _ in instrument.commands)
    assert frames == 2
    assert engine.state.dose_e > engine.state.prepared.dose_e + 6 * engine._guardian.dose_of(plan().spectrum.exposure_s)


def test_a_buffer_that_a_driver_fills_again_is_not_the_overview(microscope):
    class OneBuffer(DirectInstrument):
        buffer = None

        def overview(self, spec):
            taken = super().overview(spec)
            if self.buffer is None:
                self.buffer = taken.image
            self.buffer[...] = taken.image
            return dataclasses.replace(taken, image=self.buffer)

    guardian = Guardian(OneBuffer(microscope))
    guardian.open()
    spec = OverviewSpec(fov_nm=300, pixels=32)
    first = guardian.overview(spec).image
    before = first.copy()
    assert not np.array_equal(guardian.overview(spec).image, before)
    assert np.array_equal(first, before)
