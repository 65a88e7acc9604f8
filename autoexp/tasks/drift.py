"""Looking how far the specimen has moved: one image of the field through the guardian, compared with the overview."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autoexp.drift import Registration, reduced, register
from autoexp.guardian import Guardian
from autoexp.plan import DriftCheck, OverviewSpec


class DriftTask:
    """Takes images for comparison, and knows when it is time for the next.

    Args:
        guardian: the only way to the instrument.
        spec: how the images are taken.
        field: the overview's specification, to which positions are bound.
        overview: (h, w) the overview itself.
    """

    def __init__(self, guardian: Guardian, spec: DriftCheck, field: OverviewSpec, overview: npt.NDArray[np.floating]):
        self._guardian = guardian
        self._field = field
        self.scan = spec.scan(field)
        self._every = spec.every
        self._next = spec.every
        self._before = reduced(overview, (self.scan.pixels, self.scan.pixels))

    def is_due(self, exposures: int) -> bool:
        """Whether it is time to look, after so many exposures."""
        return exposures >= self._next

    def hasten(self) -> None:
        """Let the next look be due at once."""
        self._next = 0

    def look(self, exposures: int) -> Registration:
        """Where the specimen is now; whatever comes of it, the next look is due so many exposures later.

        Raises:
            GuardianError: no image may be taken.
            InstrumentError: none came.
        """
        self._next = exposures + self._every
        try:
            image = self._guardian.overview(self.scan).image
        finally:
            self._guardian.bind(self._field)
        return register(self._before, np.asarray(image, dtype=np.float64))
