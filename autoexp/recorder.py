"""Writes down what happens: every event goes to disk first, then into the state, then to whoever watches."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.agent import Prediction
from autoexp.errors import BadFrameError, RunLogError
from autoexp.instrument import Overview, Spectrum
from autoexp.plan import Plan
from autoexp.runlog import RunLog, RunReader, stored_spectra
from autoexp.scalarizers import Scalarizer, Scores
from autoexp.state import RunState, fold
from autoexp.status import Status, status_of

Observer = Callable[[ev.Record, RunState], None]
log = logging.getLogger(__name__)


class Recorder:
    """The journal of a run, its state, and its observers.

    Args:
        folder: the run's folder.
        observers: called after every event; one that raises is dropped.

    Attributes:
        state: the fold of all events so far.
        status: what clients show; replaced, never changed.
        waited_s: time that the microscope has waited for decisions.
    """

    def __init__(self, folder: str | os.PathLike[str], observers: tuple[Observer, ...] = ()):
        self._log = RunLog(folder)
        self.folder = self._log.folder
        self.state: RunState = fold(self._log.records)
        self.waited_s = 0.0
        self.status: Status = status_of(self.state)
        self._observers = list(observers)

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

    def append(self, *events: ev.Event) -> None:
        """Write events down, all at once, and tell everybody of each.

        Raises:
            RunLogError: they could not be written.
        """
        for record in self._log.append(*events):
            self.state = self.state.apply(record)
            self.status = status_of(self.state, self.waited_s)
            self._tell(record)

    def _tell(self, record: ev.Record) -> None:
        for observer in list(self._observers):
            try:
                observer(record, self.state)
            except Exception:
                self._observers.remove(observer)
                log.exception("An observer of the run failed and is no longer told.")

    def enter(self, phase: ev.Phase, reason: str = "") -> None:
        """Note that another phase begins."""
        self.append(ev.PhaseChanged(phase=phase, reason=reason))

    def start(self, run_id: str, plan: Plan, instrument: dict[str, Any]) -> None:
        """Note that the run begins; the plan is kept as a file too, ready to be run again."""
        self.append(ev.Started(run_id=run_id, plan=plan, software=software(), instrument=instrument))
        self._log.save_text("plan.json", plan.to_json())

    def overview(self, overview: Overview, image: npt.NDArray[np.floating], candidates: int, dose_e: float) -> None:
        """Save the overview."""
        frame = overview.frame
        self.append(
            ev.Prepared(
                overview=self._log.save_array("overview", image),
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
        self._open_stream(spectrum)
        ref = self._log.append_spectrum(spectrum.counts)
        first, second = self._scores(spectrum.counts[None])
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
        points = self.state.measured
        if not points:
            return
        assert self.state.spectra is not None
        stored = stored_spectra(self.folder, self.state.spectra.channels)
        first, second = self._scores(stored[[p.record for p in points if p.record is not None]])
        ids = [p.id for p in points]

        def by_id(values: npt.NDArray[np.float64]) -> dict[int, float]:
            return dict(zip(ids, values.tolist(), strict=True))

        self.append(
            ev.Rescored(
                values=by_id(first.value),
                noises=by_id(first.std),
                seconds=by_id(second.value) if second else {},
                second_noises=by_id(second.std) if second else {},
            )
        )

    def prediction(self, prediction: Prediction) -> None:
        """Save a prediction of the whole field."""
        array = np.stack([prediction.mean, prediction.std]).astype(np.float32)
        ref = self._log.save_array(f"prediction-{prediction.after:06d}", array)
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

    def energy(self) -> npt.NDArray[np.float64]:
        """Energies of the channels (E,); empty before the first spectrum."""
        return np.empty(0) if self.state.spectra is None else self.state.spectra.energy

    def _scores(self, spectra: npt.NDArray[np.floating]) -> tuple[Scores, Scores | None]:
        """What the scalarizer in force makes of spectra, and the second one, if there is one."""
        settings = self.state.settings
        assert settings is not None
        second = settings.second
        return self._score(settings.scalarizer, spectra), self._score(second, spectra) if second else None

    def _score(self, scalarizer: Scalarizer, spectra: npt.NDArray[np.floating]) -> Scores:
        """Scores; NaN, and a warning, where the scalarizer cannot cope, so that the spectrum itself is never lost."""
        assert self.state.spectra is not None
        energy = self.energy()
        try:
            scalarizer.check_axis(energy)
            gain = self.state.spectra.counts_per_electron or 1.0
            scores = scalarizer.score(spectra, energy, gain)
            return Scores(scores.value, np.nan_to_num(scores.std))
        except Exception as error:  # a user's function may raise anything
            self.append(ev.Warned(message=f"The scalarizer gives no number: {error}"))
            return Scores(np.full(len(spectra), np.nan), np.zeros(len(spectra)))

    def _open_stream(self, spectrum: Spectrum) -> None:
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


def software() -> dict[str, str]:
    """Versions of what a run is made with."""
    names = ("nionswift-autoexp", "nionswift", "nionswift-instrumentation", "numpy", "scipy", "torch", "gpytorch")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
