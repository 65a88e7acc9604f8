"""Keeping the beam aligned during a run: at its beginning, and again when the disk has moved."""

from __future__ import annotations

from collections.abc import Callable

from autoexp import events as ev
from autoexp.errors import InstrumentError
from autoexp.guardian import Guardian
from autoexp.plan import AlignmentStage
from autoexp.tasks.alignment import Alignment, AlignmentTask, Look


class BeamTask:
    """Aligns, looks whether the disk is still there, and knows when it is time to.

    Args:
        guardian: the only way to the instrument; its limits have to list both controls.
        stage: how.
        note: writes events down.
        wanted: False ends an alignment before its next move.

    Raises:
        PlanError: the site's limits do not list a control.
    """

    def __init__(
        self,
        guardian: Guardian,
        stage: AlignmentStage,
        note: Callable[[ev.Event], None],
        wanted: Callable[[], bool],
    ):
        self._guardian = guardian
        self._stage = stage
        self._note = note
        self._next = stage.every
        self._task = AlignmentTask(guardian, stage.spec, self._looked, wanted)

    def align(self, reason: str) -> Alignment:
        """Align; what succeeds stays, what fails is put back.

        Raises:
            GuardianError: it was ended, or is not allowed.
            InstrumentError: no frame came, a control failed, or could not be put back.
        """
        spec = self._stage.spec
        before = {name: self._guardian.value(name) for name in spec.controls}
        self._note(ev.AlignmentBegun(spec=spec, reason=reason))
        try:
            found = self._task.run()
        except InstrumentError as error:
            self._put_back(before, str(error))
            raise
        self._note(found.event())
        if found.success:
            self._note(ev.Snapshot(controls=self._guardian.keep()))
        elif not found.interrupted:
            self._put_back(before, found.reason)
        return found

    def is_due(self, exposures: int) -> bool:
        """Whether it is time to look, after so many exposures."""
        return bool(self._stage.every) and exposures >= self._next

    def hasten(self) -> None:
        """Let the next look be due at once."""
        self._next = 0

    def look(self, exposures: int) -> Look:
        """Where the disk is; the next look is due so many exposures later.

        Raises:
            GuardianError: no frame may be taken.
            InstrumentError: none came.
        """
        self._next = exposures + self._stage.every
        look = self._task.look()
        self._looked(look)
        return look

    def has_moved(self, look: Look) -> bool:
        """Whether the disk is so far from its goal that the beam is to be aligned again."""
        return look.residual_px is not None and look.residual_px > self._stage.allowed_px

    def _looked(self, look: Look) -> None:
        self._note(look.event(self._guardian.dose_of(self._stage.spec.frame.exposure_s)))

    def _put_back(self, before: dict[str, float], reason: str) -> None:
        problems = (
            [] if self._guardian.is_closed else self._guardian.put_back(before)
        )  # else the end of the run does it
        if problems:
            raise InstrumentError("; ".join([reason, *problems]))
