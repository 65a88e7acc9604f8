"""Offline replay: forms of datasets, what is refused and why, runs, their measures, and decisions made again."""

from __future__ import annotations

import json
import pathlib
import zipfile

import numpy as np
import pytest

from autoexp import campaigns
from autoexp import events as ev
from autoexp.agent import Prediction
from autoexp.campaigns import DatasetError, Raw, metrics
from autoexp.engine import Engine
from autoexp.errors import AgentError, PlanError
from autoexp.plan import (
    Budget,
    DeepKernelAgent,
    FeatureAgent,
    GridAgent,
    ListAgent,
    OverviewSpec,
    PatchSpec,
    Plan,
    RandomAgent,
    Region,
)
from autoexp.report.comparison import write_comparison
from autoexp.scalarizers import Edge, PeakPosition, PeakWidth, Window

RECORDED = pathlib.Path(__file__).parents[2] / "shared" / "data"
WINDOW = Window(low_eV=20, high_eV=40)


def spectrum_image(rows=12, columns=10, channels=32, seed=0):
    """A bright disc whose spectra have a line at 30 eV."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    amount = np.exp(-((y - 4) ** 2 + (x - 6) ** 2) / 8)
    energy = np.linspace(0, 62, channels)
    line = np.exp(-(((energy - 30) / 4) ** 2))
    spectra = rng.poisson(50 + 400 * amount[..., None] * line).astype(np.int32)
    return {"image": (100 * amount).astype(np.float32), "spectra": spectra, "energy_eV": energy}


def recorded(n=40, seed=0):
    """Candidates anywhere in an image."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.random((20, 24)).astype(np.float32),
        "coords": rng.random((n, 2)) * [19, 23],
        "scalar": rng.random(n),
    }


def saved(tmp_path, arrays, name="data.npz"):
    np.savez(tmp_path / name, **arrays)
    return tmp_path / name


# --- datasets


def test_a_spectrum_image_is_laid_over_its_overview(tmp_path):
    arrays = spectrum_image()
    arrays["image"] = np.kron(arrays["image"], np.ones((4, 4), np.float32))
    data = campaigns.load(saved(tmp_path, arrays))
    assert (len(data), data.shape, data.is_grid) == (120, (12, 10), True)
    assert data.positions[0] == pytest.approx([0.5 / 12, 0.5 / 10])
    assert data.score(WINDOW).value.reshape(12, 10)[4, 6] == data.score(WINDOW).value.max()
    assert data.score(WINDOW).std.min() > 0  # counts: Poisson tells their noise


def test_a_recorded_candidate_has_its_patch_round_it(tmp_path):
    arrays = recorded(3)
    arrays["coords"] = np.array([[0.0, 0.0], [10.0, 11.0], [10.0, 12.0]])
    data = campaigns.load(saved(tmp_path, arrays))
    patches = data.candidates(4).patches([0, 1, 2])
    image = arrays["image"]
    assert patches.shape == (3, 4, 4)
    assert patches[1].tolist() == pytest.approx(image[9:13, 10:14]) or patches[1].tolist() == pytest.approx(
        image[8:12, 9:13]
    )
    assert (
        patches[1][:, 1:].tolist() == patches[2][:, :-1].tolist()
    )  # neighbours differ by one pixel, not by none or two
    assert patches[0].min() >= image.min()  # mirrored at the border, never wrapped


def test_scattered_candidates_are_no_grid_and_a_raster_is(tmp_path):
    assert campaigns.load(saved(tmp_path, recorded())).shape == (40, 1)
    arrays = recorded(20)
    arrays["coords"] = np.stack(np.mgrid[0:4, 0:5], axis=-1).reshape(-1, 2) * 4.25
    assert campaigns.load(saved(tmp_path, arrays)).shape == (4, 5)


def without(key):
    return lambda arrays: arrays.pop(key)


def put(key, value):
    return lambda arrays: arrays.__setitem__(key, value)


def spoil(key):
    def change(arrays):
        arrays[key] = arrays[key].astype(float)
        arrays[key].flat[3] = np.nan

    return change


