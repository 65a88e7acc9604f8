"""Alignments on their own, outside any run: taken over, written down, put back, undone.

Each alignment takes the instrument over and gives it back. If it succeeds, the controls stay where they are, until it
is undone or accepted; if not, they go back to where they were found. Every move is in the journal before it is made, so
that an alignment that was cut off, by whatever, can be undone by the next one who comes.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import pathlib
import re
import time
from collections.abc import Callable, Iterator

from autoexp import events as ev
from autoexp.agents.aligner import Aligner, MakeAligner
from autoexp.errors import AbortedError, GateClosedError, InstrumentError, RunLogError
from autoexp.guardian import Guardian
from autoexp.instrument import Instrument
from autoexp.journal import read_journal
from autoexp.limits import SiteLimits, check_controls
from autoexp.lock import InstrumentLock
from autoexp.lost_events import records_lost
from autoexp.models.response import Belief
from autoexp.plan import AlignmentSpec
from autoexp.runlog import EVENTS, RunLog, is_locked
from autoexp.tasks.alignment import Alignment, AlignmentTask, Look

FOLDER = "alignments"
IDLE_S = 30.0
"""An alignment of which nothing is heard for so long is taken to hang."""
RECENT_DAYS = 7
"""The journals of so many days, the latest on which anything was moved, tell what is still to be put back."""
ACCEPTED = "accepted as it is"
log = logging.getLogger(__name__)


class Alignments:
    """Aligns the beam of one instrument, again and again; what was learned is kept from one time to the next.

    Args:
        instrument: whose beam.
        site: what the site allows.
        runs: the folder of the runs; in it, journals have a folder of their own.
        holder: who aligns, for whoever finds the instrument busy.
        beam_current_pA: for the account of dose.
        lock_folder: where instrument locks lie; in the user's state folder by default.
        make_aligner: makes what decides the moves, for each alignment.

    Attributes:
        instrument: whose beam; may be replaced by the same one, connected anew.
        site: what the site allows; may be replaced.
        entries: the controls as they were found before each alignment that can be undone, the latest last.
    """

    def __init__(
        self,
        instrument: Instrument,
        site: SiteLimits,
        runs: pathlib.Path,
        *,
        holder: str,
        beam_current_pA: float | None = None,
        lock_folder: pathlib.Path | None = None,
        make_aligner: MakeAligner = Aligner,
    ):
        self.entries: list[dict[str, float]] = []
        self.instrument = instrument
        self.site = site
        self._root = runs / FOLDER / re.sub(r"[^\w.-]", "_", instrument.identity.key)
        self._holder = holder
        self._current = beam_current_pA
        self._lock_folder = lock_folder
        self._make_aligner = make_aligner
        self._beliefs: dict[object, Belief] = {}
        self._guardian: Guardian | None = None

    def align(
        self,
        spec: AlignmentSpec,
        on_look: Callable[[Look], None] = lambda look: None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Alignment:
        """Align. If that fails, in whatever way, the controls are put back.

        Args:
            spec: how.
            on_look: told of every frame, on this thread.
            wanted: False ends it before the next move, or before the instrument is taken over.

        Raises:
            AbortedError: it was not wanted any more before it began, or was aborted.
            AutoexpError: it cannot be done, or something could not be put back; the message says what.
        """
        self.check(spec)
        _require_wanted(wanted)
        with self._taken_over(spec, "asked for by the operator") as (guardian, journal):

            def looked(look: Look) -> None:
                journal.append(look.event())
                on_look(look)

            task = self._task(guardian, spec, looked, wanted)
            found = task.run()
            journal.append(found.event())
            if found.success:
                before = {name: guardian.found[name] for name in spec.controls}
                _keep(guardian, journal)
                self.entries.append(before)
        return found

    def check(self, spec: AlignmentSpec) -> None:
        """Refuse what the site does not allow, before anything moves.

        Raises:
            PlanError: a control is not in the site's limits.
        """
        check_controls(self.site, spec)

    def look(self, spec: AlignmentSpec, wanted: Callable[[], bool] = lambda: True) -> Look:
        """Where the disk is now; nothing moves.

        Args:
            spec: how the frame is taken.
            wanted: False ends it before the instrument is taken over.

        Raises:
            AutoexpError: no frame can be had.
        """
        _require_wanted(wanted)
        with self._taken_over(spec, "a look") as (guardian, journal):
            look = self._task(guardian, spec).look()
            journal.append(look.event())
        return look

    def abort(self) -> None:
        """End what goes on at once, an exposure too; the controls are put back. Callable from any thread.

        What has not begun is ended by its ``wanted``.
        """
        guardian = self._guardian
        if guardian is not None:
            guardian.close_gate()

    def undo(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Put the controls back to where they were before the latest alignment that was not accepted.

        Args:
            wanted: False ends it before the instrument is taken over.

        Raises:
            AutoexpError: that cannot be done; the message says what could not be put back.
        """
        if not self.entries:
            raise InstrumentError("There is no alignment to undo.")
        _require_wanted(wanted)
        with self._taken_over(None, "undo") as (guardian, journal):
            problems = guardian.put_back(self.entries[-1])
            if not problems:
                _keep(guardian, journal, self.entries[-1])
        if problems:
            raise InstrumentError("; ".join(problems))
        self.entries.pop()

    def accept(self) -> None:
        """Forget how the controls were before.

        Raises:
            DiskError: that cannot be written down, so nothing is forgotten.
        """
        if self.entries:
            with self._journal() as journal:
                journal.append(ev.Aligned(success=True, reason=ACCEPTED, frames=0))
        self.entries.clear()

    def recover(self) -> bool:
        """Whether controls stand where alignments that were cut off have left them; then undo puts them back.

        Raises:
            RunLogError: a journal of the last days cannot be read.
        """
        if (found := self._cut_off()) and found not in self.entries:
            self.entries.append(found)
        return bool(found)

    def displace(self, values: dict[str, float]) -> None:
        """Move controls, through the guardian: to practise, or to test.

        Raises:
            AutoexpError: that is not allowed, or cannot be done.
        """
        with self._taken_over(None, "displaced") as (guardian, journal):
            for name, value in values.items():
                guardian.await_rate(name, value)
                guardian.move(name, value)
            _keep(guardian, journal)

    # --- taking over and giving back

    @contextlib.contextmanager
    def _taken_over(self, spec: AlignmentSpec | None, reason: str) -> Iterator[tuple[Guardian, RunLog]]:
        with InstrumentLock(self.instrument.identity, self._holder, self._lock_folder), self._journal() as journal:
            guardian = self._guardian = Guardian(
                self.instrument,
                self.site,
                beam_current_pA=self._current,
                on_move=lambda name, now, value: _write(journal, ev.Moving(name=name, before=now, value=value)),
                on_expose=lambda exposure: _write(journal, ev.ExposureBegun.model_validate(vars(exposure))),
            )
            problems: list[str] = []
            try:
                with guardian.watchdog(IDLE_S):
                    found = guardian.open()
                    begun = ev.AlignmentBegun(spec=spec, reason=reason, instrument=self.instrument.identity.as_dict())
                    journal.append(begun, ev.Snapshot(controls=found))
                    yield guardian, journal
            except GateClosedError as error:
                if guardian.expired:
                    raise InstrumentError(
                        f"Nothing was asked of the instrument for {IDLE_S:g} s, so the controls were put back."
                    ) from error
                raise AbortedError("It was aborted.") from error
            finally:
                self._guardian = None
                problems = guardian.restore()
                with contextlib.suppress(Exception):  # it is put back, whether that can be written or not
                    stood_s = guardian.account.moved_on(time.monotonic())
                    journal.append(ev.Restored(problems=problems, stood_s=stood_s))
            if problems:
                raise InstrumentError("; ".join(problems))

    def _task(
        self,
        guardian: Guardian,
        spec: AlignmentSpec,
        on_look: Callable[[Look], None] = lambda look: None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> AlignmentTask:
        """A task that goes on with what was learned of these controls on frames of this kind."""
        kind = spec.controls, spec.px_per_unit, spec.frame.binning if spec.px_per_unit else None
        task = AlignmentTask(guardian, spec, on_look, wanted, self._beliefs.get(kind), self._make_aligner)
        self._beliefs[kind] = task.belief
        return task

    # --- the journal

    @contextlib.contextmanager
    def _journal(self) -> Iterator[RunLog]:
        """A journal for each day."""
        with RunLog(self._root / datetime.date.today().isoformat()) as journal:
            yield journal

    def _cut_off(self) -> dict[str, float]:
        """Where controls were found that were never put back, though nobody wanted them to stay."""
        days = sorted(path.parent for path in self._root.glob(f"*/{EVENTS}"))[-RECENT_DAYS:]
        if not days or is_locked(days[-1]):
            return {}
        owed = _Owed(self.site)
        for day in days:
            for record in _records(day):
                owed.hear(record.event)
        return owed.values


def _records(day: pathlib.Path) -> list[ev.Record]:
    """All good events of a day, in the order of their times, those behind a damaged line too: what they tell was done.

    Raises:
        RunLogError: whole lines are there, and none is good, so that what was moved is not known.
    """
    journal = read_journal(day)
    lost = records_lost(day, journal.good_bytes)
    if not lost:
        if journal.damaged_bytes and not journal.records and not journal.torn:
            raise RunLogError(f"No line of the journal {day} can be read. Check the controls, then move it elsewhere.")
        return journal.records
    log.warning("The journal %s is damaged; the %d good events behind the damage count.", day, len(lost))
    try:
        return sorted(journal.records + lost, key=lambda r: (datetime.datetime.fromisoformat(r.utc).timestamp(), r.seq))
    except ValueError as error:
        raise RunLogError(f"The journal {day} is damaged, and an event tells no time: {error}") from error


class _Owed:
    """What alignments owe: where the controls were found that they moved and neither put back nor were to leave there.

    Args:
        site: its limits tell when two values of a control are the same.
    """

    def __init__(self, site: SiteLimits):
        self._site = site
        self._left: dict[str, float] = {}  # by those before
        self._moved: dict[str, float] = {}  # by this one
        self._found: dict[str, float] = {}

    @property
    def values(self) -> dict[str, float]:
        """Of the controls, as they are to be put back."""
        return self._moved | self._left  # whoever found one first found it in its place

    def hear(self, event: ev.Event) -> None:
        """Follow a journal."""
        match event:
            case ev.AlignmentBegun():
                self._left, self._moved = self.values, {}
            case ev.Snapshot(controls=controls):  # as they are found, or are to stay
                self._found, self._moved = controls, {}
                self._left = {n: v for n, v in self._left.items() if not self._stands(n, v)}
            case ev.Moving(name=name) if name in self._found:
                self._moved.setdefault(name, self._found[name])
            case ev.Restored(problems=[]):
                self._moved = {}
            case ev.Aligned(reason=reason) if reason == ACCEPTED:
                self._left, self._moved = {}, {}

    def _stands(self, name: str, value: float) -> bool:
        limits = self._site.controls.get(name)
        tolerance = limits.readback_tolerance if limits else 0.0
        return name in self._found and abs(self._found[name] - value) <= tolerance


def _keep(guardian: Guardian, journal: RunLog, values: dict[str, float] | None = None) -> None:
    """The controls are to stay where they are: they were brought there, some to given values, on purpose."""
    guardian.keep(lambda controls: _write(journal, ev.Snapshot(controls=controls | (values or {}))))


def _write(journal: RunLog, event: ev.Event) -> None:
    """Write down what is about to happen; if that fails, it does not."""
    journal.append(event)


def _require_wanted(wanted: Callable[[], bool]) -> None:
    """Refuse to begin what was stopped before.

    Raises:
        AbortedError: it was.
    """
    if not wanted():
        raise AbortedError("It was stopped before it began; nothing was moved.")
