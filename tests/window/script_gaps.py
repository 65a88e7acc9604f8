"""How long Swift's event loop stands still while an experiment runs."""

import asyncio
import time

from hands import click, until


async def run(app, window, out):
    window._document_window.fill_screen()
    panel = window.find_dock_panel("autoexp-panel")
    panel.show()
    handler = panel._handler
    await asyncio.sleep(2)
    gaps = []
    watching = True

    async def watch():
        last = time.perf_counter()
        while watching:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    task = window.event_loop.create_task(watch())
    await click(handler.start_button)
    experiment = handler.experiment
    await until(lambda: experiment.status.ending and not experiment.running, 90, "the end of the run")
    watching = False
    await task
    gaps.sort()
    return {
        "points": experiment.status.points,
        "longest_ms": gaps[-1] * 1000,
        "p99_ms": gaps[int(len(gaps) * 0.99)] * 1000,
        "median_ms": gaps[len(gaps) // 2] * 1000,
        "worst_ms": [round(g * 1000) for g in gaps[-12:]],
    }
