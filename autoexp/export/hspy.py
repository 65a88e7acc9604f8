"""Runs as HyperSpy files: the spectra as one EELS signal for exSpy, and the overview beside it."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp import events as ev
from autoexp.export.atomic import ExportError, check_targets, replace_file
from autoexp.export.quiet import hyperspy
from autoexp.export.strange import only_ours
from autoexp.runlog import CheckedSpectra, RunReader
from autoexp.state import Point, RunState
from autoexp.text import clean

ROOM_BYTES = 4_000_000
"""What a file takes besides its arrays: metadata, reasons, the plan."""


def export_hspy(
    folder: str | os.PathLike[str], output: str | os.PathLike[str] | None = None, *, force: bool = False
) -> list[pathlib.Path]:
    """Write a run's spectra as an EELS signal (points | energy) and its overview as an image.

    The spectra are calibrated in energy; ``metadata.autoexp`` holds the positions (fractions of the overview and nm),
    the values with their noise, the reasons, the plan, the instrument, and whether that was simulated. Spectra that are
    not as they were measured are left out; ``metadata.autoexp.damaged`` holds the numbers of their points.

    Args:
        folder: the run.
        output: file to write; by default ``<run>.hspy`` in the run's folder. The overview goes to
            ``<output>-overview.hspy``.
        force: replace files that are there.

    Returns:
        The files written.

    Raises:
        RunLogError: there is no run.
        ExportError: there is no good spectrum, a file is there already or cannot be written, or it does not read back
            the same.
        MissingDependencyError: HyperSpy or exSpy is not installed.
    """
    with only_ours("The HyperSpy file"):
        reader = RunReader(folder)
        state = reader.state
        found = reader.checked(state.measured)
        if not found.points or state.spectra is None:
            remark = f"; {len(found.damaged)} are damaged" if found.damaged else ""
            raise ExportError(f"The run {clean(reader.folder.name)} holds no spectrum to export{remark}.")
        path = pathlib.Path(output) if output else reader.folder / f"{reader.folder.resolve().name}.hspy"
        overview_path = path.with_name(f"{path.stem}-overview{path.suffix}")
        wanted = [path, *([overview_path] if state.prepared else [])]
        if path.suffix != ".hspy":
            raise ExportError(f"{path.name} must end in .hspy.")
        check_targets(wanted, force)
        with hyperspy("Export to hspy") as api, contextlib.ExitStack() as stack:
            signals = [_spectra(reader, state, found)]
            if state.prepared:
                signals.append(_overview(api, reader, state, state.prepared))
            _require_room(path.parent, sum(signal.data.nbytes for signal in signals))
            for target, signal in zip(wanted, signals, strict=True):
                _save(api, stack.enter_context(replace_file(target)), signal)
        return wanted


def _spectra(reader: RunReader, state: RunState, found: CheckedSpectra) -> Any:
    opened = state.spectra
    assert opened is not None
    energy = {"name": "Energy loss", "units": _label(opened.units), "offset": opened.offset, "scale": opened.scale}
    axes = [
        {"name": "point", "size": len(found.points), "offset": 1, "scale": 1, "navigate": True},
        {**energy, "size": opened.channels, "navigate": False},
    ]
    signal = importlib.import_module("exspy").signals.EELSSpectrum(found.counts, axes=axes)
    signal.metadata.General.title = _title(reader, state)
    signal.metadata.set_item("Signal.quantity", "Electrons (counts)")
    instrument = _microscope(state)
    for name, value in instrument.items():
        signal.metadata.set_item(f"Acquisition_instrument.TEM.{name}", value)
    if state.plan:
        exposure = "Acquisition_instrument.TEM.Detector.EELS.exposure"
        signal.metadata.set_item(exposure, state.plan.spectrum.exposure_s)
    about = _about(reader, state, found.points)
    signal.metadata.add_dictionary({"autoexp": {**about, "damaged": [p.id + 1 for p in found.damaged]}})
    return signal


def _overview(api: Any, reader: RunReader, state: RunState, prepared: ev.Prepared) -> Any:
    image = np.array(reader.array(prepared.overview), dtype=np.float32)
    calibrated = prepared.fov_nm is not None and min(prepared.fov_nm) > 0
    height, width = prepared.fov_nm if prepared.fov_nm and calibrated else image.shape
    units = "nm" if calibrated else "px"
    axes = [
        {"name": "y", "units": units, "size": image.shape[0], "scale": height / image.shape[0], "offset": 0.0},
        {"name": "x", "units": units, "size": image.shape[1], "scale": width / image.shape[1], "offset": 0.0},
    ]
    signal = api.signals.Signal2D(image, axes=axes)
    signal.metadata.General.title = _title(reader, state, ": overview")
    signal.metadata.add_dictionary({"autoexp": {"run_id": clean(state.run_id), "simulated": _simulated(reader)}})
    return signal


def _about(reader: RunReader, state: RunState, points: list[Point]) -> dict[str, Any]:
    """What the metadata tell of a run; arrays are in the order of the spectra."""
    prepared, settings = state.prepared, state.settings
    positions = np.array([p.position for p in points])
    about: dict[str, Any] = {
        "run_id": clean(state.run_id),
        "simulated": _simulated(reader),
        "point": np.array([p.id + 1 for p in points]),
        "position_yx": positions,
        "value": np.array([p.value for p in points]),
        "noise": np.array([p.noise for p in points]),
        "dose_e": np.array([p.dose_e for p in points]),
        "reason": [clean(p.reason) for p in points],
        "agent": [clean(p.agent) for p in points],
        "scalarizer": clean(settings.scalarizer.describe()) if settings else "",
        "units": clean(settings.scalarizer.units) if settings else "",
        "plan": state.plan.to_json() if state.plan else "",
    }
    if settings and settings.second:
        about["second_value"] = np.array([np.nan if p.second is None else p.second for p in points])
        about["second_noise"] = np.array([p.second_noise for p in points])
        about["second_scalarizer"] = clean(settings.second.describe())
        about["second_units"] = clean(settings.second.units)
    about["energy_shift_eV"] = np.array([p.shift_eV for p in points])
    if any(p.zero_loss for p in points):
        about["zero_loss_eV"] = np.array([p.zero_loss.position_eV if p.zero_loss else np.nan for p in points])
        about["zero_loss_width_eV"] = np.array([p.zero_loss.width_eV if p.zero_loss else np.nan for p in points])
    if prepared and prepared.fov_nm:
        about["position_nm"] = positions * np.asarray(prepared.fov_nm)
        about["fov_nm"] = list(prepared.fov_nm)
    if state.spectra and state.spectra.counts_per_electron:
        about["counts_per_electron"] = state.spectra.counts_per_electron
    return about


def _microscope(state: RunState) -> dict[str, float]:
    """Beam energy in keV, where the overview's metadata tell it."""
    told = state.prepared.metadata.get("instrument", {}) if state.prepared else {}
    tension = told.get("high_tension") if isinstance(told, dict) else None
    usable = isinstance(tension, int | float) and math.isfinite(tension)
    return {"beam_energy": float(tension) / 1000} if usable and tension is not None else {}


