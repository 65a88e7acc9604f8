"""Reading a run that may have been damaged, edited or mixed up: nothing wrong is served, every error is one of ours."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import shutil
import time
import zlib

import numpy as np
import pytest
from folders import CHANNELS, a_run, begin, edit, measure, spectrum_of
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.errors import AutoexpError, RunLogError
from autoexp.journal import MAX_LINE_BYTES, line_of, parse_line
from autoexp.runlog import EVENTS, SPECTRA, RunLog, RunReader, checked_spectra, spectra_from
from autoexp.state import Point
from autoexp.unfinished import close_unfinished, find_unfinished

CASES = int(os.environ.get("AUTOEXP_FUZZ", "200"))
RECORD = 4 * CHANNELS


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Two runs of four points that differ in every spectrum."""
    root = tmp_path_factory.mktemp("good")
    a_run(root / "one", seed=1)
    a_run(root / "two", seed=2)
    return root


@pytest.fixture
def folder(good, tmp_path):
    """A copy of the first."""
    return shutil.copytree(good / "one", tmp_path / "run")


def points_of(reader):
    """The points of the journal, whatever else it says."""
    return [Point(e.id, None, (0, 0), "", "", record=e.record.index) for e in reader.events(ev.Measured)]


def damaged(folder):
    """Ids of the damaged points; the others are what was measured."""
    reader = RunReader(folder)
    checked = reader.checked(points_of(reader))
    for point, counts in zip(checked.points, checked.counts, strict=True):
        assert counts.tobytes() == spectrum_of(point.id, 1).tobytes()
    for point in points_of(reader):
        served = [c for p, c in zip(checked.points, checked.counts, strict=True) if p.id == point.id]
        row = reader.spectra()[point.record] if point.record < len(reader.spectra()) else None
        assert row is None or np.isnan(row).all() or (served and row.tobytes() == served[0].tobytes())
    ids = [p.id for p in checked.damaged]
    assert sorted(ids + [p.id for p in checked.points]) == sorted(p.id for p in points_of(reader))
    assert reader.damaged_points(reader.state) == ids
    return ids


# --- spectra


def test_all_good_spectra_are_served_in_the_order_asked_for(folder):
    reader = RunReader(folder)
    checked = reader.checked(points_of(reader)[::-1])
    assert [p.id for p in checked.points] == [3, 2, 1, 0]
    assert checked.counts.dtype == np.float32 and checked.counts.shape == (4, CHANNELS)
    assert damaged(folder) == []
    np.testing.assert_array_equal(reader.spectra(), [spectrum_of(i, 1) for i in range(4)])


@pytest.mark.parametrize("bit", [0, 6, 31])
def test_a_flipped_bit_of_a_spectrum_is_named(folder, bit):
    data = bytearray((folder / SPECTRA).read_bytes())
    data[2 * RECORD + bit // 8] ^= 1 << bit % 8
    (folder / SPECTRA).write_bytes(data)
    assert damaged(folder) == [2]
    assert np.isnan(RunReader(folder).spectra()[2]).all()


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (lambda data: data[: 2 * RECORD] + bytes(2 * RECORD), [2, 3]),
        (lambda data: data[: 2 * RECORD + 7], [2, 3]),
        (lambda data: b"", [0, 1, 2, 3]),
        (lambda data: b"\0" + data, [0, 1, 2, 3]),
        (lambda data: data[RECORD : 2 * RECORD] + data[:RECORD] + data[2 * RECORD :], [0, 1]),
        (lambda data: data + b"more", []),
    ],
)
def test_a_file_of_spectra_that_is_another(folder, change, lost):
    (folder / SPECTRA).write_bytes(change((folder / SPECTRA).read_bytes()))
    assert damaged(folder) == lost


def test_spectra_of_another_run_or_none_at_all(folder, good):
    shutil.copy(good / "two" / SPECTRA, folder / SPECTRA)
    assert damaged(folder) == [0, 1, 2, 3]
    (folder / SPECTRA).unlink()
    assert damaged(folder) == [0, 1, 2, 3]


@pytest.mark.parametrize("index", [4, 1000, 10**12])
def test_a_record_beyond_the_file_is_named(folder, index):
    def beyond(records):
        records[-1]["event"]["record"]["index"] = index
        return records

    edit(folder, beyond)
    assert damaged(folder) == [3]


