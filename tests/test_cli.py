"""The command line as people and programs use it: in this process where that is enough, for real where it is not."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from autoexp import events as ev
from autoexp import session
from autoexp.cli import app, checks, console, forms, live, system
from autoexp.errors import GuardianError, PlanError, RunLogError
from autoexp.instrument import Identity
from autoexp.plan import (
    Budget,
    OverviewSpec,
    PatchSpec,
    Plan,
    RandomAgent,
    SpectrumSpec,
    SwiftInstrument,
    VirtualInstrument,
)
from autoexp.runlog import RunReader
from autoexp.scalarizers import Window
from autoexp.state import fold
from autoexp.status import Status

runner = CliRunner()
COMMANDS = ("demo", "plan", "run", "resume", "replay", "compare", "report", "export", "doctor", "simulate")


def a_plan(**changes):
    given = {
        "name": "Quick one!",
        "instrument": VirtualInstrument(time_scale=20),
        "overview": OverviewSpec(fov_nm=400, pixels=64, dwell_us=1),
        "patches": PatchSpec(pixels=8, stride=4),
        "agent": RandomAgent(),
        "budget": Budget(points=6),
        **changes,
    }
    return Plan(**given)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own to work in, with no preferences of anybody."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv(console.DEBUG, raising=False)
    monkeypatch.delenv("AUTOEXP_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(plan, name="plan.json"):
    pathlib.Path(name).write_text(plan.to_json(), encoding="utf-8")
    return name


def call(*arguments, code=0):
    result = runner.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


def document(*arguments, code=0):
    return json.loads(call(*arguments, code=code).stdout)


def started(*arguments):
    """The program itself, with what it says in pipes."""
    command = [sys.executable, "-m", "autoexp.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process, seconds=240):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def wait_for(folder, kind, count, seconds=120):
    """Wait until a run's log holds so many events of a class; returns the run's folder."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for path in folder.glob("*/events.jsonl"):
            if path.stat().st_size and len(list(RunReader(path.parent).events(kind))) >= count:
                return path.parent
        time.sleep(0.02)
    raise AssertionError("waited in vain")


# --- help


def test_help_says_what_there_is():
    listed = call("--help").output
    for name in COMMANDS:
        assert name in listed
        assert len(call(name, "--help").output) > 200


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from autoexp.cli import app; "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'nion', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_version_is_told():
    assert "nionswift-autoexp" in call("--version").output


# --- short forms


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("window:1.1-1.7", {"kind": "window", "low_eV": 1.1, "high_eV": 1.7}),
        ("window:-5--2", {"kind": "window", "low_eV": -5, "high_eV": -2}),
        ("peak-width:1e2-2.5E2", {"kind": "peak-width", "low_eV": 100, "high_eV": 250}),
        (
            "edge:931-1010/760-910",
            {"kind": "edge", "low_eV": 931, "high_eV": 1010, "background_low_eV": 760, "background_high_eV": 910},
        ),
        ('{"kind": "window", "low_eV": 1, "high_eV": 2}', {"kind": "window", "low_eV": 1, "high_eV": 2}),
    ],
)
def test_scalarizers_in_short(text, wanted):
    assert forms.scalarizer_of(text).model_dump() == wanted


def test_a_ratio_and_a_file_in_short(place):
    assert forms.scalarizer_of("ratio:1-2/3-4").denominator == Window(low_eV=3, high_eV=4)
    pathlib.Path("s.json").write_text('{"kind": "window", "low_eV": 1, "high_eV": 2}')
    assert forms.scalarizer_of("s.json") == Window(low_eV=1, high_eV=2)


@pytest.mark.parametrize("text", ["", "window", "window:1", "window:2-1", "colour:1-2", '{"kind": 3}', "{", "edge:1-2"])
def test_scalarizers_that_are_none(text):
    with pytest.raises(PlanError):
        forms.scalarizer_of(text)


