"""The parts of a run's results: overview with its points, spectra, the latest spectrum, learning curve, maps."""

from __future__ import annotations

import contextlib
import pathlib
import time
import typing
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from nion.data import Calibration, DataAndMetadata
from nion.swift.model import Graphics

from autoexp.agent import Prediction
from autoexp.runlog import RunReader, spectra_from
from autoexp.state import Point, RunState
from nionswift_plugin.autoexp_ui.feature_space import FeatureSpace
from nionswift_plugin.autoexp_ui.live_data import LiveData, LiveItem, View
from nionswift_plugin.autoexp_ui.translation import translate as _

VISITED = "autoexp-visited"
DRAWN = ("measured", "failed")
DRAWING_S = 0.02
LARGE_BYTES = 8_000_000
COUNTS = Calibration.Calibration(units="counts")
SEQUENCE = DataAndMetadata.DataDescriptor(True, 0, 1)


class OverviewWithPoints(LiveItem):
    """The overview, and on it the numbered points; failed ones with a cross."""

    interval_s = 0.25

    def __init__(self, live: LiveData):
        self._live = live
        self._next = 0

    def stale(self, view: View) -> bool:
        if not self._live.shown("overview"):
            return True
        coming = self._live.item("overview") is not None and self._live.display_item("overview") is None
        return not coming and any(p.status in DRAWN for p in view.state.points.settled_since(self._next))

    def draw(self, view: View) -> None:
        if self._live.shown("overview"):
            display_item = self._live.display_item("overview")
            ready_s = time.monotonic() + DRAWING_S
            for point in view.state.points.settled_since(self._next):
                self._next += 1
                if display_item is not None and point.status in DRAWN:
                    display_item.add_graphic(_graphic(point))
                if time.monotonic() > ready_s:
                    break
        elif view.state.prepared is not None:
            image = np.asarray(RunReader(self._live.folder).array(view.state.prepared.overview))
            calibrations = self._live.space(view.state, image.shape)
            xdata = DataAndMetadata.new_data_and_metadata(
                image,
                intensity_calibration=COUNTS,
                dimensional_calibrations=calibrations,
                metadata=self._live.about(view.state),
            )
            self._live.show("overview", _("Overview"), xdata)


class SpectraStack(LiveItem):
    """All spectra in one item: thousands of items would bring Swift to its knees.

    A small stack grows in memory and is written at the end, like the other results. A large one would stop the window
    for its whole size then: it is laid out on the disk at the start, and its rows are written as they come.
    """

    interval_s = 3.0

    def __init__(self, live: LiveData):
        self._live = live
        self._shown = 0
        self._complete = False
        self._large = False

    def stale(self, view: View) -> bool:
        if view.state.points.latest_record >= self._shown:
            return True
        return bool(view.state.finished) and self._shown > 0 and not self._complete

    def draw(self, view: View) -> None:
        state = view.state
        assert state.settings is not None and state.spectra is not None
        channels = state.spectra.channels
        count = 1 + max((p.record for p in state.points.values() if p.record is not None), default=-1)
        rows = max(count, state.settings.budget.points)
        if not self._live.shown("spectra") and rows * channels * 4 > LARGE_BYTES:
            self._large = True
            self._live.reserve("spectra", _("Spectra"), (rows, channels), SEQUENCE)
            return
        item = self._live.item("spectra")
        if not self._large or state.finished or (item is not None and item.data_shape[0] < count):
            self._live.show("spectra", _("Spectra"), self._whole(state, self._spectra(state, channels, 0)))
            self._complete = state.finished is not None
        elif item is not None and len(spectra := self._spectra(state, channels, self._shown)):
            self._write_rows(item, state, spectra)
        self._shown = count

    def _spectra(self, state: RunState, channels: int, first: int) -> typing.Any:
        return spectra_from(self._live.folder, channels, state.points.values(), first)

    def _write_rows(self, item: typing.Any, state: RunState, spectra: typing.Any) -> None:
        metadata = DataAndMetadata.DataMetadata(
            data_shape_and_dtype=(item.data_shape, np.dtype(np.float32)),
            intensity_calibration=COUNTS,
            dimensional_calibrations=[Calibration.Calibration(), _energy(state)],
            data_descriptor=SEQUENCE,
            metadata=self._metadata(state),
        )
        count, whole = len(spectra), slice(0, spectra.shape[1])
        rows = DataAndMetadata.new_data_and_metadata(spectra, data_descriptor=SEQUENCE)
        source, target = (slice(0, count), whole), (slice(self._shown, self._shown + count), whole)
        self._live.document_model.update_data_item_partial(item, metadata, rows, source, target)

    def _whole(self, state: RunState, spectra: typing.Any) -> typing.Any:
        return DataAndMetadata.new_data_and_metadata(
            spectra,
            intensity_calibration=COUNTS,
            dimensional_calibrations=[Calibration.Calibration(), _energy(state)],
            data_descriptor=SEQUENCE,
            metadata=self._metadata(state),
        )

    def _metadata(self, state: RunState) -> dict[str, typing.Any]:
        """Where each spectrum was taken and what it is worth; once the run is over, also all that it is about."""
        taken = [p for p in state.points.values() if p.record is not None]
        positions = [list(p.position) for p in taken]
        values = [p.value if np.isfinite(p.value) else None for p in taken]
        if not state.finished:
            return self._live.about(state, positions=positions, values=values)
        return self._live.about(
            state,
            positions=positions,
            values=values,
            plan=state.plan.model_dump(mode="json") if state.plan else {},
            scalarizer=state.settings.scalarizer.model_dump(mode="json") if state.settings else {},
            points=[_facts(point, state) for point in taken],
        )


