"""The plug-in registers the virtual microscope only when it is asked to, and Swift starts in any case."""

from __future__ import annotations

import json
import logging
import pathlib

import pytest
from nion.utils import Registry

from autoexp.swift import preferences
from nionswift_plugin import virtual_stem as plugin

STEM = "stem_controller"


@pytest.fixture(autouse=True)
def _preferences(tmp_path, monkeypatch):
    monkeypatch.setattr(preferences, "path", lambda: tmp_path / "preferences.json")
    monkeypatch.delenv(preferences.VIRTUAL_STEM_VARIABLE, raising=False)
    yield
    plugin.stop()
    assert not Registry.get_components_by_type(STEM)


def ask(monkeypatch, variable, preference):
    preferences.save(preferences.Preferences(virtual_stem=preference))
    if variable is not None:
        monkeypatch.setenv(preferences.VIRTUAL_STEM_VARIABLE, variable)


@pytest.mark.parametrize(
    ("variable", "preference", "wanted"),
    [
        (None, "", None),
        ("", "", None),
        ("0", "", None),
        ("0", "flake", None),
        ("1", "", "plasmonic"),
        ("1", "flake", "plasmonic"),
        ("catalyst", "flake", "catalyst"),
        (None, "flake", "flake"),
        ("", "flake", "flake"),
    ],
)
def test_what_is_wanted(monkeypatch, variable, preference, wanted):
    ask(monkeypatch, variable, preference)
    assert plugin.wanted_specimen() == wanted


def test_nothing_is_registered_unasked():
    plugin.run()
    assert not Registry.get_components_by_type(STEM)
    assert not Registry.get_components_by_type("camera_module")


@pytest.mark.parametrize("variable", [True, False])
def test_it_is_registered_when_asked_for_and_taken_back(monkeypatch, caplog, variable):
    caplog.set_level(logging.INFO)
    ask(monkeypatch, "plasmonic" if variable else None, "" if variable else "plasmonic")
    plugin.run()
    stem = Registry.get_component(STEM)
    assert stem.instrument_id == "virtual_stem_controller"
    assert stem.priority == 30
    assert "SIMULATED" in caplog.text
    plugin.run()
    assert Registry.get_components_by_type(STEM) == {stem}


def test_a_recorded_specimen_by_its_path(monkeypatch, recorded_data):
    ask(monkeypatch, str(recorded_data / "cuzn_eels.npz"), "")
    plugin.run()
    assert plugin._stem.microscope.specimen.recorded


def test_an_unknown_specimen_is_said_and_swift_goes_on(monkeypatch, caplog):
    ask(monkeypatch, "gold", "")
    plugin.run()
    assert not Registry.get_components_by_type(STEM)
    assert "'gold'" in caplog.text
    assert "plasmonic" in caplog.text
    assert "Traceback" not in caplog.text


def test_any_other_failure_is_logged_in_full_and_leaves_nothing_behind(monkeypatch, caplog):
    def broken(self):
        Registry.register_component(self.instrument, {"instrument_controller", STEM})
        raise RuntimeError("a broken device")

    monkeypatch.setattr("virtual_stem.devices.VirtualSTEM.register", broken)
    ask(monkeypatch, "1", "")
    plugin.run()
    assert not Registry.get_components_by_type(STEM)
    assert "a broken device" in caplog.text
    assert "Traceback" in caplog.text


def test_its_manifest_waits_for_the_instrumentation_kit():
    manifest = json.loads((pathlib.Path(plugin.__file__).parent / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["requires"] == ["nion.instrumentation-kit ~= 0.1"]
