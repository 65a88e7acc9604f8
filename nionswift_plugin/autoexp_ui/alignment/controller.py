"""The alignments of one Swift window: on a thread of their own, watched from the user interface."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
import typing
from collections.abc import Callable

from nion.utils import Event, ReferenceCounting, Registry

from autoexp.alignments import Alignments
from autoexp.errors import AbortedError, AutoexpError
from autoexp.instrument import Identity
from autoexp.limits import SiteLimits, limits_file, site_limits
from autoexp.plan import AlignmentSpec
from autoexp.swift import instrument as swift_instrument
from autoexp.swift import preferences
from autoexp.tasks.alignment import Alignment, Look
from nionswift_plugin.autoexp_ui import devices as devices_module
from nionswift_plugin.autoexp_ui import waiting
from nionswift_plugin.autoexp_ui.alignment import form as form_module
from nionswift_plugin.autoexp_ui.alignment import items as items_module
from nionswift_plugin.autoexp_ui.translation import translate as _

log = logging.getLogger(__name__)

Work = Callable[[Alignments, AlignmentSpec, threading.Event], None]
"""What is done on the instrument, unless its event is set: then it ends before the next move."""
TICK_S = 0.05
CLOSE_S = 2.0


class BeamAlignment:
    """Looks, aligns, undoes, one at a time.

    Args:
        document_controller: Swift's window.
        form: what the operator enters.

    Attributes:
        changed_event: fired whenever something that the panel shows has changed.
        doing: what is being done now, in words; empty where nothing is.
        looks: the frames of the present or latest alignment.
        found: what came of the latest alignment; None while it is under way, and after a look.
        failed: whether what was done last has failed; the message says why.
        message: what the operator should know.
    """

    def __init__(self, document_controller: typing.Any, form: form_module.AlignmentForm):
        self.changed_event = Event.Event()
        self.doing = ""
        self.looks: list[Look] = []
        self.found: Alignment | None = None
        self.failed = False
        self.message = ""
        self._document_controller = document_controller
        self._form = form
        self._alignments: Alignments | None = None
        self._key = ""
        self._spec: AlignmentSpec | None = None
        self._stopped = threading.Event()
        self._future: concurrent.futures.Future[typing.Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="autoexp-alignment")
        self._items = items_module.AlignmentItems(document_controller)
        self._goal_listener: typing.Any = self._items.goal_moved_event.listen(
            ReferenceCounting.weak_partial(BeamAlignment._on_goal, self)
        )

    # --- what the panel shows

    @property
    def busy(self) -> bool:
        """Whether the instrument is in use by this."""
        return self._task is not None

    @property
    def entry(self) -> dict[str, float]:
        """The controls to which undo goes back; empty where there is nothing to undo."""
        return self._alignments.entries[-1] if self._alignments is not None and self._alignments.entries else {}

    def identity(self) -> Identity | None:
        """The instrument that Swift has, or None."""
        try:
            return self._find().identity
        except AutoexpError:
            return None

    def limits(self) -> SiteLimits:
        """What the site allows on this instrument.

        Raises:
            AutoexpError: there is no instrument, or its limits cannot be used.
        """
        return site_limits(self._find().identity, preferences.load().site)

    # --- what the operator does

    def align(self) -> None:
        """Bring the disk to its goal."""

        def work(alignments: Alignments, spec: AlignmentSpec, stopped: threading.Event) -> None:
            _require_wanted(stopped)
            self.found = alignments.align(spec, self.looks.append, lambda: not stopped.is_set())

        self._begin(_("Aligning"), work)

    def look(self) -> None:
        """Take one frame."""

        def work(alignments: Alignments, spec: AlignmentSpec, stopped: threading.Event) -> None:
            _require_wanted(stopped)
            self.looks.append(alignments.look(spec, lambda: not stopped.is_set()))

        self._begin(_("Looking"), work)

    def undo(self) -> None:
        """Put the controls back to where they were before the latest alignment, and look."""

        def work(alignments: Alignments, spec: AlignmentSpec, stopped: threading.Event) -> None:
            _require_wanted(stopped)
            alignments.undo(lambda: not stopped.is_set())
            self.message = _("Undone: the controls are where they were before.")
            if not stopped.is_set():
                self.looks.append(alignments.look(spec, lambda: not stopped.is_set()))

        if self.entry:
            self._begin(_("Putting the controls back"), work)

    def accept(self) -> None:
        """Leave the controls as they are."""
        if self._alignments is not None and not self.busy:
            try:
                self._alignments.accept()
            except AutoexpError as error:
                self._say(str(error))
                return
            self.message = ""
            self.changed_event.fire()

    def stop(self) -> None:
        """End at once; the controls are put back."""
        if self._alignments is not None and self.busy:
            self.doing = _("Stopping, and putting the controls back")
            self._stopped.set()
            self._alignments.abort()
            self.changed_event.fire()

    def show_goal(self, goal: tuple[float, float]) -> None:
        """The operator has entered another goal."""
        self._items.show_goal(goal)

    def close(self) -> None:
        """The window goes: end, put back, let go of everything. It waits a moment for that, not longer."""
        self._stopped.set()
        if self._alignments is not None and self._future is not None:
            waiting.within(CLOSE_S, self._alignments.abort, functools.partial(concurrent.futures.wait, [self._future]))
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._goal_listener = None
        self._items.close()

    # --- on the instrument

    def _begin(self, doing: str, work: Work) -> None:
        if self.busy:
            return
        self.message = ""
        try:
            self._spec = self._form.make_spec()
            alignments = self._ready()
            alignments.check(self._spec)
        except AutoexpError as error:
            self._say(str(error))
            return
        self.doing, self.looks, self.found, self.failed = doing, [], None, False
        self._stopped = threading.Event()
        self._items.begin()
        self._task = self._document_controller.event_loop.create_task(self._watch(alignments, self._spec, work))
        self.changed_event.fire()

    def prepare(self) -> None:
        """Once for each instrument: look, beside the user interface, whether an alignment of it was cut off.

        Raises:
            InstrumentError: there is none.
        """
        instrument = self._find()
        if self._alignments is not None and instrument.identity.key == self._key:
            return
        self._key = instrument.identity.key
        alignments = self._alignments = Alignments(
            instrument,
            SiteLimits(),
            preferences.load().runs,
            holder=_("the Beam Alignment panel"),
            beam_current_pA=instrument.beam_current_pA,
        )

        def tell(done: concurrent.futures.Future[bool]) -> None:
            text = ""
            if done.cancelled():
                return
            if (error := done.exception()) is not None:
                text = _("Whether an alignment was cut off is not known: {}").format(error)
            elif done.result():
                text = _("An alignment was cut off before it could put the controls back. Undo does that.")
            if text:
                self._document_controller.event_loop.call_soon_threadsafe(self._say, text)

        self._executor.submit(alignments.recover).add_done_callback(tell)

    def _ready(self) -> Alignments:
        """What aligns the instrument that is there now, with the limits as they are now.

        Raises:
            AutoexpError: there is none, or it may not be used.
        """
        instrument = self._find()
        identity = instrument.identity
        devices_module.require_armed(identity)
        self.prepare()
        assert self._alignments is not None
        self._alignments.instrument = instrument
        self._alignments.site = site_limits(identity, preferences.load().site)
        return self._alignments

    async def _watch(self, alignments: Alignments, spec: AlignmentSpec, work: Work) -> None:
        simulated = self._simulated()
        drawn = 0
        try:
            self._future = self._executor.submit(work, alignments, spec, self._stopped)
            while True:
                ended = self._future.done()
                if len(self.looks) > drawn:
                    drawn = len(self.looks)
                    self._draw(self.looks[:drawn], spec, simulated)
                    self.changed_event.fire()
                elif ended:
                    break
                else:
                    await asyncio.sleep(TICK_S)
            self._future.result()
        except asyncio.CancelledError:
            raise
        except AbortedError:
            self.message = _("Stopped. The controls are where they were before.")
        except AutoexpError as error:
            self.failed, self.message = True, str(error)
        except Exception as error:
            log.exception("The alignment failed.")
            self.failed = True
            self.message = _("It failed: {error}").format(error=error)
        finally:
            self._items.finish()
            self._task = self._future = None
            self.doing = ""
            self.changed_event.fire()

    def _draw(self, looks: list[Look], spec: AlignmentSpec, simulated: bool) -> None:
        """Show frames; whatever keeps them from being shown does not keep the alignment from going on."""
        try:
            self._items.draw(looks, spec, simulated)
        except Exception:
            log.exception("The frames cannot be shown.")
            self.message = _("The frames cannot be shown; the alignment itself goes on.")

    def _find(self) -> swift_instrument.SwiftInstrument:
        drawn = swift_instrument.drawing_loop(self._document_controller)
        return swift_instrument.find_instrument(when_drawn=drawn)

    def _simulated(self) -> bool:
        identity = self.identity()
        return identity is not None and identity.simulated

    def _on_goal(self, goal: tuple[float, float]) -> None:
        self._form.set(goal_y=round(goal[0], 4), goal_x=round(goal[1], 4))

    def _say(self, message: str) -> None:
        self.message = message
        self.changed_event.fire()


def _require_wanted(stopped: threading.Event) -> None:
    """Refuse to begin what was stopped while it waited for its turn.

    Raises:
        AbortedError: it was.
    """
    if stopped.is_set():
        raise AbortedError(_("It was stopped before it began."))


def where_limits_belong(identity: Identity) -> str:
    """What to say where no control may be moved."""
    path = limits_file(identity, preferences.load().site)
    return _(
        "No control of this instrument may be moved. Who looks after it lists them, with their ranges, in {path}."
    ).format(path=path)


def cameras() -> list[typing.Any]:
    """The cameras on which the disk may be seen: all but those of the spectrometer, Swift's own choice first."""
    stem: typing.Any = Registry.get_component("stem_controller")
    first = stem.ronchigram_camera if stem is not None else None
    found = [
        c for c in Registry.get_components_by_type("camera_hardware_source") if not c.features.get("is_eels_camera")
    ]
    return sorted(found, key=lambda camera: (camera is not first, camera.display_name))
