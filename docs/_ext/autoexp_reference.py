"""Reference pages that cannot go stale: they are written from the code while the pages are built.

``.. models:: module.Name`` describes a pydantic model, or each member of a union of them, with all models that they
hold. ``.. commands:: module.app`` describes every command of a typer application.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, ClassVar

import typer
from docutils import nodes
from docutils.parsers.rst import directives
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TAGS = ("kind", "type")
MANY = 8
BOUNDS = {
    "gt": "> {}",
    "ge": "≥ {}",
    "lt": "< {}",
    "le": "≤ {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
}


class Models(SphinxDirective):
    """Tables of the fields of models; each model once, in the order in which they are met."""

    required_arguments = 1
    option_spec: ClassVar = {"shallow": directives.flag, "without": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """The sections."""
        wanted = list(members(find(self.arguments[0])))
        described = wanted if "shallow" in self.options else reachable(wanted)
        without = self.options.get("without")
        text = "\n".join(line for model in described if model.__module__ != without for line in describe(model))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Commands(SphinxDirective):
    """Every command of a typer application: what it is for, its arguments and options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The sections."""
        group: Any = typer.main.get_command(find(self.arguments[0]))
        lines: list[str] = []
        for name, command in group.commands.items():
            lines += describe_command(f"autoexp {name}", command)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def find(path: str) -> Any:
    """What a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


# --- models


