"""The deep-kernel agent: what it may suggest, why, and that it is a function of what it was told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.agent import Agent, Finisher, Outcome, Predictor, Suggestion
from autoexp.agents import make_agent
from autoexp.agents.deep_kernel import DeepKernelPolicy
from autoexp.errors import MissingDependencyError, PlanError
from autoexp.models.acquisition import undominated
from autoexp.patches import Candidates, cut
from autoexp.plan import (
    Costs,
    DeepKernelAgent,
    ExpectedHypervolumeImprovement,
    ExpectedImprovement,
    MaximumVariance,
    PatchSpec,
    ProbabilityOfImprovement,
    Region,
    StopRule,
    ThompsonSampling,
    UpperConfidenceBound,
)
from autoexp.testing import check_agent

ACQUISITIONS = [
    ExpectedImprovement(),
    UpperConfidenceBound(),
    ProbabilityOfImprovement(),
    ThompsonSampling(),
    MaximumVariance(),
    ExpectedHypervolumeImprovement(),
]


def particles(pixels=160, seed=0):
    """Bright discs on a noisy film; what is worth measuring is their rims."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:pixels, :pixels]
    image = 0.3 * rng.normal(size=(pixels, pixels))
    for cy, cx in rng.uniform(10, pixels - 10, (14, 2)):
        image += 5 / (1 + np.exp(np.hypot(y - cy, x - cx) - 9))
    return cut(image.astype(np.float32), PatchSpec(pixels=16, stride=4))


def rims(candidates: Candidates):
    """The edge signal (n,) of each candidate: mean gradient of its patch."""
    middle = candidates.patches(np.arange(len(candidates)))[:, 4:12, 4:12]
    dy, dx = np.gradient(middle, axis=(1, 2))
    return 1e5 * np.hypot(dy.mean(axis=(1, 2)), dx.mean(axis=(1, 2)))


@pytest.fixture(scope="module")
def field():
    candidates = particles()
    return candidates, rims(candidates)


def measure(suggestion, truth, noise=0.0):
    return Outcome("ok", suggestion.candidate, suggestion.position, float(truth[suggestion.candidate]), noise)


def run(agent, truth, steps, lag=0):
    """Measure as the engine does, with ``lag`` points in flight; all suggestions in order."""
    flying, found = [], []
    for _ in range(steps):
        suggestions = agent.suggest(1, flying)
        if not suggestions:
            break
        flying += suggestions
        found += suggestions
        while len(flying) > lag:
            agent.ingest([measure(flying.pop(0), truth)])
    return found


