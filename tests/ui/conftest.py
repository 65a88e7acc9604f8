"""Swift's own test harness, with its leak checks, on the virtual microscope and the real panel."""

from __future__ import annotations

import contextlib
import logging
import time
import types
import unittest

import pytest
from nion.instrumentation.test import AcquisitionTestContext
from nion.swift import Facade
from nion.swift.model import Graphics
from nion.swift.test import TestContext

from autoexp.swift import preferences
from nionswift_plugin.autoexp_ui import panel as panel_module
from nionswift_plugin.autoexp_ui.alignment import panel as alignment_panel
from virtual_stem.devices import EELS_ID, INSTRUMENT_ID, RONCHIGRAM_ID, VirtualSTEM
from virtual_stem.microscope import VirtualMicroscope

Facade.initialize()


PATIENCE_S = 120
"""How long a test waits for what takes a moment: only a hang, not a busy machine, makes it wait in vain."""


class Configuration:
    """What Swift's acquisition test context asks of a set of devices."""

    def __init__(self, stem, folder):
        self.configuration_location = str(folder)
        self.stem = stem
        self.instrument_id = INSTRUMENT_ID
        self.instrument = stem.instrument
        self.scan_module = stem.scan_module
        self.eels_camera_device_id = EELS_ID
        self.eels_camera_device = stem.eels_camera
        self.eels_camera_settings = stem.eels_settings
        self.ronchigram_camera_device_id = RONCHIGRAM_ID
        self.ronchigram_camera_device = stem.ronchigram_camera
        self.ronchigram_camera_settings = stem.ronchigram_settings

    def run(self):
        """Register."""
        logging.disable(logging.INFO)
        try:
            self.stem.register()
        finally:
            logging.disable(logging.NOTSET)

    def stop(self):
        """Unregister."""
        self.stem.unregister()


class Window:
    """A Swift window with the panel's handler in it, pumped by hand as Swift's timer would."""

    def __init__(self, context):
        self.context = context
        self.document_controller = context.document_controller
        self.document_model = context.document_model
        self.stem = context.configuration.stem if hasattr(context, "configuration") else None
        self.handler = panel_module.PanelHandler(self.document_controller)
        self.beam = None

    def open_alignment(self):
        """The alignment panel's handler as well."""
        self.beam = alignment_panel.AlignmentHandler(self.document_controller)
        self.pump(seconds=0.1)
        return self.beam

    @property
    def experiment(self):
        """The panel's experiment."""
        return self.handler.experiment

    def pump(self, condition=lambda: False, seconds=0.3):
        """Let the window live until a condition holds; fail if it does not within the time, unless there is none."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.document_controller.periodic()
            if condition():
                return True
            time.sleep(0.005)
        return False

    def until(self, condition, seconds=PATIENCE_S):
        """Let the window live until a condition holds."""
        assert self.pump(condition, seconds), f"waited in vain; {self.experiment.status} {self.experiment.message}"

    def finish(self, seconds=PATIENCE_S):
        """Let the window live until the run is over and shown."""
        self.until(lambda: not self.experiment.running and not self.experiment.busy, seconds)

    @contextlib.contextmanager
    def holding_the_mouse(self):
        """While something is dragged, of which Swift's panels know; here there are none."""
        sync = self.experiment._sync
        if sync is not None:
            sync._is_dragged = lambda display_item: True
        yield
        if sync is not None:
            sync._is_dragged = lambda display_item: False

    def draw(self, exclude, bounds=((0.35, 0.35), (0.3, 0.3))):
        """Press the button, and drag a rectangle on the overview as Swift's tool does."""
        self.until(lambda: self.experiment.overview_display_item is not None)
        (self.handler.handle_exclude if exclude else self.handler.handle_include)(None)
        assert self.document_controller.tool_mode == "rectangle"
        display_item = self.experiment.overview_display_item
        graphic = Graphics.RectangleGraphic()
        graphic.bounds = ((bounds[0][0], bounds[0][1]), (0.0, 0.0))
        with self.holding_the_mouse():
            display_item.add_graphic(graphic)
            for part in (0.25, 0.5, 1.0):
                graphic.bounds = (bounds[0], (bounds[1][0] * part, bounds[1][1] * part))
                self.pump(seconds=0.05)
        self.document_controller.tool_mode = "pointer"
        return graphic

    def item(self, text):
        """The newest data item whose title begins with a text."""
        return next((d for d in reversed(self.document_model.data_items) if d.title.startswith(text)), None)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Preferences and run folders of this test alone."""
    chosen = preferences.Preferences(runs_folder=str(tmp_path / "runs"), site_folder=str(tmp_path / "site"))
    monkeypatch.setattr(preferences, "path", lambda: tmp_path / "preferences.json")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    preferences.save(chosen)
    return types.SimpleNamespace(folder=tmp_path, runs=tmp_path / "runs", preferences=chosen)


@pytest.fixture
def make_window(plasmonic, settings):
    """Makes windows, and checks afterwards, with Swift's own checks, that nothing was left behind."""
    case = unittest.TestCase()

    @contextlib.contextmanager
    def make(time_scale=20.0, **given):
        AcquisitionTestContext.begin_leaks()
        setup = TestContext.TestSetup()
        stem = VirtualSTEM(VirtualMicroscope(plasmonic, time_scale=time_scale, **given))
        with AcquisitionTestContext.AcquisitionTestContext(
            Configuration(stem, settings.folder), is_eels=True
        ) as context:
            window = Window(context)
            window.handler.form.set(fov_nm=400.0, pixels=64, dwell_us=1.0, points=8, patch_px=8, stride_px=4, agent=4)
            try:
                yield window
            finally:
                for handler in filter(None, (window.handler, window.beam)):
                    handler.close()
                window.pump(seconds=0.1)
                window.handler = window.beam = handler = None
        del context, window, stem
        setup = None  # noqa: F841 - Swift's checks count what is alive
        AcquisitionTestContext.end_leaks(case)

    return make


@pytest.fixture
def window(make_window):
    """One window."""
    with make_window() as made:
        yield made
