import asyncio
from hands import click, screenshot, until


async def run(app, window, out):
    window._document_window.fill_screen()
    panel = window.find_dock_panel("autoexp-panel")
    panel.show()
    await asyncio.sleep(1)
    handler = panel._handler
    await click(handler.overview_button)
    await until(lambda: handler.experiment.taken, 30, "overview")
    await asyncio.sleep(1)
    handler.handle_exclude(None)
    await asyncio.sleep(1)
    await screenshot(out / "before.png")
    await click(handler.start_button)
    await asyncio.sleep(3)
    await screenshot(out / "during.png")
    return [str(handler.experiment.status), handler.experiment.message, handler.experiment.running]
