"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator

from autoexp.errors import AutoexpError


class ExportError(AutoexpError):
    """An export was not written; whatever was there before is untouched."""


@contextlib.contextmanager
def replace_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary path beside ``path``, of the same extension, that takes its place once it is written.

    If anything fails on the way, an older file stays as it was and nothing else is left behind.
    """
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_targets(paths: list[pathlib.Path], force: bool) -> None:
    """Refuse to write over what is there, unless ``force`` is set.

    Raises:
        ExportError: a file is there, or its folder is not.
    """
    for path in paths:
        if path.exists() and not force:
            raise ExportError(f"{path} is there already; give --force to replace it, or name another with --output.")
        if not path.parent.is_dir():
            raise ExportError(f"There is no folder {path.parent}; make it first.")