def _simulated(reader: RunReader) -> bool:
    started = next(reader.events(ev.Started), None)
    return bool(started and started.instrument.get("simulated"))


def _title(reader: RunReader, state: RunState, what: str = "") -> str:
    return f"{_label(state.run_id or reader.folder.name)}{what}{' (SIMULATED)' if _simulated(reader) else ''}"


def _label(text: str) -> str:
    """Text that HyperSpy will write into figures, where dollars would enclose a formula."""
    return clean(text, 200).replace("$", r"\$")


def _require_room(folder: pathlib.Path, size: int) -> None:
    """Refuse beforehand what the disk cannot hold: HDF5 can take the process with it when a write fails."""
    needed, free = size + ROOM_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(
            f"The export needs {needed / 1e6:,.0f} MB, and {clean(str(folder))} has {free / 1e6:,.0f} MB left; make "
            "room, or name another place with --output."
        )


def _save(api: Any, path: pathlib.Path, signal: Any) -> None:
    signal.save(str(path), overwrite=True, show_progressbar=False)
    loaded = api.load(str(path))
    _require_same(path, loaded.data, signal.data)
    axes = zip(loaded.axes_manager.signal_axes, signal.axes_manager.signal_axes, strict=True)
    if not all(np.allclose(a.axis, b.axis) for a, b in axes):
        raise ExportError(f"The calibration of {path.name} did not read back as it was written.")


def _require_same(path: pathlib.Path, found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    if found.shape != wanted.shape or not np.array_equal(found, wanted, equal_nan=True):
        raise ExportError(f"{path.name} did not read back as it was written; nothing was replaced. Is the disk full?")
