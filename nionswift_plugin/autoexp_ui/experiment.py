"""The experiment of one Swift window: it starts engines, watches them, and shows what they find.

The engine runs on its own thread. This object lives on the user-interface thread: a task looks at the engine ten
times a second, so that however fast an experiment runs, the window stays fluid. Nothing here waits for the instrument.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import pathlib
import subprocess
import sys
import time
import typing
import webbrowser
from collections.abc import Iterator

from nion.utils import Event, ReferenceCounting

from autoexp import events as ev
from autoexp.agent import Prediction
from autoexp.engine import Engine
from autoexp.errors import AutoexpError
from autoexp.guardian import Guardian
from autoexp.instrument import Identity, Overview
from autoexp.limits import site_limits
from autoexp.lock import InstrumentLock
from autoexp.plan import OverviewSpec, Region
from autoexp.run_folders import make_run_folder
from autoexp.runlog import RunReader
from autoexp.state import RunState
from autoexp.status import Status
from autoexp.swift import instrument as swift_instrument
from autoexp.swift import preferences
from autoexp.unfinished import UnfinishedRun, close_unfinished, find_unfinished
from nionswift_plugin.autoexp_ui import devices as devices_module
from nionswift_plugin.autoexp_ui import form as form_module
from nionswift_plugin.autoexp_ui import live_data as live_data_module
from nionswift_plugin.autoexp_ui import live_items, notices, pauses, steering, steering_sync, waiting, workspace
from nionswift_plugin.autoexp_ui.translation import translate as _

log = logging.getLogger(__name__)

TICK_S = 0.1
CLOSE_S = 2.0
PATIENCE_S = 5.0


@dataclasses.dataclass(frozen=True)
class TakenOverview:
    """An overview that was taken before the start, and how."""

    overview: Overview
    spec: OverviewSpec
    data_item: typing.Any


class Experiment:
    """One window's experiment.

    Args:
        document_controller: Swift's window.
        form: what the operator enters.
        devices: what the operator chooses.
    """

    def __init__(
        self, document_controller: typing.Any, form: form_module.PlanForm, devices: devices_module.DeviceChoice
    ):
        self._document_controller = document_controller
        self._form = form
        self._devices = devices
        self._form_listeners: list[typing.Any] = [
            form.edited_event.listen(ReferenceCounting.weak_partial(Experiment._on_edit, self)),
            form.changed_event.listen(ReferenceCounting.weak_partial(Experiment._on_form, self)),
        ]
        self._engine: Engine | None = None
        self._live: live_data_module.LiveData | None = None
        self._task: asyncio.Task[None] | None = None
        self._sync: steering_sync.SteeringSync | None = None
        self._held_scan: pauses.HeldScan | None = None
        self._collector = pauses.QuietCollector()
        self._pace = pauses.Pace()
        self._pen = steering.RegionPen(document_controller)
        self._replaced: list[typing.Any] = []
        self._told_error = ""
        self.taken: TakenOverview | None = None
        self.busy = False
        self.message = ""
        self.asked = ""
        self.unfinished: list[UnfinishedRun] = []
        self.changed_event = Event.Event()

    # --- what the panel shows

    @property
    def status(self) -> Status:
        """The engine's status, or an idle one."""
        return self._engine.status if self._engine else Status()

    @property
    def engine(self) -> Engine | None:
        """The engine of the present or latest run."""
        return self._engine

    @property
    def live(self) -> live_data_module.LiveData | None:
        """The data items of the present or latest run."""
        return self._live

    @property
    def running(self) -> bool:
        """Whether a run is going on, paused ones included."""
        return self._engine is not None and self._task is not None

    def identity(self) -> Identity | None:
        """The instrument that Swift has, or None."""
        try:
            return self.find_instrument().identity
        except AutoexpError:
            return None

    def find_instrument(self) -> swift_instrument.SwiftInstrument:
        """The instrument with the chosen devices.

        Raises:
            InstrumentError: there is none.
        """
        drawn = swift_instrument.drawing_loop(self._document_controller)
        return swift_instrument.find_instrument(self._devices.scan_id, self._devices.camera_id, drawn)

    # --- what the operator does

    def take_overview(self) -> None:
        """Take an overview and show it, before anything is started."""
        if self.busy or self.running:
            return
        self._spawn(self._take_overview())

    def start(self) -> None:
        """Start an experiment as the form describes it."""
        if self.busy or self.running:
            return
        try:
            instrument = self._instrument()
            overview_item = self.taken.data_item if self._overview_fits() and self.taken else None
            regions = self._regions(overview_item)
            identity = instrument.identity
            plan = self._form.make_plan(_("Autonomous experiment"), identity.scan, identity.camera, regions)
            folder = make_run_folder(preferences.load().runs)
            overview = self.taken.overview if overview_item is not None and self.taken else None
            told = [steering.described(regions)]
            if regions and overview_item is None:
                told.append(_("They are those of the last run; delete or move them on the new overview."))
            if self.taken is not None and overview_item is None:
                told.append(
                    _("The overview on the screen shows another field than is entered, so another one is taken.")
                )
            self._launch(instrument, folder, plan=plan, overview=overview, overview_item=overview_item)
            self._say(" ".join(filter(None, told)))
        except AutoexpError as error:
            self._say(str(error))

    def resume_unfinished(self, run: UnfinishedRun) -> None:
        """Go on with a run that was cut off."""
        if self.busy or self.running:
            return
        try:
            instrument = self._instrument()
            if instrument.identity.key != run.instrument:
                raise AutoexpError(_("That run was made on {other}; connect it to go on.").format(other=run.instrument))
            self._launch(instrument, run.folder)
            self.unfinished = [u for u in self.unfinished if u.folder != run.folder]
        except AutoexpError as error:
            self._say(str(error))

    def close_unfinished(self, run: UnfinishedRun, ending: ev.Ending) -> None:
        """End a run that was cut off, without measuring; unless it is discarded, show what it has."""
        if self.busy or self.running:
            return
        try:
            close_unfinished(run.folder, ending)
            self._say(_("The run {name} is closed; its data are in {folder}.").format(name=run.name, folder=run.folder))
            if ending != "discarded":
                self._spawn(self._show_run(run.folder))
        except AutoexpError as error:
            self._say(str(error))
        self.unfinished = [u for u in self.unfinished if u.folder != run.folder]
        self.changed_event.fire()

    def look_for_unfinished(self) -> None:
        """Look for runs that were cut off, beside the user interface."""
        self._spawn(self._look_for_unfinished())

    def pause(self) -> None:
        """Pause after the present point, or go on."""
        if self._engine is None:
            return
        if self._engine.status.phase in ("paused", "suspended"):
            self._engine.resume()
        else:
            self._engine.pause()

    def set_back(self) -> None:
        """Let the scan show the field of the overview again, and go on."""
        if self._engine is not None and self.running:
            self._engine.set_back()

    def stop(self) -> None:
        """Finish the present point and end."""
        if self._engine is not None and self.running:
            self._ask(_("Stopping after this spectrum …"))
            self._engine.stop()

    def abort(self) -> None:
        """End at once."""
        if self._engine is not None and self.running:
            self._ask(_("Aborting …"))
            self._engine.abort()

    def undo(self) -> None:
        """Take back the latest steering command."""
        if self._sync is not None:
            self._sync.undo()

    def show_report(self) -> None:
        """Write the report of the latest run, in a program of its own, and show it in the browser."""
        if self._engine is not None and not self.busy:
            self._spawn(self._show_report(self._engine.folder))

    def add_region(self, exclude: bool) -> None:
        """Put a rectangle on the overview."""
        display_item = self.overview_display_item
        if display_item is None:
            self._say(_("Take an overview first; regions are drawn on it."))
            return
        workspace.bring_up(self._document_controller, display_item, instead_of=self._shown_overviews())
        self._pen.take(display_item, exclude)
        self._say(_("Drag a rectangle on the overview; it is in force when you release it."))

    @property
    def overview_display_item(self) -> typing.Any:
        """The overview on which regions are drawn: the newest, be it taken before a run or the run's own."""
        if self.taken is not None and (newest := self._display_item_of(self.taken.data_item)) is not None:
            return newest
        return self._live.display_item("overview") if self._live is not None else None

    def _shown_overviews(self) -> list[typing.Any]:
        """Overviews that may be on the screen and are not the newest."""
        of_run = self._live.display_item("overview") if self._live is not None else None
        return [item for item in (of_run, *self._replaced) if item is not None]

    def close(self) -> None:
        """The window goes: end the run, put the instrument back, let go of everything."""
        engine, self._engine = self._engine, None
        going_on = engine is not None and engine.status.ending is None
        if engine is not None and going_on and not waiting.within(CLOSE_S, engine.abort, engine.join):
            log.warning("The run %s has not ended within %g s.", engine.folder, CLOSE_S)
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._let_go()
        self._pen.drop()
        self._replaced.clear()
        self._form_listeners.clear()
        if self._live is not None:
            self._live.close()
        self._live = None
        self.taken = None

    # --- starting

    def _instrument(self) -> swift_instrument.SwiftInstrument:
        instrument = self.find_instrument()
        devices_module.require_armed(instrument.identity)
        return instrument

    def _launch(
        self,
        instrument: swift_instrument.SwiftInstrument,
        folder: pathlib.Path,
        *,
        plan: typing.Any = None,
        overview: Overview | None = None,
        overview_item: typing.Any = None,
    ) -> None:
        identity = instrument.identity
        answers = steering_sync.Answers()
        engine = Engine(
            plan,
            instrument,
            folder,
            site=site_limits(identity, preferences.load().site),
            overview=overview,
            observers=(answers,),
            holder=_("the Autonomous Experiment panel"),
            beam_current_pA=instrument.beam_current_pA,
        )
        self.message = ""
        self._told_error = ""
        self._engine = engine
        self._live = live_items.results(self._document_controller, folder.name, identity.simulated, folder)
        if overview_item is not None:
            self._live.adopt("overview", overview_item)
        self.taken = None
        self._sync = steering_sync.SteeringSync(
            self._document_controller.document_model,
            self._form,
            engine,
            answers,
            self._live,
            self._say,
            functools.partial(steering.is_dragged, self._document_controller),
        )
        self._held_scan = pauses.HeldScan(self._document_controller.document_model, instrument.scan)
        self._collector.enter("preparing")
        engine.start()
        self._task = self._document_controller.event_loop.create_task(self._watch(engine, self._live))

    def _regions(self, overview_item: typing.Any) -> tuple[Region, ...]:
        """Drawn on the overview that was taken before the start, else on that of the last run with the same field."""
        if overview_item is not None:
            return steering.regions_of(self._display_item_of(overview_item))
        last = self._live.display_item("overview") if self._live is not None else None
        if last is None or self._engine is None or self._engine.plan.overview != self._form.make_overview():
            return ()
        return steering.regions_of(last)

    def _overview_fits(self) -> bool:
        """Whether the overview on the screen shows the field that the form asks for."""
        if self.taken is None or self.taken.data_item not in self._document_controller.document_model.data_items:
            return False
        try:
            return self.taken.spec == self._form.make_overview()
        except AutoexpError:
            return False

    # --- watching

    async def _watch(self, engine: Engine, live: live_data_module.LiveData) -> None:
        try:
            while True:
                ended = engine.join(0)
                self._refresh(engine, live)
                if ended:
                    break
                await asyncio.sleep(TICK_S)
            await self._pace.through(self._finish(live, engine.state, engine.prediction))
            self._tell_ending(engine)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("The results cannot be shown; the run itself goes on.")
            self._say(_("The results cannot be shown any more; the run goes on and is saved in its folder."))
        finally:
            live.project_file.write()  # whatever happened, what Swift changes from now on is on disk at once
            self._task = None
            self._let_go()
            self.asked = ""
            self.changed_event.fire()

    def _refresh(self, engine: Engine, live: live_data_module.LiveData) -> None:
        if not self._pace.rest_s:
            with self._pace.change():
                if not workspace.arrange(self._document_controller, live):
                    live.update(engine.state, engine.prediction)
        if self._sync is not None:
            self._sync.steer()
        if self._held_scan is not None:
            self._held_scan.hold()
        if engine.status.phase == "running":  # the libraries that the agent needs are loaded
            self._collector.enter("running")
        self.changed_event.fire()

    def _finish(
        self, live: live_data_module.LiveData, state: RunState, prediction: Prediction | None
    ) -> Iterator[None]:
        """Once the run is over: show the rest, and write everything down."""
        patient_s = time.monotonic() + PATIENCE_S
        while live.update(state, prediction, hurry=True) or (live.busy and time.monotonic() < patient_s):
            yield
        while workspace.arrange(self._document_controller, live):
            yield
        if self._sync is not None:
            self._sync.steer()  # a short run may have ended before its regions were drawn
            yield
        yield from live.finish()

    def _tell_ending(self, engine: Engine) -> None:
        status = engine.status
        if status.ending == "faulted" and status.reason != self._told_error:
            self._told_error = status.reason
            notices.warn(_("Autonomous experiment failed"), status.reason)

    def _on_form(self) -> None:
        self.changed_event.fire()

    def _on_edit(self, names: frozenset[str]) -> None:
        if self._sync is not None:
            self._sync.form_edited(names)

    # --- beside the user interface

    async def _take_overview(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            spec = self._form.make_overview()
            instrument = self._instrument()
            limits = site_limits(instrument.identity, preferences.load().site)
            overview = await loop.run_in_executor(None, lambda: record_overview(instrument, limits, spec))
        except AutoexpError as error:
            self._say(str(error))
            return
        item = live_data_module.overview_item(overview, instrument.identity.simulated)
        self._document_controller.document_model.append_data_item(item)
        before = self._display_item_of(self.taken.data_item) if self.taken else None
        self._replaced = [before] if before is not None else []
        self.taken = TakenOverview(overview, spec, item)
        workspace.bring_up(self._document_controller, self.overview_display_item, instead_of=self._shown_overviews())
        self.message = _("Draw rectangles on the overview to say where to measure, then press Start.")

    async def _show_report(self, folder: pathlib.Path) -> None:
        loop = asyncio.get_running_loop()
        self._say(_("Writing the report …"))
        command = [sys.executable, "-m", "autoexp.cli", "report", str(folder)]
        done = await loop.run_in_executor(None, lambda: subprocess.run(command, capture_output=True, text=True))
        report = folder / "report.html"
        if done.returncode or not report.exists():
            self._say(
                _("The report could not be written: {why}").format(why=done.stderr.strip() or done.stdout.strip())
            )
            return
        self._say(_("The report is {path}.").format(path=report))
        webbrowser.open(report.as_uri())

    async def _show_run(self, folder: pathlib.Path) -> None:
        loop = asyncio.get_running_loop()
        try:
            state, simulated, prediction = await loop.run_in_executor(None, lambda: read_run(folder))
        except AutoexpError as error:
            self._say(str(error))
            return
        live = live_items.results(self._document_controller, folder.name, simulated, folder)
        self._live = live
        try:
            await self._pace.through(self._finish(live, state, prediction))
        finally:
            live.project_file.write()

    async def _look_for_unfinished(self) -> None:
        loop = asyncio.get_running_loop()
        root = preferences.load().runs
        self.unfinished = await loop.run_in_executor(None, lambda: find_unfinished(root))

    def _spawn(self, work: typing.Coroutine[typing.Any, typing.Any, None]) -> None:
        async def guarded() -> None:
            self.busy = True
            self.changed_event.fire()
            try:
                await work
            finally:
                self.busy = False
                self.changed_event.fire()

        self._document_controller.event_loop.create_task(guarded())

    def _display_item_of(self, data_item: typing.Any) -> typing.Any:
        model = self._document_controller.document_model
        return model.get_display_item_for_data_item(data_item) if data_item in model.data_items else None

    def _let_go(self) -> None:
        sync, self._sync = self._sync, None
        if sync is not None:
            sync.close()
        held, self._held_scan = self._held_scan, None
        if held is not None:
            held.release()
        self._collector.end()

    def _ask(self, what: str) -> None:
        """Show at once that a click was heard, while the engine is still on its way there."""
        self.asked = what
        self.changed_event.fire()

    def _say(self, message: str) -> None:
        self.message = message
        self.changed_event.fire()


def read_run(folder: pathlib.Path) -> tuple[RunState, bool, Prediction | None]:
    """A run on disk: how it ended, whether it was a simulation, and what its model expected at last.

    Raises:
        RunLogError: it cannot be read.
    """
    reader = RunReader(folder)
    state = reader.state
    simulated = any(started.instrument.get("simulated", False) for started in reader.events(ev.Started))
    prediction = None
    if state.predicted is not None:
        mean, std = reader.array(state.predicted.array)
        told = state.predicted
        prediction = Prediction(mean, std, told.after, told.coverage, told.evidence)
    return state, simulated, prediction


def record_overview(instrument: typing.Any, limits: typing.Any, spec: OverviewSpec) -> Overview:
    """Take one overview through the guardian, and put everything back."""
    with InstrumentLock(instrument.identity, _("Take Overview")):
        guardian = Guardian(instrument, limits, beam_current_pA=instrument.beam_current_pA)
        try:
            guardian.open()
            return guardian.overview(spec)
        finally:
            guardian.restore()