def test_acquisition_functions_in_short():
    assert forms.acquisition_of("ucb:3").beta == 3
    assert forms.acquisition_of("ei").kind == "expected-improvement"
    assert forms.acquisition_of('{"kind": "maximum-variance"}').kind == "maximum-variance"
    assert forms.agent_of("deep-kernel", "pi:0.5").acquisition.xi == 0.5
    for bad in ("best", "ucb:x", "variance:3", "ucb:-1"):
        with pytest.raises(PlanError):
            forms.acquisition_of(bad)
    with pytest.raises(PlanError, match="no acquisition"):
        forms.agent_of("grid", "ei")
    with pytest.raises(PlanError):
        forms.agent_of("somebody")


# --- runs


def test_run_ids_sort_by_time_and_never_repeat(tmp_path):
    folders = [session.make_run_folder(tmp_path / "runs", "Ag / particles: α") for _ in range(4)]
    names = [folder.name for folder in folders]
    assert len(set(names)) == 4
    assert sorted(names) == names
    assert all(name[8] == "-" and "ag-particles" in name for name in names)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunLogError, match="--runs"):
        session.make_run_folder(tmp_path / "file", "x")


def test_runs_are_found_by_path_by_id_and_as_the_latest(tmp_path):
    for name in ("20200101-000000-a", "20210101-000000-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.jsonl").write_text("")
    assert session.find_run("latest", tmp_path).name == "20210101-000000-b"
    assert session.find_run("20200101-000000-a", tmp_path).name == "20200101-000000-a"
    assert session.find_run(str(tmp_path / "20200101-000000-a"), pathlib.Path()).name == "20200101-000000-a"
    for name in ("nothing", "latest"):
        with pytest.raises(RunLogError):
            session.find_run(name, tmp_path / "none")


def test_a_plan_to_start_from_is_a_plan(place):
    pathlib.Path("plan.json").write_text(call("plan", "--points", "7").stdout)
    assert Plan.read("plan.json").budget.points == 7
    estimate = document("run", "plan.json", "--dry-run", "--json")
    assert estimate["points"] == 7
    assert estimate["dose_e"] > 0
    assert not pathlib.Path("runs").exists() or not any(pathlib.Path("runs").iterdir())


def test_a_run_is_told_to_programs(place):
    told = document("run", saved(a_plan()), "--json")
    assert (told["ending"], told["points"], told["simulated"]) == ("completed", 6, True)
    assert pathlib.Path(told["report"]).is_file()
    assert told["run"].endswith("quick-one")
    assert told["best"]["units"] == "counts"
    assert fold(RunReader(told["folder"]).records).finished.ending == "completed"
    over = document("resume", "latest", "--json", code=2)
    assert "is over" in over["error"]["message"]


def test_a_run_is_told_to_people(place):
    result = call("run", saved(a_plan()), "--no-report")
    assert "SIMULATED" in result.output
    assert "completed" in result.stdout
    assert "6 spectra" in result.stdout
    assert "report" not in result.stdout


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ('{"budget": {"points": -3}}', "budget.points"),
        ('{"instrument": {"kind": "virtual", "specimen": "unobtainium"}}', "unobtainium"),
        ('{"nonsense": 1}', "nonsense"),
    ],
)
def test_a_bad_plan_is_refused_without_a_traceback(text, reason, place):
    pathlib.Path("plan.json").write_text(text)
    result = call("run", "plan.json", code=2)
    assert reason in result.output
    assert "Traceback" not in result.output
    assert reason in document("run", "plan.json", "--json", code=2)["error"]["message"]
    assert not any(pathlib.Path("runs").glob("*"))


def test_an_unexpected_error_is_one_line(place, monkeypatch):
    monkeypatch.setattr("autoexp.plan.Plan.read", lambda path: 1 / 0)
    result = call("run", "plan.json", code=1)
    assert "Unexpected error: ZeroDivisionError" in result.output
    assert "Traceback" not in result.output


def test_a_run_that_pauses_with_nobody_there_is_finished_in_order(place):
    def pause(record, state):
        if isinstance(record.event, ev.Measured) and record.event.id == 2:
            opened.engine.pause()

    with session.open_session(a_plan(), place / "run", observers=(pause,)) as opened:
        given_up = live.follow(opened.engine, live.LiveLine(console.messages(), simulated=True), interactive=False)
    assert given_up
    assert opened.engine.status.ending == "stopped"
    assert opened.engine.status.points == 3


