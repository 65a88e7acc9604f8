"""The parts of a run's results: overview with its points, spectra, the latest spectrum, learning curve, maps."""

from __future__ import annotations

import typing
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from nion.data import Calibration, DataAndMetadata
from nion.swift.model import Graphics

from autoexp.agent import Prediction
from autoexp.runlog import RunReader, stored_spectra
from autoexp.state import Point, RunState
from nionswift_plugin.autoexp_ui.live_data import LiveData, LiveItem, View
from nionswift_plugin.autoexp_ui.translation import translate as _

VISITED = "autoexp-visited"
POINTS_PER_DRAWING = 3
LARGE_BYTES = 8_000_000
COUNTS = Calibration.Calibration(units="counts")
SEQUENCE = DataAndMetadata.DataDescriptor(True, 0, 1)


class OverviewWithPoints:
    """The overview, and on it the numbered points; failed ones with a cross."""

    interval_s = 0.12

    def __init__(self, live: LiveData):
        self._live = live
        self._drawn: set[int] = set()

    def stale(self, view: View) -> bool:
        return not self._live.shown("overview") or bool(self._new(view))

    def draw(self, view: View) -> None:
        if self._live.shown("overview"):
            display_item = self._live.display_item("overview")
            for point in self._new(view)[:POINTS_PER_DRAWING]:
                self._drawn.add(point.id)
                if display_item is not None:
                    display_item.add_graphic(_graphic(point))
        elif view.state.prepared is not None:
            image = np.asarray(RunReader(self._live.folder).array(view.state.prepared.overview))
            calibrations = self._live.space(view.state, image.shape)
            xdata = DataAndMetadata.new_data_and_metadata(
                image, intensity_calibration=COUNTS, dimensional_calibrations=calibrations
            )
            self._live.show("overview", _("Overview"), xdata)

    def _new(self, view: View) -> list[Point]:
        points = view.state.points.values()
        return [p for p in points if p.id not in self._drawn and p.status in ("measured", "failed")]


class SpectraStack:
    """All spectra in one item: thousands of items would bring Swift to its knees."""

    interval_s = 0.6

    def __init__(self, live: LiveData):
        self._live = live
        self._shown = 0

    def stale(self, view: View) -> bool:
        return len(self._stored(view.state)) > self._shown or self._spare(view) > 0

    def draw(self, view: View) -> None:
        state, stored = view.state, self._stored(view.state)
        assert state.settings is not None
        if not self._live.shown("spectra"):
            rows = max(len(stored), state.settings.budget.points)
            large = rows * stored.shape[1] * 4 > LARGE_BYTES  # an HDF5 file grows in place, and takes longer to make
            self._live.reserve("spectra", _("Spectra"), (rows, stored.shape[1]), SEQUENCE, large)
            return
        item = self._live.item("spectra")
        if item is not None and (item.data_shape[0] < len(stored) or self._spare(view)):
            item.set_data_and_metadata(self._whole(state, stored))
        elif item is not None:
            self._write_rows(item, state, stored)
        self._shown = len(stored)

    def _stored(self, state: RunState) -> typing.Any:
        return stored_spectra(self._live.folder, state.spectra.channels) if state.spectra else np.empty((0, 0))

    def _spare(self, view: View) -> int:
        """Rows that were reserved and are not needed, once the run is over."""
        item = self._live.item("spectra") if view.state.finished else None
        return item.data_shape[0] - self._shown if item is not None and self._shown else 0

    def _write_rows(self, item: typing.Any, state: RunState, stored: typing.Any) -> None:
        metadata = DataAndMetadata.DataMetadata(
            data_shape_and_dtype=(item.data_shape, np.dtype(np.float32)),
            intensity_calibration=COUNTS,
            dimensional_calibrations=[Calibration.Calibration(), _energy(state)],
            data_descriptor=SEQUENCE,
            metadata={"autoexp": self._live.metadata(state, brief=True)},
        )
        first, last, whole = self._shown, len(stored), slice(0, stored.shape[1])
        rows = DataAndMetadata.new_data_and_metadata(np.array(stored[first:last]), data_descriptor=SEQUENCE)
        source, target = (slice(0, last - first), whole), (slice(first, last), whole)
        self._live.document_model.update_data_item_partial(item, metadata, rows, source, target)

    def _whole(self, state: RunState, stored: typing.Any) -> typing.Any:
        return DataAndMetadata.new_data_and_metadata(
            np.array(stored),
            intensity_calibration=COUNTS,
            dimensional_calibrations=[Calibration.Calibration(), _energy(state)],
            data_descriptor=SEQUENCE,
            metadata={"autoexp": self._live.metadata(state)},
        )


class LatestSpectrum:
    """The spectrum that was taken last, on which the scalarizer's windows are drawn."""

    interval_s = 0.3

    def __init__(self, live: LiveData):
        self._live = live
        self._record = -1

    def stale(self, view: View) -> bool:
        return self._latest(view) > self._record

    def draw(self, view: View) -> None:
        state = view.state
        assert state.spectra is not None
        self._record = self._latest(view)
        counts = stored_spectra(self._live.folder, state.spectra.channels)[self._record]
        xdata = DataAndMetadata.new_data_and_metadata(
            np.array(counts), intensity_calibration=COUNTS, dimensional_calibrations=[_energy(state)]
        )
        if self._live.show("latest", _("Latest spectrum"), xdata) and _has_zero_loss(state):
            # beside the zero-loss peak everything else looks flat on a linear scale
            self._live.display_item("latest").set_display_property("y_style", "log")

    def _latest(self, view: View) -> int:
        return max((p.record for p in view.state.measured if p.record is not None), default=-1)


