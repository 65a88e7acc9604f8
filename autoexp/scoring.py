"""Scores beside the run: a scalarizer may be anybody's code, so nobody waits for it for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.errors import ScoreError
from autoexp.foreign import real_numbers
from autoexp.patches import read_only
from autoexp.scalarizers import Scalarizer, Scores
from autoexp.threads import Worker, tamed
from autoexp.zero_loss import scored

POLL_S = 0.02
SPECTRUM_S = 0.01
"""What one spectrum more adds to the time that a scalarizer is given."""


class ScoreTimeoutError(ScoreError):
    """A scalarizer gave no number in time."""


class Scorer:
    """Scores spectra on a thread of its own.

    Args:
        deadline_s: how long one spectrum may take.
        alive: called while it is waited for; True gives up at once.
    """

    def __init__(self, deadline_s: float, alive: Callable[[], bool] = lambda: False):
        self.deadline_s = deadline_s
        self._gives_up = alive
        self._worker = Worker("autoexp-score")

    def score(
        self,
        scalarizer: Scalarizer,
        spectra: npt.NDArray[np.floating[Any]],
        energy_eV: npt.NDArray[np.float64],
        counts_per_electron: float,
        shift_eV: npt.NDArray[np.float64] | None = None,
    ) -> Scores:
        """Values (n,) of spectra (n, E), and their noise; both are finite or NaN.

        See :func:`autoexp.zero_loss.scored` for what it is given.

        Raises:
            ScoreTimeoutError: it took too long, or nobody waits any more.
            ScoreError: what it gives are no real numbers.
            Exception: whatever the scalarizer raises.
        """
        spectra, energy_eV = read_only(np.asarray(spectra)), read_only(energy_eV)

        def work() -> Scores:
            return scored(scalarizer, spectra, energy_eV, counts_per_electron, shift_eV)

        limit_s = self.deadline_s + SPECTRUM_S * len(spectra)
        call, until_s = self._worker.begin(tamed(work)), time.monotonic() + limit_s
        while not call.wait(POLL_S):
            late = time.monotonic() > until_s
            if late or self._gives_up():
                self._worker.leave()
                raise ScoreTimeoutError(f"it did not answer within {limit_s:.3g} s" if late else "the run was ended")
        return _checked(call.result(), len(spectra))

    def close(self) -> None:
        """Let go of the thread."""
        self._worker.leave()


def _checked(scores: Scores, count: int) -> Scores:
    """Values that are not finite are none; noise is not negative."""
    try:
        value, std = (real_numbers(part, count) for part in scores)
    except ValueError as error:
        raise ScoreError(f"a number is wanted for each of {count} spectra; it returned {error}") from error
    value[~np.isfinite(value)] = np.nan
    return Scores(value, np.where(np.isfinite(std) & (std >= 0), std, 0.0))
