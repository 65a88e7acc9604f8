"""What the tests share: a quick virtual instrument, and folders that are thrown away."""

from __future__ import annotations

import os
import pathlib

import pytest

from autoexp.testing import DirectInstrument, FaultyInstrument
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

os.environ.setdefault("OMP_NUM_THREADS", "1")


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


@pytest.fixture
def locks(tmp_path) -> pathlib.Path:
    """A folder for instrument locks of this test alone."""
    return tmp_path / "locks"
