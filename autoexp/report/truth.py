"""What was there to be found: known where the specimen is virtual, or a recording in the virtual microscope.

The truth at a position is the spectrum that the microscope would record there without noise, in counts of the run's
exposure, scored by the run's scalarizer. The specimen is taken fresh and where the overview showed it.
"""

from __future__ import annotations

import logging
import pathlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoexp.campaigns import metrics
from autoexp.campaigns.campaign import Campaign, Replay, replay
from autoexp.campaigns.datasets import Dataset
from autoexp.plan import GridAgent, RandomAgent, VirtualInstrument
from autoexp.report.facts import Facts, Map
from autoexp.scalarizers import Scores
from autoexp.session import make_microscope

Array = npt.NDArray[np.float64]
BLOCK = 512
MAX_CANDIDATES = 300_000
"""Beyond so many places the truth is not computed: it would take hours."""
RANDOM_SEEDS = 20
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Truth:
    """The ground truth of a run.

    Attributes:
        candidates: (n,) value at every candidate.
        noise: (n,) standard deviation that a measurement there would have.
        points: value at the place of each measured point, by its id.
        raster: an even raster of as many points, on the same truth.
        random: random choices of as many points, on the same truth.
        how: how the truth was computed, as sentences for the reader.
    """

    candidates: Array
    noise: Array
    points: dict[int, float]
    raster: Replay
    random: Replay
    how: str


@dataclass(frozen=True)
class Score:
    """What a run found of what there was.

    Attributes:
        share_of_best: best true value found, 0 for the median of all candidates, 1 for the best.
        recall: share of the best 1 % of all candidates that was measured.
        top: number of candidates in that 1 %.
    """

    share_of_best: float
    recall: float
    top: int


def truth_of(facts: Facts) -> Truth | None:
    """The truth behind a run, or None where nobody knows it."""
    instrument, prepared = virtual_instrument(facts), facts.state.prepared
    if instrument is None or prepared is None or prepared.fov_nm is None:
        return None
    if facts.candidates is None or facts.state.spectra is None or facts.state.settings is None:
        return None
    if len(facts.candidates) > MAX_CANDIDATES:
        return None
    measured = facts.state.scored
    if not measured:
        return None
    try:
        at = _Scorer(facts, instrument)
        candidates = at(facts.candidates.positions)
        points = at(np.array([p.position for p in measured]))
        return Truth(
            candidates=candidates.value,
            noise=candidates.std,
            points={p.id: float(v) for p, v in zip(measured, points.value, strict=True)},
            raster=_baseline(facts, candidates, Campaign(agent=GridAgent(), budget=len(measured))),
            random=_baseline(
                facts, candidates, Campaign(agent=RandomAgent(), budget=len(measured), seeds=RANDOM_SEEDS)
            ),
            how=_how(instrument, at.recorded, followed=facts.plan is not None and facts.plan.drift is not None),
        )
    except Exception as error:  # the simulator, or a recorded file that is gone; the report does without
        log.warning("The ground truth of %s cannot be computed: %s", facts.folder, error)
        return None


def virtual_instrument(facts: Facts) -> VirtualInstrument | None:
    """The virtual microscope of a run: named in its plan, or in what Swift's instrument told of itself."""
    plan, prepared = facts.plan, facts.state.prepared
    if plan is not None and isinstance(plan.instrument, VirtualInstrument):
        return plan.instrument
    told = prepared.metadata.get("instrument") if prepared is not None else None
    specimen = told.get("specimen") if isinstance(told, dict) else None
    return VirtualInstrument(specimen=specimen) if isinstance(specimen, str) and specimen else None


def score_of(facts: Facts, truth: Truth) -> Score:
    """What the run found."""
    goal = facts.goal
    values = list(truth.points.values())
    return Score(
        share_of_best=float(metrics.share_of_best(values, truth.candidates, goal)[-1]),
        recall=float(metrics.recall(visited(facts), truth.candidates, goal)[-1]),
        top=len(metrics.top_candidates(truth.candidates, goal)),
    )


