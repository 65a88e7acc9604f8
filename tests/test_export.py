"""Exports: whole or not there, read back, never written over by accident."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest

from autoexp.engine import Engine
from autoexp.errors import MissingDependencyError, RunLogError
from autoexp.export import export_csv, export_hspy
from autoexp.export.atomic import ExportError, replace_file
from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, RandomAgent
from autoexp.runlog import RunReader
from autoexp.state import fold


@pytest.fixture
def run(instrument, tmp_path, locks):
    """A run of six points, of which one gave nothing usable."""
    plan = Plan(
        name="ünïcode, with a comma",
        overview=OverviewSpec(fov_nm=400, pixels=64),
        patches=PatchSpec(pixels=8, stride=4),
        agent=RandomAgent(),
        budget=Budget(points=6),
    )
    instrument.arm(None, None, "nan")
    folder = tmp_path / "a run"
    Engine(plan, instrument, folder, lock_folder=locks, beam_current_pA=50.0).run()
    return folder


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_points_as_a_table(run):
    (path,) = export_csv(run)
    assert path == run / "a run.csv"
    rows = rows_of(path)
    state = fold(RunReader(run).records)
    assert [int(row["point"]) for row in rows] == [i + 1 for i in state.points]
    for row, point in zip(rows, state.points.values(), strict=True):
        assert row["status"] == point.status
        assert (float(row["y"]), float(row["x"])) == point.position
        assert float(row["y_nm"]) == pytest.approx(400 * point.position[0])
        if point.status == "measured":
            assert float(row["value"]) == point.value
            assert float(row["noise"]) == point.noise
            assert row["units"] == "counts"
            assert float(row["elapsed_s"]) > 0
        else:
            assert row["value"] == ""
            assert row["fault"] == "nan"


def test_spectra_as_a_table(run):
    _, path = export_csv(run, spectra=True)
    table = np.genfromtxt(path, delimiter=",", names=True)
    reader = RunReader(run)
    state = fold(reader.records)
    first = state.measured[0]
    assert table[f"point_{first.id + 1}"].astype(np.float32).tolist() == reader.spectra()[first.record].tolist()
    assert table["energy_eV"][1] - table["energy_eV"][0] == pytest.approx(state.spectra.scale)


def test_nothing_is_written_over_without_being_told(run, tmp_path):
    (path,) = export_csv(run, tmp_path / "out.csv")
    before = path.read_bytes()
    path.write_text("mine")
    with pytest.raises(ExportError, match="--force"):
        export_csv(run, path)
    assert path.read_text() == "mine"
    export_csv(run, path, force=True)
    assert path.read_bytes() == before


def test_a_missing_folder_and_a_missing_run_are_named(run, tmp_path):
    with pytest.raises(ExportError, match="no folder"):
        export_csv(run, tmp_path / "nowhere" / "out.csv")
    with pytest.raises(RunLogError):
        export_csv(tmp_path / "no run")


def test_an_interrupted_export_leaves_the_old_one(run, tmp_path, monkeypatch):
    (path,) = export_csv(run, tmp_path / "out.csv")
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(ExportError, match="disk full"):
        export_csv(run, path, force=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".csv"] == ["out.csv"]


def test_what_does_not_read_back_is_not_kept(run, tmp_path, monkeypatch):
    monkeypatch.setattr("autoexp.export.tables._text", lambda cell: "something else")
    with pytest.raises(ExportError, match="did not read back"):
        export_csv(run, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_replacing_leaves_nothing_behind_on_failure(tmp_path):
    def write_half():
        with replace_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("half of it")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_hyperspy_reads_what_was_measured(run):
    pytest.importorskip("exspy")
    from autoexp.export.quiet import hyperspy

    spectra_path, overview_path = export_hspy(run)
    reader = RunReader(run)
    state = fold(reader.records)
    with hyperspy("the test") as api:
        signal, overview = api.load(str(spectra_path)), api.load(str(overview_path))
    assert signal.metadata.Signal.signal_type == "EELS"
    assert signal.data.shape == (5, state.spectra.channels)
    assert np.array_equal(signal.data, reader.spectra()[[p.record for p in state.measured]])
    axis = signal.axes_manager.signal_axes[0]
    assert (axis.units, axis.offset, axis.scale) == ("eV", state.spectra.offset, state.spectra.scale)
    about = signal.metadata.autoexp
    assert about.simulated
    assert "SIMULATED" in signal.metadata.General.title
    assert np.allclose(about.position_nm, 400 * np.array([p.position for p in state.measured]))
    assert np.allclose(about.value, [p.value for p in state.measured])
    assert Plan.from_json(about.plan) == state.plan
    assert overview.data.shape == (64, 64)
    assert [a.units for a in overview.axes_manager.signal_axes] == ["nm", "nm"]
    assert overview.axes_manager.signal_axes[0].scale == pytest.approx(400 / 64)


def test_hyperspy_missing_is_said_with_the_line_that_installs_it(run, monkeypatch):
    import importlib

    real = importlib.import_module

    def missing(name, *rest):
        if name.split(".")[0] in ("hyperspy", "exspy"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match="pip install hyperspy exspy"):
        export_hspy(run)


def test_a_run_without_spectra_has_nothing_to_export(instrument, tmp_path, locks):
    instrument.open = lambda: 1 / 0
    Engine(Plan(), instrument, tmp_path / "run", lock_folder=locks).run()
    with pytest.raises(ExportError, match="no spectrum"):
        export_hspy(tmp_path / "run")
    assert rows_of(export_csv(tmp_path / "run")[0]) == []