@pytest.mark.parametrize("acquisition", ACQUISITIONS, ids=lambda a: a.kind)
@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_it_keeps_to_the_border(acquisition, goal):
    spec = DeepKernelAgent(acquisition=acquisition, goal=goal, seeds=4, refit_every=3)
    check_agent(lambda candidates: make_agent(spec, candidates, 1, 30))


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_it_finds_what_is_worth_measuring(field, goal):
    candidates, truth = field
    truth = truth if goal == "maximize" else -truth
    sign = 1 if goal == "maximize" else -1
    best = set(np.argsort(-sign * truth)[: len(truth) // 50])
    found = [
        len(
            best & {s.candidate for s in run(DeepKernelPolicy(candidates, DeepKernelAgent(goal=goal), seed), truth, 45)}
        )
        for seed in range(2)
    ]
    assert np.mean(found) / 45 > 6 * len(best) / len(truth)


def test_the_prediction_is_calibrated_and_says_after_how_many_points(field):
    candidates, truth = field
    noisy = truth + np.random.default_rng(0).normal(0, 0.05 * truth.std(), len(truth))
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(acquisition=MaximumVariance()), 0)
    assert isinstance(agent, Agent)
    assert isinstance(agent, Predictor)
    assert agent.predict() is None
    done = [s.candidate for s in run(agent, noisy, 60)]
    prediction = agent.predict()
    rest = np.setdiff1d(np.arange(len(truth)), done)
    inside = np.abs(noisy - prediction.mean)[rest] < 1.6449 * prediction.std[rest]
    assert prediction.after == 60
    assert 0.8 < prediction.coverage <= 1
    assert 0.8 < inside.mean() < 0.99
    assert np.corrcoef(prediction.mean[rest], truth[rest])[0, 1] > 0.7


@pytest.mark.parametrize("acquisition", ACQUISITIONS, ids=lambda a: a.kind)
def test_made_anew_and_told_everything_at_once_it_decides_the_same(field, acquisition):
    candidates, truth = field
    spec = DeepKernelAgent(acquisition=acquisition, seeds=6, refit_every=4)
    live = DeepKernelPolicy(candidates, spec, 5)
    found = run(live, truth, 24, lag=2)
    flying = found[22:]
    outcomes = [measure(s, truth) for s in found[:22]]
    again = DeepKernelPolicy(candidates, spec, 5)
    again.ingest(outcomes)
    assert again.suggest(3, flying) == live.suggest(3, flying)
    np.testing.assert_array_equal(again.predict().mean, live.predict().mean)
    np.testing.assert_array_equal(again.predict().std, live.predict().std)
    assert again.predict().coverage == live.predict().coverage


@given(st.lists(st.integers(0, 20), max_size=4), st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_how_outcomes_are_handed_in_does_not_matter(field, cuts, seed):
    candidates, truth = field
    rng = np.random.default_rng(seed)
    outcomes = [
        Outcome("failed" if i % 6 == 5 else "ok", int(c), tuple(candidates.positions[c]), float(truth[c]), 10.0)
        for i, c in enumerate(rng.permutation(len(truth))[:20])
    ]
    edges = [0, *sorted(cuts), 20]
    parts, whole = (DeepKernelPolicy(candidates, DeepKernelAgent(seeds=5, refit_every=3), seed) for _ in range(2))
    for a, b in itertools.pairwise(edges):
        parts.ingest(outcomes[a:b])
    whole.ingest(outcomes)
    assert parts.suggest(2) == whole.suggest(2)


def test_regions_are_obeyed_and_it_runs_dry(field):
    candidates, truth = field
    small = candidates.restricted([Region(id="a", kind="include", top=0.4, left=0.4, bottom=0.5, right=0.5)])
    agent = DeepKernelPolicy(small, DeepKernelAgent(seeds=3), 0)
    found = run(agent, truth, 1000)
    assert sorted(s.candidate for s in found) == np.flatnonzero(small.allowed).tolist()
    assert agent.suggest(5) == []
    nowhere = candidates.restricted([Region(id="a", kind="exclude", top=0, left=0, bottom=1, right=1)])
    assert DeepKernelPolicy(nowhere, DeepKernelAgent(), 0).suggest(2) == []


def test_several_suggestions_differ_and_do_not_crowd(field):
    candidates, truth = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(acquisition=MaximumVariance(), seeds=5), 0)
    run(agent, truth, 20)
    several = agent.suggest(6)
    assert len({s.candidate for s in several}) == 6
    one_by_one = [agent.suggest(1)[0]]
    while len(one_by_one) < 6:
        one_by_one += agent.suggest(1, one_by_one)
    assert several == one_by_one


def test_failures_and_numbers_that_are_none_are_not_learned_and_not_suggested_again(field):
    candidates, truth = field
    agent, clean = (DeepKernelPolicy(candidates, DeepKernelAgent(seeds=5), 0) for _ in range(2))
    good = [Outcome("ok", i, tuple(candidates.positions[i]), float(truth[i])) for i in range(0, 600, 60)]
    bad = [
        Outcome("failed", 3, tuple(candidates.positions[3])),
        Outcome("skipped", 4, tuple(candidates.positions[4])),
        Outcome("ok", 5, tuple(candidates.positions[5]), float("nan")),
        Outcome("ok", 6, tuple(candidates.positions[6]), float("inf")),
        Outcome("ok", 7, tuple(candidates.positions[7]), 1.0, noise=float("nan")),
    ]
    agent.ingest([*good, *bad])
    clean.ingest([*good, bad[-1]])
    np.testing.assert_array_equal(agent.predict().mean, clean.predict().mean)
    assert not {3, 4, 5, 6, 7} & {s.candidate for s in agent.suggest(50)}


def test_an_operators_own_position_is_learned_from(field):
    candidates, truth = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=4), 0)
    spots = [(0.31, 0.52), (0.9, 0.1), (0.5, 0.5), (0.15, 0.85), (0.7, 0.33)]
    agent.ingest([Outcome("ok", None, p, float(truth[candidates.nearest(p)])) for p in spots])
    assert agent.predict().after == 5
    pending = Suggestion(None, (0.2, 0.2), "asked for")
    assert agent.suggest(1, [pending])
    exact = tuple(candidates.positions[77])
    agent.ingest([Outcome("ok", None, exact, 3.0)])
    assert 77 not in {s.candidate for s in agent.suggest(40)}


