"""Plans and limits as somebody else may write them: numbers are numbers, within what is physical, or are refused."""

from __future__ import annotations

import json

import pytest
from fuzz import CASES, damaged_document

from autoexp.campaigns import Replay
from autoexp.errors import PlanError
from autoexp.fields import MAX_SEED
from autoexp.instrument import Identity
from autoexp.limits import ControlLimits, SiteLimits, limits_file, site_limits
from autoexp.plan import (
    AlignmentStage,
    Budget,
    DeepKernelAgent,
    DriftCheck,
    ListAgent,
    Plan,
    Region,
    StopRule,
    SwiftInstrument,
    UserLimits,
    checked,
)
from autoexp.scalarizers import Edge, Function, Ratio, Similarity, Window, parse_scalarizer, register_scalarizer

FULL = Plan(
    name="all of it",
    agent=DeepKernelAgent(stop=StopRule()),
    scalarizer=Edge(low_eV=456, high_eV=475, background_low_eV=420, background_high_eV=452),
    second=Ratio(numerator=Window(low_eV=1, high_eV=2), denominator=Window(low_eV=3, high_eV=4)),
    budget=Budget(points=5, time_s=100, dose_e=1e9),
    align=AlignmentStage(),
    drift=DriftCheck(),
    regions=(Region(id="r", kind="include", top=0, left=0, bottom=1, right=0.5),),
    limits=UserLimits(max_exposure_s=1, controls={"C10": (-1e-6, 1e-6)}),
)
PLANS = {
    "full": FULL,
    "list": Plan(agent=ListAgent(positions=((0.1, 0.2), (1, 0))), instrument=SwiftInstrument(scan="s")),
    "similarity": Plan(scalarizer=Similarity(reference=(1, 2.5), offset_eV=0, scale_eV=0.5)),
}
LIMITS = SiteLimits(
    max_dose_e=1e9,
    controls={"C10": ControlLimits(low=-1e-6, high=1e-6, step=1e-7, rate=1e-6, tolerance=1e-9, settle_s=0.1)},
)


def put(document, path, value):
    *folders, name = path.split(".")
    place = document
    for folder in folders:
        place = place.setdefault(folder, {})
    place[name] = value
    return json.dumps(document)


@pytest.mark.parametrize("name", PLANS)
def test_plans_there_and_back(name):
    text = PLANS[name].to_json()
    assert Plan.from_json(text) == PLANS[name]
    assert Plan.from_json(text.encode("utf-16")) == PLANS[name]
    assert Plan.from_json(text).to_json() == text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spectrum.exposure_s", True),
        ("spectrum.exposure_s", "0.5"),
        ("spectrum.binning", True),
        ("spectrum.binning", "2"),
        ("spectrum.binning", 1.5),
        ("overview.center_nm", ["0", 0]),
        ("overview.center_nm", [False, 0]),
        ("budget.points", "5"),
        ("budget.dose_e", "1e9"),
        ("seed", 0.5),
        ("seed", True),
        ("scalarizer", {"kind": "window", "low_eV": "1", "high_eV": 2}),
        ("scalarizer", {"kind": "window", "low_eV": 0, "high_eV": True}),
        ("agent", {"kind": "list", "positions": [[True, 0]]}),
        ("name", 5),
    ],
)
def test_what_is_no_number_is_none(path, value):
    with pytest.raises(PlanError, match=path.replace(".", r"\.")):
        Plan.from_json(put({}, path, value))


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("overview.fov_nm", (1e-300, 0, -1, 1e7)),
        ("overview.dwell_us", (1e-300, 1e6)),
        ("overview.center_nm", ([1e308, -1e308], [0, 1e8])),
        ("overview.rotation_deg", (1e308,)),
        ("overview.channel", (10**9,)),
        ("spectrum.exposure_s", (1e-300, 1e-9, 1e4)),
        ("spectrum.settle_s", (-1, 1e3)),
        ("instrument.time_scale", (1e-300, 0, 1e9)),
        ("instrument.beam_current_pA", (1e-300, 0, -50, 1e9)),
        ("instrument.drift_nm_s", ([1e308, 0], [0, -1e9])),
        ("instrument.seed", (-1, 2**128)),
        ("seed", (-1, 2**128)),
        ("budget.time_s", (0, 1e-300, 1e300)),
        ("budget.dose_e", (0, -1, 1e300)),
        ("budget.points", (0, 10**9)),
        ("decision_deadline_s", (0, 1e-300, 1e9)),
        ("resume_after_s", (0, 1e300)),
        ("limits.max_exposure_s", (0, 1e300)),
        ("limits.controls", ({"C10": [1, -1]}, {"C10": [1, 1]}, {"C10": [-1e308, 1e308]}, {"": [0, 1]})),
        ("scalarizer", ({"kind": "window", "low_eV": -1e308, "high_eV": 1e308},)),
        (
            "scalarizer",
            (
                {"kind": "similarity", "reference": [1, 1e308], "offset_eV": 0, "scale_eV": 1},
                {"kind": "similarity", "reference": [1, 2], "offset_eV": 0, "scale_eV": 1e-300},
                {"kind": "similarity", "reference": [1, 2], "offset_eV": 0, "scale_eV": 1, "low_eV": 2, "high_eV": 1},
            ),
        ),
        ("agent", ({"kind": "features", "size_px": 1e-300},)),
        ("align.spec", ({"tolerance_px": 1e-300}, {"px_per_unit": 1e300}, {"frame": {"exposure_s": 1e-300}})),
        ("name", ("", "x" * 81)),
        ("regions", ([{"id": "x" * 300, "kind": "include", "top": 0, "left": 0, "bottom": 1, "right": 1}],)),
    ],
)
def test_what_is_not_physical_is_refused_by_name_when_it_is_read(path, values):
    for value in values:
        document = {"instrument": {"kind": "virtual"}} if path.startswith("instrument") else {}
        with pytest.raises(PlanError, match=path.split(".")[0]) as caught:
            Plan.from_json(put(document, path, value))
        assert path.split(".")[-1] in str(caught.value)


