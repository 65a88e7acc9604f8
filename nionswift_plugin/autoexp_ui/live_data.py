"""A run's results as ordinary Swift data, while it goes on: grouped, calibrated, and saved by Swift as they grow.

One data item holds all spectra; thousands of items would bring Swift to its knees. Nothing stays in a long transaction,
since Swift writes what is in one only at its end. Everything here runs on the user-interface thread; every method is
short, and an item that the user deletes is simply not updated any more.
"""

from __future__ import annotations

import gettext
import typing

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.swift.model import DataGroup, DataItem, Graphics

from autoexp.agent import Prediction
from autoexp.instrument import Overview
from autoexp.runlog import RunReader, stored_spectra
from autoexp.state import Point, RunState

_ = gettext.gettext

VISITED = "autoexp-visited"
POINTS_PER_UPDATE = 40


class LiveData:
    """The data items of one run.

    Args:
        document_controller: Swift's window.
        title: name of the run, in the items' titles.
        simulated: whether the run is a simulation; said in every title and in the metadata.
        folder: the run's folder.
    """

    def __init__(self, document_controller: typing.Any, title: str, simulated: bool, folder: typing.Any):
        self._document_model = document_controller.document_model
        self._title = title + (_(" (SIMULATED)") if simulated else "")
        self._simulated = simulated
        self._folder = folder
        self._group: typing.Any = None
        self._items: dict[str, typing.Any] = {}
        self._drawn: set[int] = set()
        self._spectra_shown = 0
        self._curve_points = 0
        self._predicted_after = -1
        self.arranged = False
        self.placed: set[str] = set()

    # --- what the panel asks for

    def item(self, key: str) -> typing.Any:
        """The data item of that key, or None if there is none (any more)."""
        item = self._items.get(key)
        if item is not None and item not in self._document_model.data_items:
            return None
        return item

    def display_item(self, key: str) -> typing.Any:
        """The display item of that key, or None."""
        item = self.item(key)
        return self._document_model.get_display_item_for_data_item(item) if item is not None else None

    def update(self, state: RunState, prediction: Prediction | None) -> None:
        """Show what is new in a state."""
        if state.prepared is None:
            return
        if "overview" not in self._items:
            self._show_overview(state)
        self._draw_points(state)
        self._add_spectra(state)
        self._draw_curve(state)
        if prediction is not None and prediction.after != self._predicted_after:
            self._predicted_after = prediction.after
            self._show_maps(state, prediction)

    def finish(self, state: RunState) -> None:
        """Once the run is over: leave out rows that were never measured, and write the whole story down."""
        item = self.item("spectra")
        if item is not None and state.spectra is not None and item.data_shape[0] > self._spectra_shown:
            self._document_model.perform_data_item_updates()
            self._replace_spectra(item, state, stored_spectra(self._folder, state.spectra.channels))
        for key in self._items:
            item = self.item(key)
            if item is not None:
                item.metadata = {**item.metadata, "autoexp": self._metadata(state)}

    # --- the overview and the points on it

    def _show_overview(self, state: RunState) -> None:
        prepared = state.prepared
        assert prepared is not None
        image = np.asarray(RunReader(self._folder).array(prepared.overview))
        xdata = DataAndMetadata.new_data_and_metadata(
            image,
            intensity_calibration=Calibration.Calibration(units="counts"),
            dimensional_calibrations=self._space(state, image.shape),
        )
        self._create("overview", _("Overview"), xdata, state)

    def adopt_overview(self, data_item: typing.Any) -> None:
        """Use an overview that is shown already, so that what the operator has drawn on it stays."""
        self._adopt("overview", data_item)

    def _draw_points(self, state: RunState) -> None:
        display_item = self.display_item("overview")
        if display_item is None:
            return
        new = [p for p in state.points.values() if p.id not in self._drawn and p.status in ("measured", "failed")]
        if not new:
            return
        # outside a transaction Swift writes the whole project for every graphic
        with self._document_model.item_transaction(display_item):
            for point in new[:POINTS_PER_UPDATE]:
                display_item.add_graphic(_graphic(point))
                self._drawn.add(point.id)

    # --- spectra

    def _add_spectra(self, state: RunState) -> None:
        """Write the new spectra into their one item, and only those."""
        if state.spectra is None or state.settings is None:
            return
        stored = stored_spectra(self._folder, state.spectra.channels)
        first, last = self._spectra_shown, len(stored)
        if first == last:
            return
        rows = max(last, state.settings.budget.points)
        if "spectra" not in self._items:
            self._reserve(state, rows)
        item = self.item("spectra")
        if item is None:
            return
        if item.data_shape[0] < last:
            self._replace_spectra(item, state, stored)
        else:
            self._write_rows(item, state, stored, first, last)
        self._spectra_shown = last
        display_item = self.display_item("spectra")
        if display_item is not None:
            display_item.display_data_channels[0].sequence_index = last - 1

    def _reserve(self, state: RunState, rows: int) -> None:
        assert state.spectra is not None
        item = DataItem.DataItem(large_format=True)
        item.title = f"{_('Spectra')}, {self._title}"
        self._document_model.append_data_item(item)
        descriptor = DataAndMetadata.DataDescriptor(True, 0, 1)
        shape = rows, state.spectra.channels
        item.reserve_data(data_shape=shape, data_dtype=np.dtype(np.float32), data_descriptor=descriptor)
        self._adopt("spectra", item)
        display_item = self.display_item("spectra")
        if display_item is not None and self._has_zero_loss(state):
            display_item.set_display_property("y_style", "log")

    def _has_zero_loss(self, state: RunState) -> bool:
        """Whether the zero-loss peak is on the axis; beside it everything else looks flat on a linear scale."""
        s = state.spectra
        return s is not None and s.units == "eV" and s.offset <= 0 <= s.offset + s.scale * s.channels

    def _write_rows(self, item: typing.Any, state: RunState, stored: typing.Any, first: int, last: int) -> None:
        metadata = DataAndMetadata.DataMetadata(
            data_shape_and_dtype=(item.data_shape, np.dtype(np.float32)),
            intensity_calibration=Calibration.Calibration(units="counts"),
            dimensional_calibrations=self._spectral(state),
            data_descriptor=DataAndMetadata.DataDescriptor(True, 0, 1),
            metadata={"autoexp": self._metadata(state)},
        )
        rows = DataAndMetadata.new_data_and_metadata(
            np.array(stored[first:last]), data_descriptor=DataAndMetadata.DataDescriptor(True, 0, 1)
        )
        whole = slice(0, stored.shape[1])
        source, target = (slice(0, last - first), whole), (slice(first, last), whole)
        self._document_model.update_data_item_partial(item, metadata, rows, source, target)

    def _replace_spectra(self, item: typing.Any, state: RunState, stored: typing.Any) -> None:
        item.set_data_and_metadata(
            DataAndMetadata.new_data_and_metadata(
                np.array(stored),
                intensity_calibration=Calibration.Calibration(units="counts"),
                dimensional_calibrations=self._spectral(state),
                data_descriptor=DataAndMetadata.DataDescriptor(True, 0, 1),
                metadata={"autoexp": self._metadata(state)},
            )
        )

    def _spectral(self, state: RunState) -> list[typing.Any]:
        assert state.spectra is not None
        s = state.spectra
        return [Calibration.Calibration(), Calibration.Calibration(s.offset, s.scale, s.units)]

    # --- the learning curve

    def _draw_curve(self, state: RunState) -> None:
        values = np.array([p.value for p in state.measured], dtype=float)
        values = values[np.isfinite(values)]
        if len(values) == self._curve_points or len(values) < 2 or state.settings is None:
            return
        self._curve_points = len(values)
        minimize = getattr(state.settings.agent, "goal", "maximize") == "minimize"
        best = np.minimum.accumulate(values) if minimize else np.maximum.accumulate(values)
        units = state.settings.scalarizer.units
        for key, title, data in (("curve", _("Best so far"), best), ("values", _("Value of each spectrum"), values)):
            xdata = DataAndMetadata.new_data_and_metadata(
                data.astype(np.float32),
                intensity_calibration=Calibration.Calibration(units=units),
                dimensional_calibrations=[Calibration.Calibration(1.0, 1.0, "")],
            )
            if key not in self._items:
                self._create(key, title, xdata, state)
            elif (item := self.item(key)) is not None:
                item.set_data_and_metadata(xdata)
        self._join_curves()

    def _join_curves(self) -> None:
        """Show the single values as a second layer of the learning curve."""
        curve, values = self.display_item("curve"), self.item("values")
        if curve is None or values is None or len(curve.display_data_channels) > 1:
            return
        curve.append_display_data_channel_for_data_item(values)
        curve._set_display_layer_properties(0, label=_("best so far"), stroke_color="#0072B2", fill_color=None)
        curve._set_display_layer_properties(1, label=_("each spectrum"), stroke_color="#E69F00", fill_color=None)
        curve.set_display_property("legend_position", "bottom-right")
        curve.title = f"{_('Learning curve')}, {self._title}"

    # --- maps

    def _show_maps(self, state: RunState, prediction: Prediction) -> None:
        shape = candidate_shape(state)
        if shape is None or shape[0] * shape[1] != len(prediction.mean):
            return
        units = state.settings.scalarizer.units if state.settings else ""
        for key, title, values in (
            ("prediction", _("Prediction"), prediction.mean),
            ("uncertainty", _("Uncertainty"), prediction.std),
        ):
            xdata = DataAndMetadata.new_data_and_metadata(
                np.asarray(values, np.float32).reshape(shape),
                intensity_calibration=Calibration.Calibration(units=units),
                dimensional_calibrations=self._space(state, shape),
            )
            if key not in self._items:
                self._create(key, title, xdata, state)
                display_item = self.display_item(key)
                if display_item is not None:
                    display_item.display_data_channels[0].color_map_id = "viridis" if key == "prediction" else "magma"
            elif (item := self.item(key)) is not None:
                item.set_data_and_metadata(xdata)

    # --- bookkeeping

    def _create(self, key: str, title: str, xdata: typing.Any, state: RunState) -> None:
        item = DataItem.new_data_item(xdata)
        item.title = f"{title}, {self._title}"
        item.metadata = {**item.metadata, "autoexp": self._metadata(state)}
        self._document_model.append_data_item(item)
        self._adopt(key, item)

    def _adopt(self, key: str, item: typing.Any) -> None:
        self._items[key] = item
        self._ensure_group().append_display_item(self._document_model.get_display_item_for_data_item(item))

    def _ensure_group(self) -> typing.Any:
        if self._group is None or self._group not in self._document_model.data_groups:
            self._group = DataGroup.DataGroup()
            self._group.title = self._title
            self._document_model.insert_data_group(0, self._group)
        return self._group

    def _space(self, state: RunState, shape: tuple[int, ...]) -> list[typing.Any]:
        fov = state.prepared.fov_nm if state.prepared else None
        if fov is None:
            return [Calibration.Calibration() for _axis in shape]
        return [Calibration.Calibration(0.0, f / n, "nm") for f, n in zip(fov, shape, strict=True)]

    def _metadata(self, state: RunState) -> dict[str, typing.Any]:
        """What a spectrum's own metadata do not hold: where it was taken, its dose, and what all this is about."""
        prepared, plan, settings = state.prepared, state.plan, state.settings
        fov = prepared.fov_nm if prepared else None
        taken = [p for p in state.points.values() if p.record is not None]
        return {
            "run": state.run_id,
            "simulated": self._simulated,
            "plan": plan.model_dump(mode="json") if plan else {},
            "scalarizer": settings.scalarizer.model_dump(mode="json") if settings else {},
            "dose_e": state.dose_e,
            "points": [
                {
                    "id": p.id + 1,
                    "record": p.record,
                    "position": list(p.position),
                    "position_nm": [p.position[0] * fov[0], p.position[1] * fov[1]] if fov else None,
                    "value": p.value if np.isfinite(p.value) else None,
                    "noise": p.noise,
                    "dose_e": p.dose_e,
                    "status": p.status,
                    "reason": p.reason,
                }
                for p in taken
            ],
        }


