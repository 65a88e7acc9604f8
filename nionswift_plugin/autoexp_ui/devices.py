"""Which scan unit and camera an experiment uses, where Swift has more than one of them."""

from __future__ import annotations

import typing

from nion.utils import Event, Model, ReferenceCounting, Registry

from autoexp.errors import GuardianError
from autoexp.instrument import Identity
from autoexp.swift import preferences
from nionswift_plugin.autoexp_ui.translation import translate as _


class DeviceChoice:
    """Scan units and spectrometer cameras by name, kept up to date as devices come and go.

    Args:
        event_loop: the user interface's.

    Attributes:
        scan_names, camera_names: what the combo boxes show.
        scan_index, camera_index: what is chosen; the first is Swift's own choice.
        several: whether there is anything to choose.
    """

    def __init__(self, event_loop: typing.Any) -> None:
        self._event_loop = event_loop
        self.scan_names = Model.PropertyModel[list[str]]([])
        self.camera_names = Model.PropertyModel[list[str]]([])
        self.scan_index = Model.PropertyModel[int](0)
        self.camera_index = Model.PropertyModel[int](0)
        self.several = Model.PropertyModel[bool](False)
        self.changed_event = Event.Event()
        self._scans: list[typing.Any] = []
        self._cameras: list[typing.Any] = []
        changed = ReferenceCounting.weak_partial(DeviceChoice._on_changed, self)
        self._listeners: list[typing.Any] = [
            Registry.listen_component_registered_event(changed),
            Registry.listen_component_unregistered_event(changed),
        ]
        self.refresh()

    def close(self) -> None:
        """Stop listening."""
        self._listeners.clear()
        self._scans, self._cameras = [], []

    @property
    def scan_id(self) -> str | None:
        """Id of the chosen scan unit; None for Swift's own choice."""
        return _chosen(self._scans, self.scan_index.value)

    @property
    def camera_id(self) -> str | None:
        """Id of the chosen camera; None for Swift's own choice."""
        return _chosen(self._cameras, self.camera_index.value)

    def refresh(self) -> None:
        """Look at what is registered now."""
        stem: typing.Any = Registry.get_component("stem_controller")
        scans = Registry.get_components_by_type("scan_hardware_source")
        cameras = [
            c for c in Registry.get_components_by_type("camera_hardware_source") if c.features.get("is_eels_camera")
        ]
        self._scans = _ordered(scans, stem.scan_controller if stem else None)
        self._cameras = _ordered(cameras, stem.eels_camera if stem else None)
        self.scan_names.value = [s.display_name for s in self._scans]
        self.camera_names.value = [c.display_name for c in self._cameras]
        self.several.value = len(self._scans) > 1 or len(self._cameras) > 1
        self.changed_event.fire()

    def _on_changed(self, component: typing.Any, component_types: set[str]) -> None:
        if {"scan_hardware_source", "camera_hardware_source"} & component_types:  # on whatever thread
            self._event_loop.call_soon_threadsafe(ReferenceCounting.weak_partial(DeviceChoice.refresh, self))


def _ordered(sources: typing.Iterable[typing.Any], first: typing.Any) -> list[typing.Any]:
    """Swift's own choice first, the others by name."""
    return sorted(sources, key=lambda source: (source is not first, source.display_name))


def _chosen(sources: list[typing.Any], index: int | None) -> str | None:
    return sources[index].hardware_source_id if index and 0 < index < len(sources) else None


def require_armed(identity: Identity) -> None:
    """Refuse an instrument that is not simulated unless the preferences allow experiments on it.

    Raises:
        GuardianError: they do not.
    """
    if not identity.simulated and not preferences.load().arm_hardware:
        text = _("{name} is a real instrument. Allow experiments on it in Preferences > Autonomous Experiment.")
        raise GuardianError(text.format(name=identity.name))
