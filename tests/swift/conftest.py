"""Swift's hardware layer, with no window, on the virtual microscope."""

from __future__ import annotations

import contextlib
import os

import pytest

from autoexp.swift.headless import swift_session
from autoexp.swift.instrument import find_instrument
from virtual_stem.devices import VirtualSTEM
from virtual_stem.microscope import VirtualMicroscope

os.environ.setdefault("HOME", os.path.expanduser("~"))


@pytest.fixture
def make_stem(plasmonic):
    """Makes a registered virtual STEM and Swift's instrument in front of it; one at a time."""

    @contextlib.contextmanager
    def make(time_scale=10.0, **given):
        stem = VirtualSTEM(VirtualMicroscope(plasmonic, time_scale=time_scale, **given))
        with swift_session(stem):
            yield stem, find_instrument()

    return make


@pytest.fixture
def stem(make_stem):
    """A registered virtual STEM, ten times as fast as the wall clock, and Swift's instrument in front of it."""
    with make_stem() as made:
        yield made