def test_ends_of_the_ranges_are_inside():
    overview = {"fov_nm": 0.01, "dwell_us": 1e-3, "center_nm": [1e7, -1e7]}
    instrument = {"kind": "virtual", "time_scale": 1e-3, "seed": MAX_SEED, "drift_nm_s": [1e4, 0]}
    plan = Plan.from_json(json.dumps({"seed": MAX_SEED, "overview": overview, "instrument": instrument}))
    assert plan.overview.center_nm == (1e7, -1e7)


def test_more_candidates_than_can_be_handled_are_refused_with_what_to_do():
    with pytest.raises(PlanError, match=r"candidates.*widen the stride"):
        Plan.from_json('{"overview": {"pixels": 4096}, "patches": {"pixels": 2, "stride": 1}}')


def test_names_are_fit_to_be_shown():
    assert Plan.from_json('{"name": "\\u001b[2J\\u202ea\\nb"}').name == "?[2J?a?b"
    assert Plan(name="\udcff").to_json()
    with pytest.raises(PlanError, match="half of a character"):
        Plan.from_json('{"name": "\\udcff"}')


def test_a_long_list_of_positions_is_read():
    text = '{"agent":{"kind":"list","positions":[' + ",".join(["[0.5,0.25]"] * 100_000) + "]}}"
    assert len(Plan.from_json(text).agent.positions) == 100_000


def test_a_message_does_not_grow_with_what_is_wrong():
    text = '{"agent":{"kind":"list","positions":[' + ",".join(['["a",2]'] * 10_000) + "]}}"
    with pytest.raises(PlanError, match=r"and 19,98\d more$") as caught:
        Plan.from_json(text)
    assert len(str(caught.value)) < 5000
    with pytest.raises(PlanError, match="points"):
        checked(Budget, points=10**5000)


def test_a_plans_file_is_named(tmp_path):
    (tmp_path / "p.json").write_text('{"seed": -1}')
    with pytest.raises(PlanError, match=r"The plan .*p\.json cannot be used:\n  seed"):
        Plan.read(tmp_path / "p.json")
    (tmp_path / "q.json").write_bytes(b"\xef\xbb\xbf" + FULL.to_json().encode())
    assert Plan.read(tmp_path / "q.json") == FULL


@pytest.mark.parametrize("name", PLANS)
def test_damaged_plans_are_read_or_refused(name):
    document = json.loads(PLANS[name].to_json())
    for number in range(CASES):
        text = damaged_document(document, number)
        try:
            plan = Plan.from_json(text)
        except PlanError:
            continue
        assert Plan.from_json(plan.to_json()) == plan
        assert plan.estimate(50.0).time_s >= 0


