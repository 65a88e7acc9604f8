"""HyperSpy without its remarks, which it writes to standard output, where programs may be reading."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from autoexp.errors import MissingDependencyError


@contextlib.contextmanager
def hyperspy(what: str) -> Iterator[Any]:
    """``hyperspy.api``, silent but for errors as long as the context lasts.

    Args:
        what: what needs it, for the message where it is missing.

    Raises:
        MissingDependencyError: HyperSpy or exSpy is not installed.
    """
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            importlib.import_module("exspy")
            api = importlib.import_module("hyperspy.api")
        except ImportError as error:
            logging.disable(before)
            raise MissingDependencyError(
                f"{what} needs HyperSpy: python -m pip install hyperspy exspy ({error})"
            ) from error
        try:
            yield api
        finally:
            logging.disable(before)
