"""Keeps the panel and one run in step: what the operator edits and draws steers it, and what steers it is shown.

Every edit is sent as one field changed in the settings in force, so that whatever the panel cannot express, and
whatever other clients have changed, stays as it is. Here these settings are the commands that were accepted, in their
order, and on top of them the panel's own that wait for their answer.
"""

from __future__ import annotations

import collections
import contextlib
import typing
from collections.abc import Callable, Iterator

from nion.utils import ReferenceCounting

from autoexp import events as ev
from autoexp import scalarizers
from autoexp.engine import Engine
from autoexp.errors import PlanError
from autoexp.state import RunState, Settings
from nionswift_plugin.autoexp_ui import edits, live_data, steering
from nionswift_plugin.autoexp_ui import form as form_module
from nionswift_plugin.autoexp_ui.translation import translate as _


class Answers:
    """What became of every client's commands, in order. An observer of the engine, read by the window's thread."""

    def __init__(self) -> None:
        self._answers: collections.deque[ev.Steered] = collections.deque()

    def __call__(self, record: ev.Record, state: RunState) -> None:
        """Keep an answer."""
        if isinstance(record.event, ev.Steered):
            self._answers.append(record.event)

    def take(self) -> Iterator[ev.Steered]:
        """The answers that have come since."""
        while self._answers:
            yield self._answers.popleft()


