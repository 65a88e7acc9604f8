"""Reports of runs of every kind and every ending; they are read as a browser would read them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import insist

from autoexp import events as ev
from autoexp.campaigns import metrics
from autoexp.engine import Engine
from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, RandomAgent, Region, SwiftInstrument
from autoexp.report import draw, html, write_report
from autoexp.report.facts import gather
from autoexp.report.truth import score_of, truth_of, visited
from autoexp.runlog import RunLog
from autoexp.scalarizers import Edge, PeakPosition, Window

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced, and collects text, tags and addresses."""

    def __init__(self, content):
        super().__init__()
        self.open, self.words, self.tags, self.addresses = [], [], set(), []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [v for k, v in attributes if k in ("href", "src", "xlink:href") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [v for k, v in attributes if k in ("href", "src", "xlink:href") and v]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(folder):
    path = write_report(folder)
    content = path.read_text(encoding="utf-8")
    page = Page(content)
    assert "script" not in page.tags
    assert "http" not in content
    assert all(a.startswith(("#", "data:")) for a in page.addresses)
    assert not [p for p in folder.iterdir() if p.name.startswith(".report")]
    return page


def a_plan(**changes):
    given = {
        "name": "test",
        "overview": OverviewSpec(fov_nm=400, pixels=64),
        "patches": PatchSpec(pixels=8, stride=4),
        "agent": RandomAgent(),
        "budget": Budget(points=8),
        **changes,
    }
    return Plan(**given)


def a_run(plan, instrument, folder, locks, during=None):
    engine = Engine(plan, instrument, folder, lock_folder=locks, beam_current_pA=50.0)
    if during:
        engine._recorder._observers.append(lambda record, state: during(engine, record.event))
    engine.start()
    insist(engine)
    return folder


@pytest.fixture
def finished(instrument, tmp_path, locks):
    """A run that ended as planned."""
    return a_run(a_plan(), instrument, tmp_path / "run", locks)


def test_a_finished_run_is_told_with_its_ground_truth(finished):
    page = page_of(finished)
    for wanted in (
        "SIMULATED",
        "completed",
        "intensity in 1.1 to 1.7 eV",
        "best 1 %",
        "noise-free",
        "Best spectrum",
        "drawn at random",
        "exposing spectra",
        "waiting for decisions",
        "electrons",
        "numpy",
    ):
        assert wanted in page.text
    assert "svg" in page.tags


def test_the_truth_is_that_of_the_specimen(finished, plasmonic):
    facts = gather(finished)
    truth = truth_of(facts)
    points = facts.state.measured
    assert len(truth.candidates) == len(facts.candidates) == facts.state.prepared.candidates
    own = np.array([truth.points[p.id] for p in points])
    measured = np.array([p.value for p in points])
    noise = np.array([p.noise for p in points])
    assert np.all(np.abs(own - measured) < 6 * noise + 0.02 * own)
    assert own == pytest.approx(truth.candidates[visited(facts)], rel=1e-6)
    assert 0 <= score_of(facts, truth).recall <= 1
    assert [len(run.measured) for run in truth.raster.runs] == [len(points)]


def test_baselines_obey_the_regions(instrument, tmp_path, locks):
    left = Region(id="left", kind="include", top=0, left=0, bottom=1, right=0.4)
    folder = a_run(a_plan(regions=(left,)), instrument, tmp_path / "run", locks)
    facts = gather(folder)
    truth = truth_of(facts)
    x = facts.candidates.positions[:, 1]
    assert all(x[i] <= 0.4 for run in truth.random.runs for i in run.measured)


def test_without_ground_truth_those_parts_are_left_out(instrument, tmp_path, locks):
    folder = a_run(a_plan(instrument=SwiftInstrument()), instrument, tmp_path / "run", locks)
    assert truth_of(gather(folder)) is None
    page = page_of(folder)
    assert "no ground truth" in page.text
    assert "noise-free" not in page.text
    assert "True value" not in page.text


def test_a_specimen_that_is_gone_leaves_the_report_whole(finished, monkeypatch):
    monkeypatch.setattr("autoexp.report.truth.make_microscope", lambda spec: 1 / 0)
    assert "noise-free" not in page_of(finished).text


@pytest.mark.parametrize("ending", ["aborted", "halted", "stopped"])
def test_a_run_cut_short(ending, instrument, tmp_path, locks):
    def during(engine, event):
        if isinstance(event, ev.Measured) and event.id == 3:
            {"aborted": engine.abort, "halted": engine.halt, "stopped": engine.stop}[ending]()

    folder = a_run(a_plan(), instrument, tmp_path / "run", locks, during)
    page = page_of(folder)
    assert f"{ending} by the operator" in page.text
    assert "Best points" in page.text


def test_a_run_that_measured_nothing(instrument, tmp_path, locks):
    def during(engine, event):
        if isinstance(event, ev.Prepared):
            engine.abort()

    page = page_of(a_run(a_plan(), instrument, tmp_path / "run", locks, during))
    assert "aborted" in page.text
    assert "Where it measured" in page.text
    assert "Best spectrum" not in page.text


def test_a_run_of_which_only_the_beginning_is_left(tmp_path):
    with RunLog(tmp_path / "run") as log:
        instrument = {"key": "x", "name": "A real one", "simulated": False}
        log.append(ev.Started(run_id="run", plan=a_plan(), software={}, instrument=instrument))
    page = page_of(tmp_path / "run")
    assert "not finished" in page.text
    assert "SIMULATED" not in page.text


def test_a_faulted_run_says_why(instrument, tmp_path, locks):
    instrument.open = lambda: 1 / 0
    page = page_of(a_run(a_plan(), instrument, tmp_path / "run", locks))
    assert "ended by a fault" in page.text
    assert "division by zero" in page.text


def test_points_without_a_number(instrument, tmp_path, locks):
    from autoexp.scalarizers import Function, register_scalarizer

    register_scalarizer("test-nothing", lambda spectra, energy: np.full(len(spectra), np.nan))
    plan = a_plan(scalarizer=Function(name="test-nothing"))
    page = page_of(a_run(plan, instrument, tmp_path / "run", locks))
    assert "Unscored: 8 spectra" in page.text
    assert "Best points" not in page.text


def test_what_a_file_says_cannot_become_markup(instrument, tmp_path, locks):
    page = page_of(a_run(a_plan(name="<script>alert(1)</script>"), instrument, tmp_path / "run", locks))
    assert "<script>alert(1)</script>" in page.text


def test_steering_and_damage_are_visible(instrument, tmp_path, locks):
    def during(engine, event):
        if isinstance(event, ev.Measured) and event.id == 2:
            engine.steer(ev.SetScalarizer(scalarizer=PeakPosition(low_eV=1, high_eV=3)))
            engine.steer(ev.SetBudget(budget=Budget(points=1)))

    folder = a_run(a_plan(), instrument, tmp_path / "run", locks, during)
    with open(folder / "events.jsonl", "ab") as file:
        file.write(b"half an ev")
    page = page_of(folder)
    assert "look for peak position in 1 to 3 eV" in page.text
    assert "refused" in page.text
    assert "damaged" in page.text


def test_an_edge_is_shown_with_its_background(instrument, tmp_path, locks):
    scalarizer = Edge(low_eV=3, high_eV=5, background_low_eV=2, background_high_eV=2.9)
    page = page_of(a_run(a_plan(scalarizer=scalarizer), instrument, tmp_path / "run", locks))
    assert "edge in 3 to 5 eV over its background" in page.text


def test_predictions_are_shown_and_judged(finished):
    facts = gather(finished)
    truth = truth_of(facts).candidates
    log = RunLog(finished)
    for after in (4, 8):
        array = np.stack([truth * 1.01, np.full(len(truth), truth.std() / 4)]).astype(np.float32)
        ref = log.save_array(f"prediction-{after:06d}", array)
        log.append(ev.Predicted(after=after, array=ref, coverage=0.88))
    log.close()
    page = page_of(finished)
    assert "Leave-one-out coverage" in page.text
    assert "of the spread of the truth" in page.text


def test_an_older_report_stays_if_a_new_one_cannot_be_written(finished, monkeypatch):
    path = write_report(finished)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(Exception, match="disk full"):
        write_report(finished)
    assert path.read_bytes() == before
    assert sorted(p.name for p in finished.iterdir() if "report" in p.name) == ["report.html"]


def test_time_is_accounted_for(finished):
    time = gather(finished).time
    assert time.exposing_s == pytest.approx(8 * 0.05)  # the virtual instrument of the plan runs in real time
    parts = time.preparing_s + time.running_s + time.paused_s
    assert parts <= time.total_s + 1e-6
    assert parts == pytest.approx(time.total_s, abs=0.5)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        (12345.6, "12,346"),
        (4.494e6, "4.494 × 10⁶"),
        (1.2e-9, "1.200 × 10⁻⁹"),
        (float("nan"), "–"),
    ],
)
def test_numbers_are_written_as_people_write_them(value, shown):
    assert html.number(value) == shown


def test_large_images_are_made_small_by_blocks(tmp_path):
    image = np.add.outer(np.arange(3000.0), np.arange(2500.0))
    shown = draw.small(image)
    assert max(shown.shape) <= draw.MAX_IMAGE
    assert shown[0, 0] == pytest.approx(image[:3, :3].mean())
    assert draw.small(image[:50]).shape == (16, 833)


def test_figures_take_their_colours_from_the_page():
    figure = draw.new_figure(3, 2)
    draw.style(figure.subplots(), "title", "x", "y").plot([0, 1], color=draw.BLUE)
    svg = draw.to_svg(figure, "a label")
    assert "var(--ink)" in svg
    assert "var(--blue)" in svg
    assert not re.search(r"<metadata|<\?xml|http", svg)


def test_windows_without_a_channel_do_not_hurt():
    assert Window(low_eV=90, high_eV=91).windows() == [(90, 91)]
    assert metrics.top_candidates(np.array([np.nan, 1.0, 3.0])).tolist() == [2]