def test_a_record_that_two_points_claim_is_neither_s(folder):
    def claimed(records):
        measured = [r["event"] for r in records if r["event"]["type"] == "measured"]
        measured[3]["record"] = measured[1]["record"]
        return records

    edit(folder, claimed)
    assert damaged(folder) == [1, 3]
    reader = RunReader(folder)
    assert reader.checked(points_of(reader)[1:2]).points == [], "one of them alone is not to be trusted either"


def test_points_that_know_their_checksums_need_no_journal(folder):
    crc32 = zlib.crc32(spectrum_of(2, 1).tobytes())
    known = Point(2, None, (0, 0), "", "", record=2, crc32=crc32)
    wrong = Point(1, None, (0, 0), "", "", record=1, crc32=crc32)
    unknown = Point(0, None, (0, 0), "", "", record=0)
    nothing = Point(5, None, (0, 0), "", "")
    checked = checked_spectra(folder, CHANNELS, [wrong, known, unknown, nothing])
    assert (checked.points, checked.damaged) == ([known], [wrong, unknown])
    np.testing.assert_array_equal(checked.counts, [spectrum_of(2, 1)])


def test_a_run_without_spectra(tmp_path):
    with RunLog(tmp_path / "run") as log:
        log.append(ev.Warned(message="nothing yet"))
    reader = RunReader(tmp_path / "run")
    assert reader.spectra().shape == (0, 0)
    assert reader.checked([]).counts.shape == (0, 0)


def test_ten_thousand_spectra_are_checked_in_no_time(tmp_path):
    rows = np.random.default_rng(0).random((10_000, 1024), np.float32)
    rows.tofile(tmp_path / SPECTRA)
    refs = {i: ev.RecordRef(index=i, crc32=zlib.crc32(row.tobytes())) for i, row in enumerate(rows)}
    points = [Point(i, None, (0, 0), "", "", record=i) for i in refs]
    begun = time.process_time()
    checked = checked_spectra(tmp_path, 1024, points, refs)
    assert time.process_time() - begun < 1
    np.testing.assert_array_equal(checked.counts, rows)


# --- the journal


def test_a_line_out_of_its_place_ends_the_journal(folder):
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    for changed in (
        [*lines[:5], lines[4], *lines[5:]],  # twice
        [*lines[:5], *lines[6:]],  # left out
        [*lines[:5], lines[6], lines[5], *lines[7:]],  # in another order
    ):
        (folder / EVENTS).write_bytes(b"".join(changed))
        assert [r.seq for r in RunReader(folder).records] == [0, 1, 2, 3, 4]


FIRST_LINES = {
    "a list": b"[]",
    "a number": b"3",
    "text": b'"started"',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"event":' * 50_000 + b"1" + b"}" * 50_000,
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe{}",
    "half a surrogate": b'{"seq":0,"utc":"\\udc00","elapsed_s":0,"event":{"type":"warned","message":"x"}}',
    "empty": b"",
    "a NUL": b"\0",
    "a format that is text": b'{"utc":"","event":{"type":"started","format":"x"}}',
    "a format that is a list": b'{"utc":"","event":{"type":"started","format":[]}}',
    "a format of 5,000 digits": b'{"utc":"","event":{"type":"started","format":' + b"9" * 5000 + b"}}",
    "no event": b'{"event":null}',
    "5,000 digits": b'{"seq":' + b"9" * 5000 + b"}",
    "a huge exponent": b'{"seq":1e999999}',
}


@pytest.mark.parametrize("what", FIRST_LINES)
def test_a_first_line_that_is_strange_is_refused_in_words(folder, what):
    (folder / EVENTS).write_bytes(line_of(FIRST_LINES[what]))
    for opener in (RunReader, RunLog):
        with pytest.raises(RunLogError, match=r"means nothing to this version; nothing was changed"):
            opener(folder)
    assert (folder / EVENTS).read_bytes() == line_of(FIRST_LINES[what])


def only(*events):
    """The first event of a run, and others after it."""

    def change(records):
        return [records[0], *(dict(records[0], event=event) for event in events)]

    return change


def swapped(records):
    """Every point measured before it was decided."""
    return records[:4] + records[4:][::-1]