# --- the site's limits


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"controls":{"C10":{"low":-1e-6,"high":1e-6},"C10":{"low":-1,"high":1}}}', "'C10' twice"),
        ('{"max_dose_e":1e6,"max_dose_e":null}', "'max_dose_e' twice"),
        ('{"controls":{"C10":{"low":1,"high":-1}}}', r"controls\.C10.*upward"),
        ('{"controls":{"C10":{"low":0,"high":0}}}', r"controls\.C10.*upward"),
        ('{"controls":{"C10":{"low":-1e308,"high":1e308}}}', r"controls\.C10\.low"),
        ('{"controls":{"C10":{"low":-1e-6,"high":1e-6,"tolerance":1}}}', "tenth of the range"),
        ('{"controls":{"C10":{"low":-1e-6,"high":1e-6,"step":1}}}', "longer than the range"),
        ('{"controls":{"C10":{"low":-1e-6,"high":1e-6,"rate":1e300}}}', "rate"),
        ('{"controls":{"C10":{"low":"-1","high":1}}}', r"controls\.C10\.low"),
        ('{"controls":{"":{"low":-1,"high":1}}}', "controls"),
        ('{"max_exposure_s":true}', "max_exposure_s"),
        ('{"max_exposure_s":1e-300}', "max_exposure_s"),
        ('{"max_time_s":"60"}', "max_time_s"),
        ('{"beam_current_pA":0}', "beam_current_pA"),
        ("[" * 200_000, "nested"),
        ('{"max_exposure_s":' + "1" * 5000 + "}", "5,000 digits"),
        ("[]", "cannot be used"),
    ],
)
def test_limits_that_say_nothing_sure_are_refused(tmp_path, text, says):
    (tmp_path / "site.json").write_text(text)
    with pytest.raises(PlanError, match=r"site\.json[\s\S]*" + says):
        SiteLimits.read(tmp_path / "site.json")


def test_limits_that_windows_wrote_are_read(tmp_path):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "site.json").write_bytes(LIMITS.model_dump_json().encode(encoding))
        assert SiteLimits.read(tmp_path / "site.json") == LIMITS


def test_limits_that_may_be_there_are_never_taken_for_none(tmp_path):
    """A share that is not mounted must not widen what is allowed."""
    identity = Identity(key="usim", name="a simulator", simulated=True)
    assert site_limits(identity, tmp_path / "none").controls
    limits_file(identity, tmp_path).symlink_to(tmp_path / "not mounted" / "usim.json")
    with pytest.raises(PlanError, match="cannot be read"):
        site_limits(identity, tmp_path)


def test_damaged_limits_are_read_or_refused(tmp_path):
    document = LIMITS.model_dump(mode="json")
    for number in range(CASES):
        (tmp_path / "site.json").write_bytes(damaged_document(document, number))
        try:
            limits = SiteLimits.read(tmp_path / "site.json")
        except PlanError:
            continue
        for control in limits.controls.values():
            assert control.low < control.high
            assert 0 <= control.readback_tolerance <= 0.11 * (control.high - control.low)


# --- scalarizers


@pytest.mark.parametrize("text", ["[" * 200_000, '{"kind":"window","low_eV":' + "1" * 5000 + "}", "[]", "NaN", b"\xff"])
def test_scalarizers_that_are_none_are_refused(text):
    with pytest.raises(PlanError, match="scalarizer cannot be used"):
        parse_scalarizer(text)


def test_damaged_scalarizers_are_read_or_refused():
    for plan in PLANS.values():
        document = json.loads(plan.scalarizer.model_dump_json())
        for number in range(CASES):
            try:
                parse_scalarizer(damaged_document(document, number))
            except PlanError:
                continue


def test_a_function_of_ones_own_can_change_nothing():
    import numpy as np

    def greedy(spectra, energy):
        for array in (spectra, energy):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        return spectra.sum(axis=1)

    register_scalarizer("greedy", greedy)
    spectra, energy = np.ones((2, 5)), np.arange(5.0)
    assert Function(name="greedy").values(spectra, energy).tolist() == [5, 5]
    assert spectra.all() and spectra.flags.writeable


# --- replays


def test_damaged_replays_are_read_or_refused(tmp_path):
    run = {"seed": 0, "measured": [0, 2], "scalar": [1.0, None], "decision_s": [0.1, 0.2]}
    run["checkpoints"] = {"2": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}
    document = {"dataset": {"name": "d", "truth": [1.0, 2.0, None]}, "plan": {"agent": {"kind": "grid"}}, "runs": [run]}
    (tmp_path / "r.json").write_text(json.dumps(document))
    assert Replay.read(tmp_path / "r.json").summary()["dataset"] == "d"
    for number in range(CASES):
        (tmp_path / "r.json").write_bytes(damaged_document(document, number))
        try:
            found = Replay.read(tmp_path / "r.json")
        except PlanError:
            continue
        assert found.summary()["policy"]
