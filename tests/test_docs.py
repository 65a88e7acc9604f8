"""What the documentation says is true: commands parse, snippets and examples run, links and names lead somewhere."""

from __future__ import annotations

import json
import pathlib
import re
import runpy
import shlex
import sys

import pytest
import typer

from autoexp.cli import app
from autoexp.limits import SiteLimits
from autoexp.plan import Plan

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PAGES = sorted(path for path in DOCS.rglob("*.rst") if "_build" not in path.parts)
TEXTS = [ROOT / "README.md", ROOT / "CHANGES.rst", *PAGES]
LARGEST, ALL_TOGETHER = 400_000, 2_500_000


def name_of(path):
    return str(path.relative_to(ROOT))


def blocks(path, language):
    """The code blocks of a page: options and code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [("", code) for code in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]
    pattern = rf"^( *)\.\. code-block:: {language}\n((?:\1   .*\n|\n)*)"
    found = []
    for match in re.finditer(pattern, text, re.MULTILINE):
        lines = [line[len(match[1]) + 3 :] for line in match[2].splitlines()]
        options = [line for line in lines if line.startswith(":")]
        found.append((" ".join(options), "\n".join(line for line in lines if line not in options)))
    return found


def commands(path):
    """What a page asks to type."""
    lines = (line for _, code in blocks(path, "console") for line in code.splitlines())
    return [line.removeprefix("$ ").split("#")[0].strip() for line in lines if line.startswith("$ ")]


def all_commands(program):
    return sorted({line for path in TEXTS for line in commands(path) if line.split()[0] == program})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own to work in, with no preferences of anybody and the examples at hand."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("AUTOEXP_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return tmp_path


def run_example(name, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


# --- what is to be typed


def test_there_is_something_to_check():
    assert len(all_commands("autoexp")) > 20
    assert {"make demo", "make test"} <= set(all_commands("make"))


@pytest.mark.parametrize("line", all_commands("make"))
def test_make_knows_its_targets(line):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line.split()[1] in targets


@pytest.mark.parametrize("line", all_commands("autoexp"))
def test_the_command_line_understands_what_is_printed(line):
    words = shlex.split(line)[1:]
    if ">" in words:
        words = words[: words.index(">")]
    group = typer.main.get_command(app)
    if words[0].startswith("-"):
        return
    command = group.commands[words[0]]
    command.make_context(words[0], words[1:])


@pytest.mark.parametrize("line", all_commands("python"))
def test_python_lines_name_what_is_there(line):
    words = shlex.split(line)
    if words[1] == "-m":
        assert words[2] == "pip"
    else:
        assert (ROOT / words[1]).is_file()


def test_the_extras_that_are_named_exist():
    extras = re.findall(r'"(\w+)": \[', (ROOT / "setup.py").read_text())
    for path in TEXTS:
        for extra in re.findall(r"'\.\[(\w+)\]'", path.read_text(encoding="utf-8")):
            assert extra in extras, f"{name_of(path)} names the extra {extra}"


# --- what is to be run


def test_examples_of_ones_own(place, monkeypatch, capsys):
    run_example("own_agent.py", monkeypatch)
    run_example("own_instrument.py", monkeypatch)
    run_example("run_own_instrument.py", monkeypatch, "runs/rim")
    run_example("read_run.py", monkeypatch, "runs/rim")
    said = capsys.readouterr().out
    assert said.count("keeps to the border") == 2
    assert "completed: 40 spectra" in said
    assert "runs/rim" not in said
    assert "rim: completed" in said


def test_the_example_of_a_scalarizer(place, monkeypatch, capsys):
    run_example("own_scalarizer.py", monkeypatch, "runs/own")
    assert re.search(r"completed: point \d+, [12]\.\d+ ± ", capsys.readouterr().out)


def test_snippets_run_in_the_order_of_a_reader(place, monkeypatch, capsys):
    run_example("record_map.py", monkeypatch, "map.npz")
    pages = [DOCS / "howto" / f"{name}.rst" for name in ("plan", "export", "read_from_python", "own_agent")]
    others = [p for p in TEXTS if p not in pages]
    ran = 0
    for path in pages:
        for options, code in blocks(path, "python"):
            if "in-swift" not in options:
                exec(compile(code, name_of(path), "exec"), {})
                ran += 1
    assert ran == 4
    assert all("in-swift" in options for path in others for options, _ in blocks(path, "python"))
    assert "completed" in capsys.readouterr().out


def test_json_is_json():
    for path in TEXTS:
        for _, code in blocks(path, "json"):
            document = json.loads(code)
            (SiteLimits if "controls" in document else Plan).model_validate(document)
    Plan.read(EXAMPLES / "plan.json")
    limits = SiteLimits.read(EXAMPLES / "limits.json")
    assert set(limits.model_dump()) == set(json.loads((EXAMPLES / "limits.json").read_text()))


# --- what leads elsewhere


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        assert (ROOT / path).is_file(), target
        if anchor:
            titles = re.findall(r"^(.+)\n[-=~]{3,}$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {title.lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_pages_refer_to_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r":doc:`(?:[^`<]*<)?([^`<>]+)>?`", text):
        assert (path.parent / f"{target}.rst").resolve().is_file(), target
    for target in re.findall(r"\.\. (?:image|literalinclude|include):: (\S+)", text):
        assert (path.parent / target).resolve().is_file(), target
    for module in re.findall(r"``((?:autoexp|nionswift_plugin|tests|docs)/[\w/]+\.py)``", text):
        assert (ROOT / module).is_file(), module


def test_every_fault_of_the_table_has_its_test():
    named = re.findall(r"``([\w/]+\.py)(?:::(\w+))?``", (DOCS / "reference" / "faults.rst").read_text(encoding="utf-8"))
    assert len(named) > 40
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test}(" in text if test else text, f"{file}::{test}"


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (DOCS / "pictures").glob("*.png")}
    assert max(sizes.values()) <= LARGEST, sizes
    assert sum(sizes.values()) <= ALL_TOGETHER
