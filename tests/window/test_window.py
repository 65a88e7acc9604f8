"""Real Swift in a real window: a real mouse starts an experiment, which runs to its end."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.window, pytest.mark.timeout(600)]


def test_a_click_on_start_runs_an_experiment_to_its_end(swift):
    result = swift("script_run.py")
    assert result["ending"] == "completed"
    assert result["points"] == 60
    assert result["headline"] == "Completed"
    assert result["spectra"] == [60, 1024]
    assert result["maps"] == ["Prediction", "Uncertainty"]
    assert result["graphics"] == 60
    assert result["aligned"] == [True]
    assert result["controls"] == ["CAperture.y", "CAperture.x"]


def test_steering_with_the_mouse_and_aborting(swift):
    result = swift("script_steer.py")
    assert result["excluded_after_drag"]
    assert result["changes"] == [1, 1]  # however long it is dragged
    assert result["ending"] == "aborted"
    assert result["progress"] < 100
    assert result["probe"] == result["probe_before"]


def test_the_stock_acquisition_panel_offers_the_repeat_mode(swift):
    result = swift("script_acquisition.py")
    assert result["shape"] == [12, 512]  # the camera is binned by two as Swift starts
    assert len({tuple(p) for p in result["positions"]}) == 12


@pytest.mark.parametrize("specimen", ["plasmonic", ""], ids=["virtual_stem", "usim"])
def test_align_pressed_with_the_mouse_centres_the_disk_and_undo_takes_it_back(swift, specimen):
    result = swift("script_align.py", specimen=specimen)
    assert result["controls"] == ("CAperture.y, CAperture.x" if specimen else "AlignY, AlignX")
    assert result["success"]
    assert result["looked"] > 5
    assert len(result["first"]) <= 7
    assert result["first"][-1] <= 1.0
    assert result["texts"]["headline"] == "Aligned"
    assert result["undone"] == pytest.approx(result["before"])
    assert len(result["again"]) <= 4  # what was learned is known
    assert result["again"][-1] <= 1.0
    assert result["accepted"] == "Aligned, accepted"
    assert result["kept"] != pytest.approx(result["before"])
    if not specimen:
        assert result["mirrored"] in (True, None)
    assert {"autoexp-align-goal", "autoexp-align-disk", "autoexp-align-path-1"} <= set(result["graphics"])
