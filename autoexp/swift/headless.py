"""Swift's instrument abstraction with no window: for the command line and for tests."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Protocol

from nion.instrumentation import DriftTracker, HardwareSource, camera_base, scan_base, stem_controller


class Devices(Protocol):
    """Devices that can be handed to Swift's registry and taken back, as :class:`virtual_stem.devices.VirtualSTEM`."""

    def register(self) -> None:
        """Hand the devices over."""
        ...

    def unregister(self) -> None:
        """Take them back."""
        ...


@contextlib.contextmanager
def swift_session(devices: Devices) -> Iterator[None]:
    """Bring Swift's hardware layer up with the given devices, without the application; tidy up on the way out."""
    with tempfile.TemporaryDirectory() as folder:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)  # Swift asks for the current one as devices are registered
        HardwareSource.run()
        camera_base.run(pathlib.Path(folder))
        scan_base.run(pathlib.Path(folder))
        DriftTracker.run()
        stem_controller.register_event_loop(loop)
        try:
            devices.register()
            yield
        finally:
            devices.unregister()
            stem_controller.unregister_event_loop()
            DriftTracker.stop()
            scan_base.stop()
            camera_base.stop()
            HardwareSource.stop()
            asyncio.set_event_loop(None)
            loop.close()