@pytest.mark.parametrize(
    ("values", "words"),
    [((7.0, 7.0), "all 6 values so far are equal"), ((0.0, 0.0), "equal")],
)
def test_constant_targets_fill_space_and_say_so(field, values, words):
    candidates, _ = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=4), 0)
    agent.ingest([Outcome("ok", i * 50, tuple(candidates.positions[i * 50]), values[i % 2]) for i in range(6)])
    suggestion = agent.suggest(1)[0]
    assert words in suggestion.reason
    assert "filling space" in suggestion.reason
    assert agent.predict() is None


def test_a_constant_overview_fills_space_and_says_so():
    candidates = cut(np.full((64, 64), 3.0, np.float32), PatchSpec(pixels=8, stride=8))
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=3), 0)
    found = run(agent, np.arange(64.0), 64)
    assert len({s.candidate for s in found}) == 64
    assert all("filling space" in s.reason for s in found)
    assert agent.predict() is None


def way(found):
    """Length of the way through all suggestions, fields."""
    return float(np.linalg.norm(np.diff([s.position for s in found], axis=0), axis=1).sum())


def test_travel_cost_shortens_the_way(field):
    candidates, truth = field
    ways = [
        way(run(DeepKernelPolicy(candidates, DeepKernelAgent(seeds=5, costs=Costs(travel=rate)), 3), truth, 40)[5:])
        for rate in (0.0, 2.0)
    ]
    assert ways[1] < 0.6 * ways[0]


def test_damage_cost_keeps_points_apart(field):
    candidates, truth = field

    def closest(costs):
        agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=5, costs=costs), 3)
        rows = [s.candidate for s in run(agent, truth, 40, lag=1)]
        away = np.linalg.norm(candidates.centres[rows][:, None] - candidates.centres[rows][None], axis=2)
        return away[np.triu_indices(len(rows), 1)].min()

    assert closest(Costs()) < 8
    assert closest(Costs(damage=20, damage_px=8)) > 12


def test_costs_do_not_break_the_sequence(field):
    candidates, truth = field
    spec = DeepKernelAgent(seeds=5, costs=Costs(travel=1.0, damage=1.0))
    live, again = (DeepKernelPolicy(candidates, spec, 5) for _ in range(2))
    found = run(live, truth, 20, lag=2)
    again.ingest([measure(s, truth) for s in found[:18]])
    assert again.suggest(3, found[18:]) == live.suggest(3, found[18:])


def test_it_stops_when_little_is_left_to_find(field):
    candidates, truth = field
    for seed in range(3):
        agent = DeepKernelPolicy(candidates, DeepKernelAgent(stop=StopRule(within=0.5)), seed)
        found = run(agent, truth, 400)
        assert isinstance(agent, Finisher)
        assert len(found) < 400
        assert "the chance of anything higher than the best" in agent.finished
        values = truth[[s.candidate for s in found]]
        assert truth.max() <= values.max() + 0.5 * values.std()


