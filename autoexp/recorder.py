"""Writes down what happens: every event goes to disk first, then into the state, then to whoever watches."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.agent import Prediction
from autoexp.errors import BadFrameError, DiskError, RunLogError, ScoreError
from autoexp.instrument import EnergyCalibration, Overview, Spectrum
from autoexp.lost_events import lost_aside
from autoexp.observers import Observer, Observers
from autoexp.plan import Plan, ZeroLossSpec
from autoexp.runlog import CheckedSpectra, RunLog, RunReader, checked_spectra, folded, record_refs
from autoexp.scalarizers import Scalarizer, Scores
from autoexp.scoring import Scorer
from autoexp.state import Point, RunState
from autoexp.status import Status, status_of
from autoexp.zero_loss import find_zero_loss

SCORE_S = 20.0
READS, AGAIN_S = 3, 0.05
SCORES_AS_TODAY = 3
"""Format of the journals since which scores are what they are: windows hold parts of channels."""


def _never() -> bool:
    """There is no hurry."""
    return False


class Recorder:
    """The journal of a run, its state, and its observers.

    Args:
        folder: the run's folder.
        observers: called after every event; one that raises, or hangs, is dropped.
        on_trouble: asked when the disk refuses a write: whether to try it again; see
            :class:`autoexp.runlog.RunLog`.
        hurried: whether nobody is to be waited for any more; asked while somebody is.

    Attributes:
        state: the fold of all events so far.
        status: what clients show; replaced, never changed.
        waited_s: time that the microscope has waited for decisions.
        score_hung: why the latest spectrum has no score, where the scalarizer gave no number in time; else empty.
        no_number: why the latest spectrum has no score, whatever the reason; empty if it has one.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        observers: tuple[Observer, ...] = (),
        on_trouble: Callable[[DiskError], bool] | None = None,
        hurried: Callable[[], bool] = _never,
    ):
        self._log = RunLog(folder, on_trouble)
        self.folder = self._log.folder
        try:
            self.state: RunState = folded(self._log.records, self.folder)
        except BaseException:
            self._log.close()
            raise
        self.waited_s = 0.0
        self.score_hung = self.no_number = ""
        self._offset_eV: float | None = None
        self.status: Status = status_of(self.state)
        self._observers = Observers(observers, hurried)
        self._scorer = Scorer(self.state.plan.decision_deadline_s if self.state.plan else SCORE_S, hurried)

    @property
    def records(self) -> list[ev.Record]:
        """All events so far."""
        return self._log.records

    @property
    def elapsed_s(self) -> float:
        """Seconds of the run so far."""
        return self._log.elapsed_s

    def close(self) -> None:
        """Release the folder."""
        self._log.close()
        self._observers.close()
        self._scorer.close()

    def append(self, *events: ev.Event) -> None:
        """Write events down, all at once, and tell everybody of each.

        Raises:
            RunLogError: they could not be written, or make no sense after what came before; nothing was written.
        """
        states: list[RunState] = []

        def follow(records: list[ev.Record]) -> None:
            for record in records:
                states.append((states[-1] if states else self.state).apply(record))

        for record, state in zip(self._log.append(*events, check=follow), states, strict=True):
            self.state = state
            self.status = status_of(self.state, self.waited_s)
            self._observers.tell(record, self.state)

    def enter(self, phase: ev.Phase, reason: str = "", remedy: ev.Verb | None = None) -> None:
        """Note that another phase begins."""
        self.append(ev.PhaseChanged(phase=phase, reason=reason, remedy=remedy))

    def start(self, run_id: str, plan: Plan, instrument: dict[str, Any]) -> None:
        """Note that the run begins; the plan is kept as a file too, ready to be run again."""
        self.append(ev.Started(run_id=run_id, plan=plan, software=software(), instrument=instrument))
        self._log.save_text("plan.json", plan.to_json())
        self._scorer.deadline_s = plan.decision_deadline_s

    def overview(self, overview: Overview, image: npt.NDArray[np.floating], candidates: int, dose_e: float) -> None:
        """Save the overview."""
        frame = overview.frame
        self.append(
            ev.Prepared(
                overview=self._log.save_array(self._free_name("overview"), image),
                shape=(image.shape[0], image.shape[1]),
                fov_nm=frame.fov_nm if frame else None,
                center_nm=frame.center_nm if frame else (0.0, 0.0),
                rotation_rad=frame.rotation_rad if frame else 0.0,
                candidates=candidates,
                dose_e=dose_e,
                metadata=dict(overview.metadata),
            )
        )

    def saved_overview(self) -> npt.NDArray[np.floating]:
        """The overview of a run that is resumed.

        Raises:
            RunLogError: it is missing or damaged.
        """
        if self.state.prepared is None:
            raise RunLogError(f"{self.folder} holds no overview yet.")
        return RunReader(self.folder).array(self.state.prepared.overview)

    def spectrum(self, point_id: int, spectrum: Spectrum, dose_e: float) -> None:
        """Save a spectrum, score it, and note that its point is measured.

        Raises:
            BadFrameError: it has another number of channels than those before.
        """
        opened = self._open_stream(spectrum)
        ref = self._log.append_spectrum(spectrum.counts)
        peak = self._zero_loss(spectrum)
        shift_eV = spectrum.energy.offset - opened.offset - (peak.position_eV if peak else 0.0)
        first, second = self._scores(spectrum.counts[None], [(shift_eV, peak)])
        self._tell_moved(spectrum.energy)
        self.append(
            ev.Measured(
                id=point_id,
                record=ref,
                value=float(first.value[0]),
                noise=float(first.std[0]),
                second=float(second.value[0]) if second else None,
                second_noise=float(second.std[0]) if second else 0.0,
                dose_e=dose_e,
                waited_s=round(self.waited_s, 6),
                shift_eV=shift_eV,
                zero_loss=peak,
            )
        )

    def failure(self, point_id: int, fault: str, message: str, dose_e: float, spectrum: Spectrum | None = None) -> None:
        """Note that a point gave nothing usable; what came is saved if it fits the stream."""
        record = None
        if spectrum is not None:
            self._open_stream(spectrum)
            record = self._log.append_spectrum(spectrum.counts)
        self.append(ev.Failed(id=point_id, fault=fault, message=message, record=record, dose_e=dose_e))

    def rescore(self) -> None:
        """Score everything that was measured with the scalarizer now in force."""
        if not self.state.measured:
            return
        try:
            found, trouble = self._stored(), ""
        except RunLogError as error:
            trouble = f"The stored spectra have no score: {error}"
            found = CheckedSpectra([], np.empty((0, len(self.energy())), np.float32), self.state.measured)
        self._warn_of(found.damaged)
        first, second = self._scores(found.counts, [(p.shift_eV, p.zero_loss) for p in found.points])
        self.score_hung = trouble or self.score_hung
        ids = [p.id for p in found.points]
        lost = dict.fromkeys((p.id for p in found.damaged), float("nan"))

        def by_id(values: npt.NDArray[np.float64]) -> dict[int, float]:
            return dict(zip(ids, values.tolist(), strict=True)) | lost

        self.append(
            ev.Rescored(
                format=ev.FORMAT_VERSION,
                values=by_id(first.value),
                noises=by_id(first.std),
                seconds=by_id(second.value) if second else {},
                second_noises=by_id(second.std) if second else {},
            )
        )

    def score_as_today(self) -> None:
        """Score what an earlier version has scored anew, where scores have changed since: all values mean the same."""
        started = next((r.event for r in self.records if isinstance(r.event, ev.Started)), None)
        again = any(isinstance(r.event, ev.Rescored) and r.event.format >= SCORES_AS_TODAY for r in self.records)
        if started is not None and started.format < SCORES_AS_TODAY and not again:
            self.rescore()

    def name_damaged(self) -> None:
        """Warn of measured points whose spectra are not on disk as they were measured; once of each."""
        self._warn_of(self._stored().damaged)

    def count_lost(self) -> None:
        """Count the dose of exposures of which only events behind a damaged line tell, and say so; once of each.

        Raises:
            RunLogError: what was set aside cannot be read.
        """
        lost = lost_aside(self.folder)
        if str(lost) and str(lost) not in self.state.warnings:
            begun = (r.event for r in self.records if isinstance(r.event, ev.ExposureBegun))
            more_e = max(0.0, lost.dose_e - sum(event.dose_e for event in begun if event.what == "lost"))
            self.append(ev.ExposureBegun(what="lost", exposure_s=0.0, dose_e=more_e), ev.Warned(message=str(lost)))

    def _warn_of(self, damaged: Sequence[Point]) -> None:
        if not damaged:
            return
        numbers = ", ".join(str(point.id + 1) for point in damaged)
        said = f"The stored spectra of these points cannot be read as they were measured: {numbers}."
        if said not in self.state.warnings:
            self.append(ev.Warned(message=said))

    def _stored(self) -> CheckedSpectra:
        """The spectra of all measured points; what cannot be read is tried again before that is believed."""
        channels = self.state.spectra.channels if self.state.spectra else 0
        refs = record_refs(self.records)
        for _ in range(READS - 1):
            with contextlib.suppress(RunLogError):
                return checked_spectra(self.folder, channels, self.state.measured, refs)
            time.sleep(AGAIN_S)
        return checked_spectra(self.folder, channels, self.state.measured, refs)

    def prediction(self, prediction: Prediction) -> None:
        """Save a prediction of the whole field; none that was saved before is replaced, be it after as many points."""
        array = np.stack([prediction.mean, prediction.std]).astype(np.float32)
        ref = self._log.save_array(self._free_name(f"prediction-{prediction.after:06d}"), array)
        known = prediction.evidence
        self.append(
            ev.Predicted(
                after=prediction.after,
                array=ref,
                coverage=prediction.coverage,
                density=dict(known.density) if known else {},
                shares=dict(known.shares) if known else {},
            )
        )

    def _free_name(self, name: str) -> str:
        """A name for an array under which none lies yet: one of which only lost events tell is kept as well."""
        names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
        return next(free for free in names if not os.path.lexists(self.folder / f"{free}.npy"))

    @property
    def axis(self) -> EnergyCalibration | None:
        """How the spectra are calibrated, as of the first; None before it."""
        opened = self.state.spectra
        return None if opened is None else EnergyCalibration(opened.offset, opened.scale, opened.units)

    def energy(self) -> npt.NDArray[np.float64]:
        """Energies of the channels (E,); empty before the first spectrum."""
        return np.empty(0) if self.state.spectra is None else self.state.spectra.energy

    def _tell_moved(self, energy: EnergyCalibration) -> None:
        """Warn where the camera's own calibration has moved since the spectrum before."""
        before, self._offset_eV = self._offset_eV, energy.offset
        if before is not None and abs(energy.offset - before) > energy.scale:
            moved = f"The energy axis has moved by {energy.offset - before:+.3g} eV"
            self.append(ev.Warned(message=f"{moved}; each spectrum is scored on its own calibration."))

    def _zero_loss(self, spectrum: Spectrum) -> ev.ZeroLossPeak | None:
        """Where the zero-loss peak is, if the plan wants energies to be measured from it; None where there is none."""
        spec = self._zero_loss_spec
        if spec is None:
            return None
        energy, gain = spectrum.energy.axis(len(spectrum.counts)), spectrum.counts_per_electron or 1.0
        found = find_zero_loss(spectrum.counts, energy, spec.within_eV, gain)
        position, width = float(found.position_eV[0]), float(found.width_eV[0])
        return ev.ZeroLossPeak(position_eV=position, width_eV=width) if np.isfinite(position) else None

    @property
    def _zero_loss_spec(self) -> ZeroLossSpec | None:
        return self.state.plan.spectrum.zero_loss if self.state.plan else None

    def _scores(
        self, spectra: npt.NDArray[np.floating], axes: Sequence[tuple[float, object]]
    ) -> tuple[Scores, Scores | None]:
        """What the scalarizer in force makes of spectra, and the second one, if there is one.

        Args:
            spectra: (n, E).
            axes: what is added to the energies of each, eV, and its zero-loss peak, if it has one.
        """
        settings, spec = self.state.settings, self._zero_loss_spec
        assert settings is not None
        self.score_hung = self.no_number = ""
        if spec is not None and len(axes) and all(peak is None for _, peak in axes):
            self.no_number = f"There is no zero-loss peak within {spec.within_eV:g} eV of 0 eV."
        shift_eV = np.array([shift if spec is None or peak is not None else np.nan for shift, peak in axes])
        first = self._score(settings.scalarizer, spectra, shift_eV)
        if not self.no_number and len(spectra) and not np.isfinite(first.value).any():
            self.no_number = f"The score ({settings.scalarizer.describe()}) gives no number."
        return first, self._score(settings.second, spectra, shift_eV) if settings.second else None

    def _score(
        self, scalarizer: Scalarizer, spectra: npt.NDArray[np.floating], shift_eV: npt.NDArray[np.float64]
    ) -> Scores:
        """Scores; NaN, and a warning, where the scalarizer cannot cope, so that the spectrum itself is never lost."""
        assert self.state.spectra is not None
        gain = self.state.spectra.counts_per_electron or 1.0
        try:
            return self._scorer.score(scalarizer, spectra, self.energy(), gain, shift_eV)
        except Exception as error:  # a user's function may raise anything
            if isinstance(error, ScoreError):
                self.score_hung = f"The score gave no number: {error}."
            said = f"The scalarizer gives no number: {error}"
            self.no_number = said
            if said not in self.state.warnings[-1:]:
                self.append(ev.Warned(message=said))
            return Scores(np.full(len(spectra), np.nan), np.zeros(len(spectra)))

    def _open_stream(self, spectrum: Spectrum) -> ev.SpectraOpened:
        """The stream to which a spectrum belongs.

        Raises:
            BadFrameError: it has another number of channels than those before.
        """
        channels = len(spectrum.counts)
        if self.state.spectra is None:
            energy = spectrum.energy
            self.append(
                ev.SpectraOpened(
                    file="spectra.bin",
                    channels=channels,
                    offset=energy.offset,
                    scale=energy.scale,
                    units=energy.units,
                    counts_per_electron=spectrum.counts_per_electron,
                )
            )
        elif self.state.spectra.channels != channels:
            expected = self.state.spectra.channels
            raise BadFrameError(f"The camera returned {channels} channels; this run holds {expected}.")
        assert self.state.spectra is not None
        return self.state.spectra


def software() -> dict[str, str]:
    """Versions of what a run is made with."""
    names = ("nionswift-autoexp", "nionswift", "nionswift-instrumentation", "numpy", "scipy", "torch", "gpytorch")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
