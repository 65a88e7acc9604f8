"""Registers the virtual microscope with Swift, only when asked to.

Swift calls ``run()`` once all plug-ins are loaded. The virtual microscope is wanted when the environment variable
``AUTOEXP_VIRTUAL_STEM`` names a specimen (or is ``1``), or when the preference says so; otherwise nothing is
registered, so that nobody takes it for a real instrument.
"""

from __future__ import annotations

import logging
import os
import typing

from autoexp.swift import preferences

_stem: typing.Any = None


def run() -> None:
    """Register the virtual microscope if it is asked for; a failure is logged and leaves Swift as it is."""
    global _stem
    wanted = os.environ.get(preferences.VIRTUAL_STEM_VARIABLE) or preferences.load().virtual_stem
    if not wanted or wanted == "0":
        return
    try:
        from virtual_stem.devices import VirtualSTEM
        from virtual_stem.microscope import VirtualMicroscope
        from virtual_stem.specimens import make_specimen

        specimen = make_specimen("plasmonic" if wanted == "1" else wanted)
        _stem = VirtualSTEM(VirtualMicroscope(specimen))
        _stem.register()
    except Exception:
        logging.getLogger(__name__).exception("The virtual microscope could not be started.")


def stop() -> None:
    """Take the virtual microscope back."""
    global _stem
    if _stem is not None:
        _stem.unregister()
        _stem = None