class LatestSpectrum(LiveItem):
    """The spectrum that was taken last, on which the scalarizer's windows are drawn."""

    interval_s = 0.6

    def __init__(self, live: LiveData):
        self._live = live
        self._record = -1

    def stale(self, view: View) -> bool:
        return view.state.points.latest_record > self._record

    def draw(self, view: View) -> None:
        state = view.state
        assert state.spectra is not None
        self._record = state.points.latest_record
        spectra = spectra_from(self._live.folder, state.spectra.channels, state.points.values(), self._record)
        if len(spectra) == 0:  # somebody has taken it out of the folder
            return
        xdata = DataAndMetadata.new_data_and_metadata(
            spectra[0],
            intensity_calibration=COUNTS,
            dimensional_calibrations=[_energy(state)],
            metadata=self._live.about(state),
        )
        # beside the zero-loss peak everything else looks flat on a linear scale
        self._live.show("latest", _("Latest spectrum"), xdata, _logarithmic if _has_zero_loss(state) else None)


class LearningCurve(LiveItem):
    """Best value so far, and the value of each spectrum, against the number of points."""

    interval_s = 1.5

    def __init__(self, live: LiveData):
        self._live = live
        self._values: list[float] = []
        self._learned: object = None
        self._falls = False

    def stale(self, view: View) -> bool:
        if view.state.points.learned is self._learned:  # as the values, without a look at all of them
            return False
        values = _finite(view)
        return len(values) >= 2 and values != self._values

    def draw(self, view: View) -> None:
        self._values, self._learned = _finite(view), view.state.points.learned
        settings = view.state.settings
        assert settings is not None
        self._falls = settings.goal == "minimize"
        better = np.minimum if self._falls else np.maximum
        best, units = better.accumulate(self._values), settings.scalarizer.units
        about = self._live.about(view.state)
        each = _against_points(self._values, units, about)
        curve = self._live.display_item("curve")
        with curve.display_item_changes() if curve is not None else contextlib.nullcontext():  # drawn once, not twice
            self._live.show("values", _("Value of each spectrum"), each, displayed=False)
            self._live.show("curve", _("Best so far"), _against_points(best, units, about), self._dress)

    def _dress(self, display_item: typing.Any) -> None:
        values = self._live.item("values")
        if values is None:
            return
        display_item.append_display_data_channel_for_data_item(values)
        for index, (label, color) in enumerate(((_("best so far"), "#0072B2"), (_("each spectrum"), "#E69F00"))):
            display_item._set_display_layer_properties(index, label=label, stroke_color=color, fill_color=None)
        display_item.set_display_property("legend_position", "top-right" if self._falls else "top-left")
        display_item.title = self._live.titled(_("Learning curve"))


class Map(LiveItem):
    """What the model expects over the whole field, or how unsure it is.

    Args:
        live: where to show it.
        key: key of its data item.
        title: title of its data item.
        color_map: Swift's name of a color map.
        values: which part of the prediction.
    """

    interval_s = 2.0

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
            metadata=self._live.about(view.state, after_points=view.prediction.after),
        )
        self._live.show(self._key, self._title, xdata, self._dress)

    def _dress(self, display_item: typing.Any) -> None:
        display_item.display_data_channels[0].color_map_id = self._color_map


def results(document_controller: typing.Any, title: str, simulated: bool, folder: pathlib.Path) -> LiveData:
    """The results of a run as Swift data; arguments as for :class:`LiveData`."""
    return LiveData(document_controller, title, simulated, folder, parts)


def parts(live: LiveData) -> list[LiveItem]:
    """All that is shown of a run."""
    return [
        OverviewWithPoints(live),
        SpectraStack(live),
        LatestSpectrum(live),
        LearningCurve(live),
        Map(live, "prediction", _("Prediction"), "viridis", lambda prediction: prediction.mean),
        Map(live, "uncertainty", _("Uncertainty"), "magma", lambda prediction: prediction.std),
        FeatureSpace(live),
    ]


def _finite(view: View) -> list[float]:
    return [p.value for p in view.state.scored]


def _facts(point: Point, state: RunState) -> dict[str, typing.Any]:
    """All about one spectrum."""
    place = state.prepared.to_nm(point.position) if state.prepared else None
    return {
        "id": point.id + 1,
        "record": point.record,
        "position": list(point.position),
        "position_nm": list(place) if place else None,
        "value": point.value if np.isfinite(point.value) else None,
        "noise": point.noise,
        "dose_e": point.dose_e,
        "status": point.status,
        "reason": point.reason,
    }


def _logarithmic(display_item: typing.Any) -> None:
    display_item.set_display_property("y_style", "log")


def _against_points(values: npt.ArrayLike, units: str, metadata: dict[str, typing.Any]) -> typing.Any:
    return DataAndMetadata.new_data_and_metadata(
        np.asarray(values, np.float32),
        intensity_calibration=Calibration.Calibration(units=units),
        dimensional_calibrations=[Calibration.Calibration(1.0, 1.0, _("spectra"))],
        metadata=metadata,
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