class LearningCurve:
    """Best value so far against the number of points."""

    interval_s = 0.9

    def __init__(self, live: LiveData):
        self._live = live
        self._values: list[float] = []

    def stale(self, view: View) -> bool:
        values = _finite(view)
        return len(values) >= 2 and values != self._values

    def draw(self, view: View) -> None:
        self._values = _finite(view)
        settings = view.state.settings
        assert settings is not None
        better = np.minimum if settings.goal == "minimize" else np.maximum
        best = better.accumulate(self._values)
        self._live.show("curve", _("Best so far"), _against_points(best, settings.scalarizer.units))


class SingleValues:
    """The value of each point, as a second layer of the learning curve."""

    interval_s = 0.9

    def __init__(self, live: LiveData):
        self._live = live
        self._values: list[float] = []
        self._joined = False

    def stale(self, view: View) -> bool:
        return self._live.shown("curve") and (_finite(view) != self._values or not self._joined)

    def draw(self, view: View) -> None:
        if self._live.shown("values") and not self._joined:
            self._joined = True
            self._join()
            return
        self._values = _finite(view)
        assert view.state.settings is not None
        xdata = _against_points(self._values, view.state.settings.scalarizer.units)
        self._live.show("values", _("Value of each spectrum"), xdata)

    def _join(self) -> None:
        curve, values = self._live.display_item("curve"), self._live.item("values")
        if curve is None or values is None:
            return
        curve.append_display_data_channel_for_data_item(values)
        curve._set_display_layer_properties(0, label=_("best so far"), stroke_color="#0072B2", fill_color=None)
        curve._set_display_layer_properties(1, label=_("each spectrum"), stroke_color="#E69F00", fill_color=None)
        curve.set_display_property("legend_position", "bottom-right")
        curve.title = self._live.titled(_("Learning curve"))


class Map:
    """What the model expects over the whole field, or how unsure it is.

    Args:
        live: where to show it.
        key: key of its data item.
        title: title of its data item.
        color_map: Swift's name of a color map.
        values: which part of the prediction.
    """

    interval_s = 1.2

    def __init__(
        self,
        live: LiveData,
        key: str,
        title: str,
        color_map: str,
        values: Callable[[Prediction], npt.NDArray[np.float64]],
    ):
        self._live = live
        self._key, self._title, self._color_map, self._values = key, title, color_map, values
        self._after = -1

    def stale(self, view: View) -> bool:
        return view.prediction is not None and view.prediction.after != self._after

    def draw(self, view: View) -> None:
        assert view.prediction is not None
        self._after = view.prediction.after
        shape, values = candidate_shape(view.state), self._values(view.prediction)
        if shape is None or shape[0] * shape[1] != len(values):
            return
        units = view.state.settings.scalarizer.units if view.state.settings else ""
        xdata = DataAndMetadata.new_data_and_metadata(
            np.asarray(values, np.float32).reshape(shape),
            intensity_calibration=Calibration.Calibration(units=units),
            dimensional_calibrations=self._live.space(view.state, shape),
        )
        if self._live.show(self._key, self._title, xdata):
            self._live.display_item(self._key).display_data_channels[0].color_map_id = self._color_map


def parts(live: LiveData) -> list[LiveItem]:
    """All that is shown of a run."""
    return [
        OverviewWithPoints(live),
        SpectraStack(live),
        LatestSpectrum(live),
        LearningCurve(live),
        SingleValues(live),
        Map(live, "prediction", _("Prediction"), "viridis", lambda prediction: prediction.mean),
        Map(live, "uncertainty", _("Uncertainty"), "magma", lambda prediction: prediction.std),
    ]


def _finite(view: View) -> list[float]:
    return [p.value for p in view.state.scored]


def _against_points(values: npt.ArrayLike, units: str) -> typing.Any:
    return DataAndMetadata.new_data_and_metadata(
        np.asarray(values, np.float32),
        intensity_calibration=Calibration.Calibration(units=units),
        dimensional_calibrations=[Calibration.Calibration(1.0, 1.0, "")],
    )


def candidate_shape(state: RunState) -> tuple[int, int] | None:
    """Rows and columns of the candidates."""
    if state.prepared is None or state.plan is None:
        return None
    return state.plan.patches.grid(state.prepared.shape)


def _energy(state: RunState) -> typing.Any:
    assert state.spectra is not None
    return Calibration.Calibration(state.spectra.offset, state.spectra.scale, state.spectra.units)


def _has_zero_loss(state: RunState) -> bool:
    s = state.spectra
    return s is not None and s.units == "eV" and s.offset <= 0 <= s.offset + s.scale * s.channels


def _graphic(point: Point) -> typing.Any:
    graphic = Graphics.PointGraphic()
    graphic.graphic_id = f"{VISITED}-{point.id}"
    graphic.position = point.position
    graphic.label = str(point.id + 1) if point.status == "measured" else f"{point.id + 1} ✕"
    graphic.is_position_locked = True
    graphic.stroke_color = "#56B4E9" if point.status == "measured" else "#D55E00"
    return graphic
