"""The helm of one run: what the operator draws and enters while it goes on becomes steering commands."""

from __future__ import annotations

import typing
from collections.abc import Callable

from nion.utils import ReferenceCounting

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.errors import AutoexpError
from nionswift_plugin.autoexp_ui import form as form_module
from nionswift_plugin.autoexp_ui import live_data, steering


class Helm:
    """Compares what is drawn and entered with the settings in force, and asks the engine for the difference.

    Args:
        document_model: Swift's document.
        form: the panel's fields.
        engine: the engine of the run.
        live: its data items, on which is drawn.
        say: shows a message in the panel.
    """

    def __init__(
        self,
        document_model: typing.Any,
        form: form_module.PlanForm,
        engine: Engine,
        live: live_data.LiveData,
        say: Callable[[str], None],
    ):
        self._document_model = document_model
        self._form = form
        self._engine = engine
        self._live = live
        self._say = say
        self._watches: dict[str, tuple[steering.GraphicsWatch, typing.Any]] = {}
        self._graphics_changed = False
        self._form_changed = False
        self._undone = engine.state.undone
        self._requested: set[str] = set()
        if engine.state.settings is not None:  # the run is resumed: an edit must not bring in what was entered since
            form.show(engine.state.settings)

    def close(self) -> None:
        """Stop watching."""
        for watch, _listener in self._watches.values():
            watch.close()
        self._watches.clear()

    def form_changed(self) -> None:
        """A field was edited; it is looked at with the next turn."""
        self._form_changed = True

    def steer(self) -> None:
        """Take up what changed since the last turn."""
        self._watch("overview", self._live.display_item("overview"))
        self._watch("latest", self._live.display_item("latest"))
        undone = self._engine.state.undone
        if undone != self._undone:
            self._undone = undone
            self._follow()
        if self._graphics_changed:
            self._graphics_changed = False
            self._steer_by_regions()
            self._read_windows()
        if self._form_changed:
            self._form_changed = False
            self._steer_by_form()
            self._show_windows()

    def _watch(self, key: str, display_item: typing.Any) -> None:
        old = self._watches.get(key)
        if display_item is None or (old is not None and old[0].display_item is display_item):
            return
        if old is not None:
            old[0].close()
        watch = steering.GraphicsWatch(display_item)
        listener = watch.changed_event.listen(ReferenceCounting.weak_partial(Helm._on_graphics, self))
        self._watches[key] = watch, listener
        if key == "latest":
            self._show_windows()
        else:
            self._draw_regions()
        self._graphics_changed = True

    def _follow(self) -> None:
        """Something was undone: fields and graphics show the settings that are in force again."""
        settings = self._engine.state.settings
        if settings is None:
            return
        self._form.show(settings)
        self._draw_regions()
        self._show_windows()
        self._form_changed = self._graphics_changed = False

    def _draw_regions(self) -> None:
        """Show the regions in force: those of a plan, of a run that is resumed, or after an undo."""
        settings, overview = self._engine.state.settings, self._live.display_item("overview")
        if settings is not None and overview is not None:
            steering.draw_regions(self._document_model, overview, settings.regions)

    def _on_graphics(self) -> None:
        self._graphics_changed = True

    def _steer_by_regions(self) -> None:
        """Rectangles on the overview are regions; points added to it are to be measured next."""
        settings, overview = self._engine.state.settings, self._live.display_item("overview")
        if overview is None or settings is None:
            return
        wanted = {r.id: r for r in steering.regions_of(overview)}
        present = {r.id: r for r in settings.regions}
        for region_id in present.keys() - wanted.keys():
            self._engine.steer(ev.RemoveRegion(id=region_id))
        for region_id, region in wanted.items():
            if present.get(region_id) != region:
                self._engine.steer(ev.AddRegion(region=region))
        for name, position in steering.requested_points(overview).items():
            if name not in self._requested and self._engine.steer(ev.MeasureHere(id=name, position=position)):
                self._requested.add(name)

    def _steer_by_form(self) -> None:
        settings = self._engine.state.settings
        if settings is None or self._engine.status.ending is not None:
            return
        form = self._form
        try:
            scalarizer, second, budget = form.make_scalarizer(), form.make_second(), form.make_budget()
            agent = form.make_agent(settings.agent)
        except AutoexpError as error:
            self._say(str(error))
            return
        self._say("")
        if scalarizer != settings.scalarizer:
            self._engine.steer(ev.SetScalarizer(scalarizer=scalarizer))
        other = agent if agent != settings.agent else None
        if second != settings.second:
            self._engine.steer(ev.SetSecond(scalarizer=second, agent=other))
        elif other:
            self._engine.steer(ev.SetAgent(agent=other))
        if budget != settings.budget:
            self._engine.steer(ev.SetBudget(budget=budget))

    def _show_windows(self) -> None:
        """Show the scalarizer's windows on the spectra, where they can be dragged."""
        display_item, opened = self._live.display_item("latest"), self._engine.state.spectra
        if display_item is None or opened is None:
            return
        for graphic_id, label, names in self._form.windows():
            low, high = ((self._form.value(n) - opened.offset) / (opened.scale * opened.channels) for n in names)
            if 0 <= low < high <= 1:
                steering.show_window(self._document_model, display_item, graphic_id, label, (low, high))

    def _read_windows(self) -> None:
        """A window that was dragged goes into the form, and from there into the run."""
        display_item, opened = self._live.display_item("latest"), self._engine.state.spectra
        if display_item is None or opened is None:
            return
        changes: dict[str, float] = {}
        for graphic_id, _label, names in self._form.windows():
            graphic = steering.window_graphic(display_item, graphic_id)
            if graphic is None:
                continue
            for name, fraction in zip(names, graphic.interval, strict=True):
                energy = opened.offset + fraction * opened.scale * opened.channels
                if abs(energy - self._form.value(name)) > abs(opened.scale) / 2:
                    changes[name] = round(energy, 4)
        if changes:
            self._form.set(**changes)