def members(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation: itself, the members of a union, what a tuple or dictionary holds."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in typing.get_args(annotation):
        yield from members(part)


def reachable(models: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """These models and all that they hold, each once."""
    found: dict[type[BaseModel], None] = {}

    def visit(model: type[BaseModel]) -> None:
        if model in found:
            return
        found[model] = None
        for field in model.model_fields.values():
            for part in members(field.annotation):
                visit(part)

    for model in models:
        visit(model)
    return list(found)


def describe(model: type[BaseModel]) -> Iterator[str]:
    """A section on a model: what its docstring says, and a table of its fields."""
    title = tag_of(model) or model.__name__
    yield from ("", f".. _{label(model)}:", "", title, "~" * len(title), "")
    yield from cleaned(model)
    tag = next((name for name in TAGS if name in model.model_fields), None) if tag_of(model) else None
    fields = {name: field for name, field in model.model_fields.items() if name != tag}
    if tag:
        yield from ("", f'Written as ``"{tag}": "{tag_of(model)}"``.', "")
    if not fields:
        return
    yield from ("", ".. list-table::", "   :header-rows: 1", "   :class: fields", "   :widths: 22 24 18 36", "")
    yield from row("field", "type", "default", "meaning")
    told = attributes(model)
    for name, field in fields.items():
        meaning = field.description or told.get(name, "") or first_sentence(field.annotation)
        yield from row(f"``{name}``", kind_of(field), default_of(field), meaning)
    yield ""


def tag_of(model: type[BaseModel]) -> str:
    """The word by which a member of a union is told from the others; empty if there is none."""
    for name in TAGS:
        field = model.model_fields.get(name)
        values = typing.get_args(field.annotation) if field is not None else ()
        if len(values) == 1 and typing.get_origin(field.annotation) is typing.Literal:
            return str(values[0])
    return ""


def label(model: type[BaseModel]) -> str:
    """Where links to a model lead."""
    return f"{model.__module__}-{model.__name__}".replace(".", "-").replace("_", "-").lower()


def cleaned(model: type[BaseModel]) -> Iterator[str]:
    """The docstring without its list of attributes, which the table holds."""
    text = inspect.getdoc(model) or ""
    yield from re.split(r"\n\s*(?:Attributes|Args):\n", text)[0].splitlines()


def first_sentence(annotation: Any) -> str:
    """What a model is, if a field holds just that."""
    if not (inspect.isclass(annotation) and issubclass(annotation, BaseModel)):
        return ""
    sentence = (inspect.getdoc(annotation) or "").split(".")[0]
    return sentence[:1].lower() + sentence[1:]


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring says of each attribute."""
    text = inspect.getdoc(model) or ""
    parts = re.split(r"\n\s*Attributes:\n", text)
    if len(parts) < 2:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in parts[1].splitlines():
        head = re.match(r" {4}(\w+): (.*)", line)
        if head:
            name = head[1]
            found[name] = head[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def kind_of(field: FieldInfo) -> str:
    """Type and bounds of a field, as people read them."""
    bounds = [BOUNDS[name].format(f"{value:g}") for name, value in limits(field)]
    return ", ".join([words(field.annotation), *bounds])


def limits(field: FieldInfo) -> Iterator[tuple[str, float]]:
    """Names and values of a field's bounds."""
    for constraint in field.metadata:
        for name in BOUNDS:
            if getattr(constraint, name, None) is not None:
                yield name, getattr(constraint, name)


def words(annotation: Any) -> str:
    """An annotation in words; models are links to where they are described."""
    if annotation is type(None):
        return "nothing"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        name = tag_of(annotation) or annotation.__name__
        return f":ref:`{name} <{label(annotation)}>`"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return words(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"``{value!r}``".replace("'", '"') for value in arguments)
    if origin in (typing.Union, types.UnionType):
        if len(arguments) > MANY:
            return "any of those below"
        several = [words(part) for part in arguments]
        return " or ".join(several) if len(several) < 4 else ", ".join(several[:-1]) + " or " + several[-1]
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {words(arguments[0])}"
        return f"[{', '.join(words(part) for part in arguments)}]"
    if origin is list:
        return f"list of {words(arguments[0])}"
    if origin is dict:
        return f"dictionary, {words(arguments[0])} to {words(arguments[1])}"
    return {int: "integer", float: "number", str: "text", bool: "true or false", Any: "anything"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )


def default_of(field: FieldInfo) -> str:
    """The default of a field."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return ""
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        tag = tag_of(type(value))
        return f"``{tag}``" if tag else "as below"
    if value in ((), {}, []):
        return "empty"
    text = str(list(value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"``{text}``" if text else ""


# --- commands


def describe_command(name: str, command: Any) -> Iterator[str]:
    """A section on a command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    yield from ("", name, "~" * len(name), "")
    usage = " ".join([name, "[OPTIONS]", *(metavar(argument) for argument in arguments)])
    yield from (".. code-block:: text", "", f"   {usage}", "")
    yield from inspect.cleandoc(command.help or "").splitlines()
    yield ""
    if not arguments and not options:
        return
    yield from (".. list-table::", "   :class: fields", "   :widths: 30 52 18", "   :header-rows: 1", "")
    yield from row("argument or option", "meaning", "default")
    for argument in arguments:
        yield from row(f"``{metavar(argument)}``", argument.help or "", "")
    for option in options:
        flags = " / ".join([*option.opts, *option.secondary_opts])
        if not option.is_flag and option.metavar:
            flags += f" {option.metavar}"
        default = "" if option.default in (None, False, ()) else f"``{shown(option)}``"
        yield from row(f"``{flags}``", with_variable(option), default)
    yield ""


def metavar(argument: Any) -> str:
    """What stands for an argument in a line of usage."""
    return argument.metavar or argument.name.upper()


def shown(option: Any) -> str:
    """The default of an option as it would be typed."""
    if option.is_flag:
        return option.opts[0] if option.default else option.secondary_opts[0]
    return str(option.default)


def with_variable(option: Any) -> str:
    """What an option does, and the environment variable that does the same."""
    text = option.help or ""
    return f"{text} (Or the environment variable ``{option.envvar}``.)" if option.envvar else text


def row(*cells: str) -> Iterator[str]:
    """A row of a list-table; line breaks within a cell are left out."""
    for number, cell in enumerate(cells):
        yield f"   {'*' if number == 0 else ' '} - {' '.join(cell.split())}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx what there is."""
    app.add_directive("models", Models)
    app.add_directive("commands", Commands)
    return {"version": "1", "parallel_read_safe": True}
