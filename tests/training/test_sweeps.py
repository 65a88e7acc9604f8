"""Many trainings: named, resumed, with failures kept; on processes, and on a cluster that loses a node."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest
from fuzz import CASES, damaged_document
from typer.testing import CliRunner

from autoexp.cli import app
from autoexp.errors import MissingDependencyError, PlanError
from autoexp.training import sweeps, xu2022
from autoexp.training.learning import Training
from autoexp.training.sweeps import Job, Processes, Result, Sweep, sweep

SHORT = Job(training=Training(steps=150), judged_on=3)
VARY = {"training.seed": [0, 1], "training.environment.binning": [4, 2]}


class Pretended:
    """Workers that train nothing: what they are asked is written down, and some fail."""

    def __init__(self, failing=()):
        self.asked, self.failing = [], failing

    def run(self, jobs, wanted):
        for job in jobs:
            if not wanted():
                return
            self.asked.append(job)
            bad = job.training.seed in self.failing
            row = json.dumps({**sweeps._settings(job), "success": 1.0})
            yield Result(job, {} if bad else {"row.json": row.encode()}, "it broke" if bad else "")


def jobs(**vary):
    return Sweep(job=SHORT, vary={**VARY, **vary}).jobs()


# --- what is asked for


def test_all_combinations_each_with_a_name_of_its_own():
    asked = jobs()
    assert [(j.training.seed, j.training.environment.binning) for j in asked] == [(0, 4), (0, 2), (1, 4), (1, 2)]
    assert len({j.name for j in asked}) == 4
    assert [j.name for j in jobs()] == [j.name for j in asked]
    assert Sweep(job=SHORT).jobs() == [SHORT]


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ({"training.nonsense": [1]}, "no setting 'training.nonsense' to vary; there are: training.environment.binning"),
        ({"training.environment": [1]}, "no setting 'training.environment'"),
        ({"training.environment.binning": [3]}, "binning"),
        ({"training.agent": ["ppo"]}, "agent"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(vary, said):
    with pytest.raises(PlanError, match=said):
        Sweep(vary=vary).jobs()


DEEP, LONG, TWICE = "[" * 200_000, '{"job": {"judged_on": ' + "1" * 5000 + "}}", '{"vary": {}, "vary": {}}'


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"jobs": 1}', '{"vary": 3}', DEEP, LONG, TWICE, "[]", '{"job": {"judged_on": "5"}}', '{"vary": NaN}'],
)
def test_a_file_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(PlanError, match=r"s\.json cannot be"):
        Sweep.read(tmp_path / "s.json")


# --- what is kept


def test_what_is_finished_is_not_done_again(tmp_path):
    first = Pretended()
    enough = iter([True, True, False])
    rows = sweep(jobs(), tmp_path, first, wanted=lambda: next(enough, False))
    assert len(rows) == len(first.asked) == 2
    assert sweeps.unfinished(jobs(), tmp_path) == 2
    second = Pretended()
    rows = sweep(jobs(), tmp_path, second)
    assert second.asked == jobs()[2:]
    assert [row["seed"] for row in rows] == [0, 0, 1, 1]
    with (tmp_path / "table.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [j.name for j in jobs()]
    third = Pretended()
    assert sweep(jobs(), tmp_path, third) == rows
    assert not third.asked


def test_a_failure_is_kept_shown_and_tried_again_when_asked_for(tmp_path):
    rows = sweep(jobs(), tmp_path, Pretended(failing=(1,)))
    assert [row.get("error", "") for row in rows] == ["", "", "it broke", "it broke"]
    again = Pretended()
    sweep(jobs(), tmp_path, again)
    assert not again.asked
    rows = sweep(jobs(), tmp_path, again, retry=True)
    assert again.asked == jobs()[2:]
    assert not any(row.get("error") for row in rows)


def test_what_is_half_written_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("the power went")))
    with pytest.raises(OSError, match="the power went"):
        sweep([SHORT], tmp_path, Pretended())
    monkeypatch.undo()
    assert sweeps.unfinished([SHORT], tmp_path) == 1
    assert len(sweep([SHORT], tmp_path, Pretended())) == 1


@pytest.mark.parametrize("content", [b"", b'{"name":"x","succ', b"[]", b"\xff", b"{}", b"[" * 9999, b'{"a": [1]}'])
@pytest.mark.parametrize("name", ["row.json", "failed.json"])
def test_what_a_power_cut_has_torn_is_trained_again(tmp_path, content, name):
    rows = sweep(jobs(), tmp_path, Pretended())
    folder = tmp_path / jobs()[1].name
    (folder / "row.json").unlink()
    (folder / name).write_bytes(content)
    assert sweeps.unfinished(jobs(), tmp_path) == 1
    again = Pretended()
    assert sweep(jobs(), tmp_path, again) == rows
    assert again.asked == jobs()[1:2]
    assert not (folder / "failed.json").exists()


def test_a_row_is_on_the_disk_before_its_folder_gets_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(sweeps.os, "fsync", lambda file: (done.append(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setattr(sweeps.os, "replace", lambda *names: (done.append("renamed"), replace(*names)))
    sweeps.keep(Result(SHORT, {"row.json": b'{"name": "x"}'}), tmp_path)
    folder = tmp_path / SHORT.name
    assert done == [p.stat().st_ino for p in (folder / "row.json", folder)] + ["renamed", tmp_path.stat().st_ino]


def test_what_was_left_behind_is_cleared_and_nothing_beside_it(tmp_path):
    for name, age_s in ((".keep-old", 7200), (".keep-new", 0), ("other", 7200)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / SHORT.name).symlink_to(outside)
    assert len(sweep([SHORT], tmp_path / "sweep", Pretended())) == 1
    assert (outside / "precious").exists()
    assert not (tmp_path / "sweep" / SHORT.name).is_symlink()
    sweep([], tmp_path, Pretended())
    assert {path.name for path in tmp_path.iterdir()} == {".keep-new", "other", "outside", "sweep", "table.csv"}


def test_too_many_combinations_are_refused_before_one_is_made():
    thousand = list(range(1000))
    vary = {"judged_on": thousand, "then_steps": thousand, "training.seed": thousand}
    with pytest.raises(PlanError, match="1,000,000,000 combinations; at most 10,000"):
        Sweep(vary=vary).jobs()


def test_damaged_sweeps_and_rows_are_read_or_refused(tmp_path):
    document = Sweep(job=SHORT, vary=VARY).model_dump(mode="json")
    for number in range(CASES):
        (tmp_path / "s.json").write_bytes(damaged_document(document, number))
        try:
            found = Sweep.read(tmp_path / "s.json").jobs()
        except PlanError:
            continue
        assert all(job.name for job in found)


def test_damaged_rows_are_read_or_trained_again(tmp_path):
    part = xu2022.parts(1, quick=True)[0]
    job = part.jobs[0]
    row = {**sweeps._settings(job), "success": 1.0}
    (tmp_path / job.name).mkdir()
    for number in range(CASES):
        (tmp_path / job.name / "row.json").write_bytes(damaged_document(row, number))
        found = sweeps.read_row(tmp_path / job.name)
        assert sweeps.unfinished([job], tmp_path) == (found is None)
        xu2022.summarize(part, [found or {}])
        sweeps.write_table([found or {}], tmp_path / "table.csv")


# --- on processes


def rl():
    for name in ("stable_baselines3", "sb3_contrib", "gymnasium", "safetensors"):
        pytest.importorskip(name)


def test_processes_train_and_one_that_is_killed_takes_no_other_with_it(tmp_path):
    rl()
    long = SHORT.model_copy(update={"training": Training(steps=1_000_000)})

    def kill():
        while not (children := [p for p in multiprocessing.active_children() if p.is_alive()]):
            time.sleep(0.02)
        time.sleep(0.5)
        children[0].kill()  # the long one, begun first

    threading.Thread(target=kill).start()
    rows = {row["steps"]: row for row in sweep([long, SHORT], tmp_path, Processes(1))}
    assert "exit code -9" in rows[1_000_000]["error"]
    assert rows[150]["floor_success"] == 1.0
    assert 0 <= rows[150]["success"] <= 1
    kept = tmp_path / SHORT.name
    assert {path.name for path in kept.iterdir()} == {"card.json", "episodes.csv", "policy.safetensors", "row.json"}


def test_when_it_is_not_wanted_any_more_no_process_is_left(tmp_path):
    rl()
    long = SHORT.model_copy(update={"training": Training(steps=1_000_000)})
    end = time.monotonic() + 2
    assert sweep([long], tmp_path, Processes(1), wanted=lambda: time.monotonic() < end) == []
    for process in multiprocessing.active_children():
        process.join(60)
        assert not process.is_alive()


ORPHANS = """
import multiprocessing, pathlib, sys, threading, time
from autoexp.training.learning import Training
from autoexp.training.sweeps import Job, Processes, sweep