class SteeringSync:
    """Between a form, the graphics on a run's data, and the run.

    Args:
        document_model: Swift's document.
        form: the panel's fields.
        engine: the engine of the run, not started yet.
        answers: an observer of this engine.
        live: the run's data items, on which is drawn.
        say: shows a message in the panel.
        is_dragged: whether the mouse holds a graphic of a display item just now.
    """

    def __init__(
        self,
        document_model: typing.Any,
        form: form_module.PlanForm,
        engine: Engine,
        answers: Answers,
        live: live_data.LiveData,
        say: Callable[[str], None],
        is_dragged: Callable[[typing.Any], bool] = lambda display_item: False,
    ):
        self._document_model = document_model
        self._form = form
        self._engine = engine
        self._answers = answers
        self._live = live
        self._say = say
        self._is_dragged = is_dragged
        self._accepted = engine.state if engine.state.settings else RunState(settings=Settings.of(engine.plan))
        self._pending: list[ev.Steering] = []
        self._edited: set[str] = set()
        self._half_entered: set[str] = set()
        self._behind = True
        self._watches: dict[str, tuple[steering.GraphicsWatch, typing.Any]] = {}
        self._graphics_changed = False
        self._regions: steering.DrawnRegions | None = None
        self._windows: steering.DrawnWindows | None = None
        self._requested: set[str] = set()
        form.follow(**edits.fields_of(self._settings))
        self._watch_overview()

    def close(self) -> None:
        """Stop watching."""
        for watch, _listener in self._watches.values():
            watch.close()
        self._watches.clear()
        self._regions = self._windows = None

    def form_edited(self, names: frozenset[str]) -> None:
        """The operator has edited fields; they are sent with the next turn."""
        self._edited |= names & edits.STEERING

    def undo(self) -> None:
        """Take back the latest change, after what was edited before the click."""
        self._send_edits()
        self._half_entered.clear()
        self._send(ev.Undo())

    def steer(self) -> None:
        """Take up what has changed since the last turn, here and in the run."""
        self._take_answers()
        self._watch_overview()
        self._watch_spectra()
        if self._engine.status.ending is not None:
            self._forget_pending()
        else:
            self._send_edits()
        if self._behind and not self._undoing:
            self._follow()

    # --- the settings

    @property
    def _settings(self) -> Settings:
        """In force, once the panel's own commands are accepted."""
        state = self._accepted
        for command in self._pending:
            if isinstance(command, ev.Undo):  # what it takes back is known when it has been done
                break
            with contextlib.suppress(PlanError):
                state = state.steered(command)
        assert state.settings is not None
        return state.settings

    @property
    def _undoing(self) -> bool:
        return any(isinstance(command, ev.Undo) for command in self._pending)

    def _take_answers(self) -> None:
        for answer in self._answers.take():
            self._behind = True
            before = self._accepted.settings
            if answer.refused is None:
                self._accepted = self._accepted.steered(answer.command)
            if self._is_ours(answer.command):
                if answer.refused is not None:
                    self._say(answer.refused)
            elif before is not None:
                self._forget_half_entered(before)

    def _is_ours(self, command: ev.Steering) -> bool:
        """Whether it was sent from here; that, and what it has replaced in the queue, waits no more."""
        ours = command in self._pending
        end = self._pending.index(command) + 1 if ours else len(self._pending)
        waiting = [c for c in self._pending[:end] if _parameter(c) != _parameter(command)]
        self._pending = waiting + self._pending[end:]
        return ours

    def _forget_half_entered(self, before: Settings) -> None:
        """What is half entered is given up where another client has changed the same part meanwhile."""
        assert self._accepted.settings is not None
        old, new = edits.fields_of(before), edits.fields_of(self._accepted.settings)
        for group in edits.GROUPS:
            if any(old.get(name) != new.get(name) for name in group):
                self._half_entered -= group

    def _forget_pending(self) -> None:
        """The run is over: what it has not taken up counts for the next one, or not at all."""
        self._behind = self._behind or bool(self._pending)
        self._pending.clear()

    def _send(self, command: ev.Steering) -> bool:
        sent = self._engine.steer(command)
        if sent:
            self._pending.append(command)
        else:
            self._say(_("Too many changes are waiting to be made. Try again after this spectrum."))
        self._behind = True
        return sent

    # --- from the panel into the run

    def _send_edits(self) -> None:
        if self._undoing:
            return
        if self._graphics_changed and not self._dragging:
            self._graphics_changed = False
            self._send_regions()
            self._send_points()
            self._read_windows()
        for group in edits.GROUPS:
            if self._edited & group:
                self._send_fields((self._edited | self._half_entered) & group)
        self._edited.clear()

    @property
    def _dragging(self) -> bool:
        """Whether the mouse holds a graphic: what is dragged is in force once it is released."""
        return any(self._is_dragged(watch.display_item) for watch, _listener in self._watches.values())

    def _send_fields(self, names: set[str]) -> None:
        self._behind = True
        self._half_entered -= names
        try:
            commands = edits.commands(self._form, names, self._settings)
        except PlanError as error:
            if isinstance(error, edits.HalfEnteredError):
                self._half_entered |= names
            self._say(str(error))
            return
        self._say("")
        for command in commands:
            self._send(command)

    def _send_regions(self) -> None:
        """Labelled rectangles on the overview are regions."""
        if self._regions is None:
            return
        if told := steering.not_obeyed(self._regions.display_item):
            self._say(told)
            self._behind = True
        for command in self._regions.changes():
            present = {region.id: region for region in self._settings.regions}
            if isinstance(command, ev.AddRegion):
                new = present.get(command.region.id) != command.region
            else:
                new = isinstance(command, ev.RemoveRegion) and command.id in present
            if new:
                self._send(command)

    def _send_points(self) -> None:
        """Points that the operator adds to the overview are to be measured next."""
        if self._regions is None:
            return
        for name, position in steering.requested_points(self._regions.display_item).items():
            if name not in self._requested and self._send(ev.MeasureHere(id=name, position=position)):
                self._requested.add(name)

    def _read_windows(self) -> None:
        """A window that was dragged goes into the form, and from there into the run."""
        opened = self._engine.state.spectra
        if self._windows is None or opened is None:
            return
        dragged = self._windows.dragged(1 / (2 * opened.channels))
        changes = {}
        for graphic_id, _label, names in self._form.windows():
            for name, end in zip(names, dragged.get(graphic_id, ()), strict=False):
                if end is not None:
                    changes[name] = round(opened.offset + end * opened.scale * opened.channels, 4)
        if changes:
            self._form.set(**changes)

    # --- from the run into the panel

    def _follow(self) -> None:
        """Show what is in force, whoever asked for it; what the operator is editing just now stays as it is."""
        settings = self._settings
        edited = self._edited | self._half_entered
        values = {name: value for name, value in edits.fields_of(settings).items() if name not in edited}
        self._behind = not self._form.follow(**values)
        if self._dragging:  # what the mouse holds is not taken out of the operator's hand
            self._behind = True
            return
        if self._regions is not None and self._engine.status.ending is None:
            self._regions.show(settings.regions)
        self._show_windows()

    def _show_windows(self) -> None:
        """Show the windows on the spectra, where they can be dragged."""
        opened = self._engine.state.spectra
        if self._windows is None or opened is None:
            return
        shown = {}
        for graphic_id, label, names in self._form.windows():
            if graphic_id == steering.OTHER_WINDOW and not isinstance(self._settings.second, scalarizers.Window):
                continue
            ends = [(self._form.value(n) - opened.offset) / (opened.scale * opened.channels) for n in names]
            low, high = max(0.0, ends[0]), min(1.0, ends[1])
            if low < high:
                shown[graphic_id] = label, (low, high)
        self._windows.show(shown)

    # --- what is drawn on

    def _watch_overview(self) -> None:
        display_item = self._live.display_item("overview")
        if self._watch("overview", display_item):
            known = {region.id for region in self._settings.regions}
            self._regions = steering.DrawnRegions(self._document_model, display_item, known)
            if self._engine.status.ending is not None:  # a short run may be over before its overview is drawn
                self._regions.show(self._settings.regions)
        elif display_item is None:
            self._regions = None

    def _watch_spectra(self) -> None:
        display_item = self._live.display_item("latest")
        if self._watch("latest", display_item):
            self._windows = steering.DrawnWindows(self._document_model, display_item)
        elif display_item is None:
            self._windows = None

    def _watch(self, key: str, display_item: typing.Any) -> bool:
        """Whether there is something new to draw on."""
        old = self._watches.get(key)
        if display_item is None or (old is not None and old[0].display_item is display_item):
            return False
        if old is not None:
            old[0].close()
        watch = steering.GraphicsWatch(display_item)
        listener = watch.changed_event.listen(ReferenceCounting.weak_partial(SteeringSync._on_graphics, self))
        self._watches[key] = watch, listener
        self._graphics_changed = self._behind = True
        return True

    def _on_graphics(self) -> None:
        self._graphics_changed = True


def _parameter(command: ev.Steering) -> tuple[str, str]:
    """What a command is about: of those that wait, a newer one replaces an older one about the same."""
    match command:
        case ev.AddRegion():
            return command.kind, command.region.id
        case ev.RemoveRegion() | ev.MeasureHere():
            return command.kind, command.id
    return command.kind, ""
