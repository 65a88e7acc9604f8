"""Repeat Mode "Autonomous" in Swift's own Acquisition panel: each repetition at a position that an agent chooses.

Swift's framework drives the camera and keeps the data; here is only what happens between two frames. No schema entity
is defined for this method on purpose: Swift would store it, and without this plug-in its whole panel would break.
"""

from __future__ import annotations

import typing

import numpy as np
from nion.instrumentation import Acquisition
from nion.ui import Declarative
from nion.utils import Converter, Model, ReferenceCounting, Registry

from autoexp.agent import Outcome, Suggestion
from autoexp.agents import make_agent
from autoexp.errors import AutoexpError
from autoexp.frames import checked_spectrum
from autoexp.guardian import Guardian
from autoexp.limits import site_limits
from autoexp.lock import InstrumentLock
from autoexp.patches import cut
from autoexp.plan import Plan
from autoexp.swift import instrument as swift_instrument
from autoexp.swift import preferences
from autoexp.swift.stream import exposure_of
from autoexp.zero_loss import scored
from nionswift_plugin.autoexp_ui import devices, notices
from nionswift_plugin.autoexp_ui import form as form_module
from nionswift_plugin.autoexp_ui.translation import translate as _
from nionswift_plugin.nion_instrumentation_ui import AcquisitionPanel

COMPONENT_ID = "autoexp-autonomous"
FACTORY_TYPE = "acquisition-method-component-factory"


class AutonomousMethodHandler(AcquisitionPanel.AcquisitionMethodComponentHandler):
    """The page that the Acquisition panel shows for this repeat mode."""

    component_id = COMPONENT_ID

    def __init__(self, configuration: typing.Any, acquisition_preferences: typing.Any):
        super().__init__(_("Autonomous"), configuration)
        self.count_model = Model.PropertyModel[int](20)
        self.count_model.on_value_changed = ReferenceCounting.weak_partial(AutonomousMethodHandler._count_changed, self)
        self.count_converter = Converter.IntegerToStringConverter()
        u = Declarative.DeclarativeUI()
        self.ui_view = u.create_column(
            u.create_row(
                u.create_label(text=_("Spectra")),
                u.create_line_edit(
                    text="@binding(count_model.value, converter=count_converter)",
                    width=90,
                    tool_tip=_("How many positions to measure"),
                ),
                u.create_stretch(),
                spacing=8,
            ),
            u.create_label(
                text=_("set up as in the Autonomous Experiment panel"),
                tool_tip=_("Takes an overview, then measures where the agent chooses. Choose Camera, EELS, Spectra."),
            ),
            spacing=8,
        )

    def close(self) -> None:
        """The panel goes."""
        self.count_model.on_value_changed = None
        self.count_model.close()
        super().close()

    def _count_changed(self, value: typing.Any) -> None:
        self._fire_time_space_usage_changed_event()

    def _get_time_space_usage(self, device_component: typing.Any) -> typing.Any:
        one = device_component.get_time_space_usage()
        count = self._count
        return AcquisitionPanel.TimeSpaceUsage(
            one.time * count if one.time is not None else None, one.space * count if one.space is not None else None
        )

    @property
    def _count(self) -> int:
        return max(1, self.count_model.value or 1)

    def build_acquisition_method(self) -> Acquisition.AcquisitionMethodLike:
        """What Swift wraps round the camera's stream."""
        return AutonomousMethod(self._count)


class AutonomousMethod(Acquisition.AcquisitionMethodLike):
    """Wraps the device's stream in as many repetitions, each at a chosen position."""

    def __init__(self, count: int):
        self._count = count

    def wrap_acquisition_device_data_stream(self, device_data_stream: typing.Any, device_map: typing.Any) -> typing.Any:
        """See Swift's AcquisitionMethodLike."""
        infos = [device_data_stream.get_info(channel) for channel in device_data_stream.channels]
        spectra = [info.data_metadata.datum_dimension_count for info in infos] == [1]
        problem = "" if spectra else _("Autonomous takes spectra only: choose Camera and its spectra below.")
        chooser = PositionChooser(self._count, problem, exposure_of(device_data_stream))
        action = Acquisition.ActionDataStream(SpectrumTap(device_data_stream, chooser), chooser)
        stream = Acquisition.SequenceDataStream(action, self._count)
        stream.title = _("Autonomous")
        return stream


class SpectrumTap(Acquisition.ContainerDataStream):
    """Shows every complete spectrum to the chooser before Swift asks for the next position."""

    def __init__(self, data_stream: typing.Any, chooser: PositionChooser):
        super().__init__(data_stream)
        self._chooser = chooser

    def _get_raw_data_stream_events(self) -> typing.Any:
        events = super()._get_raw_data_stream_events()
        for _stream, event in events:
            # what an action returns never reaches the data; what the raw event holds does
            metadata = {**event.data_metadata.metadata, "autoexp": self._chooser.metadata()}
            event.data_metadata._set_metadata(metadata)
        return events

    def _process_raw_stream_events(self, raw_data_stream_events: typing.Any) -> typing.Any:
        events = super()._process_raw_stream_events(raw_data_stream_events)
        for event in events:
            if event.state == Acquisition.DataStreamStateEnum.COMPLETE:
                self._chooser.learn(np.asarray(event.source_data[event.source_slice]), event.data_metadata)
        return events


