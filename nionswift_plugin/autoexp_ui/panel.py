"""Thin first version."""

from __future__ import annotations

import asyncio
import gettext
import time
import typing

from nion.data import Calibration, DataAndMetadata
from nion.swift import Facade, Panel
from nion.swift.model import DataItem, Graphics
from nion.ui import Declarative
from nion.utils import Model

from autoexp.engine import Engine
from autoexp.plan import Budget, GridAgent, OverviewSpec, Plan
from autoexp.runlog import RunReader
from autoexp.swift import preferences
from autoexp.swift.instrument import find_instrument

_ = gettext.gettext
PANEL_ID = "autoexp-panel"


class Handler(Declarative.Handler):
    def __init__(self, document_controller: typing.Any) -> None:
        super().__init__()
        self.document_controller = document_controller
        self.status_model = Model.PropertyModel[str]("Idle")
        u = Declarative.DeclarativeUI()
        self.ui_view = u.create_column(
            u.create_row(
                u.create_push_button(text=_("Start"), on_clicked="handle_start", name="start_button"),
                u.create_stretch(),
            ),
            u.create_label(text="@binding(status_model.value)", word_wrap=True),
            u.create_stretch(),
            spacing=8,
            margin=8,
        )
        self.engine: Engine | None = None

    def handle_start(self, widget: typing.Any) -> None:
        ins = find_instrument()
        plan = Plan(agent=GridAgent(), budget=Budget(points=10), overview=OverviewSpec(dwell_us=1))
        folder = preferences.load().runs / time.strftime("%Y%m%d-%H%M%S")
        self.engine = Engine(plan, ins, folder, beam_current_pA=ins.beam_current_pA)
        self.engine.start()
        self.task = self.document_controller.event_loop.create_task(self.watch())

    async def watch(self) -> None:
        assert self.engine
        while not self.engine.status.ending:
            self.status_model.value = f"{self.engine.status.points} points"
            await asyncio.sleep(0.1)
        self.engine.join(5)
        reader = RunReader(self.engine.folder)
        dm = self.document_controller.document_model
        st = self.engine.state
        d = DataItem.new_data_item(DataAndMetadata.new_data_and_metadata(reader.array(st.prepared.overview)))
        d.title = "Overview"
        dm.append_data_item(d)
        di = dm.get_display_item_for_data_item(d)
        with dm.item_transaction(di):
            for p in st.measured:
                g = Graphics.PointGraphic()
                g.position = p.position
                g.label = str(p.id + 1)
                di.add_graphic(g)
        Facade.DocumentWindow(self.document_controller).display_data_item(Facade.DataItem(d))
        s = DataItem.new_data_item(
            DataAndMetadata.new_data_and_metadata(
                reader.spectra()[:].copy(),
                data_descriptor=DataAndMetadata.DataDescriptor(True, 0, 1),
                dimensional_calibrations=[
                    Calibration.Calibration(),
                    Calibration.Calibration(st.spectra.offset, st.spectra.scale, st.spectra.units),
                ],
            )
        )
        s.title = "Spectra"
        dm.append_data_item(s)
        Facade.DocumentWindow(self.document_controller).display_data_item(Facade.DataItem(s))
        self.status_model.value = f"{st.finished.ending} {len(st.measured)} points"


class AutonomousExperimentPanel(Panel.Panel):
    def __init__(self, document_controller: typing.Any, panel_id: str, properties: typing.Any) -> None:
        super().__init__(document_controller, panel_id, _("Autonomous Experiment"))
        self._handler = Handler(document_controller)
        self.widget = Declarative.DeclarativeWidget(
            document_controller.ui, document_controller.event_loop, self._handler
        )
