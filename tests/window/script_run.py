"""Take an overview, press Start with the mouse, wait for the end; the beam is aligned first. Look at every step."""

import asyncio

from hands import click, screenshot, until


async def run(app, window, out):
    window._document_window.fill_screen()
    panel = window.find_dock_panel("autoexp-panel")
    panel.show()
    await asyncio.sleep(1)
    handler = panel._handler
    experiment = handler.experiment
    handler.form.set(align=True, align_every=20)
    await click(handler.overview_button)
    await until(lambda: experiment.taken is not None and not experiment.busy, 30, "the overview")
    await asyncio.sleep(0.5)
    await screenshot(out / "1-overview.png")
    await click(handler.start_button)
    await until(lambda: experiment.status.points >= 30, 60, "thirty points")
    await screenshot(out / "2-running.png")
    await until(lambda: experiment.status.ending and not experiment.running, 60, "the end of the run")
    await asyncio.sleep(1)
    await screenshot(out / "3-completed.png")
    titles = {d.title.split(",")[0]: d for d in window.document_model.data_items}
    overview = experiment.live.display_item("overview")
    return {
        "ending": experiment.status.ending,
        "points": experiment.status.points,
        "headline": handler.texts.headline.value,
        "spectra": list(titles["Spectra"].data_shape),
        "maps": [t for t in ("Prediction", "Uncertainty") if t in titles],
        "graphics": len(overview.graphics),
        "warning": experiment.status.warning,
        "aligned": [found.success for found in experiment.engine.state.alignments],
        "controls": experiment.engine.plan.align.spec.controls,
    }
