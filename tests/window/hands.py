"""What a person does at the window: click, type, look. Uses xdotool and ImageMagick on the virtual display."""

from __future__ import annotations

import asyncio
import subprocess

from nion.utils import Geometry

PATIENCE = 2
"""Times longer than it takes on a quiet machine."""


async def shell(*command):
    """Run a program without holding the window's event loop up."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: subprocess.run(command, check=True, capture_output=True, text=True))


async def screenshot(path):
    """Save the whole screen."""
    await shell("import", "-window", "root", str(path))


async def click(widget, dx=10, dy=8):
    """Move the real mouse onto a widget and press its button."""
    point = widget.map_to_global(Geometry.IntPoint(y=dy, x=dx))
    await shell("xdotool", "mousemove", str(point.x), str(point.y), "click", "1")


async def until(condition, seconds, what):
    """Wait for a condition, several times as long as it should take; fail with what was waited for."""
    for _ in range(int(seconds * PATIENCE * 20)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"waited {seconds * PATIENCE} s in vain for {what}")