def test_a_map_that_is_known_well_enough_ends_the_run(field):
    candidates, truth = field
    spec = DeepKernelAgent(acquisition=MaximumVariance(), stop=StopRule(within=0.9))
    agent = DeepKernelPolicy(candidates, spec, 0)
    assert len(run(agent, truth, 400)) < 400
    assert agent.finished.startswith("no value is uncertain by more than ±")


def test_without_a_rule_it_goes_on(field):
    candidates, truth = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(), 0)
    run(agent, truth, 30)
    assert agent.finished == ""


def test_two_goals_find_the_front_of_compromises(field):
    """Rims against brightness: the area dominated after some points is larger than that found for either alone."""
    candidates, truth = field
    middle = candidates.patches(np.arange(len(candidates)))[:, 4:12, 4:12].mean(axis=(1, 2)).astype(float)
    values = np.stack([truth / truth.std(), middle / middle.std()], axis=1)
    corner = values.min(axis=0)

    def area(acquisition, seed):
        agent = DeepKernelPolicy(candidates, DeepKernelAgent(acquisition=acquisition), seed)
        rows = []
        for _ in range(35):
            (s,) = agent.suggest(1)
            first, second = values[s.candidate]
            rows.append(s.candidate)
            agent.ingest([Outcome("ok", s.candidate, s.position, float(first), 0.0, float(second))])
        found = values[rows]
        front = found[undominated(found)]
        front = front[np.argsort(-front[:, 0])]
        heights = np.diff(np.concatenate([corner[1:], front[:, 1]]))
        return float(((front[:, 0] - corner[0]) * heights).sum())

    both = np.mean([area(ExpectedHypervolumeImprovement(), seed) for seed in range(3)])
    first = np.mean([area(ExpectedImprovement(), seed) for seed in range(3)])
    assert both > first


def test_a_compromise_without_a_second_value_looks_for_the_first(field):
    candidates, truth = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(acquisition=ExpectedHypervolumeImprovement(), seeds=4), 0)
    found = run(agent, truth, 12, lag=1)
    assert len({s.candidate for s in found}) == 12


def test_one_candidate():
    candidates = cut(np.arange(64, dtype=np.float32).reshape(8, 8), PatchSpec(pixels=8, stride=8))
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=1), 0)
    assert len(run(agent, np.array([1.0]), 3)) == 1


def test_a_scalarizer_that_is_zero_almost_everywhere(field):
    candidates, truth = field
    sparse = np.where(truth > np.quantile(truth, 0.995), truth, 0.0)
    found = run(DeepKernelPolicy(candidates, DeepKernelAgent(seeds=5), 1), sparse, 40)
    assert len({s.candidate for s in found}) == 40


def test_heavy_tails_leave_it_searching(field):
    candidates, truth = field
    wild = truth + truth.std() * np.random.default_rng(2).standard_cauchy(len(truth))
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=8), 1)
    found = run(agent, wild, 40)
    assert len({s.candidate for s in found}) == 40
    assert np.isfinite(agent.predict().std).all()
    assert (agent.predict().std > 0).all()


def test_a_place_measured_again_and_again_is_learned_from(field):
    candidates, truth = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=4), 1)
    spot = tuple(candidates.positions[300])
    rng = np.random.default_rng(0)
    others = [measure(Suggestion(i, tuple(candidates.positions[i]), ""), truth) for i in (5, 400, 900)]
    agent.ingest(others + [Outcome("ok", 300, spot, float(truth[300] + rng.normal()), 1.0) for _ in range(12)])
    assert agent.predict().mean[300] == pytest.approx(float(truth[300]), abs=0.2 * float(truth.std()))
    assert agent.suggest(1)[0].candidate != 300