IMPOSSIBLE = {
    "measured an unknown point": only(
        {"type": "measured", "id": 7, "record": {"index": 0, "crc32": 0}, "value": 1.0, "noise": 0.0, "dose_e": 0.0}
    ),
    "exposing an unknown point": only({"type": "exposing", "id": 7, "exposure_s": 1.0}),
    "undo with no history": only({"type": "steered", "command": {"kind": "undo"}}),
    "an unknown region removed": only({"type": "steered", "command": {"kind": "remove-region", "id": "x"}}),
    "steered before it started": lambda records: [
        dict(records[0], event={"type": "steered", "command": {"kind": "undo"}})
    ],
    "in another order": swapped,
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_events_that_contradict_each_other_are_refused_in_words(folder, good, what):
    edit(folder, IMPOSSIBLE[what])
    with pytest.raises(RunLogError):
        _ = RunReader(folder).state
    with pytest.raises(RunLogError):
        close_unfinished(folder, "discarded")
    shutil.copytree(good / "one", folder.parent / "other")
    assert [run.name for run in find_unfinished(folder.parent)] == ["other"]


def test_a_line_longer_than_the_limit_is_not_read(folder, monkeypatch):
    whole = len(RunReader(folder).records)
    longest = max(map(len, (folder / EVENTS).read_bytes().splitlines(keepends=True)))
    monkeypatch.setattr("autoexp.journal.MAX_LINE_BYTES", longest)
    assert len(RunReader(folder).records) == whole
    monkeypatch.setattr("autoexp.journal.MAX_LINE_BYTES", longest - 1)
    with pytest.raises(RunLogError, match="holds no run"):
        RunReader(folder)


def test_a_sparse_file_without_a_line_is_not_read_to_its_end(folder):
    with open(folder / EVENTS, "r+b") as file:
        file.truncate(1 << 40)
    begun = time.monotonic()
    reader = RunReader(folder)
    assert len(reader.records) == 15 and reader.damaged_bytes > 1 << 39
    with pytest.raises(RunLogError, match="nothing was changed"):
        RunLog(folder)
    assert time.monotonic() - begun < 20


def test_reopening_ten_thousand_points_takes_little(tmp_path):
    import gc

    head = a_run(tmp_path / "run", points=0)
    lines = [(head / EVENTS).read_bytes()]
    seq = len(RunReader(head).records)
    for point in range(10_000):
        for event in (
            ev.Decided(id=point, candidate=point, position=(0.5, 0.5), reason="the most is expected here", agent="x"),
            ev.Exposing(id=point, exposure_s=0.1),
            ev.Measured(id=point, record=ev.RecordRef(index=point, crc32=0), value=1.0, noise=0.1, dose_e=10.0),
        ):
            record = ev.Record(seq=seq, utc="2026-01-01T00:00:00.000+00:00", elapsed_s=seq, event=event)
            lines.append(line_of(record.model_dump_json().encode()))
            seq += 1
    (head / EVENTS).write_bytes(b"".join(lines))
    gc.collect()
    begun = time.process_time()
    reader = RunReader(head)
    assert len(reader.records) == seq
    assert time.process_time() - begun < 1
    assert gc.isenabled()


# --- arrays


def test_an_array_that_says_it_is_larger_is_refused(folder):
    prepared = next(RunReader(folder).events(ev.Prepared)).overview
    whole = (folder / prepared.file).read_bytes()
    for data in (
        whole.replace(b"(8, 8)", b"(8, 9)"),
        whole.replace(b"(8, 8)", b"(-8,-8)"),
        whole.replace(b"(8, 8), }", b"(999999999999, 8), }"),
        whole.replace(b"'<f8'", b"'|O'"),
        whole[:-1],
        whole[:20],
        b"",
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535,
    ):
        (folder / prepared.file).write_bytes(data)
        ref = ev.ArrayRef(file=prepared.file, crc32=zlib.crc32(data))
        with pytest.raises(RunLogError, match="cannot be read"):
            RunReader(folder).array(ref)


def test_an_array_is_what_was_written_and_cannot_be_changed(tmp_path, monkeypatch):
    array = np.arange(12.0).reshape(3, 4).T
    with RunLog(tmp_path / "run") as log:
        refs = [log.save_array("a", array), log.save_array("b", np.float64(3.0)), log.save_array("c", array[:0])]
        log.append(ev.Warned(message="x"))
    reader = RunReader(tmp_path / "run")
    for limit in (1 << 26, 100):  # above it, it is mapped
        monkeypatch.setattr("autoexp.run_reader.MAPPED_BYTES", limit)
        for ref, expected in zip(refs[:2], (array, 3.0), strict=True):
            found = reader.array(ref)
            np.testing.assert_array_equal(found, expected)
            assert not found.flags.writeable
    monkeypatch.undo()
    assert reader.array(refs[2]).shape == (0, 3)


# --- everything at once


def mutated(body, chance):
    """A JSON body with one value exchanged for something strange."""
    strange = [None, -1, 10**30, 1e308, "NaN", "", "x" * 1000, "\udcff", [], {}, [[]] * 50, True, 2**63, -0.0, "1", 7]
    record = json.loads(body)
    node, key = record, chance.choice(list(record))
    while isinstance(node[key], dict | list) and node[key] and chance.random() < 0.8:
        node = node[key]
        key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
    match chance.randrange(4):
        case 0 if isinstance(node, dict):
            node.pop(key)
        case 1 if isinstance(node, dict):
            node["unheard of"] = chance.choice(strange)
        case _:
            node[key] = chance.choice(strange)
    return json.dumps(record).encode("utf-8", "surrogatepass")


def mistreated(lines, chance):
    """Lines of a journal after one of the things that can happen to it."""
    lines = list(lines)
    k = chance.randrange(len(lines))
    match chance.randrange(7) if len(lines[k]) > 10 else 3:
        case 0:
            at = chance.randrange(len(lines[k]))
            lines[k] = lines[k][:at] + bytes([lines[k][at] ^ 1 << chance.randrange(8)]) + lines[k][at + 1 :]
        case 1:
            body = bytearray(lines[k][9:-1])
            body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
            lines[k] = line_of(bytes(body))
        case 2:
            lines[k] = lines[k][: chance.randrange(len(lines[k]))]
        case 3:
            lines.insert(chance.randrange(len(lines)), lines[k])
        case 4:
            del lines[k]
        case _:
            with contextlib.suppress(ValueError):  # broken before
                lines[k] = line_of(mutated(lines[k][9:-1], chance))
    return lines


def renumbered(lines):
    """The lines with numbers that follow, where they can be read."""
    result = []
    for n, line in enumerate(lines):
        try:
            result.append(line_of(json.dumps(dict(json.loads(line[9:-1]), seq=n)).encode()))
        except (ValueError, TypeError):
            result.append(line)
    return result


@pytest.mark.timeout(3600)
@settings(max_examples=max(1, CASES // 2), deadline=None)
@given(seed=st.integers(0, 1 << 32), times=st.integers(1, 3), renumber=st.booleans())
def test_a_journal_changed_in_any_way_never_raises_another_error(seed, times, renumber, good, tmp_path_factory):
    chance = random.Random(seed)
    root = tmp_path_factory.mktemp("mutated")
    folder = shutil.copytree(good / "one", root / "runs" / "run")
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    for _ in range(times):
        lines = mistreated(lines, chance) or lines
    (folder / EVENTS).write_bytes(b"".join(renumbered(lines) if renumber else lines))
    with contextlib.suppress(AutoexpError):
        reader = RunReader(folder)
        reader.checked(points_of(reader))
        reader.spectra()
        reader.damaged_points(reader.state)
        for prepared in reader.events(ev.Prepared):
            reader.array(prepared.overview)
    find_unfinished(root / "runs")
    with contextlib.suppress(AutoexpError):
        close_unfinished(folder, "discarded")
        assert find_unfinished(root / "runs") == []
    assert [p.name for p in root.iterdir()] == ["runs"] and [p.name for p in (root / "runs").iterdir()] == ["run"]
    shutil.rmtree(root)


def harmed(folder, other, chance):
    """Harm a run's folder in one of many ways."""
    path = folder / chance.choice([EVENTS, SPECTRA, SPECTRA, "overview.npy"])
    data = bytearray(path.read_bytes()) if path.exists() else bytearray()
    at = chance.randrange(len(data)) if data else 0
    match chance.randrange(8):
        case 0 | 1 if data:
            data[at] ^= 1 << chance.randrange(8)
        case 2:
            data = data[:at]
        case 3:
            data[at:] = bytes(len(data) - at)
        case 4:
            data[at : at + chance.randrange(200)] = b""
        case 5:
            data[at:at] = chance.randbytes(chance.randrange(100))
        case 6:
            data = bytearray((other / path.name).read_bytes())
        case _:
            path.unlink(missing_ok=True)
            return
    path.write_bytes(data)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(4))
def test_a_damaged_run_serves_nothing_wrong_and_names_what_is_missing(good, tmp_path, part):
    original = {name: (good / "one" / name).read_bytes() for name in (EVENTS, SPECTRA, "overview.npy")}
    chance = random.Random(part)
    for case in range(max(1, CASES // 4)):
        folder = tmp_path / str(case)
        folder.mkdir()
        for name, data in original.items():
            (folder / name).write_bytes(data)
        for _ in range(chance.randint(1, 3)):
            harmed(folder, good / "two", chance)
        _look_closely(folder, good)
        shutil.rmtree(folder)


def _look_closely(folder, good):
    """Every measured point is served as it was measured, or named; and events are missing only where that is said."""
    with contextlib.suppress(AutoexpError):
        reader = RunReader(folder)
        state = reader.state
        refs = {e.id: e.record for e in reader.events(ev.Measured)}
        checked = reader.checked(list(state.points.values()))
        assert {p.id for p in checked.points} | {p.id for p in checked.damaged} == {p.id for p in state.measured}
        for point, counts in zip(checked.points, checked.counts, strict=True):
            originals = [spectrum_of(point.id, seed).tobytes() for seed in (1, 2)]
            (original,) = (data for data in originals if zlib.crc32(data) == refs[point.id].crc32)
            assert counts.tobytes() == original
        if len(state.measured) < 4 and not reader.damaged_bytes:
            journal = (folder / EVENTS).read_bytes()  # cut exactly between two lines
            assert any((good / name / EVENTS).read_bytes().startswith(journal) for name in ("one", "two"))
        for prepared in reader.events(ev.Prepared):
            np.testing.assert_array_equal(reader.array(prepared.overview), np.arange(64.0).reshape(8, 8))


def test_the_limit_of_a_line_is_that_of_the_reader():
    assert parse_line(b"x" * 20) is None
    assert MAX_LINE_BYTES == 64_000_000


def test_spectra_of_a_run_that_is_watched_lie_in_the_order_of_the_records(folder, tmp_path):
    points = RunReader(folder).state.points.values()
    whole = spectra_from(folder, CHANNELS, points)
    named = [p.record for p in points if p.record is not None]
    np.testing.assert_array_equal(whole[named], [spectrum_of(i, 1) for i in named])
    np.testing.assert_array_equal(spectra_from(folder, CHANNELS, points, 2), whole[2:])
    assert spectra_from(tmp_path, CHANNELS, points).shape == (0, CHANNELS)
    data = bytearray((folder / SPECTRA).read_bytes())
    data[4 * CHANNELS * named[-1]] ^= 1
    (folder / SPECTRA).write_bytes(data)
    damaged = spectra_from(folder, CHANNELS, points)
    assert np.isnan(damaged[named[-1]]).all()
    np.testing.assert_array_equal(damaged[: named[-1]], whole[: named[-1]])


def test_journals_without_a_start_are_read(tmp_path):
    with RunLog(tmp_path / "2026-01-01") as log:
        log.append(ev.Snapshot(controls={"C10": 0.0}), ev.Moving(name="C10", before=0.0, value=1e-9))
    assert [type(r.event) for r in RunReader(tmp_path / "2026-01-01").records] == [ev.Snapshot, ev.Moving]


def test_a_short_stream_goes_on_where_the_journal_says(folder):
    data = (folder / SPECTRA).read_bytes()
    (folder / SPECTRA).write_bytes(data[: 2 * RECORD + 3])
    with RunLog(folder) as log:
        measure(log, 4, seed=1)
    assert damaged(folder) == [2, 3]
    with RunLog(folder) as log:
        assert log.append_spectrum(spectrum_of(9)).index == 5


def test_a_long_stream_goes_on_where_the_journal_says(folder):
    with open(folder / SPECTRA, "ab") as file:
        file.write(b"x" * (7 * RECORD + 5))
    with RunLog(folder) as log:
        measure(log, 4, seed=1)
        measure(log, 5, seed=1)
    assert damaged(folder) == []


def test_records_that_lines_behind_a_damaged_one_name_are_kept(folder):
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    lines[7] = b"x" + lines[7][1:]
    (folder / EVENTS).write_bytes(b"".join(lines))
    for _ in range(2):
        with RunLog(folder) as log:
            assert len(log.records) == 7
    with RunLog(folder) as log:
        assert log.append_spectrum(spectrum_of(9)).index == 4
    assert (folder / SPECTRA).read_bytes()[: 4 * RECORD] == b"".join(spectrum_of(i, 1).tobytes() for i in range(4))


def test_spectra_of_a_journal_that_is_lost_are_set_aside(folder):
    data = (folder / SPECTRA).read_bytes()
    (folder / EVENTS).write_bytes(b"nothing that can be read")
    with RunLog(folder) as log:
        begin(log)
        measure(log, 0, seed=1)
    assert damaged(folder) == []
    (aside,) = folder.glob(f"{SPECTRA}.*.damaged")
    assert aside.read_bytes() == data


def test_a_path_that_is_none_is_refused_in_words():
    for path in ("a\0b", pathlib.Path("/dev/null")):
        for opener in (RunReader, RunLog):
            with pytest.raises(RunLogError):
                opener(path)