@pytest.mark.parametrize(
    ("make", "change", "reason"),
    [
        (spectrum_image, without("spectra"), "needed are image, spectra and energy_eV"),
        (spectrum_image, without("energy_eV"), "energy_eV is missing"),
        (spectrum_image, put("energy_eV", np.arange(7.0)), "32 channels"),
        (spectrum_image, put("energy_eV", np.arange(32.0)[::-1]), "must grow"),
        (spectrum_image, put("spectra", np.ones((12, 32))), "shape \\(h, w, E\\)"),
        (spectrum_image, put("spectra", np.ones((12, 10, 1))), "at least two channels"),
        (spectrum_image, put("image", np.ones((4, 4, 3))), "colour"),
        (spectrum_image, put("spectra", np.full((12, 10, 32), "x")), "real numbers"),
        (recorded, without("scalar"), "scalar is missing"),
        (recorded, without("coords"), "coords is missing"),
        (recorded, without("image"), "image is missing"),
        (recorded, put("scalar", np.ones(7)), "40 coords but scalar"),
        (recorded, put("coords", np.ones((40, 3))), "shape \\(n, 2\\)"),
        (recorded, put("coords", np.full((40, 2), 99.0)), "outside the image"),
        (recorded, spoil("coords"), "NaN"),
        (recorded, put("image", np.zeros((0, 4))), "empty"),
    ],
)
def test_bad_arrays_are_refused_with_the_reason(make, change, reason, tmp_path):
    arrays = make()
    change(arrays)
    with pytest.raises(DatasetError, match=reason):
        campaigns.load(saved(tmp_path, arrays))


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="no file"):
        campaigns.load(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(DatasetError, match="cannot be read"):
        campaigns.load(tmp_path / "text.npz")
    (tmp_path / "data.xyz").write_text("")
    with pytest.raises(DatasetError, match="no known form"):
        campaigns.load(tmp_path / "data.xyz")


def test_pickled_objects_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "sprung",))

    arrays = recorded()
    arrays["scalar"] = np.array([Trap()] * 40, dtype=object)
    with pytest.raises(DatasetError, match="never loaded"):
        campaigns.load(saved(tmp_path, arrays))
    assert not (tmp_path / "sprung").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("spectra.npy", b"\0" * 3_000_000)
    monkeypatch.setattr("autoexp.campaigns.formats.MAX_BYTES", 1_000_000)
    with pytest.raises(DatasetError, match="at most"):
        campaigns.load(path)


def swift_properties(spectra):
    calibrations = [{"offset": 0, "scale": 1, "units": "nm"}] * 2 + [{"offset": 0, "scale": 2, "units": "eV"}]
    return {"dimensional_calibrations": calibrations, "title": "Spectrum Image"}


def test_swift_items_are_read_with_their_calibration(tmp_path):
    h5py = pytest.importorskip("h5py")
    arrays = spectrum_image()
    with zipfile.ZipFile(tmp_path / "item.ndata", "w") as archive:
        with archive.open("data.npy", "w") as file:
            np.lib.format.write_array(file, arrays["spectra"], allow_pickle=False)
        archive.writestr("metadata.json", json.dumps({"data_source": swift_properties(arrays["spectra"])}))
    with h5py.File(tmp_path / "item.h5", "w") as file:
        file["data"] = arrays["spectra"]
        file["data"].attrs["properties"] = json.dumps(swift_properties(arrays["spectra"]))
    np.save(tmp_path / "image.npy", arrays["image"])
    for name in ("item.ndata", "item.h5"):
        data = campaigns.load(tmp_path / name, tmp_path / "image.npy")
        assert data.energy_eV == pytest.approx(arrays["energy_eV"])
        assert np.array_equal(data.spectra.reshape(12, 10, 32), arrays["spectra"])
        assert np.array_equal(data.image, arrays["image"])


def test_a_hyperspy_file_without_an_overview_says_what_stands_in_for_it(tmp_path):
    pytest.importorskip("exspy")
    from autoexp.export.quiet import hyperspy

    arrays = spectrum_image()
    with hyperspy("the test") as api:
        signal = api.signals.Signal1D(arrays["spectra"])
        axis = signal.axes_manager[-1]
        axis.units, axis.offset, axis.scale = "eV", 0.0, 2.0
        signal.save(str(tmp_path / "si.hspy"))
    data = campaigns.load(tmp_path / "si.hspy")
    assert data.energy_eV == pytest.approx(arrays["energy_eV"])
    assert "stands in" in data.note
    assert data.image == pytest.approx(arrays["spectra"].sum(axis=2))


