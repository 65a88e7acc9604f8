"""The one way in for JSON that somebody else wrote, and for small files: bounded, plain, and refused in a sentence.

What is read is data and nothing else: of bounded size and depth, numbers that are finite and not endless, no key twice
(of two limits of the same name, which one would count?), and from a regular file, never from a pipe or a device.
"""

from __future__ import annotations

import errno
import json
import math
import os
import pathlib
import re
import stat
from typing import Any

from autoexp.errors import PlanError
from autoexp.text import clean

MAX_BYTES = 4_000_000
MAX_DEPTH = 64
MAX_DIGITS = 100
"""Of one number. Its value is a float or a count, and no such needs more."""
# A string that is not closed ends with the text, so that every character is looked at once.
_MARKS = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_json(path: str | pathlib.Path, what: str, most: int = MAX_BYTES, *, follow: bool = True) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        what: what it is, as a message begins: "The plan".
        most: bytes that are read at most.
        follow: whether it may be a link to another file.

    Raises:
        PlanError: it cannot be read, or is not such a document; the message names the file.
    """
    return parse_json(read_bytes(path, what, most, follow=follow), f"{what} {shown(path)}", most)


def read_bytes(path: str | pathlib.Path, what: str, most: int = MAX_BYTES, *, follow: bool = True) -> bytes:
    """The content of a regular file that is not too large; nothing else is ever waited for or read.

    Args:
        path: the file.
        what: what it is, as a message begins: "The plan".
        most: bytes that are read at most.
        follow: whether it may be a link to another file.

    Raises:
        PlanError: it cannot be read; the message names the file.
    """
    name = f"{what} {shown(path)}"
    try:
        with open(os.open(path, _READ | (0 if follow else getattr(os, "O_NOFOLLOW", 0))), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise PlanError(f"{name} cannot be read: it is not a regular file. Name a file.")
            if about.st_size > most:
                raise _too_large(name, about.st_size, most)
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        if not follow and isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise PlanError(f"{name} cannot be read: it is a link. Put the file itself there.") from error
        raise PlanError(f"{name} cannot be read: {clean(_reason(error), 200)}.") from error
    if len(content) > most:
        raise _too_large(name, len(content), most)
    return content


def parse_json(document: str | bytes, what: str, most: int = MAX_BYTES) -> Any:
    """The value of a JSON document.

    Args:
        document: text, or bytes in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        what: what it is, as a message begins: "The plan".
        most: bytes, or characters of a text, that are read at most.

    Raises:
        PlanError: it is too large, too deep, not JSON, holds a key twice or a number that is none.
    """
    if len(document) > most:
        raise _too_large(what, len(document), most)
    try:
        text = document.decode(json.detect_encoding(document)) if isinstance(document, bytes) else document
    except UnicodeDecodeError as error:
        raise PlanError(f"{what} cannot be read: it is not text in UTF-8. Save it as UTF-8.") from error
    text = text.removeprefix("\ufeff")
    try:
        check_depth(text)
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant
        )
        if _SURROGATE.search(text) or not text.isascii():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise PlanError(f"{what} cannot be read: it holds half of a character (a lone surrogate).") from error
    except json.JSONDecodeError as error:
        raise PlanError(f"{what} cannot be read: it is not JSON ({error}).") from error
    except _NotPlainError as error:
        raise PlanError(f"{what} cannot be read: {error}.") from error
    return value


def check_depth(text: str, most: int = MAX_DEPTH) -> None:
    """Refuse JSON text that is nested deeper than ``most``, before anything recursive sees it.

    Raises:
        ValueError: it is.
    """
    if text.count("[") + text.count("{") <= most:
        return
    depth = 0
    for mark in _MARKS.finditer(text):
        first = text[mark.start()]
        if first in "[{":
            depth += 1
            if depth > most:
                raise _NotPlainError(f"it is nested more than {most} deep, at character {mark.start():,}")
        elif first in "]}":
            depth -= 1


def shown(path: str | pathlib.Path) -> str:
    """A path as it can be shown in a message."""
    return clean(str(path), 500)


class _NotPlainError(ValueError):
    """JSON, but nothing that is taken from anybody."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _NotPlainError(f"it holds {clean(twice, 80)!r} twice in one place; leave one of the two")
    return found


def _integer(digits: str) -> int:
    _require_short(digits)
    return int(digits)


def _real(digits: str) -> float:
    _require_short(digits)
    value = float(digits)
    if not math.isfinite(value):
        raise _NotPlainError(f"the number {digits} is too large to be one")
    return value


def _constant(name: str) -> float:
    raise _NotPlainError(f"it holds {name}, which is no finite number")


def _require_short(digits: str) -> None:
    if len(digits) > MAX_DIGITS:
        raise _NotPlainError(f"a number has {len(digits):,} digits ({digits[:12]}…); at most {MAX_DIGITS} are read")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _too_large(what: str, size: int, most: int) -> PlanError:
    return PlanError(f"{what} is too large to be one: it holds {size:,} bytes; at most {most:,} are read.")
