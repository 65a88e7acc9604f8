"""Whatever stands in a name, a path or a message, the command line shows it as it is and nothing ends because of it."""

from __future__ import annotations

import ast
import io
import json
import os
import pathlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from autoexp.cli import app, console, live, runs, sweeping, system
from autoexp.cli.checks import Check
from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, RandomAgent, VirtualInstrument
from autoexp.status import Status

COMMANDS = sorted(pathlib.Path(runs.__file__).parent.glob("*.py"))
NASTY = ["[/edge]", "C-K [/edge]", "[bold]", "[link=x]y", ":smile:", "\\[x]", "[[", "[/]", "100 % [red]"]
runner = CliRunner()


@pytest.fixture(params=NASTY)
def nasty(request, home):
    return request.param


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")


def call(*arguments, code=0):
    result = runner.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def a_plan(name):
    return Plan(
        name=name,
        instrument=VirtualInstrument(time_scale=1000),
        overview=OverviewSpec(fov_nm=400, pixels=64, dwell_us=1),
        patches=PatchSpec(pixels=8, stride=4),
        agent=RandomAgent(),
        budget=Budget(points=2),
    )


def test_the_name_of_a_plan(nasty):
    pathlib.Path("plan.json").write_text(a_plan(nasty).to_json(), encoding="utf-8")
    assert nasty in call("run", "plan.json", "--dry-run").stdout


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", ["[", "C-K [bold] :smile: [∕x]"])
def test_names_of_folders_plans_and_runs(name):
    folder = pathlib.Path(name)
    pathlib.Path("plan.json").write_text(a_plan(name).to_json(), encoding="utf-8")
    done = call("run", "plan.json", "--runs", folder, "--no-report")
    assert f"run     {folder}" in done.stdout
    assert f"{name}: " in done.stderr
    (run,) = folder.iterdir()
    assert f"{run}" in call("report", run).stdout
    assert f"{run}" in call("export", run, "--format", "csv").stdout
    assert str(folder) in call("doctor", "--runs", folder).stdout
    for asked in (("resume", folder), ("run", folder), ("report", folder), ("replay", folder), ("sweep", folder)):
        assert str(folder) in call(*asked, code=2).stderr, asked
    for asked in ((folder,), ("align", "--instrument", folder), ("reproduce", folder), ("train", "--env", folder)):
        assert str(folder) in call(*asked, code=2).stderr, asked


def test_what_is_said_of_a_run_while_it_goes_on(nasty):
    for terminal in (False, True):
        out = io.StringIO()
        line = live.LiveLine(Console(file=out, force_terminal=terminal, width=300), simulated=True, units=nasty)
        with line:
            line.say(f"warning: {nasty}")
            line.show(Status(phase="running", points=1, budget_points=2))
            line.show(Status(phase="paused", reason=nasty, points=1, budget_points=2))
        assert f"warning: {nasty}" in out.getvalue()


def test_what_other_commands_say(nasty, capsys, monkeypatch):
    reply = console.Reply(as_json=False)
    reply.line(*sweeping._in_words({"name": nasty, "error": nasty}))
    reply.table(nasty, [{nasty: nasty, "b": (nasty, "bold")}])
    reply.line("response ", nasty)
    console.remark(("warning:", "yellow"), nasty)
    with console.progress(nasty, 1) as told:
        told(1)
    monkeypatch.setattr("rich.console.Console.input", lambda self, *a, **k: print(*map(str, a)) or answers.pop())
    answers = ["finish", nasty]
    assert live._ask(nasty) == "finish"
    assert system._mark(Check(nasty, False, nasty)) == ("missing", "yellow")
    said = capsys.readouterr()
    assert said.out.count(nasty) >= 6
    assert said.err.count(nasty) >= 2
    assert "prompt.invalid" not in said.err


@given(text=st.text(), style=st.sampled_from(["", "bold", "red"]))
def test_whatever_is_said_is_printed_as_it_is_and_commands_no_terminal(text, style):
    out = io.StringIO()
    printed = Console(file=out, width=10_000, force_terminal=False, soft_wrap=True)
    printed.print(console.words((text, style)))
    assert not set(out.getvalue()) & {"\x1b", "\x07", "\x9b", "\r"}
    if text.isprintable():
        assert out.getvalue() == text + "\n"
    out.getvalue().encode()


def test_every_line_of_every_command_goes_that_way():
    """Rich takes text for markup wherever it is given a plain one; so it is given none."""
    for path in COMMANDS:
        source = path.read_text(encoding="utf-8")
        assert "rich.markup" not in source, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("print", "add_row", "add_column"):
                given = [a.value if isinstance(a, ast.Starred) else a for a in node.args]
                assert all(_is_safe(a) for a in given), f"{path}:{node.lineno}"


def _is_safe(node):
    """Whether an argument is a Text: made by words(), a widget's own, or a table."""
    if isinstance(node, ast.GeneratorExp):
        return _is_safe(node.elt)
    if isinstance(node, ast.Name):
        return node.id in ("badge", "bar", "table")
    name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
    return name == "words" or (name == "map" and getattr(node.args[0], "id", "") == "words")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes only there")
def test_a_folder_whose_name_is_no_text(tmp_path):
    folder = os.fsencode(tmp_path) + b"/r\xff"
    done = program("demo", "--points", "2", "--agent", "random", "--time-scale", "1000", "--runs", folder)
    assert (done.returncode, b"r?/" in done.stdout) == (0, True), done.stderr
    (run,) = os.listdir(folder)
    for asked in (["export", "--format", "csv", "--force"], ["report", "--json"]):
        done = program(asked[0], folder + b"/" + run, *asked[1:])
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"].startswith(os.fsdecode(folder))
    assert program("resume", folder + b"/" + run).returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_lacks_characters(encoding, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(a_plan("試料 é").to_json(), encoding="utf-8")
    done = program("run", plan, "--runs", tmp_path / "runs", encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert b"best" in done.stdout
    done = program("plan", "--specimen", "plasmonic", encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert Plan.from_json(done.stdout)


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_document_is_the_same_in_every_encoding(text):
    document = json.dumps({"name": text}, ensure_ascii=False)
    for encoding in ("ascii", "cp1252", "utf-8"):
        raw = io.BytesIO()
        reply = console.Reply(as_json=True)
        reply._stdout = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
        reply.raw(document)
        assert json.loads(raw.getvalue().decode(encoding)) == {"name": text}


def program(*arguments, encoding="utf-8"):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "autoexp.cli", *map(os.fspath, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, check=False)
