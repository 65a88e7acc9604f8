"""Swift on a virtual display, as a fixture."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import warnings

import pytest
import virtual_display

OUT = pathlib.Path(__file__).parent / "out"


@pytest.fixture(scope="session")
def display():
    """Name of a display; the tests that need it are skipped, with the reason, where there can be none."""
    reason = virtual_display.missing()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with virtual_display.display() as name:
        yield name


@pytest.fixture
def swift(display, tmp_path, request):
    """Runs a script in real Swift and returns what it returned; screenshots are kept, for somebody to look at."""
    out = OUT / request.node.name

    def start(script, **given):
        shutil.rmtree(out, ignore_errors=True)
        virtual_display.run_swift(display, virtual_display.HERE / script, out, home=tmp_path, **given)

    def run(script, **given):
        try:
            start(script, **given)
        except virtual_display.SwiftDeadlockError:
            warnings.warn("Swift's own threads had locked each other; it was started once more.", stacklevel=2)
            start(script, **given)
        log = (out / "log.txt").read_text()
        assert (out / "result.json").exists(), log[-4000:]
        result = json.loads((out / "result.json").read_text())
        assert result["ok"], result.get("error")
        assert "Traceback" not in log
        return result["result"]

    return run
