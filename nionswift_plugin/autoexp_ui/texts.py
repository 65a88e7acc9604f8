"""Numbers as an operator reads them."""

from __future__ import annotations

import math
import textwrap

from autoexp.agent import Prediction
from autoexp.beam import BeamState
from autoexp.status import Status
from nionswift_plugin.autoexp_ui.translation import translate as _

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def duration(seconds: float) -> str:
    """A duration, to the second: ``0:42``, ``12:05``, ``1:02:03``."""
    whole = max(0, math.ceil(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, seconds_left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"


def electrons(number: float | None) -> str:
    """A dose in electrons; a dash where it is not known."""
    if number is None:
        return "–"
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPT)} e⁻"


def quantity(value: float, units: str) -> str:
    """A value with its units, short."""
    text = f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3g}"
    return f"{text} {units}".strip()


NAMES = {
    "derivatives": _("edges"),
    "patch": _("patches"),
    "random": _("texture"),
    "deep": _("the network"),
    "position": _("place"),
    "all descriptions": _("all descriptions"),
    "position alone": _("place alone"),
    "with the network": _("the network as well"),
}


def model(prediction: Prediction | None) -> str:
    """What the predicted map rests on, and what the points say of it; empty where there is no such model."""
    if prediction is None:
        return ""
    parts = []
    if prediction.coverage is not None:
        parts.append(_("Map: 90 % intervals hold {share}.").format(share=_percent(prediction.coverage)))
    evidence = prediction.evidence
    if evidence is not None:
        shares = [f"{NAMES.get(name, name)} {_percent(share)}" for name, share in evidence.ranked if share >= 0.005]
        parts.append(f"{_('Based on')} {', '.join(shares)}.")
        best = NAMES.get(evidence.preferred, evidence.preferred)
        others = [f"{NAMES.get(name, name)} {_behind(nats)}" for name, nats in evidence.behind.items()]
        parts.append(_("Foresight: {best} best, {others}.").format(best=best, others=", ".join(others)))
    return " ".join(parts)


def _behind(nats: float) -> str:
    """By how much a description is worse than the best."""
    return _("alike") if nats < 0.005 else f"\N{MINUS SIGN}{nats:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def progress(status: Status) -> str:
    """The line beside the progress bar."""
    parts = [_("{points} of {budget} spectra").format(points=status.points, budget=status.budget_points)]
    if status.failed:
        parts.append(_("{n} failed").format(n=status.failed))
    if status.ending is None and status.left_s is not None:
        parts.append(_("{time} left").format(time=duration(status.left_s)))
    if status.dose_e:
        parts.append(electrons(status.dose_e))
    return " · ".join(parts)


def beam(state: BeamState, now_s: float, place_nm: tuple[float, float] | None = None) -> str:
    """Where the beam is, and for how long; empty before the instrument was taken over.

    Args:
        state: as the guardian tells.
        now_s: by the same clock.
        place_nm: (y, x) of a parked probe from the corner of the overview; None where it is not known.
    """
    if state.on is None:
        return ""
    since = duration(math.floor(max(0.0, now_s - state.since_s)))
    if not state.on:
        return _("Beam: blanked, {time}").format(time=since)
    if place_nm is None:
        return _("Beam: on, {time}").format(time=since)
    return _("Beam: on, parked at x {x:.0f}, y {y:.0f} nm, {time}").format(x=place_nm[1], y=place_nm[0], time=since)


def headline(status: Status) -> str:
    """What the experiment is doing, in a few words."""
    if status.ending is not None:
        return {
            "completed": _("Completed"),
            "stopped": _("Stopped; everything measured is kept"),
            "aborted": _("Aborted; everything measured is kept"),
            "halted": _("Halted: the instrument was left as it is"),
            "faulted": _("Failed"),
            "discarded": _("Discarded"),
        }[status.ending]
    if status.phase == "preparing" and status.reason:
        return _("Preparing: {what}").format(what=status.reason)
    if status.phase == "running" and status.reason:
        return _("Measuring: {what}").format(what=status.reason)
    return {
        "idle": _("Ready"),
        "preparing": _("Taking the overview"),
        "running": _("Measuring"),
        "paused": _("Paused"),
        "suspended": _("Suspended"),
        "finishing": _("Finishing: putting the instrument back"),
        "faulted": _("Failed"),
    }[status.phase]


class Wrapped:
    """Breaks a text into lines, for labels: Qt's own breaking leaves them no room for the second line.

    Args:
        width: longest line, characters.
    """

    def __init__(self, width: int):
        self._width = width

    def convert(self, value: str | None) -> str:
        """The text in lines."""
        return "\n".join(textwrap.fill(line, self._width) for line in (value or "").splitlines())

    def convert_back(self, formatted_value: str | None) -> str:
        """Labels are not edited."""
        return formatted_value or ""
