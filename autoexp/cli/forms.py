"""Short forms that are pleasant to type, for what plans hold: scalarizers, agents, acquisition functions."""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING, Any

from autoexp.documents import parse_json, read_bytes
from autoexp.errors import PlanError

if TYPE_CHECKING:
    from autoexp.plan import Acquisition, AgentSpec
    from autoexp.scalarizers import Scalarizer

SCALARIZER_HELP = (
    "What to look for, in eV: window:LOW-HIGH, edge:LOW-HIGH/LOW-HIGH (the edge, then its background), "
    "peak-height:LOW-HIGH, peak-position:LOW-HIGH, peak-width:LOW-HIGH, ratio:LOW-HIGH/LOW-HIGH; or JSON as in a plan, "
    "or the name of a file that holds it."
)
ACQUISITION_HELP = (
    "How deep kernel learning chooses: ucb[:BETA], ei[:XI], pi[:XI], thompson, variance; or the full name, or JSON."
)
AGENT_HELP = "Who decides: deep-kernel, grid, random, features; or JSON as in a plan."
ALIASES = {
    "ucb": ("upper-confidence-bound", "beta"),
    "upper-confidence-bound": ("upper-confidence-bound", "beta"),
    "ei": ("expected-improvement", "xi"),
    "expected-improvement": ("expected-improvement", "xi"),
    "pi": ("probability-of-improvement", "xi"),
    "probability-of-improvement": ("probability-of-improvement", "xi"),
    "thompson": ("thompson-sampling", None),
    "thompson-sampling": ("thompson-sampling", None),
    "variance": ("maximum-variance", None),
    "maximum-variance": ("maximum-variance", None),
}
_NUMBER = r"(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
_SPAN = rf"\s*{_NUMBER}\s*-\s*{_NUMBER}\s*"


def scalarizer_of(text: str) -> Scalarizer:
    """A scalarizer from its short form, its JSON, or a file with its JSON.

    Raises:
        PlanError: it is none of these.
    """
    from autoexp.scalarizers import parse_scalarizer

    if text.lstrip().startswith("{"):
        return parse_scalarizer(text)
    kind, _, rest = text.partition(":")
    one, two = re.fullmatch(_SPAN, rest), re.fullmatch(rf"{_SPAN}/{_SPAN}", rest)
    if kind in ("window", "peak-height", "peak-position", "peak-width") and one:
        return parse_scalarizer({"kind": kind, **_window(one.groups())})
    if kind == "edge" and two:
        below = {"background_low_eV": float(two[3]), "background_high_eV": float(two[4])}
        return parse_scalarizer({"kind": kind, **_window(two.groups()), **below})
    if kind == "ratio" and two:
        windows = _window(two.groups()), _window(two.groups()[2:])
        return parse_scalarizer({"kind": kind, "numerator": windows[0], "denominator": windows[1]})
    if (path := pathlib.Path(text)).is_file():
        return parse_scalarizer(read_bytes(path, "The scalarizer"))
    raise PlanError(f"{text!r} is no scalarizer. {SCALARIZER_HELP}")


def acquisition_of(text: str) -> Acquisition:
    """An acquisition function from its short form or its JSON.

    Raises:
        PlanError: it is neither.
    """
    from pydantic import TypeAdapter

    from autoexp.plan import Acquisition

    if text.lstrip().startswith("{"):
        value = parse_json(text, "This")
    else:
        name, _, parameter = text.partition(":")
        if name not in ALIASES:
            raise PlanError(f"{text!r} is no acquisition function. {ACQUISITION_HELP}")
        kind, field = ALIASES[name]
        value = {"kind": kind}
        if parameter:
            value[field or "parameter"] = _number(parameter)
    adapter: TypeAdapter[Acquisition] = TypeAdapter(Acquisition)
    acquisition: Acquisition = _validated(adapter, value, text)
    return acquisition


def agent_of(text: str, acquisition: str | None = None) -> AgentSpec:
    """An agent from its name or its JSON, with an acquisition function where it has one.

    Raises:
        PlanError: it is neither, or it has no acquisition function and one is given.
    """
    from pydantic import TypeAdapter

    from autoexp.plan import AgentSpec, DeepKernelAgent

    value = parse_json(text, "This") if text.lstrip().startswith("{") else {"kind": text}
    adapter: TypeAdapter[AgentSpec] = TypeAdapter(AgentSpec)
    agent: AgentSpec = _validated(adapter, value, text)
    if acquisition is None:
        return agent
    if not isinstance(agent, DeepKernelAgent):
        raise PlanError(f"The {agent.kind} agent has no acquisition function; leave --acquisition out.")
    return agent.model_copy(update={"acquisition": acquisition_of(acquisition)})


def _window(numbers: Any) -> dict[str, float]:
    return {"low_eV": float(numbers[0]), "high_eV": float(numbers[1])}


def _number(text: str) -> Any:
    """The number that is written there; what is none stays what it is, and is refused by the field's name."""
    try:
        return float(text)
    except ValueError:
        return text


def _validated(adapter: Any, value: Any, text: str) -> Any:
    from pydantic import ValidationError

    from autoexp.fields import explain

    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise PlanError(f"{text!r} cannot be used:\n{explain(error)}") from error