def test_the_program_keeps_standard_output_for_the_document(place):
    process = started("run", saved(a_plan()), "--json", "--no-report")
    code, out, err = ended(process)
    assert code == 0
    assert json.loads(out)["points"] == 6
    assert "SIMULATED  running" in err


def test_the_demo_learns_and_reports(place):
    code, out, err = ended(started("demo", "--points", "20", "--time-scale", "20", "--json"))
    assert code == 0, err
    told = json.loads(out)
    assert (told["points"], told["warnings"]) == (20, [])
    assert told["run"].endswith("-plasmonic")
    page = pathlib.Path(told["report"]).read_text(encoding="utf-8")
    for wanted in ("SIMULATED", "deep kernel learning", "What the model believes", "Ground truth", "raster"):
        assert wanted in page


def long_plan():
    return a_plan(instrument=VirtualInstrument(), spectrum=SpectrumSpec(exposure_s=0.05), budget=Budget(points=500))


def test_ctrl_c_with_nobody_there_finishes_after_the_point(place):
    process = started("run", saved(long_plan()), "--json", "--no-report")
    folder = wait_for(place / "runs", ev.Measured, 2)
    process.send_signal(signal.SIGINT)
    code, out, _ = ended(process)
    told = json.loads(out)
    assert (code, told["ending"]) == (0, "stopped")
    state = fold(RunReader(folder).records)
    assert state.pending == []
    assert told["points"] == len(state.measured)


