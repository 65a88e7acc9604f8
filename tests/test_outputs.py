"""Report and exports of strange runs: hostile text, numbers without bounds, files that are damaged or gone."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
from html.parser import HTMLParser

import journals
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.errors import AutoexpError, RunLogError
from autoexp.export import damage_of, export_csv, export_hspy
from autoexp.export.spectra import left_out
from autoexp.plan import VirtualInstrument
from autoexp.report import draw, write_report
from autoexp.runlog import EVENTS, RunLog, RunReader
from autoexp.scalarizers import register_scalarizer
from autoexp.state import fold
from autoexp.text import cell

CASES = int(os.environ.get("AUTOEXP_FUZZ", "0")) // 20
FEW = settings(deadline=None, max_examples=max(3, CASES), suppress_health_check=list(HealthCheck))

HOSTILE = (
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "</title></style></svg>--><b>",
    r"$\frac{$",
    r"$\input{x}$ \$",
    '=cmd|"/c calc"!A1',
    " @SUM(1)",
    "x;=1+1",
    "＝1+1",
    "-1+1",
    "\r\n=1+1",
    "\t+1",
    "\x1b[2J\x00\x07",
    "‮txt.exe⁦",
    "&lt;&#60;",
    "{0}%s${x}",
    "µΩ漢字",
)
hostile = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=12), min_size=1, max_size=3).map("".join).filter(bool)
FIXED = {"type", "kind", "what", "phase", "ending", "verb", "file", "goal", "fallback", "border", "run_folder"}


class Page(HTMLParser):
    """The tags of a page with the names of their attributes, and its text."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.words = set(), []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags |= {(tag, name) for name, _ in attributes} | {(tag, "")}

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run that is not touched."""
    return journals.small_run(tmp_path_factory.mktemp("original") / "run")


@pytest.fixture(scope="module")
def innocent(original, tmp_path_factory):
    """Its report."""
    copy = tmp_path_factory.mktemp("innocent") / "run"
    shutil.copytree(original, copy)
    return Page(write_report(copy).read_text(encoding="utf-8"))


@pytest.fixture
def again(original, tmp_path):
    """Makes a fresh copy of the run."""

    def copy(name="run"):
        shutil.rmtree(tmp_path / "copies", ignore_errors=True)
        return shutil.copytree(original, tmp_path / "copies" / name)

    return copy


def with_text(value, text, name=""):
    """A record with every text in it that is free replaced."""
    if isinstance(value, dict):
        return {k: with_text(v, text, k) for k, v in value.items()}
    if isinstance(value, list):
        return [with_text(v, text, name) for v in value]
    if not isinstance(value, str) or name in FIXED:
        return value
    return text[:80] if name == "name" else text


def formulas(path):
    """Cells that a spreadsheet would calculate, whether it takes commas or semicolons."""
    with open(path, newline="", encoding="utf-8") as file:
        cells = [part for line in csv.reader(file) for whole in line for part in whole.split(";")]
    return [c for c in cells if re.match(r"\s*[=+\-@＝＋－＠\t\r]", c) and not is_number(c)]


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


@FEW
@given(text=hostile)
def test_no_text_of_a_run_becomes_anything_else(again, innocent, text):
    register_scalarizer("for-outputs", lambda spectra, energy: spectra.sum(axis=1), units=text)
    folder = again(re.sub(r"[/\0]", "", text)[:40].encode("utf-8", "surrogateescape").decode(errors="replace") or "x")

    def edit(record):
        record = with_text(record, text)
        if record["event"]["type"] == "started":
            record["event"]["plan"]["scalarizer"] = {"kind": "function", "name": "for-outputs"}
        return record

    journals.edited(folder, edit)
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.tags <= innocent.tags
    assert "cannot be shown" not in page.text
    files = export_csv(folder, folder.parent / "out.csv", spectra=True)
    assert [formulas(path) for path in files] == [[], []]


def test_a_folder_whose_name_is_no_text_at_all(again, innocent):
    folder = again("<img src=x onerror=alert(1)>" + os.fsdecode(b" \xb5\xff") + r" $\frac{$")
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.tags <= innocent.tags
    assert "<img src=x onerror=alert(1)> ??" in page.text
    assert export_csv(folder)[0].exists()


@given(text=hostile)
@settings(deadline=None, max_examples=max(25, CASES))
def test_figures_show_text_as_it_stands(text):
    figure = draw.new_figure(2, 2)
    axes = draw.style(figure.subplots(), text, text, text)
    axes.plot([0, 1], label=f"l{text}")
    draw.legend(axes)
    figure.suptitle(text)
    draw.as_plain_text(figure)
    shown = [axes.get_title("left"), axes.get_xlabel(), axes.get_legend().get_texts()[0].get_text()]
    assert all("\n" not in s and len(s) <= draw.MAX_LABEL and s.isprintable() for s in shown)
    titles = [axes.xaxis.label, axes.yaxis.label, axes._left_title, figure._suptitle, *axes.get_legend().get_texts()]
    assert not any(t.get_parse_math() or t.get_usetex() for t in titles)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_dollars_are_drawn_and_numbers_keep_their_powers():
    figure = draw.new_figure(2, 2)
    draw.style(figure.subplots(), r"$\frac{$", "a $x$", r"\$").plot([0, 1e9])
    svg = draw.to_svg(figure, '"><script>')
    assert "<script>" not in svg
    assert r"\times" in svg


@given(text=st.text(max_size=30) | hostile)
@settings(deadline=None, max_examples=max(200, CASES))
def test_no_cell_is_a_formula(text):
    safe = cell(text)
    assert not any(re.match(r"\s*[=+\-@＝＋－＠\t\r\n]", part) for part in safe.split(";"))
    assert cell(safe) == safe
    safe.encode()


def test_numbers_stay_numbers():
    assert [cell(v) for v in (-1.5, 3, None, float("-inf"))] == [-1.5, 3, None, float("-inf")]
    assert cell("10 µm, (a) – b") == "10 µm, (a) – b"


NUMBERS = (0, -1, 1, 0.5, 1e-300, 1e308, -1e308, 1 << 40, "NaN", "Infinity", "-Infinity", None)
KEPT = {"seq", "format", "version", "crc32", "index", "channels", "id"}


def numbers_of(value, path=()):
    """Where in a record there are numbers."""
    if isinstance(value, dict):
        return [p for k, v in value.items() if k not in KEPT for p in numbers_of(v, (*path, k))]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in numbers_of(v, (*path, i))]
    return [path] if isinstance(value, int | float) and not isinstance(value, bool) else []


def put(record, path, value):
    for step in path[:-1]:
        record = record[step]
    record[path[-1]] = value


def events_parse(folder):
    try:
        fold(RunReader(folder).records)
    except (RunLogError, KeyError):
        return False
    return True


def everything(folder):
    """Report and tables; whatever the numbers are, a page is written. HyperSpy may refuse, in our own words."""
    assert write_report(folder).read_text(encoding="utf-8").rstrip().endswith("</html>")
    export_csv(folder, spectra=True, force=True)
    with contextlib.suppress(AutoexpError):
        export_hspy(folder, force=True)
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".autoexp")]


@FEW
@given(data=st.data())
def test_no_number_of_a_run_ends_a_report(original, again, data):
    lines = journals.read(original)
    places = [(i, path) for i, record in enumerate(lines) for path in numbers_of(record["event"])]
    taken = data.draw(st.lists(st.sampled_from(places), min_size=3, max_size=8, unique=True))
    folder = again()
    for i, path in taken:
        put(lines[i]["event"], path, data.draw(st.sampled_from(NUMBERS)))
        journals.write(folder, lines)
        if not events_parse(folder):  # too strange to be read at all
            put(lines[i]["event"], path, 1)
            journals.write(folder, lines)
    if events_parse(folder):
        everything(folder)


LARGE = {"mean": 1e308, "std": -1e308, "candidate": 10**9}
EXTREMES = {
    "nothing": {
        "prepared": {"fov_nm": [0.0, 0.0], "candidates": 0},
        "spectra-opened": {"scale": 0.0},
        "measured": {"value": "NaN", "noise": "NaN", "second": "NaN", "waited_s": "Infinity"},
    },
    "everything": {
        "prepared": {"fov_nm": [1e308, 1e-308]},
        "spectra-opened": {"scale": 1e308},
        "decided": LARGE,
        "measured": {"value": 1e308, "second": -1e308, "noise": "Infinity"},
    },
    "a shape that lies": {"prepared": {"fov_nm": None, "shape": [10**9, 10**9]}},
}


@pytest.mark.parametrize("changes", EXTREMES.values(), ids=EXTREMES)
def test_numbers_at_their_ends(again, changes):
    folder = again()

    def edit(record):
        record["event"] |= changes.get(record["event"]["type"], {})
        return record

    everything(journals.edited(folder, edit))


def refer(folder, kind, name, array):
    """Put another array into the folder, and its checksum into the journal."""
    with RunLog(folder) as log:
        ref = log.save_array(name, array).model_dump()

    def edit(record):
        if record["event"]["type"] == kind:
            record["event"]["overview" if kind == "prepared" else "array"] = ref
        return record

    journals.edited(folder, edit)


ARRAYS = (np.zeros((0, 0)), np.zeros(4), np.full((32, 32), 1j), np.full((32, 32), np.nan), np.zeros((200000, 1)))


@pytest.mark.parametrize("array", ARRAYS, ids=["empty", "line", "complex", "nan", "thin"])
def test_an_overview_or_a_prediction_that_is_none(again, array):
    folder = again()
    refer(folder, "prepared", "overview", array)
    refer(folder, "predicted", "prediction-000004", array)
    assert write_report(folder).read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_what_is_missing_is_said(again):
    folder = again()
    for name in ("overview.npy", "prediction-000004.npy", "spectra.bin"):
        (folder / name).unlink()
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "The overview cannot be shown" in page.text
    assert "the spectra of points 1 to 4 and 6 do not fit their checksums" in page.text
    export_csv(folder, spectra=True)
    with pytest.raises(AutoexpError, match="no spectrum to export; 4 are damaged"):
        export_hspy(folder)


def test_an_overview_with_a_header_that_lies_takes_no_memory(again):
    folder = again()
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, np.float32)) | {"shape": (10**6, 10**6)}
    with open(folder / "overview.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(10 << 30)  # sparse: nobody should read it, not even for its checksum
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "no plan asks for so many" in page.text


def test_damaged_spectra_are_named_and_left_out_everywhere(again):
    pytest.importorskip("exspy")
    folder = again()
    data = bytearray((folder / "spectra.bin").read_bytes())
    data[4 * journals.CHANNELS * 2 + 40] ^= 0x40  # of the third point
    (folder / "spectra.bin").write_bytes(data)
    said = "Damaged: the spectrum of point 3 does not fit its checksum and is left out."
    assert damage_of(folder) == ((2,), said)
    assert said in Page(write_report(folder).read_text(encoding="utf-8")).text
    table, spectra = export_csv(folder, spectra=True)
    with open(table, newline="", encoding="utf-8") as file:
        assert [row["spectrum"] for row in csv.DictReader(file)] == ["ok", "ok", "damaged", "ok", "none", "ok"]
    assert spectra.read_text(encoding="utf-8").splitlines()[0] == "energy_eV,point_1,point_2,point_4,point_6"
    from autoexp.export.quiet import hyperspy

    with hyperspy("test") as api:
        signal = api.load(str(export_hspy(folder)[0]))
    assert list(signal.metadata.autoexp.damaged) == [3]
    assert list(signal.metadata.autoexp.point) == [1, 2, 4]
    reader = RunReader(folder)
    assert np.array_equal(signal.data, reader.checked([reader.state.points[i] for i in (0, 1, 3)]).counts)


def test_the_spectrum_of_another_run_is_not_served(again, tmp_path):
    folder, other = again(), journals.small_run(tmp_path / "other")
    with open(other / "spectra.bin", "r+b") as file:
        file.write(np.full(3 * journals.CHANNELS, 7, "<f4").tobytes())
    shutil.copy(other / "spectra.bin", folder / "spectra.bin")
    assert damage_of(folder)[0] == (0, 1, 2)


@given(st.lists(st.integers(0, 60), min_size=1, unique=True))
def test_damaged_points_are_named_one_and_all(damaged):
    said = left_out(damaged)
    spans = [tuple(map(int, m)) for m in re.findall(r"(\d+) to (\d+)", said)]
    named = {n for a, b in spans for n in range(a, b + 1)}
    named |= {int(n) for n in re.findall(r"\d+", re.sub(r"\d+ to \d+", "", said))}
    assert named == {i + 1 for i in damaged}


def test_the_time_that_the_beam_stood_is_told_once(innocent):
    assert innocent.text.count("The beam stood on the specimen for 14.0 s between exposures.") == 1


def test_a_virtual_run_with_strange_numbers_has_a_report_too(again):
    folder = again()

    def edit(record):
        event = record["event"]
        if event["type"] == "started":
            event["plan"]["instrument"] = VirtualInstrument().model_dump(mode="json")
        if event["type"] == "prepared":
            event |= {"center_nm": [1e308, -1e308], "rotation_rad": 1e308}
        return record

    everything(journals.edited(folder, edit))


def test_a_run_of_no_points_and_of_one(again):
    for points in (0, 1):
        folder = again()
        kept = []
        for line in (folder / EVENTS).read_bytes().splitlines(keepends=True):
            event = ev.Record.model_validate_json(line[9:]).event
            if isinstance(event, ev.Decided) and event.id == points:
                break
            kept.append(line)
        (folder / EVENTS).write_bytes(b"".join(kept))
        everything(folder)
