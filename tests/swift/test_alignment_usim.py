"""Centring the disk of Nion's own simulator, by controls that act on it through a matrix nobody has told."""

from __future__ import annotations

import numpy as np
import pytest

from autoexp.guardian import ControlLimits, Guardian, SiteLimits
from autoexp.plan import AlignmentSpec, FrameSpec, SwiftInstrument
from autoexp.session import open_instrument
from autoexp.tasks.alignment import AlignmentTask

pytest.importorskip("nionswift_plugin.usim")

NAMES = ("AlignY", "AlignX")
LIMITS = SiteLimits(controls={name: ControlLimits(low=-0.2, high=0.2) for name in NAMES})


@pytest.fixture
def usim():
    """Nion's simulator with the aperture in, two more controls, and how to connect them to its deflectors."""
    with open_instrument(SwiftInstrument()) as instrument:
        assert instrument.identity.key.startswith("usim")
        stem = instrument.stem
        stem.SetVal("S_VOA", 1)
        controls = [stem.create_control(name) for name in NAMES]
        for control in controls:
            stem.add_control(control)

        def connect(J):
            for i, axis in enumerate("yx"):
                stem.add_control_inputs(f"CAperture.{axis}", [(c, float(J[i, j])) for j, c in enumerate(controls)])

        yield instrument, connect


def test_an_unknown_turned_and_mirrored_matrix(usim):
    instrument, connect = usim
    rng = np.random.default_rng(0)
    frames = []
    for trial in range(6):
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        J = turn @ np.diag([1.0, -1.0 if trial % 2 else 1.0])
        connect(J)
        guardian = Guardian(instrument, LIMITS)
        guardian.open()
        try:
            task = AlignmentTask(
                guardian, AlignmentSpec(controls=NAMES, frame=FrameSpec(exposure_s=0.05, binning=8), tolerance_px=3.0)
            )
            needed = []
            for _ in range(3):
                for name, value in zip(NAMES, np.linalg.solve(J, rng.uniform(-0.04, 0.04, 2)), strict=True):
                    guardian.move(name, float(value))
                found = task.run()
                assert found.success, found.reason
                needed.append(len(found.looks))
            assert found.response is not None
            assert found.response.mirrored in (bool(trial % 2), None)  # None if no move has told
            frames.append(needed)
        finally:
            assert guardian.restore() == []
    first, *later = np.transpose(frames)
    assert np.mean(first) <= 5
    assert np.median(later) <= 2
