"""The journal on disk: whatever happens to the file, what was acknowledged is read back."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil

import numpy as np
import pytest
from folders import a_run, begin, edit, measure, spectrum_of
from helpers import plan, run
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.errors import DiskError, RunLogError
from autoexp.lost_events import HEADING
from autoexp.plan import Budget
from autoexp.runlog import EVENTS, SPECTRA, RunLog, RunReader, inside
from autoexp.state import fold


@pytest.fixture(scope="module")
def finished(tmp_path_factory, plasmonic):
    """The folder of a real run of three points."""
    from autoexp.testing import DirectInstrument
    from virtual_stem.microscope import VirtualMicroscope

    folder = tmp_path_factory.mktemp("runs")
    instrument = DirectInstrument(VirtualMicroscope(plasmonic, time_scale=200))
    run(plan(budget=Budget(points=3)), instrument, folder / "run", folder / "locks")
    return folder / "run"


def test_the_log_cut_at_every_byte_still_opens(finished, tmp_path):
    whole = (finished / EVENTS).read_bytes()
    records = RunReader(finished).records
    lines = np.cumsum([len(line) for line in whole.splitlines(keepends=True)])
    folder = tmp_path / "run"
    folder.mkdir()
    for cut in range(len(whole)):
        (folder / EVENTS).write_bytes(whole[:cut])
        expected = int(np.searchsorted(lines, cut, side="right"))
        if expected:
            assert RunReader(folder).records == records[:expected]
        else:
            with pytest.raises(RunLogError, match="holds no run"):
                RunReader(folder)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_ends_the_log_before_it(data, finished, tmp_path_factory):
    whole = bytearray((finished / EVENTS).read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path_factory.mktemp("flipped")
    (folder / EVENTS).write_bytes(whole)
    records = RunReader(finished).records
    before = bytes((finished / EVENTS).read_bytes()[:at]).count(b"\n")
    with RunLog(folder) as log:
        assert log.records == records[:before]
    damaged = folder / f"{EVENTS}.damaged"
    assert damaged.exists()
    heading, aside = damaged.read_bytes().removeprefix(b"\n").split(b"\n", 1)
    assert heading.startswith(HEADING)
    assert (folder / EVENTS).read_bytes() + aside == bytes(whole)


def test_appending_goes_on_after_the_last_good_event(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with open(folder / EVENTS, "ab") as file:
        file.write(b"deadbeef half a li")
    with RunLog(folder) as log:
        good = len(log.records)
        log.append(ev.Warned(message="after the fall"))
    records = RunReader(folder).records
    assert len(records) == good + 1
    assert records[-1].event == ev.Warned(message="after the fall")
    assert (folder / f"{EVENTS}.damaged").read_bytes().endswith(b"\ndeadbeef half a li")


@pytest.mark.parametrize("bit", range(8))
def test_a_last_line_whose_end_is_damaged_does_not_count(bit, tmp_path):
    """Or the next event would be written onto it, and both were lost."""
    folder = tmp_path / "run"
    with RunLog(folder) as log:
        records = log.append(ev.Warned(message="one"), ev.Warned(message="two"))
    whole = (folder / EVENTS).read_bytes()
    (folder / EVENTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1 << bit]))
    assert RunReader(folder).records == records[:1]
    with RunLog(folder) as log:
        log.append(ev.Warned(message="after the fall"))
    assert [r.event.message for r in RunReader(folder).records] == ["one", "after the fall"]


def test_the_time_of_a_run_goes_on_where_it_was_cut_off(tmp_path):
    folder = a_run(tmp_path / "run")
    edit(folder, lambda records: [dict(record, elapsed_s=1000.0 + k) for k, record in enumerate(records)])
    last_s = RunReader(folder).records[-1].elapsed_s
    with RunLog(folder) as log:
        (record,) = log.append(ev.Warned(message="on"))
    assert last_s <= record.elapsed_s < last_s + 60
    assert RunReader(folder).state.elapsed_s == record.elapsed_s


def test_half_a_spectrum_is_dropped(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with open(folder / SPECTRA, "ab") as file:
        file.write(b"x" * 1000)
    assert RunReader(folder).spectra().shape == (3, 1024)
    with RunLog(folder):
        pass
    assert (folder / SPECTRA).stat().st_size == 3 * 4096


def test_two_writers_are_one_too_many(tmp_path):
    with RunLog(tmp_path / "run"), pytest.raises(RunLogError, match="Another program"):
        RunLog(tmp_path / "run")
    with RunLog(tmp_path / "run"):
        pass


def test_a_newer_format_is_refused_and_left_alone(finished, tmp_path):
    import zlib

    first = (
        (finished / EVENTS)
        .read_bytes()
        .splitlines()[0][9:]
        .replace(b'"format":%d' % ev.FORMAT_VERSION, b'"format":%d' % (ev.FORMAT_VERSION + 1))
    )
    folder = tmp_path / "run"
    folder.mkdir()
    text = b"%08x %s\n" % (zlib.crc32(first), first)
    (folder / EVENTS).write_bytes(text)
    for opener in (RunReader, RunLog):
        with pytest.raises(RunLogError, match="newer version"):
            opener(folder)
    assert (folder / EVENTS).read_bytes() == text


@pytest.mark.parametrize("name", ["../overview.npy", "/etc/passwd", "a/b.npy", "", "..", "sub/../../x"])
def test_files_outside_the_run_are_not_read(name, finished):
    with pytest.raises(RunLogError, match="outside"):
        inside(finished, name)


def test_a_damaged_or_pickled_array_is_refused(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    ref = fold(RunReader(folder).records).prepared.overview
    whole = (folder / ref.file).read_bytes()
    (folder / ref.file).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunLogError, match="checksum"):
        RunReader(folder).array(ref)
    np.save(folder / ref.file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RunLogError, match="cannot be read"):
        RunReader(folder).array(ref)


def test_a_full_disk_is_said_and_leaves_no_half_line(tmp_path, monkeypatch):
    log = RunLog(tmp_path / "run")
    log.append(ev.Warned(message="good"))

    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("autoexp.runlog.os.fsync", full)
        with pytest.raises(RunLogError, match="No space left"):
            log.append(ev.Warned(message="lost"))
    log.append(ev.Warned(message="good again"))
    log.close()
    assert [r.event.message for r in RunReader(tmp_path / "run").records] == ["good", "good again"]


def test_nan_and_infinity_survive_the_journey(tmp_path):
    with RunLog(tmp_path / "run") as log:
        log.append(
            ev.Measured(id=0, record=ev.RecordRef(index=0, crc32=0), value=float("nan"), noise=float("inf"), dose_e=0)
        )
    (record,) = RunReader(tmp_path / "run").records
    assert np.isnan(record.event.value)
    assert np.isinf(record.event.noise)


def test_resume_goes_on_where_it_stopped(instrument, tmp_path, locks):
    folder = tmp_path / "run"
    engine = Engine(plan(), instrument, folder, lock_folder=locks)
    append = engine._recorder.append

    def cut(*events):
        append(*events)
        if isinstance(events[-1], ev.Exposing) and events[-1].id == 3:
            raise KeyboardInterrupt

    engine._recorder.append = cut
    # a power cut writes nothing more: take the log away before the engine can tidy up
    engine._finish = lambda end: None
    engine.run()
    before = RunReader(folder).records
    resumed = Engine(None, instrument, folder, lock_folder=locks, beam_current_pA=50.0)
    assert [p.status for p in resumed.state.points.values()] == ["measured"] * 3 + ["exposing"]
    resumed.run()
    assert resumed.error is None
    after = RunReader(folder).records
    assert after[: len(before)] == before
    state = resumed.state
    assert state.points[3].status == "skipped"
    assert "unknown" in state.points[3].fault
    candidates = [p.candidate for p in state.points.values()]
    assert len(set(candidates)) == len(candidates) == 6
    assert len(state.measured) == 5
    assert state.finished.ending == "completed"
    uninterrupted = run(plan(), instrument, tmp_path / "other", locks).state
    assert candidates == [p.candidate for p in uninterrupted.points.values()]


# --- writes that fail


class Flaky:
    """A file whose writes may end half way."""

    def __init__(self, file, due):
        self._file, self._due = file, due

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, data):
        if self._due("write"):
            self._file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)


class Disk:
    """Refuses operations of some kinds, from the n-th on: once, or for good; what fails along with them, too."""

    def __init__(self, monkeypatch, kinds, nth, for_good=False):
        self.kinds, self.nth, self.for_good, self.count = kinds, nth, for_good, 0
        self._broken = False
        import autoexp.runlog
        import autoexp.safe_files

        opened = autoexp.safe_files.open_regular

        def open_flaky(path, flags=os.O_RDONLY, buffering=-1):
            return Flaky(opened(path, flags, buffering), self.due)

        for module in (autoexp.runlog, autoexp.safe_files):
            monkeypatch.setattr(module, "open_regular", open_flaky)
        for name, kind in (("fsync", "fsync"), ("replace", "rename"), ("ftruncate", "cut")):
            monkeypatch.setattr(os, name, self._guarded(kind, getattr(os, name)))

    def _guarded(self, kind, act):
        def guarded(*given):
            if self.due(kind):
                raise OSError(errno.EIO, "Input/output error")
            return act(*given)

        return guarded

    def due(self, kind):
        if kind not in self.kinds:
            return False
        if kind == self.kinds[0]:
            self.count += 1
            self._broken = self.count == self.nth or (self.for_good and self.count >= self.nth)
        return self._broken

    def pass_by(self, trouble=None):
        """The trouble is over, unless it is for good."""
        self._broken = self._broken and self.for_good
        return True


def acts(log):
    """A short sequence of everything that a log does."""

    def spectrum(point):
        if not any(isinstance(record.event, ev.SpectraOpened) for record in log.records):
            told = {"channels": 16, "offset": 0.0, "scale": 1.0, "units": "eV", "counts_per_electron": None}
            log.append(ev.SpectraOpened(file=SPECTRA, **told))
        ref = log.append_spectrum(spectrum_of(point))
        log.append(ev.Measured(id=point, record=ref, value=1.0, noise=0.1, dose_e=1.0))

    def array():
        ref = log.save_array("overview", np.arange(5.0))
        log.append(ev.Prepared(overview=ref, shape=(1, 5), fov_nm=None, candidates=1, dose_e=0.0))

    return [
        lambda: spectrum(0),
        array,
        lambda: log.append(ev.Warned(message="b" * 100), ev.Warned(message="c" * 100)),
        lambda: log.save_text("plan.json", "{}"),
        lambda: spectrum(1),
        lambda: log.append(ev.Warned(message="d" * 40)),
    ]


def check_acknowledged(folder, acknowledged, exactly):
    """What was acknowledged is read back, also its spectra and arrays; and a writer goes on behind it."""
    records = RunReader(folder).records if acknowledged else []
    assert records[: len(acknowledged)] == acknowledged
    assert len(records) == len(acknowledged) or not exactly
    with RunLog(folder) as log:
        log.append(ev.Warned(message="after the fall"))
    reader = RunReader(folder)
    assert reader.records[: len(acknowledged)] == acknowledged
    assert reader.records[-1].event.message == "after the fall"
    rows = reader.spectra()
    for record in acknowledged:
        if isinstance(record.event, ev.Measured):
            np.testing.assert_array_equal(rows[record.event.record.index], spectrum_of(record.event.id))
        if isinstance(record.event, ev.Prepared):
            np.testing.assert_array_equal(reader.array(record.event.overview), np.arange(5.0))


KINDS = [("write",), ("fsync",), ("rename",), ("cut",), ("write", "cut"), ("fsync", "cut"), ("write", "cut", "fsync")]


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("kinds", KINDS, ids="+".join)
def test_whatever_the_disk_refuses_what_was_acknowledged_is_read_back(tmp_path, kinds, for_good):
    for nth in range(1, 100):
        folder = tmp_path / str(nth)
        acknowledged = []
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = Disk(monkeypatch, kinds, nth, for_good)
            with contextlib.suppress(RunLogError), RunLog(folder) as log:
                for act in acts(log):
                    with contextlib.suppress(DiskError):
                        act()
                    disk.pass_by()
                    acknowledged = list(log.records)
        if disk.count < nth:
            assert len(acknowledged) == 7
            break
        check_acknowledged(folder, acknowledged, exactly=not for_good and "cut" not in kinds)
    else:
        pytest.fail("the sequence does not end")


@pytest.mark.parametrize("kinds", KINDS, ids="+".join)
def test_trouble_that_passes_costs_nothing(tmp_path, kinds):
    for nth in range(1, 100):
        folder = tmp_path / str(nth)
        RunLog(folder).close()
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = Disk(monkeypatch, kinds, nth)
            try:
                log = RunLog(folder, on_trouble=disk.pass_by)
            except RunLogError:
                continue  # opening is not waited for
            with log:
                for act in acts(log):
                    act()
                acknowledged = list(log.records)
        assert len(acknowledged) == 7
        check_acknowledged(folder, acknowledged, exactly=True)
        if disk.count < nth:
            break


def test_trouble_that_nobody_waits_for_is_raised(tmp_path, monkeypatch):
    answers = [True, True, False]

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunLog(tmp_path / "run", on_trouble=lambda trouble: answers.pop(0)) as log:
        log.append(ev.Warned(message="good"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(DiskError, match=r"[\d,]+ bytes are to be written, [\d,]+ are free there; make room"):
                log.append(ev.Warned(message="lost"))
        assert answers == []
        log.append(ev.Warned(message="good again"))
    assert [r.event.message for r in RunReader(tmp_path / "run").records] == ["good", "good again"]


def test_while_a_write_waits_nothing_else_is_written(tmp_path, monkeypatch):
    refusals = []

    def on_trouble(trouble):
        monkeypatch.undo()
        with pytest.raises(RunLogError, match="still waits"):
            log.append(ev.Warned(message="between"))
        refusals.append(trouble)
        return True

    def full(fd):
        raise OSError(errno.EIO, "Input/output error")

    with RunLog(tmp_path / "run", on_trouble) as log:
        monkeypatch.setattr(os, "fsync", full)
        log.append(ev.Warned(message="first"))
        log.append(ev.Warned(message="second"))
    assert len(refusals) == 1
    assert [r.event.message for r in RunReader(tmp_path / "run").records] == ["first", "second"]


@pytest.mark.parametrize("half", [1, 20, 90])
def test_a_log_that_cannot_be_cut_refuses_until_it_can(tmp_path, monkeypatch, half):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    class Half:
        def __init__(self, file):
            self.file, self.times = file, 0

        def fileno(self):
            return self.file.fileno()

        def close(self):
            self.file.close()

        def write(self, data):
            self.times += 1
            return self.file.write(data[:half]) if self.times == 1 else refuse()

    log = RunLog(tmp_path / "run")
    log.append(ev.Warned(message="one"))
    log._events = Half(log._events)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        for _ in range(3):
            with pytest.raises(DiskError):
                log.append(ev.Warned(message="refused"))
        assert [r.event.message for r in RunReader(tmp_path / "run").records] == ["one"]
    log.append(ev.Warned(message="two"), ev.Warned(message="three"))
    log.close()
    assert [r.event.message for r in RunReader(tmp_path / "run").records] == ["one", "two", "three"]


@pytest.mark.parametrize("change", [lambda data: data[:-5], lambda data: data[:-2] + b"x\n", lambda data: b""])
def test_a_journal_that_somebody_else_has_changed_is_written_no_more(tmp_path, monkeypatch, change):
    path = tmp_path / "run" / EVENTS
    with RunLog(tmp_path / "run") as log:
        log.append(ev.Warned(message="one"))
        with monkeypatch.context() as patch:  # something is wrong with the disk, so that the log looks again
            patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "EIO")))
            with pytest.raises(DiskError):
                log.append(ev.Warned(message="two"))
        path.write_bytes(change(path.read_bytes()))
        for _ in range(2):
            with pytest.raises(RunLogError, match="something else has changed it"):
                log.append(ev.Warned(message="two"))


def test_what_another_program_added_is_cut_off(tmp_path):
    with RunLog(tmp_path / "run") as log:
        log.append(ev.Warned(message="one"))
        with open(tmp_path / "run" / EVENTS, "ab") as file:
            file.write(b"note to myself\n")
        log.append(ev.Warned(message="two"))
    assert [r.event.message for r in RunReader(tmp_path / "run").records] == ["one", "two"]


# --- events that nobody could read again


class Unheard(ev.Warned):
    """An event of which no reader knows."""

    type: str = "unheard"


@pytest.mark.parametrize(
    "event",
    [
        ev.Warned.model_construct(message="\udcff"),
        ev.Warned.model_construct(message=object()),
        ev.Warned.model_construct(message=3),
        ev.Warned.model_construct(),
        ev.Finished.model_construct(ending="never", reason=""),
        ev.Snapshot.model_construct(controls={"C10": float("nan")}),
        ev.Started.model_construct(run_id="x", plan=None, software={}, instrument={}),
        ev.Exposing(id=1, exposure_s=1.0).model_copy(update={"id": -1}),
        Unheard(message="x"),
        None,
        "an event",
    ],
)
def test_an_event_that_could_not_be_read_again_is_refused_before_it_is_written(tmp_path, event):
    with RunLog(tmp_path / "run") as log:
        log.append(ev.Warned(message="one"))
        before = (tmp_path / "run" / EVENTS).read_bytes()
        with pytest.raises(RunLogError) as caught:
            log.append(ev.Warned(message="with it"), event)
        assert not isinstance(caught.value, DiskError)
        assert (tmp_path / "run" / EVENTS).read_bytes() == before
        log.append(ev.Warned(message="two"))
    assert [r.event.message for r in RunReader(tmp_path / "run").records] == ["one", "two"]


def test_an_event_longer_than_the_reader_takes_is_refused_before_it_is_written(tmp_path, monkeypatch):
    lines = []
    for length in range(800, 1000):
        monkeypatch.setattr("autoexp.runlog.MAX_LINE_BYTES", 1024)
        monkeypatch.setattr("autoexp.journal.MAX_LINE_BYTES", 1024)
        with RunLog(tmp_path / "run") as log:
            try:
                lines += log.append(ev.Warned(message="x" * length))
            except RunLogError as error:
                refused = str(error)
            assert log.records == lines
        assert RunReader(tmp_path / "run").records == lines
    assert 0 < len(lines) < 200
    assert "bytes long" in refused


@pytest.mark.parametrize("counts", [np.zeros(7), np.zeros((4, 16)), np.array(["x"]), np.array([object()])])
def test_a_spectrum_that_does_not_fit_is_refused(tmp_path, counts):
    with RunLog(tmp_path / "run") as log:
        begin(log)
        measure(log, 0)
        with pytest.raises(RunLogError):
            log.append_spectrum(counts)
        measure(log, 1)
    assert RunReader(tmp_path / "run").damaged_points(fold(log.records)) == []


def test_arrays_and_texts_that_cannot_be_written_are_refused(tmp_path):
    with RunLog(tmp_path / "run") as log:
        with pytest.raises(RunLogError, match="objects"):
            log.save_array("x", np.array([{}]))
        with pytest.raises(RunLogError, match="text"):
            log.save_text("x", "\udcff")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [".lock", EVENTS]


def test_a_resumption_beside_one_who_looks_is_never_refused(tmp_path):
    import threading

    from autoexp.runlog import is_locked
    from autoexp.unfinished import find_unfinished

    with RunLog(tmp_path / "runs" / "run") as log:
        begin(log)
        assert is_locked(log.folder)
        assert find_unfinished(tmp_path / "runs") == []
    done = threading.Event()

    def look(how):
        while not done.is_set():
            how()

    looking = [
        threading.Thread(target=look, args=(how,))
        for how in (lambda: is_locked(log.folder), lambda: find_unfinished(tmp_path / "runs"))
    ]
    for thread in looking:
        thread.start()
    try:
        for _ in range(500):
            RunLog(log.folder).close()
    finally:
        done.set()
        for thread in looking:
            thread.join()
    assert not is_locked(log.folder)
