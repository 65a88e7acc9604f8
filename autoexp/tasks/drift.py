"""Looking how far the specimen has moved: one image of the field through the guardian, compared with the overview."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.drift import Registration, reduced, register
from autoexp.errors import BadFrameError, InstrumentError
from autoexp.guardian import Guardian
from autoexp.plan import DriftCheck, OverviewSpec

UNRECOGNISED = "The field cannot be recognised any more, so drift is not corrected; is the overview still valid?"


class DriftTask:
    """Takes images for comparison, and knows when it is time for the next.

    Args:
        guardian: the only way to the instrument.
        spec: how the images are taken.
        field: the overview's specification, to which positions are bound.
        overview: (h, w) the overview itself.
        note: writes events down.
    """

    def __init__(
        self,
        guardian: Guardian,
        spec: DriftCheck,
        field: OverviewSpec,
        overview: npt.NDArray[np.floating],
        note: Callable[[ev.Event], None],
    ):
        self._guardian = guardian
        self._field = field
        self.scan = spec.scan(field)
        self._note = note
        self._every = spec.every
        self._next = spec.every
        self._before = reduced(overview, (self.scan.pixels, self.scan.pixels))

    def is_due(self, exposures: int) -> bool:
        """Whether it is time to look, after so many exposures."""
        return exposures >= self._next

    def hasten(self) -> None:
        """Let the next look be due at once."""
        self._next = 0

    def look(self, exposures: int, since_s: float) -> None:
        """See how far the specimen has drifted; where that cannot be seen, positions stay as they were.

        Args:
            exposures: spectra exposed so far; whatever comes of it, the next look is due so many later.
            since_s: the run's time since its overview.

        Raises:
            GuardianError: no image may be taken.
        """
        self._next = exposures + self._every
        try:
            found = self._register()
        except InstrumentError as error:
            if self._guardian.is_closed:
                raise
            self._note(ev.Warned(message=f"Drift could not be looked for: {error}"))
            return
        self._note(
            ev.Drifted(
                shift=found.shift,
                significance=found.significance,
                certain=found.certain,
                since_s=since_s,
                exposures=exposures,
                dose_e=self._guardian.account.last_e,
            )
        )
        if not found.certain:
            self._note(ev.Warned(message=UNRECOGNISED))

    def _register(self) -> Registration:
        try:
            image = self._guardian.overview(self.scan, "drift").image
        finally:
            if not self._guardian.is_closed:
                self._guardian.bind(self._field)
        if image.shape != self._before.shape:
            raise BadFrameError(f"The image came with {_size(image)} pixels instead of {_size(self._before)}.")
        return register(self._before, np.asarray(image, dtype=np.float64))


def _size(image: npt.NDArray[np.floating]) -> str:
    return "×".join(map(str, image.shape))
