"""What the tests share: a quick virtual instrument, and folders that are thrown away."""

from __future__ import annotations

import os
import pathlib

import pytest
from hypothesis import HealthCheck, settings

from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes tells how busy the machine is, and nothing of what is tested. All else is as Hypothesis
# chooses it, on a server of continuous integration or at a desk.
chosen = settings.get_profile(settings.get_current_profile_name())
quiet = {*chosen.suppress_health_check, HealthCheck.too_slow}
settings.register_profile("unhurried", chosen, deadline=None, suppress_health_check=list(quiet))
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def plasmonic():
    """The plasmonic specimen, made once."""
    return make_specimen("plasmonic", 0)


@pytest.fixture
def microscope(plasmonic):
    """A virtual microscope whose exposures take a two-hundredth of their time."""
    return VirtualMicroscope(plasmonic, time_scale=200)


@pytest.fixture
def instrument(microscope):
    """The same behind the instrument's protocols, with faults to arm."""
    return FaultyInstrument(DirectInstrument(microscope))


@pytest.fixture(autouse=True)
def no_moves_before(monkeypatch):
    """The virtual microscope of each test is another one, though all have one name: none was moved before."""
    monkeypatch.setattr("autoexp.controls._moves", {})


@pytest.fixture
def locks(tmp_path) -> pathlib.Path:
    """A folder for instrument locks of this test alone."""
    return tmp_path / "locks"


def pytest_collection_modifyitems(items):
    """Where many more cases are asked for than usual, nobody knows how long a test may take."""
    if int(os.environ.get("AUTOEXP_FUZZ", 0)) > 1000:
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)