class PositionChooser(Acquisition.ActionValueControllerLike):
    """Takes an overview, chooses positions, parks the probe, learns; puts everything back at the end.

    Args:
        count: how many positions.
        problem: why this cannot work with the chosen device, said at the start, where Swift shows it; empty if it can.
        exposure_s: how long Swift is about to expose each spectrum, s; None where it does not tell, so that it is as
            in the Autonomous Experiment panel until the first spectrum has told.
    """

    def __init__(self, count: int, problem: str = "", exposure_s: float | None = None):
        self._count = count
        self._exposure_s = exposure_s
        self._problem = problem
        self._instrument: swift_instrument.SwiftInstrument | None = None
        self._lock: InstrumentLock | None = None
        self._current: Suggestion | None = None
        self._positions: list[list[float]] = []

    def start(self, **kwargs: typing.Any) -> None:
        """Take over and take the overview."""
        if self._problem:
            raise AutoexpError(self._problem)
        instrument = swift_instrument.find_instrument(when_drawn=swift_instrument.drawing_loop())
        identity = instrument.identity
        settings = preferences.load()
        devices.require_armed(identity)
        self._plan = stored_plan(identity.scan, identity.camera, self._count)
        if self._exposure_s is not None:
            self._expect(self._exposure_s)
        self._plan.scalarizer.require()
        self._guardian = Guardian(
            instrument,
            site_limits(identity, settings.site),
            self._plan.limits,
            self._plan.budget,
            beam_current_pA=instrument.beam_current_pA,
        )
        self._guardian.check_plan(self._plan, self._plan.budget)
        lock = InstrumentLock(identity, _("the Acquisition panel"))
        lock.acquire()
        self._lock, self._instrument = lock, instrument
        try:
            self._guardian.open()
            overview = self._guardian.overview(self._plan.overview)
            candidates = cut(overview.image, self._plan.patches)
            self._agent = make_agent(self._plan.agent, candidates, self._plan.seed, self._count)
        except BaseException:
            self.finish()  # Swift does not call it when the start fails
            raise

    def perform(self, index: typing.Any, **kwargs: typing.Any) -> dict[str, typing.Any]:
        """Park the probe where the agent wants the next spectrum."""
        suggestions = self._agent.suggest(1)
        if not suggestions:
            raise AutoexpError(_("Nothing is left to measure; ask for fewer spectra, or a smaller stride."))
        self._current = suggestions[0]
        position = self._current.position
        assert self._instrument is not None
        self._guardian.grant_exposure(position, self._plan.spectrum, self._instrument.park)
        self._positions.append([float(position[0]), float(position[1])])
        return {"autoexp": self.metadata()}

    def _expect(self, exposure_s: float) -> None:
        """From here on each spectrum is taken to be exposed for so long, as the limits and the account see it."""
        spectrum = self._plan.spectrum.model_copy(update={"exposure_s": exposure_s})
        self._plan = self._plan.model_copy(update={"spectrum": spectrum})

    def metadata(self) -> dict[str, typing.Any]:
        """Where the spectra so far were taken, (y, x) in fractions of the overview."""
        return {"positions": list(self._positions)}

    def learn(self, counts: np.ndarray, metadata: typing.Any) -> None:
        """Score a spectrum and hand it to the agent."""
        current, self._current = self._current, None
        if current is None:
            return
        spectrum = swift_instrument.spectrum_of(counts.reshape(-1, counts.shape[-1]).sum(axis=0), metadata)
        told_s = self._guardian.settle_granted(self._plan.spectrum, spectrum.exposed_s)
        if told_s > self._plan.spectrum.exposure_s:
            self._expect(told_s)
        spectrum = checked_spectrum(spectrum)
        energy = spectrum.energy.axis(len(spectrum.counts))
        scores = scored(self._plan.scalarizer, spectrum.counts[None], energy, spectrum.counts_per_electron or 1.0)
        usable = bool(np.isfinite(scores.value[0]))
        self._agent.ingest(
            [
                Outcome(
                    "ok" if usable else "failed",
                    current.candidate,
                    current.position,
                    float(scores.value[0]),
                    float(scores.std[0]),
                )
            ]
        )

    def finish(self, **kwargs: typing.Any) -> None:
        """Put everything back."""
        lock, self._lock = self._lock, None
        instrument, self._instrument = self._instrument, None
        try:
            if instrument is not None and (problems := self._guardian.restore()):
                notices.warn(_("Not everything was put back"), "; ".join(problems))
        finally:
            if lock is not None:
                lock.release()


def stored_plan(scan: str, camera: str, count: int) -> Plan:
    """The plan that the Autonomous Experiment panel is set up for, with another number of points."""
    application: typing.Any = Registry.get_component("application")
    text = application.ui.get_persistent_string(form_module.KEY, "{}") if application else "{}"
    form = form_module.PlanForm(Model.PropertyModel[str](text))
    try:
        form.set(points=count)
        return form.make_plan("Acquisition panel", scan, camera)
    finally:
        form.close()


def register() -> None:
    """Offer the repeat mode; at import, since the panel does not look again later."""
    if not any(getattr(c, "component_id", "") == COMPONENT_ID for c in Registry.get_components_by_type(FACTORY_TYPE)):
        Registry.register_component(AutonomousMethodHandler, {FACTORY_TYPE})
