"""Checks that an agent or an instrument keeps to its border. Each raises AssertionError with what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autoexp.agent import Agent, Outcome, Predictor, Suggestion
from autoexp.errors import InstrumentError
from autoexp.instrument import Instrument
from autoexp.patches import Candidates, cut
from autoexp.plan import OverviewSpec, PatchSpec, Region, SpectrumSpec


def check_agent(make: Callable[[Candidates], Agent], steps: int = 25) -> None:
    """Make sure that an agent decides as the engine needs it.

    It must suggest allowed candidates only, none twice and none pending; take failures; run dry rather than repeat;
    and be a function of what it was told: a second one that is told the same suggests the same.

    Args:
        make: makes a fresh agent on candidates.
        steps: how many points to go through.

    Raises:
        AssertionError: what is wrong.
    """
    candidates = cut(_image(), PatchSpec(pixels=8, stride=8)).restricted(
        [Region(id="no", kind="exclude", top=0.0, left=0.0, bottom=0.3, right=0.3)]
    )
    agent, twin = make(candidates), make(candidates)
    assert isinstance(agent, Agent), "an agent needs a name, suggest(n, pending) and ingest(outcomes)"
    assert isinstance(agent.name, str) and agent.name, "an agent needs a name"
    seen: set[int] = set()
    for step in range(steps):
        pending = agent.suggest(1)
        if not pending:
            break
        first = _checked(pending, candidates, seen)
        assert twin.suggest(1) == pending, "a second agent that was told the same suggests something else"
        following = agent.suggest(1, pending)
        if following:
            second = _checked(following, candidates, seen)
            assert second.candidate is None or second.candidate != first.candidate, "a pending point is suggested again"
        outcome = _outcome(first, failed=step % 7 == 5)
        for each in (agent, twin):
            each.ingest([outcome])
        if first.candidate is not None:
            seen.add(first.candidate)
    _check_runs_dry(make(candidates), candidates)
    if isinstance(agent, Predictor) and (prediction := agent.predict()) is not None:
        assert prediction.mean.shape == prediction.std.shape == (len(candidates),), "one prediction a candidate, please"
        assert np.isfinite(prediction.mean).all() and (prediction.std >= 0).all(), "predictions must be finite"


def check_instrument(instrument: Instrument, overview: OverviewSpec, spectrum: SpectrumSpec) -> None:
    """Make sure that an instrument does what the engine relies on; it exposes three spectra.

    Args:
        instrument: what to check; nobody else may use it.
        overview: a frame that it can take.
        spectrum: a spectrum that it can take.

    Raises:
        AssertionError: what is wrong.
    """
    assert instrument.identity.key, "an instrument needs a key"
    instrument.open()
    try:
        taken = instrument.overview(overview)
        assert taken.image.shape == (overview.pixels, overview.pixels), "the overview has another shape than asked for"
        assert np.isfinite(taken.image).all(), "the overview holds numbers that are none"
        instrument.check()
        spectra = [instrument.spectrum(p, spectrum) for p in ((0.5, 0.5), (0.0, 0.0), (1.0, 1.0))]
        for each in spectra:
            assert each.counts.ndim == 1, "a spectrum is one row of numbers"
            assert each.energy.scale, "a spectrum needs an energy scale"
        assert len({s.counts.tobytes() for s in spectra}) == 3, "three exposures gave the same frame"
        _check_controls(instrument)
    finally:
        problems = instrument.close()
    assert isinstance(problems, list), "close() returns the list of what could not be put back"
    assert not problems, f"the instrument could not be put back: {problems}"
    assert instrument.close() == [], "closing twice must do no harm"


def _check_controls(instrument: Instrument) -> None:
    for act in (lambda: instrument.get("no such control"), lambda: instrument.set("no such control", 1.0)):
        try:
            act()
        except InstrumentError:
            continue
        raise AssertionError("a control that does not exist must raise InstrumentError")


def _check_runs_dry(agent: Agent, candidates: Candidates) -> None:
    told: set[int] = set()
    for _ in range(len(candidates) + 5):
        suggestions = agent.suggest(1)
        if not suggestions:
            return
        candidate = suggestions[0].candidate
        if candidate is not None:
            assert candidate not in told, f"candidate {candidate} is suggested again after it was measured"
            told.add(candidate)
        agent.ingest([_outcome(suggestions[0], failed=False)])
    raise AssertionError("the agent goes on although nothing is left to measure")


def _checked(suggestions: list[Suggestion], candidates: Candidates, seen: set[int]) -> Suggestion:
    assert len(suggestions) == 1, f"one suggestion was asked for, {len(suggestions)} came"
    suggestion = suggestions[0]
    assert suggestion.reason, "a suggestion needs a reason for the operator"
    assert all(0 <= p <= 1 for p in suggestion.position), f"{suggestion.position} lies outside the field"
    if suggestion.candidate is not None:
        assert candidates.allowed[suggestion.candidate], "a region forbids to measure there"
        assert suggestion.candidate not in seen, f"candidate {suggestion.candidate} is measured already"
    return suggestion


def _outcome(suggestion: Suggestion, failed: bool) -> Outcome:
    if failed:
        return Outcome("failed", suggestion.candidate, suggestion.position)
    y, x = suggestion.position
    return Outcome("ok", suggestion.candidate, suggestion.position, float(np.sin(7 * y) + np.cos(5 * x)), 0.05)


def _image() -> np.ndarray:
    y, x = np.mgrid[:96, :96] / 96
    noise = np.random.default_rng(0).normal(0, 0.05, (96, 96))
    return np.asarray(np.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) * 30) + 0.3 * np.sin(20 * x) + noise, np.float32)
