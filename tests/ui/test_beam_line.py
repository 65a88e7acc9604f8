"""The line that says where the beam is."""

import pytest

from autoexp.beam import BeamState
from nionswift_plugin.autoexp_ui import texts


@pytest.mark.parametrize(
    ("state", "place_nm", "line"),
    [
        (BeamState(), None, ""),
        (BeamState(False, (0.5, 0.5), 66.0), (87.0, 132.2), "Beam: blanked, 0:34"),
        (BeamState(True, None, 99.5), None, "Beam: on, 0:00"),
        (BeamState(True, (0.2, 0.3), 40.0), (87.4, 131.6), "Beam: on, parked at x 132, y 87 nm, 1:00"),
    ],
)
def test_it_says_where_and_for_how_long(state, place_nm, line):
    assert texts.beam(state, 100.0, place_nm) == line
