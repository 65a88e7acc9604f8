"""Centring the disk of Nion's own simulator, by controls that act on it through a matrix nobody has told."""

from __future__ import annotations

import numpy as np
import pytest

from autoexp.guardian import Guardian
from autoexp.limits import ControlLimits, SiteLimits
from autoexp.plan import AlignmentSpec, FrameSpec, SwiftInstrument
from autoexp.session import open_instrument
from autoexp.tasks.alignment import AlignmentTask
from autoexp.testing.hidden import HiddenControls, turned

pytest.importorskip("nionswift_plugin.usim")

NAMES = ("AlignY", "AlignX")
LIMITS = SiteLimits(controls={name: ControlLimits(low=-0.2, high=0.2) for name in NAMES})


@pytest.fixture
def usim():
    """Nion's simulator with the aperture in, two more controls, and how to connect them to its deflectors."""
    with open_instrument(SwiftInstrument()) as instrument:
        assert instrument.identity.key.startswith("usim")
        yield instrument, HiddenControls(instrument.stem, NAMES)


def test_an_unknown_turned_and_mirrored_matrix(usim):
    instrument, hidden = usim
    rng = np.random.default_rng(0)
    frames = []
    for trial in range(6):
        J = turned(rng.uniform(0, 2 * np.pi), bool(trial % 2))
        hidden.connect(J)
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