def test_a_scalarizer_is_asked_for_where_it_is_needed_and_only_there(tmp_path):
    with pytest.raises(PlanError, match="say what to look for"):
        campaigns.replay(saved(tmp_path, spectrum_image()), agent=RandomAgent())
    with pytest.raises(PlanError, match="leave the scalarizer out"):
        campaigns.replay(saved(tmp_path, recorded()), agent=RandomAgent(), scalarizer=WINDOW)
    with pytest.raises(PlanError, match="holds no channel"):
        campaigns.replay(
            saved(tmp_path, spectrum_image()), agent=RandomAgent(), scalarizer=Window(low_eV=99, high_eV=100)
        )


# --- replay


@pytest.mark.parametrize(
    "agent", [GridAgent(), RandomAgent(), FeatureAgent(), ListAgent(positions=((0.2, 0.3), (0.8, 0.1)))]
)
def test_runs_are_whole_and_repeatable(agent, tmp_path):
    path = saved(tmp_path, spectrum_image())
    first = campaigns.replay(path, agent=agent, scalarizer=WINDOW, budget=30, seeds=2)
    again = campaigns.replay(path, agent=agent, scalarizer=WINDOW, budget=30, seeds=2)
    for one, two in zip(first.runs, again.runs, strict=True):
        assert one.measured == two.measured
        assert len(set(one.measured)) == len(one.measured) == len(one.scalar) == len(one.decision_s)
        assert one.values == pytest.approx(first.truth[list(one.measured)])
    assert [run.seed for run in first.runs] == [0, 1]


def test_the_json_has_the_promised_form(tmp_path):
    result = campaigns.replay(saved(tmp_path, recorded()), agent=RandomAgent(), budget=5, seeds=2, first_seed=7)
    document = json.loads(result.to_json())
    assert set(document) == {"dataset", "plan", "runs"}
    assert set(document["runs"][0]) == {"seed", "measured", "scalar", "decision_s", "checkpoints"}
    assert [run["seed"] for run in document["runs"]] == [7, 8]
    (tmp_path / "out.json").write_text(result.to_json())
    assert campaigns.Replay.read(tmp_path / "out.json") == result


@pytest.mark.parametrize("text", ["", "[]", '{"runs": []}', "[" * 100_000, '{"dataset": {}, "plan": {}, "runs": [{}]}'])
def test_what_is_no_replay_is_refused(text, tmp_path):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(DatasetError):
        campaigns.Replay.read(tmp_path / "bad.json")


def test_more_points_than_candidates_end_when_nothing_is_left(tmp_path):
    result = campaigns.replay(saved(tmp_path, recorded(7)), agent=RandomAgent(), budget=50)
    assert sorted(result.runs[0].measured) == list(range(7))


def test_regions_are_obeyed():
    arrays = spectrum_image()
    data = campaigns.from_arrays(Raw(**arrays), "made")
    upper = Region(id="upper", kind="include", top=0, left=0, bottom=0.5, right=1)
    limited = campaigns.Dataset(**{**vars(data), "regions": (upper,)})
    result = campaigns.replay(limited, agent=RandomAgent(), scalarizer=WINDOW, budget=200)
    assert sorted(result.runs[0].measured) == list(range(60))


class Oracle:
    """An agent that knows: it walks the candidates in order, and predicts their number."""

    name = "oracle"

    def __init__(self, candidates, twice=False):
        self.candidates, self.done, self.asked, self.twice = candidates, 0, [], twice

    def suggest(self, n, pending=()):
        from autoexp.agent import Suggestion

        index = 0 if self.twice else self.done + len(pending)
        self.asked.append((self.done, len(pending)))
        return [Suggestion(index, tuple(self.candidates.positions[index]), "next")]

    def ingest(self, outcomes):
        self.done += len(outcomes)

    def predict(self):
        n = len(self.candidates)
        return Prediction(np.arange(n) / 3, np.ones(n), after=self.done)


@pytest.mark.parametrize("in_flight", [0, 2])
def test_results_come_back_late_if_asked_for(in_flight, tmp_path):
    made = []

    def make(spec, candidates, seed, budget):
        made.append(Oracle(candidates))
        return made[-1]

    asked = {"budget": 30, "in_flight": in_flight, "checkpoints": (25, 30, 99)}
    result = campaigns.replay(saved(tmp_path, recorded()), make=make, **asked)
    assert max(pending for _, pending in made[0].asked) == in_flight
    assert all(known + pending == step for step, (known, pending) in enumerate(made[0].asked))
    assert result.runs[0].measured == tuple(range(30))
    assert set(result.runs[0].checkpoints) == {"25", "30"}
    kept = result.runs[0].checkpoints["25"]
    assert len(kept.mean) == len(kept.std) == 40
    assert kept.mean[1] == pytest.approx(1 / 3, rel=1e-6)


