"""Registers the virtual microscope with Swift, only when asked to.

Swift calls ``run()`` once all plug-ins are loaded. The virtual microscope is wanted when the environment variable
``AUTOEXP_VIRTUAL_STEM`` names a specimen or a recorded spectrum image (or is ``1``, for the usual specimen), or when
the preference does and the variable is not ``0``; otherwise nothing is registered, so that nobody takes it for a real
instrument.
"""

from __future__ import annotations

import logging
import os
import typing

from autoexp.swift import preferences

USUAL_SPECIMEN = "plasmonic"

_stem: typing.Any = None


def wanted_specimen() -> str | None:
    """Name or path of the specimen that is asked for; None if no virtual microscope is wanted."""
    wanted = os.environ.get(preferences.VIRTUAL_STEM_VARIABLE) or preferences.load().virtual_stem
    if not wanted or wanted == "0":
        return None
    return USUAL_SPECIMEN if wanted == "1" else wanted


def run() -> None:
    """Register the virtual microscope if it is asked for; a failure is logged and leaves Swift as it is."""
    global _stem
    name = wanted_specimen()
    if name is None or _stem is not None:
        return
    log = logging.getLogger(__name__)
    try:
        from virtual_stem.devices import VirtualSTEM
        from virtual_stem.microscope import VirtualMicroscope
        from virtual_stem.specimens import make_specimen

        microscope = VirtualMicroscope(make_specimen(name))
        _stem = VirtualSTEM(microscope, specimen=name)
        _stem.register()
        log.info("The virtual microscope is registered (SIMULATED): %s.", microscope.specimen.title)
    except ValueError as error:  # of the specimen: its message says what to choose instead
        log.error("The virtual microscope was not started. %s", error)
    except Exception:
        log.exception("The virtual microscope could not be started; Swift goes on without it.")
        stop()


def stop() -> None:
    """Take the virtual microscope back; Swift itself closes the devices when it ends."""
    global _stem
    stem, _stem = _stem, None
    if stem is not None:
        stem.unregister()