def test_ctrl_c_twice_aborts_and_puts_the_instrument_back(place):
    plan = long_plan().model_copy(update={"spectrum": SpectrumSpec(exposure_s=20)})
    process = started("run", saved(plan), "--json", "--no-report")
    folder = wait_for(place / "runs", ev.Exposing, 1)
    process.send_signal(signal.SIGINT)
    assert any("Finishing after this point" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    code, out, _ = ended(process)
    assert (code, json.loads(out)["ending"]) == (1, "aborted")
    assert next(RunReader(folder).events(ev.Restored)).problems == []


def test_a_killed_run_goes_on_where_it_was(place):
    process = started("run", saved(long_plan().model_copy(update={"budget": Budget(points=12)})), "--no-report")
    folder = wait_for(place / "runs", ev.Measured, 3)
    process.kill()
    ended(process)
    before = len(fold(RunReader(folder).records).measured)
    told = document("resume", folder.name, "--json", "--no-report")
    assert told["run"] == folder.name
    assert told["ending"] == "completed"
    state = fold(RunReader(folder).records)
    assert len(state.measured) >= 11
    assert len(state.measured) > before
    assert state.exposures == 12


def test_an_instrument_of_swift_runs_from_here_and_says_that_it_is_simulated(place):
    pytest.importorskip("nion.usim_device")
    plan = a_plan(
        instrument=SwiftInstrument(),
        scalarizer=Window(low_eV=10, high_eV=40),
        overview=OverviewSpec(fov_nm=30, pixels=64, dwell_us=1),
        spectrum=SpectrumSpec(exposure_s=0.02, binning=8),
        budget=Budget(points=3),
    )
    code, out, err = ended(started("run", saved(plan), "--json", "--no-report"))
    assert code == 0, err
    told = json.loads(out)
    assert told["points"] == 3
    assert told["simulated"] is True


# --- arming


def test_a_real_instrument_is_not_touched_unless_armed():
    real, virtual = (Identity("nion_1", "Nion UltraSTEM", simulated=flag) for flag in (False, True))
    with pytest.raises(GuardianError, match="--arm"):
        session.require_armed(real, armed=False)
    session.require_armed(real, armed=True)
    session.require_armed(virtual, armed=False)


def test_a_run_is_not_resumed_on_another_instrument(instrument, place, locks):
    from autoexp.runlog import RunLog

    told = {"key": "another", "name": "Another one", "simulated": True}
    with RunLog(place / "runs" / "x") as log:
        log.append(ev.Started(run_id="x", plan=a_plan(), software={}, instrument=told))
    result = call("resume", "x", code=2)
    assert "began on another" in result.output


# --- Ctrl-C, without a program


class Verbs:
    """Stands in for the engine and writes down what it is told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, verb):
        return lambda *_: self.told.append(verb)


@pytest.mark.parametrize(("interactive", "first"), [(True, "pause"), (False, "stop")])
def test_ctrl_c_is_counted(interactive, first):
    engine, said = Verbs(), []
    interrupts = live.Interrupts(engine, interactive, said.append)
    for _ in range(4):
        interrupts.press()
    assert engine.told == [first, "abort", "halt", "halt"]
    assert len(said) == 4
    interrupts.forget()
    interrupts.press()
    assert engine.told[-1] == first


@pytest.mark.parametrize(
    ("choice", "ending", "points"), [("resume", "completed", 6), ("finish", "stopped", 3), ("abort", "aborted", 3)]
)
def test_a_pause_asks_how_to_go_on(choice, ending, points, place):
    def pause(record, state):
        if isinstance(record.event, ev.Measured) and record.event.id == 2:
            opened.engine.pause()

    asked = []

    def ask(reason):
        asked.append(reason)
        return choice

    with session.open_session(a_plan(), place / "run", observers=(pause,)) as opened:
        line = live.LiveLine(console.messages(), simulated=True)
        assert live.follow(opened.engine, line, interactive=True, ask=ask) is False
    assert asked == ["on request"]
    assert opened.engine.status.ending == ending
    assert opened.engine.status.points == points


def test_leaving_in_the_middle_leaves_no_run_behind(place):
    def leave():
        with session.open_session(long_plan(), place / "run") as opened:
            opened.engine.start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert fold(RunReader(place / "run").records).finished.ending == "aborted"


def test_the_line_says_what_matters(capsys):
    from rich.console import Console

    recorded = Console(width=120, record=True, force_terminal=True)
    line = live.LiveLine(recorded, simulated=True, units="counts")
    recorded.print(line._render(Status(phase="running", points=3, budget_points=60, left_s=83.0, failed=1)))
    text = recorded.export_text()
    for wanted in ("SIMULATED", "running", "3/60", "best –", "1:23 left", "1 failed"):
        assert wanted in text


# --- results


@pytest.fixture
def finished(place):
    """A finished run, made by the program."""
    return pathlib.Path(document("run", saved(a_plan()), "--json", "--no-report")["folder"])


def test_report_and_export_of_a_run(finished):
    page = document("report", "latest", "--json")["report"]
    assert pathlib.Path(page).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    files = document("export", finished, "--format", "csv", "--spectra", "--json")["files"]
    assert all(pathlib.Path(path).is_file() for path in files)
    assert "--force" in call("export", finished, "--format", "csv", code=2).output
    call("export", finished, "--format", "csv", "--force")
    assert "no run" in call("report", "nothing", code=2).output


def test_decisions_of_a_run_are_made_again(finished):
    assert "6 of 6 decisions came out the same" in call("replay", finished).output
    assert document("replay", finished, "--json", "-")["reproduced"] == 6


# --- recorded data


@pytest.fixture
def dataset(place):
    """A small spectrum image."""
    rng = np.random.default_rng(0)
    amount = np.exp(-((np.mgrid[:10, :12] - 4.0) ** 2).sum(axis=0) / 8)
    spectra = rng.poisson(30 + 300 * amount[..., None] * np.linspace(0, 1, 20))
    np.savez("data.npz", image=amount, spectra=spectra, energy_eV=np.linspace(0, 38, 20))
    return "data.npz"


def test_replay_of_recorded_data(dataset):
    arguments = (
        "replay",
        dataset,
        "--agent",
        "random",
        "--scalarizer",
        "window:20-38",
        "--budget",
        "50",
        "--seeds",
        "2",
    )
    told = document(*arguments, "--json", "-")
    assert set(told) == {"dataset", "plan", "runs"}
    assert len(told["runs"][1]["measured"]) == 50
    assert "top 1 %" in call(*arguments, "--json", "out.json").stdout
    assert json.loads(pathlib.Path("out.json").read_text())["runs"] == [
        {**run, "decision_s": json.loads(pathlib.Path("out.json").read_text())["runs"][i]["decision_s"]}
        for i, run in enumerate(told["runs"])
    ]


def test_compare_of_policies_and_of_files(dataset):
    told = document(
        "compare", dataset, "--agent", "random", "--agent", "grid", "--scalarizer", "window:20-38", "--budget", "50",
        "--seeds", "2", "--json",
    )  # fmt: skip
    assert [row["policy"] for row in told["table"]] == ["random", "grid"]
    runs = [path for path in told["files"] if path.endswith(".json")]
    assert "compare.html" in call("compare", *runs, "--output", "again").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("replay", "nothing.npz"), "no file"),
        (("replay", "data.npz", "--agent", "random"), "say what to look for"),
        (("replay", "data.npz", "--agent", "random", "--scalarizer", "window:1"), "is no scalarizer"),
        (("replay", "data.npz", "--agent", "nobody", "--scalarizer", "window:1-9"), "nobody"),
        (("replay", "data.npz", "--agent", "grid", "--acquisition", "ei"), "no acquisition"),
        (("compare", "data.npz", "data.npz"), "one dataset"),
        (("compare", "out.json"), "cannot be read"),
    ],
)
def test_bad_requests_are_refused_with_the_reason(arguments, reason, dataset):
    result = call(*arguments, code=2)
    assert reason in " ".join(result.output.split())
    assert "Traceback" not in result.output


# --- this computer


def test_doctor_says_what_there_is(place):
    told = document("doctor", "--json")
    found = {check["name"]: check for check in told["checks"]}
    assert told["ok"]
    assert found["Swift plug-in autoexp_ui"]["ok"]
    assert found["Swift plug-in virtual_stem"]["ok"]
    assert "Python" in call("doctor").stdout


def test_doctor_says_what_to_do(place, monkeypatch):
    import importlib.metadata

    real = importlib.metadata.version

    def version(name):
        if name in ("torch", "nionswift"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    limits = place / "XDG_CONFIG_DIRS" / "autoexp" / "limits"
    limits.mkdir(parents=True)
    (limits / "nion_1.json").write_text('{"max_exposure_s": -1}')
    told = document("doctor", "--json", code=1)
    found = {check["name"]: check for check in told["checks"]}
    assert found["torch"]["remedy"] == "python -m pip install torch"
    assert not found["torch"]["needed"]
    assert not found["nionswift"]["ok"]
    assert "max_exposure_s" in found["site limits nion_1"]["found"]


def test_doctor_survives_a_check_that_fails_itself(place, monkeypatch):
    monkeypatch.setattr(checks, "_display", lambda: 1 / 0)
    assert any("ZeroDivisionError" in check.found for check in checks.all_checks(place))


def test_doctor_says_where_nothing_can_be_written(place):
    (place / "file").write_text("")
    found = checks._writable(place / "file" / "runs")
    assert not found.ok
    assert "--runs" in found.remedy


def test_simulate_says_what_it_would_start(place, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":7")
    launcher = place / "bin" / "NionSwiftLauncher" / "NionSwiftLauncher"
    launcher.parent.mkdir(parents=True)
    launcher.write_text("")
    monkeypatch.setattr(sys, "exec_prefix", str(place))
    monkeypatch.setattr(sys, "platform", "linux")
    told = document("simulate", "--dry-run", "--json")
    assert told["command"] == [str(launcher), sys.prefix, str(system.APP)]
    assert told["environment"] == {"AUTOEXP_VIRTUAL_STEM": "plasmonic"}
    launcher.unlink()
    assert "pip install nionswift nionswift-tool" in " ".join(call("simulate", code=2).output.split())
    assert "unobtainium" in call("simulate", "--specimen", "unobtainium", code=2).output


def test_simulate_needs_a_display(place, monkeypatch):
    monkeypatch.setattr(system, "native_launcher", lambda: place)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "no display" in call("simulate", code=2).output


def test_the_program_is_installed_under_its_name():
    program = pathlib.Path(sys.executable).parent / "autoexp"
    if not program.exists():
        pytest.skip("the package is not installed with its program")
    out = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, env={**os.environ})
    assert "nionswift-autoexp" in out.stdout