def test_an_agent_that_repeats_itself_is_named(tmp_path):
    with pytest.raises(AgentError, match="oracle agent suggested candidate 0"):
        campaigns.replay(
            saved(tmp_path, recorded()), make=lambda s, candidates, *_: Oracle(candidates, twice=True), budget=3
        )


# --- measures


def test_regret_recall_and_points_to_a_level():
    truth = np.arange(200.0)
    share = metrics.share_of_best([50, 150, 120, 199], truth)
    assert share == pytest.approx([(50 - 99.5) / 99.5, (150 - 99.5) / 99.5, (150 - 99.5) / 99.5, 1.0])
    assert metrics.points_to(share, 0.9) == 4
    assert metrics.points_to(share[:3], 0.9) is None
    assert metrics.top_candidates(truth).tolist() == [199, 198]
    assert metrics.recall([3, 198, 199], truth).tolist() == [0, 0.5, 1]
    assert metrics.top_candidates(truth, "minimize").tolist() == [0, 1]
    assert metrics.share_of_best([150, 0], truth, "minimize")[-1] == 1
    assert metrics.share_of_best([5.0, 5.0], np.full(9, 5.0)).tolist() == [1, 1]


def test_map_quality_of_a_perfect_and_of_an_overconfident_model():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=4000)
    mean = truth + 0.5 * rng.normal(size=4000)
    good = metrics.map_quality(mean, np.full(4000, 0.5), truth, [0, 1])
    bad = metrics.map_quality(mean, np.full(4000, 0.1), truth, [0, 1])
    assert good.coverage == pytest.approx(0.9, abs=0.02)
    assert good.error == pytest.approx(0.5, abs=0.02)
    assert bad.coverage < 0.4
    assert bad.nlpd > good.nlpd
    assert metrics.map_quality(mean, mean, truth, range(4000)) is None


def test_coverage_of_noisy_measurements_of_a_noise_free_truth():
    truth = np.random.default_rng(1).normal(size=3000)
    exact = metrics.map_quality(truth, np.full(3000, 0.3), truth, [], noise=np.full(3000, 0.3))
    assert exact.coverage == pytest.approx(0.9, abs=1e-6)


# --- comparison