def visited(facts: Facts) -> list[int]:
    """The candidates that were measured, in order; a free position counts as the candidate nearest to it."""
    candidates = facts.candidates
    assert candidates is not None
    own = ((p.candidate, p.position) for p in facts.state.scored)
    return [i if i is not None and i < len(candidates) else candidates.nearest(place) for i, place in own]


def quality_of(facts: Facts, truth: Truth, prediction: Map) -> metrics.MapQuality | None:
    """How well a prediction agreed with new measurements on the candidates that it had not seen."""
    seen = visited(facts)[: prediction.after]
    return metrics.map_quality(prediction.mean, prediction.std, truth.candidates, seen, truth.noise)


class _Scorer:
    """The specimen's noise-free value at any position of the overview."""

    def __init__(self, facts: Facts, instrument: VirtualInstrument):
        from virtual_stem.microscope import ScanGeometry

        state = facts.state
        assert state.plan and state.prepared and state.spectra and state.settings and state.prepared.fov_nm
        self._geometry = ScanGeometry(state.prepared.fov_nm, state.prepared.center_nm, state.prepared.rotation_rad)
        self._microscope = make_microscope(instrument)
        self._exposure_s = state.plan.spectrum.exposure_s
        self._energy = facts.energy
        self._gain = state.spectra.counts_per_electron or 1.0
        self._scalarizer = state.settings.scalarizer
        self.recorded = self._microscope.specimen.recorded

    def __call__(self, positions: Array) -> Scores:
        stage: Array = np.asarray(self._geometry.to_stage(positions), dtype=float)
        blocks: list[Array] = np.array_split(stage, 1 + len(stage) // BLOCK)  # type: ignore[assignment]
        spectra = (self._spectra(block) for block in blocks if len(block))
        if self.recorded:  # it holds the noise that it was made with, and is played back without any other
            value = np.concatenate([self._scalarizer.values(s, self._energy) for s in spectra])
            return Scores(value, np.zeros(len(value)))
        scores = [self._scalarizer.score(s, self._energy, self._gain) for s in spectra]
        noise = np.concatenate([s.std for s in scores])
        return Scores(np.concatenate([s.value for s in scores]), np.nan_to_num(noise))

    def _spectra(self, stage_nm: Array) -> Array:
        """Expected counts (n, E) on the channels of the run."""
        counts = self._microscope.expected_counts(stage_nm, self._exposure_s)
        binning = counts.shape[1] // len(self._energy)
        return np.asarray(counts[:, : len(self._energy) * binning].reshape(len(counts), -1, binning).sum(axis=2))


def _baseline(facts: Facts, truth: Scores, campaign: Campaign) -> Replay:
    assert facts.candidates is not None and facts.state.settings is not None
    candidates = facts.candidates
    dataset = Dataset(
        name="ground truth",
        path="",
        image=candidates.image,
        positions=candidates.positions,
        shape=candidates.shape,
        scalar=truth.value,
        regions=facts.state.settings.regions,
    )
    return replay(dataset, campaign)


def _how(instrument: VirtualInstrument, recorded: bool, followed: bool) -> str:
    if recorded:
        name = pathlib.Path(instrument.specimen).name
        return (
            f"The specimen is a recording, {name}: the truth is the recorded spectrum at every candidate, interpolated "
            "between pixels, with the noise of the recording, scored by the same scalarizer."
        )
    neglected = any(instrument.drift_nm_s) and not followed
    drift = "The specimen drifted during the run; that is neglected. " if neglected else ""
    return (
        f"The truth is the noise-free spectrum of the specimen “{instrument.specimen}” (seed {instrument.seed}) at "
        "every candidate, in counts of this run's exposure, scored by the same scalarizer. "
        f"{drift}The specimen is taken fresh: dose and damage of the run are not in it."
    )
