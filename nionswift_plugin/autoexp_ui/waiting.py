"""Waiting that ends, whatever hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable


def within(seconds: float, *works: Callable[[], object]) -> bool:
    """Do things one after the other on a thread of their own, and wait for them no longer than that.

    For a window that closes: an instrument that hangs must not keep it open.

    Returns:
        Whether all are done. What is not goes on, and ends with the program at the latest.
    """
    done = threading.Event()

    def work() -> None:
        for each in works:
            each()
        done.set()

    threading.Thread(target=work, name="autoexp-closing", daemon=True).start()
    return done.wait(seconds)
