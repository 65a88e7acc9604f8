"""What to say where something is not there."""

from __future__ import annotations

import importlib.util

from nionswift_plugin.autoexp_ui.form import KERNELS
from nionswift_plugin.autoexp_ui.translation import translate as _


def no_instrument() -> str:
    """For a Swift without an instrument."""
    return _(
        "There is no instrument. Connect one, or choose a virtual microscope in Preferences > Autonomous Experiment "
        "and start Swift again."
    )


def libraries(agent_kind: str) -> str:
    """For an agent whose libraries are not installed, with the line that installs them; empty if nothing is missing."""
    if KERNELS.get(agent_kind, "views") == "views":
        return ""
    absent = [name for name in ("torch", "gpytorch") if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    text = _("The trained network needs {names}: python -m pip install {line}. Everything else works without.")
    return text.format(names=_(" and ").join(absent), line=" ".join(absent))
