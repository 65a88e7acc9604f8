"""Keeping beam and specimen in place during a run: the beam is aligned, and both are looked at again and again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.guardian import Guardian
from autoexp.plan import Plan
from autoexp.tasks.beam import BeamTask
from autoexp.tasks.drift import DriftTask


class Upkeep:
    """Does of it what the plan asks for.

    Args:
        guardian: the only way to the instrument.
        plan: the plan.
        note: writes events down.
        wanted: False ends an alignment before its next move.
    """

    def __init__(
        self, guardian: Guardian, plan: Plan, note: Callable[[ev.Event], None], wanted: Callable[[], bool]
    ) -> None:
        self._guardian = guardian
        self._plan = plan
        self._note = note
        self._wanted = wanted
        self._beam: BeamTask | None = None
        self._drift: DriftTask | None = None

    def align(self, reason: str) -> bool:
        """Align the beam, if that is planned; False if it was ended on request.

        Raises:
            GuardianError: it was ended, or is not allowed.
            InstrumentError: it could not be done; the controls are where they were, unless the message says otherwise.
        """
        task = self._aligner()
        return task is None or task.align(reason)

    def compare_with(self, overview: npt.NDArray[np.floating], at_once: bool) -> None:
        """From now on look how far the specimen has drifted since an overview (h, w), if that is planned."""
        if self._plan.drift is not None:
            self._drift = DriftTask(self._guardian, self._plan.drift, self._plan.overview, overview, self._note)
            if at_once:
                self._drift.hasten()

    def hasten(self) -> None:
        """Let the next looks be due at once."""
        for task in (self._aligner(), self._drift):
            if task is not None:
                task.hasten()

    def look(self, exposures: int, since_s: Callable[[], float]) -> bool:
        """Do what is due: see whether the disk has moved, and align if so; then how far the specimen has drifted.

        Args:
            exposures: spectra exposed so far.
            since_s: tells the run's time since its overview.

        Returns:
            False if an alignment was ended on request.

        Raises:
            GuardianError: it was ended, or no frame may be taken.
            InstrumentError: none came, there is no disk, or the beam could not be aligned.
        """
        if self._beam is not None and self._beam.is_due(exposures) and (reason := self._beam.look(exposures)):
            if not self._beam.align(reason):
                return False
            if self._drift is not None:
                self._drift.hasten()  # the image may have moved with the beam
        if self._drift is not None and self._drift.is_due(exposures):
            self._drift.look(exposures, since_s())
        return True

    def _aligner(self) -> BeamTask | None:
        """Made when it is first needed, since only then are the plan's limits known to hold."""
        if self._beam is None and self._plan.align is not None:
            self._beam = BeamTask(self._guardian, self._plan.align, self._note, self._wanted)
        return self._beam
