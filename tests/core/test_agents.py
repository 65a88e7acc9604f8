"""The static agents, and the checks that anybody can run on an agent or an instrument of their own."""

from __future__ import annotations

import numpy as np
import pytest

from autoexp.agents import make_agent
from autoexp.agents.space_filling import SpaceFillingPolicy
from autoexp.agents.static import FeaturePolicy, GridPolicy
from autoexp.patches import cut
from autoexp.plan import FeatureAgent, GridAgent, ListAgent, OverviewSpec, PatchSpec, RandomAgent, SpectrumSpec
from autoexp.testing import DirectInstrument, FaultyInstrument, check_agent, check_instrument
from virtual_stem.microscope import VirtualMicroscope

SPECS = [
    GridAgent(),
    RandomAgent(),
    ListAgent(positions=((0.5, 0.5), (0.9, 0.1), (0.1, 0.1))),
    FeatureAgent(size_px=4),
    FeatureAgent(size_px=4, polarity="dark"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_static_agents_keep_to_the_border(spec):
    check_agent(lambda candidates: make_agent(spec, candidates, seed=1, budget=9))


def test_space_filling_keeps_to_the_border_and_fills_space():
    check_agent(lambda candidates: SpaceFillingPolicy(candidates, seed=1))
    candidates = cut(np.zeros((64, 64), np.float32), PatchSpec(pixels=8, stride=4))
    points = np.array([s.position for s in SpaceFillingPolicy(candidates, 0).suggest(9)])
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(9)
    assert gaps.min() > 0.25


@pytest.mark.parametrize("budget", [1, 2, 7, 60, 10_000])
def test_a_raster_has_at_most_its_budget_and_is_even(budget):
    candidates = cut(np.zeros((128, 128), np.float32), PatchSpec(pixels=8, stride=4))
    policy = GridPolicy(candidates, budget)
    points = np.array([s.position for s in policy.suggest(budget)])
    assert len(points) == min(budget, len(candidates))
    assert len(np.unique(points, axis=0)) == len(points)
    by_row = np.unique(points[:, 0].round(6), return_counts=True)
    assert np.ptp(by_row[1]) <= 1
    assert np.ptp(np.diff(by_row[0])) <= 5 / 128 if len(by_row[0]) > 1 else True


def test_features_are_found_where_they_are():
    image = np.random.default_rng(0).normal(0, 0.1, (128, 128)).astype(np.float32)
    y, x = np.mgrid[:128, :128]
    places = [(30, 40), (90, 100), (64, 20)]
    for strength, (cy, cx) in zip((3, 2, 1), places, strict=True):
        image += strength * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
    candidates = cut(image, PatchSpec(pixels=8, stride=2))
    found = FeaturePolicy(candidates, FeatureAgent(size_px=4)).suggest(3)
    for suggestion, place in zip(found, places, strict=True):
        assert np.linalg.norm(np.array(suggestion.position) * 128 - place) < 3


class Repeats:
    """Says the same forever."""

    name = "repeats"

    def __init__(self, candidates):
        self.candidates = candidates

    def suggest(self, n, pending=()):
        return SpaceFillingPolicy(self.candidates, 0).suggest(1)

    def ingest(self, outcomes):
        pass


def test_the_check_finds_an_agent_that_repeats_itself():
    with pytest.raises(AssertionError, match=r"pending point|measured already"):
        check_agent(Repeats)


def test_the_check_of_instruments(plasmonic):
    overview, spectrum = OverviewSpec(fov_nm=300, pixels=32), SpectrumSpec(exposure_s=0.01)
    instrument = DirectInstrument(VirtualMicroscope(plasmonic, time_scale=100))
    check_instrument(instrument, overview, spectrum)
    faulty = FaultyInstrument(instrument)
    faulty.arm(None, "stale")
    with pytest.raises(AssertionError, match="same frame"):
        check_instrument(faulty, overview, spectrum)
    faulty.close_problems = ["probe stuck"]
    with pytest.raises(AssertionError, match="probe stuck"):
        check_instrument(faulty, overview, spectrum)
