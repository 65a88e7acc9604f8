"""The virtual microscope as devices of Nion Swift, on :mod:`nion.device_kit`; the one package here that imports nion.

Use :class:`VirtualSTEM` to build the devices and ``register()`` to hand them to Swift, with or without a window.
"""

from __future__ import annotations

from nion.device_kit import CameraDevice
from nion.utils import Registry

from virtual_stem.devices.cameras import Camera, EELSSource, RonchigramSource
from virtual_stem.devices.controls import AxisManager, Instrument, ValueManager
from virtual_stem.devices.scan import ScanModule, ScanUnit
from virtual_stem.microscope import VirtualMicroscope

__all__ = ["EELS_ID", "INSTRUMENT_ID", "PRIORITY", "RONCHIGRAM_ID", "SCAN_ID", "VirtualSTEM"]

INSTRUMENT_ID = "virtual_stem_controller"
SCAN_ID = "virtual_stem_scan"
EELS_ID = "virtual_stem_eels"
RONCHIGRAM_ID = "virtual_stem_ronchigram"
PRIORITY = 30  # below a real instrument (50), above Nion's own simulator (20)


class VirtualSTEM:
    """The devices of one virtual microscope: made, registered and unregistered once.

    The cameras' threads run from the beginning, so every way out has to lead through :meth:`unregister`.

    Args:
        microscope: the physics.
        exposure_s: exposure of the cameras' first profile.
        specimen: name or path from which the specimen can be made again, for the metadata.

    Attributes:
        values: the controls; ``values.faults`` makes them fail.
        scan: the scan unit; ``scan.faults`` makes it fail.
        eels_camera, ronchigram_camera: the cameras; their ``faults`` make them fail.

    Raises:
        RuntimeError: another virtual microscope is registered in this process.
    """

    def __init__(self, microscope: VirtualMicroscope, *, exposure_s: float = 0.05, specimen: str = ""):
        self.microscope = microscope
        self.values = ValueManager(microscope)
        self.instrument = Instrument(INSTRUMENT_ID, self.values, AxisManager(), microscope, specimen)
        self.instrument.priority = PRIORITY
        self.scan = ScanUnit(SCAN_ID, self.instrument, microscope)
        self.scan.priority = PRIORITY
        self.scan_module = ScanModule(self.scan, INSTRUMENT_ID, microscope.specimen.size_nm)
        self.scan_module.priority = PRIORITY
        self._modules: list[CameraDevice.CameraModule] = []
        self.eels_settings = CameraDevice.CameraSettings(EELS_ID, exposure_s)
        self.ronchigram_settings = CameraDevice.CameraSettings(RONCHIGRAM_ID, exposure_s)
        self.eels_camera = Camera(
            EELS_ID, "EELS camera (SIMULATED)", EELSSource(microscope, self.instrument, self.scan), self.instrument
        )
        try:
            self.ronchigram_camera = Camera(
                RONCHIGRAM_ID,
                "Ronchigram camera (SIMULATED)",
                RonchigramSource(microscope, self.instrument),
                self.instrument,
            )
        except Exception:
            self.eels_camera.close()
            raise

    def register(self) -> None:
        """Hand the devices to Swift's registry and bind them to the instrument."""
        Registry.register_component(self.instrument, {"instrument_controller", "stem_controller"})
        for camera, settings in (
            (self.eels_camera, self.eels_settings),
            (self.ronchigram_camera, self.ronchigram_settings),
        ):
            camera.camera_panel_type = camera.camera_type
            module = CameraDevice.CameraModule(INSTRUMENT_ID, camera, settings)
            module.priority = PRIORITY
            Registry.register_component(module, {"camera_module"})
            self._modules.append(module)
        Registry.register_component(self.scan_module, {"scan_module"})
        self._bind()

    def _bind(self) -> None:
        # Left to itself, Swift takes any scan unit and camera that it finds, another simulator's too.
        sources = {s.hardware_source_id: s for s in Registry.get_components_by_type("hardware_source")}
        self.instrument.set_scan_controller(sources.get(SCAN_ID))
        self.instrument.set_eels_camera(sources.get(EELS_ID))
        self.instrument.set_ronchigram_camera(sources.get(RONCHIGRAM_ID))

    def unregister(self) -> None:
        """Take the devices out of the registry, as far as they are in it, and end the cameras' threads."""
        self.instrument.set_scan_controller(None)
        self.instrument.set_eels_camera(None)
        self.instrument.set_ronchigram_camera(None)
        for module in self._modules:
            Registry.unregister_component(module, {"camera_module"})
        self._modules.clear()
        for component, types in (
            (self.scan_module, {"scan_module"}),
            (self.instrument, {"instrument_controller", "stem_controller"}),
        ):
            if component in Registry.get_components_by_type(next(iter(types))):
                Registry.unregister_component(component, types)
        for camera in (self.eels_camera, self.ronchigram_camera):
            camera.close()
