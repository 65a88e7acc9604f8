"""The way of a run through the space of structures: where patches that look alike lie side by side."""

from __future__ import annotations

import logging
import pathlib
import threading
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from nion.data import DataAndMetadata

from autoexp.events import ArrayRef
from autoexp.models.latent import density, latent_map
from autoexp.models.tiles import Map
from autoexp.patches import cut
from autoexp.plan import PatchSpec
from autoexp.runlog import RunReader
from autoexp.state import Point, RunState
from autoexp.threads import Call, one_blas_thread
from nionswift_plugin.autoexp_ui.live_data import LiveData, LiveItem, View
from nionswift_plugin.autoexp_ui.translation import translate as _

SIDE = 192
MARGIN = 8
CELL = 4
CROWD = 40, 190
STEPS = 12
PATH = (0xE6, 0x9F, 0x00)
NEWEST = (0xFF, 0xFF, 0xFF)
# the ends and three steps of the color map viridis
SCALE = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)

log = logging.getLogger(__name__)
Image = npt.NDArray[np.uint8]


class FeatureSpace(LiveItem):
    """All candidates as a gray cloud, in it the measured points, colored by their values, and the latest steps."""

    interval_s = 4.0

    def __init__(self, live: LiveData):
        self._live = live
        self._call: Call[Map | None] | None = None
        self._cancelled = threading.Event()
        self._drawn: list[int] = []

    def stale(self, view: View) -> bool:
        state = view.state
        if self._call is None and state.plan is not None and state.prepared is not None:
            given = self._live.folder, state.prepared.overview, state.plan.patches, state.plan.seed, self._cancelled
            self._call = Call(lambda: _places(*given), "autoexp-feature-space")
        return self._found is not None and self._drawn != [p.id for p in _seen(state)]

    @property
    def busy(self) -> bool:
        return self._call is not None and not self._call.wait(0)

    @property
    def _found(self) -> Map | None:
        return self._call.result() if self._call is not None and not self.busy else None

    def draw(self, view: View) -> None:
        found = self._found
        assert found is not None
        seen = _seen(view.state)
        self._drawn = [p.id for p in seen]
        image = picture(found, seen)
        # Swift keeps colors as blue, green, red
        xdata = DataAndMetadata.new_data_and_metadata(image[..., ::-1].copy(), metadata=self._live.about(view.state))
        self._live.show("features", _("Feature space"), xdata)

    def close(self) -> None:
        """Stop working at it."""
        self._cancelled.set()


def _places(
    folder: pathlib.Path, overview: ArrayRef, patches: PatchSpec, seed: int, cancelled: threading.Event
) -> Map | None:
    """Where the candidates lie; for a thread of its own, which knows nothing of the window."""
    try:
        with one_blas_thread():
            return latent_map(cut(RunReader(folder).array(overview), patches), seed, cancelled)
    except Exception:  # a picture less; the run and everything else goes on
        log.exception("The feature space of %s cannot be shown.", folder)
        return None


def picture(places: Map, points: list[Point]) -> Image:
    """Red, green and blue (SIDE, SIDE, 3) of the cloud, the latest steps through it, and the points."""
    inner = SIDE - 2 * MARGIN
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    crowd = density(places, inner // CELL)
    gray = np.where(crowd > 0, CROWD[0] + (CROWD[1] - CROWD[0]) * crowd, 0)
    image[MARGIN:-MARGIN, MARGIN:-MARGIN] = np.kron(gray, np.ones((CELL, CELL)))[..., None]
    if not points:
        return image
    spots = MARGIN + np.round(places[[p.candidate or 0 for p in points]] * (inner - 1)).astype(int)
    for a, b in pairwise(spots[-STEPS - 1 :]):
        line = np.linspace(a, b, int(np.abs(b - a).max()) + 1).round().astype(int)
        image[line[:, 0], line[:, 1]] = PATH
    colors = _colors(np.array([p.value for p in points]))
    for (y, x), color in zip(spots, colors, strict=True):
        image[y - 2 : y + 3, x - 2 : x + 3] = 0
        image[y - 1 : y + 2, x - 1 : x + 2] = color
    y, x = spots[-1]
    frame = image[y - 3 : y + 4, x - 3 : x + 4]
    frame[[0, -1]] = frame[:, [0, -1]] = NEWEST
    return image


def _seen(state: RunState) -> list[Point]:
    return [p for p in state.scored if p.candidate is not None]


def _colors(values: npt.NDArray[np.float64]) -> Image:
    """Colors (n, 3) from the lowest value, dark, to the highest, bright."""
    extent = float(np.ptp(values))
    share = (values - values.min()) / extent if extent > 0 else np.full(len(values), 0.5)
    steps = np.linspace(0, 1, len(SCALE))
    return np.stack([np.interp(share, steps, SCALE[:, channel]) for channel in range(3)], axis=1).astype(np.uint8)