def test_torch_that_raises_in_a_refit_leaves_the_last_good_one(field, monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
    pytest.importorskip("gpytorch", reason="gpytorch is not installed", exc_type=ImportError)
    from autoexp.models import deep

    candidates, truth = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(kernel="deep", seeds=6, refit_every=6), 0)
    run(agent, truth, 8)

    def broken(*args):
        raise RuntimeError("DefaultCPUAllocator: not enough memory")

    monkeypatch.setattr(deep, "_train", broken)
    suggestion = run(agent, truth, 6)[-1]
    assert "the fit to 12 points failed (DefaultCPUAllocator" in suggestion.reason
    assert np.isfinite(agent.predict().mean).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "uint16", "float64"])
def test_any_scale_and_type_of_image_decides_alike(scale, dtype):
    base = particles(96).image
    if dtype == "uint16":
        base = np.round(1000 * (base - base.min()))
        scale = 1
    image = (base * scale).astype(dtype)
    candidates = cut(image, PatchSpec(pixels=16, stride=4))
    same = cut(base.astype(np.float32), PatchSpec(pixels=16, stride=4))
    truth = rims(same)
    found = [
        [s.candidate for s in run(DeepKernelPolicy(c, DeepKernelAgent(seeds=5), 0), truth, 15)]
        for c in (candidates, same)
    ]
    assert len(set(found[0]) & set(found[1])) >= 12
    with pytest.raises(PlanError, match="colour image"):
        cut(np.stack([image] * 3, axis=-1), PatchSpec(pixels=16, stride=4))


@pytest.mark.parametrize("outlier", [1e12, -1e12])
def test_one_wild_value_does_not_stop_it(field, outlier):
    candidates, truth = field
    wild = truth.copy()
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=5), 1)
    wild[run(agent, wild, 8)[-1].candidate] = outlier
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=5), 1)
    found = run(agent, wild, 30)
    assert len({s.candidate for s in found}) == 30
    assert np.isfinite(agent.predict().mean).all()


@pytest.mark.parametrize("acquisition", ACQUISITIONS, ids=lambda a: a.kind)
def test_reasons_are_one_sentence_with_numbers(field, acquisition):
    candidates, truth = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(acquisition=acquisition, seeds=5), 0)
    found = run(agent, truth, 12)
    assert all(s.reason.startswith("first look") and s.mean is None for s in found[:5])
    for suggestion in found[5:]:
        assert suggestion.reason.startswith("predicted ")
        assert "±" in suggestion.reason
        assert "\n" not in suggestion.reason
        assert np.isfinite([suggestion.mean, suggestion.std, suggestion.acquisition]).all()


def test_a_fit_that_fails_is_told_to_the_operator(field, monkeypatch):
    candidates, truth = field
    agent = DeepKernelPolicy(candidates, DeepKernelAgent(seeds=5, refit_every=5), 0)
    run(agent, truth, 9)

    def broken(*args):
        raise FloatingPointError("overflow")

    monkeypatch.setattr("autoexp.models.surrogate.fit_map", broken)
    suggestion = run(agent, truth, 2)[-1]
    assert "the fit to 10 points failed (overflow); the one before it is used" in suggestion.reason


def test_the_deep_kernel_decides_too(field):
    pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
    pytest.importorskip("gpytorch", reason="gpytorch is not installed", exc_type=ImportError)
    candidates, truth = field
    spec = DeepKernelAgent(kernel="deep", seeds=6, refit_every=6)
    live, again = (DeepKernelPolicy(candidates, spec, 0) for _ in range(2))
    found = run(live, truth, 14)
    again.ingest([measure(s, truth) for s in found])
    assert again.suggest(1) == live.suggest(1)
    assert live.predict().mean.shape == (len(candidates),)


def test_the_deep_kernel_without_torch_says_what_to_install(field, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("autoexp.models.deep.import_module", missing)
    with pytest.raises(MissingDependencyError, match="pip install"):
        make_agent(DeepKernelAgent(kernel="deep"), field[0], 0, 10)