def test_a_comparison_writes_page_image_table_and_runs(tmp_path):
    path = saved(tmp_path, spectrum_image())
    found = [
        campaigns.replay(path, agent=agent, scalarizer=WINDOW, budget=60, seeds=2)
        for agent in (RandomAgent(), GridAgent(), FeatureAgent())
    ]
    written = write_comparison(found, tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == sorted(p.name for p in written.files)
    page = written.files[0].read_text()
    assert "random" in page
    assert "http" not in page
    assert written.files[1].read_bytes().startswith(b"\x89PNG")
    assert written.files[2].read_text().count("\n") == 4
    assert [row["policy"] for row in written.table] == ["random", "grid", "features"]


def test_replays_of_different_data_are_not_compared(tmp_path):
    one = campaigns.replay(saved(tmp_path, recorded(seed=1)), agent=RandomAgent(), budget=5)
    two = campaigns.replay(saved(tmp_path, recorded(seed=2)), agent=RandomAgent(), budget=5)
    with pytest.raises(DatasetError, match="not of one dataset"):
        write_comparison([one, two], tmp_path / "out")
    with pytest.raises(DatasetError, match="nothing"):
        write_comparison([], tmp_path / "out")


# --- decisions made again


def run_with(instrument, folder, locks, agent, act=None):
    plan = Plan(
        overview=OverviewSpec(fov_nm=400, pixels=64),
        patches=PatchSpec(pixels=8, stride=4),
        agent=agent,
        budget=Budget(points=10),
    )

    def observe(record, state):
        if act and isinstance(record.event, ev.Measured) and record.event.id == 3:
            act(engine)

    engine = Engine(plan, instrument, folder, lock_folder=locks, beam_current_pA=50.0, observers=(observe,))
    engine.run()
    return folder


def steer_all(engine):
    engine.steer(ev.MeasureHere(id="here", position=(0.31, 0.72)))
    engine.steer(ev.SetScalarizer(scalarizer=Window(low_eV=2, high_eV=3)))
    lower = Region(id="lower", kind="include", top=0.5, left=0, bottom=1, right=1)
    engine.steer(ev.AddRegion(region=lower))


@pytest.mark.parametrize("agent", [RandomAgent(), GridAgent(), FeatureAgent(size_px=2), DeepKernelAgent(seeds=4)])
@pytest.mark.parametrize("act", [None, steer_all])
def test_decisions_follow_from_the_log(agent, act, instrument, tmp_path, locks):
    folder = run_with(instrument, tmp_path / "run", locks, agent, act)
    found = campaigns.verify(folder)
    assert found.differences == ()
    assert found.operator == (1 if act else 0)
    assert found.decisions + found.operator >= 8 or agent.kind == "features"


def test_a_changed_decision_is_found(instrument, tmp_path, locks, monkeypatch):
    folder = run_with(instrument, tmp_path / "run", locks, RandomAgent())
    from autoexp.agents.static import RandomPolicy

    original = RandomPolicy.__init__
    monkeypatch.setattr(RandomPolicy, "__init__", lambda self, candidates, seed: original(self, candidates, seed + 1))
    found = campaigns.verify(folder)
    assert found.reproduced < found.decisions
    assert found.as_dict()["differences"][0]["recorded"] != found.as_dict()["differences"][0]["replayed"]


# --- real data


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded data are not on this computer")
def test_recorded_data_are_what_they_are_said_to_be():
    edge = Edge(low_eV=931, high_eV=1010, background_low_eV=760, background_high_eV=910)
    spectra = campaigns.load(RECORDED / "cuzn_eels.npz")
    derived = campaigns.load(RECORDED / "cuzn_copper.npz")
    assert spectra.shape == derived.shape == (50, 40)
    assert np.corrcoef(spectra.score(edge).value, derived.scalar)[0, 1] > 0.95
    assert campaigns.load(RECORDED / "pto_loop_area.npz").shape == (60, 60)
    summary = campaigns.replay(derived, agent=RandomAgent(), budget=100, seeds=10).summary()
    assert summary["recall_100"] < 0.15
    learned = campaigns.replay(derived, budget=50, seeds=2)
    assert learned.summary()["recall_50"] > 0.5
    assert set(learned.runs[0].checkpoints) == {"25", "50"}


def test_a_map_with_dead_pixels_is_used_without_them(tmp_path):
    arrays = spectrum_image()
    arrays["spectra"] = arrays["spectra"].astype(float)
    before = campaigns.load(saved(tmp_path, arrays)).score(WINDOW).value
    arrays["spectra"][4, 6] = np.nan  # the best place
    arrays["image"][0, 0] = np.nan
    data = campaigns.load(saved(tmp_path, arrays))
    assert "1 of 120 places" in data.note
    assert "1 pixels of the overview" in data.note
    value = data.score(WINDOW).value
    assert np.isnan(value[46])
    assert np.allclose(np.delete(value, 46), np.delete(before, 46))
    assert before.argmax() == 46
    run = campaigns.replay(data, agent=RandomAgent(), scalarizer=WINDOW, budget=200).runs[0]
    assert len(run.measured) == 119
    assert 46 not in run.measured


def test_recorded_values_that_are_none_are_left_out(tmp_path):
    arrays = recorded()
    arrays["scalar"][3] = np.nan
    run = campaigns.replay(saved(tmp_path, arrays), agent=RandomAgent(), budget=99).runs[0]
    assert sorted(run.measured) == [i for i in range(40) if i != 3]


def test_peaks_on_an_uneven_axis_are_where_they_are():
    energy = 400 + 120 * np.linspace(0, 1, 241) ** 1.3
    centres = np.array([460.0, 475.0, 490.0])
    spectra = 1e4 * np.exp(-(((energy - centres[:, None]) / 4.0) ** 2))
    assert PeakPosition(low_eV=440, high_eV=510).values(spectra, energy) == pytest.approx(centres, abs=0.05)
    assert PeakWidth(low_eV=440, high_eV=510).values(spectra, energy) == pytest.approx(6.66, abs=0.3)
