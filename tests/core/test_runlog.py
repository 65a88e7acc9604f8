"""The journal on disk: whatever happens to the file, what was acknowledged is read back."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers import plan, run
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.engine import Engine
from autoexp.errors import RunLogError
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
    assert (folder / EVENTS).read_bytes() + damaged.read_bytes() == bytes(whole)


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
    assert (folder / f"{EVENTS}.damaged").read_bytes() == b"deadbeef half a li"


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
    class PowerCutError(BaseException):
        pass

    def cut(record, state):
        if isinstance(record.event, ev.Exposing) and record.event.id == 3:
            raise PowerCutError

    folder = tmp_path / "run"
    engine = Engine(plan(), instrument, folder, lock_folder=locks, observers=(cut,))
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