def overview_item(overview: Overview, simulated: bool) -> typing.Any:
    """A data item that shows an overview taken before the start."""
    frame = overview.frame
    calibrations = [
        Calibration.Calibration(0.0, f / n, "nm") if frame else Calibration.Calibration()
        for f, n in zip(frame.fov_nm if frame else overview.image.shape, overview.image.shape, strict=True)
    ]
    item = DataItem.new_data_item(
        DataAndMetadata.new_data_and_metadata(
            overview.image,
            intensity_calibration=Calibration.Calibration(units="counts"),
            dimensional_calibrations=calibrations,
            metadata={**overview.metadata, "autoexp": {"simulated": simulated}},
        )
    )
    item.title = _("Overview") + (_(" (SIMULATED)") if simulated else "")
    return item


def candidate_shape(state: RunState) -> tuple[int, int] | None:
    """Rows and columns of the candidates."""
    if state.prepared is None or state.plan is None:
        return None
    patches = state.plan.patches
    reach = patches.pixels if patches.border == "inside" else 1
    rows, columns = ((n - reach) // patches.stride + 1 for n in state.prepared.shape)
    return rows, columns


def _graphic(point: Point) -> typing.Any:
    graphic = Graphics.PointGraphic()
    graphic.graphic_id = f"{VISITED}-{point.id}"
    graphic.position = point.position
    graphic.label = str(point.id + 1) if point.status == "measured" else f"{point.id + 1} ✕"
    graphic.is_position_locked = True
    graphic.stroke_color = "#56B4E9" if point.status == "measured" else "#D55E00"
    return graphic
