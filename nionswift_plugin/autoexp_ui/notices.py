"""What Swift shows in a corner of its window until somebody has read it."""

from __future__ import annotations

from nion.swift.model import Notification


def warn(title: str, text: str) -> None:
    """Say that something went wrong, and what."""
    heading = "\N{WARNING SIGN} " + title
    Notification.notify(Notification.Notification("org.autoexp.error", heading, title, text))
