"""What a writer does first with a run that was there before: it finds the good end, and sets aside what is none."""

from __future__ import annotations

import logging
import os
import pathlib
import secrets
import shutil
from dataclasses import dataclass

from autoexp import events as ev
from autoexp.errors import RunLogError
from autoexp.journal import EVENTS, Journal, read_journal
from autoexp.lost_events import ASIDE, heading, paid_for, record_of, records_aside
from autoexp.run_reader import SPECTRA, record_count
from autoexp.safe_files import BLOCK_BYTES, open_regular, remove_left_over, sync_folder

MAX_DAMAGED_BYTES = 1 << 30
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovered:
    """Where a run goes on.

    Attributes:
        journal: its good events.
        channels: of each spectrum; None before the stream is opened.
        next_record: number of the next spectrum.
    """

    journal: Journal
    channels: int | None
    next_record: int


def recover(folder: pathlib.Path) -> Recovered:
    """Set what is no event aside as ``.damaged``, so that appending goes on after the last good event.

    Raises:
        RunLogError: the run cannot be read, belongs to a newer version, or holds links; nothing was changed.
        OSError: the disk refuses.
    """
    journal = read_journal(folder)
    remove_left_over(folder)
    if journal.damaged_bytes:
        _set_aside(folder, journal)
    channels = next((r.event.channels for r in journal.records if isinstance(r.event, ev.SpectraOpened)), None)
    return Recovered(journal, channels, _settle_spectra(folder, journal, channels))


def _set_aside(folder: pathlib.Path, journal: Journal) -> None:
    if journal.damaged_bytes > MAX_DAMAGED_BYTES:
        raise RunLogError(
            f"The journal of the run {folder} goes on for {journal.damaged_bytes:,} bytes that are no events. That is "
            "no journal of this program; nothing was changed."
        )
    with (
        open_regular(folder / EVENTS, os.O_RDWR) as file,
        open_regular(folder / ASIDE, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as aside,
    ):
        aside.write(heading(paid_for(journal.records)))
        file.seek(journal.good_bytes)
        shutil.copyfileobj(file, aside, BLOCK_BYTES)
        aside.flush()
        os.fsync(aside.fileno())
        sync_folder(folder)
        os.ftruncate(file.fileno(), journal.good_bytes)
        os.fsync(file.fileno())


def _settle_spectra(folder: pathlib.Path, journal: Journal, channels: int | None) -> int:
    """The number of the next record: after all that an event names, also one that was set aside.

    Whole records that no event names are of an exposure that nobody knows of; the next ones take their place. One that
    is not whole is cut off. A file that belongs to no stream of the journal is set aside.
    """
    path = folder / SPECTRA
    try:
        with open_regular(path, os.O_RDWR) as file:
            size = os.fstat(file.fileno()).st_size
            if channels and size % (4 * channels):
                os.ftruncate(file.fileno(), size - size % (4 * channels))
                os.fsync(file.fileno())
    except FileNotFoundError:
        size = 0
    if channels is None:
        if size:
            os.replace(path, path.with_name(f"{SPECTRA}.{secrets.token_hex(4)}.damaged"))
            sync_folder(folder)
        return 0
    count = record_count(folder, channels)
    # No run names more records than it has events; a number beyond that was not written by this program.
    named = max((i + 1 for r in journal.records if (i := record_of(r)) is not None and i <= r.seq), default=0)
    if named > count:
        log.warning("%s holds %d of %d spectra of the run %s; the others are damaged.", SPECTRA, count, named, folder)
    return max(named, *(i + 1 for i in records_aside(folder) if i < count), 0)
