"""Small pieces of HTML, with everything escaped that did not come from here."""

from __future__ import annotations

import html
import importlib.resources
import math
import pathlib
from collections.abc import Iterable, Sequence

from autoexp.export.atomic import replace_file
from autoexp.text import clean

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def text(value: object) -> str:
    """Any value as text that a page can hold."""
    return html.escape(clean(str(value)))


def number(value: float | None, units: str = "", digits: int = 4) -> str:
    """A number with its units, or a dash."""
    if value is None or value != value:
        return "–"
    return text(f"{plain(value, digits)} {units}".strip())


def plain(value: float, digits: int = 4) -> str:
    """A number as people write it, with a power of ten where it is very large or very small."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "infinite"
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    short = f"{value:.{digits}g}"
    if "e" not in short:
        return short
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPT)}"


def seconds(value: float | None) -> str:
    """A duration as people say it."""
    if value is None or not math.isfinite(value):
        return "–"
    if value < 120:
        return f"{value:.1f} s" if value >= 1 or not value else f"{value * 1000:.0f} ms"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def percent(value: float | None, digits: int = 0) -> str:
    """A share in per cent."""
    return "–" if value is None or not math.isfinite(value) else f"{value * 100:.{digits}f} %"


def section(title: str, *parts: str) -> str:
    """A heading with what belongs under it; nothing if that is empty."""
    body = "\n".join(part for part in parts if part)
    return f"<section><h2>{text(title)}</h2>\n{body}</section>" if body else ""


def figure(svg: str, caption: str = "") -> str:
    """A figure with its caption; nothing if there is no figure."""
    note = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg}{note}</figure>" if svg else ""


def row(*figures: str) -> str:
    """Figures side by side, as far as there is room."""
    present = [f for f in figures if f]
    return f'<div class="row">{"".join(present)}</div>' if present else ""


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """The key numbers: pairs of value and meaning; the value is HTML already."""
    cells = "".join(f'<div class="tile"><b>{value}</b><span>{text(name)}</span></div>' for value, name in pairs)
    return f'<div class="tiles">{cells}</div>'


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """A list of names and values; empty values are left out."""
    lines = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs if value not in ("", None))
    return f"<dl>{lines}</dl>" if lines else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; columns in ``numeric`` are set right."""
    mark = ['class="n"' if i in numeric else "" for i in range(len(heads))]
    head = "".join(f"<th {mark[i]}>{text(h)}</th>" for i, h in enumerate(heads))
    body = "".join("<tr>" + "".join(f"<td {mark[i]}>{c}</td>" for i, c in enumerate(cells)) + "</tr>" for cells in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>' if body else ""
    )


def paragraph(words: str) -> str:
    """A paragraph; nothing if there are no words."""
    return f"<p>{text(words)}</p>" if words else ""


def alert(words: str) -> str:
    """A paragraph that must not be overlooked."""
    return f'<p class="alert">{text(words)}</p>' if words else ""


def footer(words: str) -> str:
    """The last line of a page."""
    return f"<footer>{text(words)}</footer>"


def page(title: str, body: str) -> str:
    """A whole page that stands by itself: no script, no link, no other file."""
    css = importlib.resources.files("autoexp.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{text(title)}</title>\n'
        f"<style>\n{css}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def save(path: pathlib.Path, content: str) -> pathlib.Path:
    """Write a page in one step; an older one is replaced.

    Raises:
        ExportError: it cannot be written.
    """
    with replace_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path
