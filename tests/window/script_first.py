import asyncio
from hands import click, screenshot, until


async def run(app, window, out):
    window._document_window.fill_screen()
    panel = window.find_dock_panel("autoexp-panel")
    panel.show()
    await asyncio.sleep(1)
    await screenshot(out / "before.png")
    return [p.panel_id for p in window.workspace_controller.dock_panels]
