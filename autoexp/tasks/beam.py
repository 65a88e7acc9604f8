"""Keeping the beam aligned during a run: at its beginning, and again when the disk has moved."""

from __future__ import annotations

from collections.abc import Callable

from autoexp import events as ev
from autoexp.errors import AlignmentError, BeamLostError, InstrumentError
from autoexp.guardian import Guardian
from autoexp.plan import AlignmentStage
from autoexp.tasks.alignment import AlignmentTask, Look


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
        self._frames = 0
        self._unfinished = False
        self._task = AlignmentTask(guardian, stage.spec, self._looked, wanted)

    def align(self, reason: str) -> bool:
        """Align; what succeeds stays, what fails is put back. False if it was ended on request.

        Raises:
            GuardianError: it was ended, or is not allowed.
            AlignmentError: the disk could not be brought to its goal.
            InstrumentError: no frame came, a control failed, or could not be put back.
        """
        spec = self._stage.spec
        before = {name: self._guardian.found[name] for name in spec.controls}
        self._note(ev.AlignmentBegun(spec=spec, reason=reason))
        self._frames = 0
        try:
            found = self._task.run()
        except InstrumentError as error:
            self._fail(before, str(error))
            raise
        self._unfinished = found.interrupted
        if found.success:
            self._note(found.event())
            self._guardian.keep(lambda controls: self._note(ev.Snapshot(controls=controls)))
        elif found.interrupted:
            self.hasten()
        else:
            self._fail(before, found.reason)
            raise AlignmentError(f"The beam could not be aligned: {found.reason}.")
        return found.success

    def is_due(self, exposures: int) -> bool:
        """Whether it is time to look, after so many exposures."""
        return self._unfinished or (bool(self._stage.every) and exposures >= self._next)

    def hasten(self) -> None:
        """Let the next look be due at once."""
        self._next = 0

    def look(self, exposures: int) -> str:
        """Why the beam is to be aligned again; empty where the disk is. The next look is due so many exposures later.

        Raises:
            GuardianError: no frame may be taken.
            BeamLostError: there is no disk.
            InstrumentError: no frame came.
        """
        if self._unfinished:
            return "it was not finished"
        self._next = exposures + self._stage.every
        look = self._task.look()
        self._looked(look)
        if look.residual_px is None:
            self.hasten()
            raise BeamLostError("No disk is to be seen: the beam may be lost.")
        if look.residual_px <= self._stage.allowed_px:
            return ""
        return f"the disk was {look.residual_px:.1f} px from its goal"

    def _looked(self, look: Look) -> None:
        self._frames += 1
        self._note(look.event())

    def _fail(self, before: dict[str, float], reason: str) -> None:
        """Put the controls back, and write that down; where everything was ended, the end of the run does it."""
        if self._guardian.is_closed:
            return
        if problems := self._guardian.put_back(before):
            raise InstrumentError("; ".join([reason, *problems]))
        self._note(ev.Aligned(success=False, reason=reason, frames=self._frames))
