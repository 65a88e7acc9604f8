import asyncio
from hands import click, screenshot, until


async def run(app, window, out):
    window._document_window.fill_screen()
    panel = window.find_dock_panel("autoexp-panel")
    panel.show()
    await asyncio.sleep(1)
    handler = panel._handler
    await click(handler.start_button)
    await until(lambda: "completed" in handler.status_model.value, 30, "the run")
    await asyncio.sleep(1)
    await screenshot(out / "first.png")
    return handler.status_model.value