def tell():
    while not (children := multiprocessing.active_children()):
        time.sleep(0.02)
    print(children[0].pid, flush=True)

if __name__ == "__main__":
    threading.Thread(target=tell).start()
    sweep([Job(training=Training(steps=1_000_000))], pathlib.Path(sys.argv[1]), Processes(1))
"""


def test_when_the_sweep_is_killed_no_training_goes_on(tmp_path):
    rl()
    script = tmp_path / "sweep.py"
    script.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(3)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 60
    while runs(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not runs(child)


def runs(pid):
    """Whether a process runs; one that is dead and that nobody has asked for does not."""
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_exception_is_the_failure_of_its_training_alone():
    files, error = sweeps.attempt("{}{}")
    assert not files
    assert "ValidationError" in error


def test_an_agent_learns_again_when_the_scale_has_changed():
    rl()
    files = sweeps.train_one(SHORT.model_copy(update={"then_scale": 0.75, "then_steps": 150}))
    row = json.loads(files["row.json"])
    assert "again.csv" in files
    assert row["changed_floor_steps_mean"] > row["floor_steps_mean"]
    assert {"frozen_success", "relearned_success", "relearned_at"} <= set(row)


# --- on a cluster


@pytest.mark.timeout(600)
def test_a_node_that_is_lost_in_the_middle_costs_nothing_but_time(tmp_path):
    rl()
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from autoexp.training.cluster import RayWorkers

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    asked = Sweep(job=SHORT, vary={"training.seed": list(range(5))}).jobs()
    told = []

    def lose_a_node(row):
        told.append(row["name"])
        if len(told) == 1:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            cluster.add_node(num_cpus=1)

    workers = RayWorkers(cluster.address)
    try:
        rows = sweep(asked, tmp_path, workers, on_row=lose_a_node)
    finally:
        workers.close()
        cluster.shutdown()
    assert sorted(told) == sorted(j.name for j in asked)
    assert [row.get("error") for row in rows] == [None] * 5
    assert [row["seed"] for row in rows] == list(range(5))


def test_without_ray_or_without_a_cluster_it_says_what_to_do(monkeypatch):
    from autoexp.training import cluster

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(cluster, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"rl,cluster"):
        cluster.RayWorkers("auto")


# --- on the command line


def test_the_command_line_shows_rows_and_failures(tmp_path, monkeypatch):
    pretended = Pretended(failing=(1,))
    monkeypatch.setattr(sweeps, "Processes", lambda at_once: pretended)
    (tmp_path / "s.json").write_text(json.dumps({"vary": {"training.seed": [0, 1]}}))
    command = ["sweep", str(tmp_path / "s.json"), "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 1, found.output
    assert "it broke" in found.output
    assert "2 trainings, 1 failed" in found.output
    told = CliRunner().invoke(app, [*command, "--retry", "--json"])
    assert json.loads(told.stdout)["failed"] == 1
    assert CliRunner().invoke(app, ["sweep", str(tmp_path / "none.json")]).exit_code == 2
    assert CliRunner().invoke(app, ["reproduce", "nobody"]).exit_code == 2


def test_the_paper_is_trained_and_summed_up(tmp_path, monkeypatch):
    rl()
    monkeypatch.setattr(xu2022, "QUICK_STEPS", 120)
    monkeypatch.setattr(xu2022, "QUICK_THEN_STEPS", 120)
    monkeypatch.setattr(xu2022, "JUDGED_ON", 3)
    found = CliRunner().invoke(app, ["reproduce", "xu2022", "--quick", "--out", str(tmp_path), "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["trainings"] == 8
    assert [row["reward"] for row in told["rewards"]] == ["informative", "non-informative", "sparse"]
    assert {(row["binning"], row["tolerance"]) for row in told["tolerance"]} == {
        ("4", "1"),
        ("4", "3"),
        ("1", "1"),
        ("1", "3"),
    }
    assert all(float(row["floor"]) < float(row["floor then"]) for row in told["relearning"])
    results = {path.name for path in (tmp_path / "results").iterdir()}
    names = ("learning", "rewards", "relearning", "tolerance")
    assert results == {f"{name}.{kind}" for name in names for kind in ("csv", "png")} | {"paper.json"}


def test_the_whole_paper_counts_what_is_shared_once():
    asked = xu2022.parts(seeds=3)
    every = xu2022.all_jobs(asked)
    assert len(every) == len({job.name for job in every}) < sum(len(part.jobs) for part in asked)
    assert [job.training.seed for job in every] == sorted(job.training.seed for job in every)
    standard = [job for job in every if job.training == Training(seed=1)]
    assert len(standard) == 1
    assert all(sum(job == standard[0] for job in part.jobs) == 1 for part in asked)
