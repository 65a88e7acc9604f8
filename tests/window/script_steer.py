"""Exclude a region while it runs, by dragging a rectangle with the mouse, then press Abort."""

import asyncio

from hands import click, screenshot, shell, until
from nion.swift.model import Graphics
from nion.utils import Geometry


async def run(app, window, out):
    window._document_window.fill_screen()
    panel = window.find_dock_panel("autoexp-panel")
    panel.show()
    await asyncio.sleep(1)
    handler = panel._handler
    experiment = handler.experiment
    controller = handler.experiment._instrument().stem
    before = controller.probe_position
    handler.form.set(points=2000, stride_px=4, agent=4)
    await click(handler.start_button)
    await until(lambda: experiment.status.points >= 5, 60, "five points")
    handler.handle_exclude(None)
    overview = experiment.live.display_item("overview")
    rectangle = next(g for g in overview.graphics if isinstance(g, Graphics.RectangleGraphic))
    await asyncio.sleep(0.5)
    await drag_middle(window, overview, rectangle, dx=80, dy=60)
    engine = experiment.engine
    await until(lambda: engine.state.settings.regions, 10, "the region in the settings")
    await asyncio.sleep(0.5)
    region = engine.state.settings.regions[0]
    seen = len(engine.state.points)
    await until(lambda: experiment.status.points >= seen + 20, 60, "more points")
    later = list(engine.state.points.values())[seen + 1 :]
    inside = [
        p for p in later if region.top < p.position[0] < region.bottom and region.left < p.position[1] < region.right
    ]
    await screenshot(out / "1-excluded.png")
    await click(handler.abort_button)
    await until(lambda: experiment.status.ending and not experiment.running, 20, "the end of the run")
    await asyncio.sleep(0.5)
    await screenshot(out / "2-aborted.png")
    (top, left), _size = rectangle.bounds
    return {
        "excluded_after_drag": not inside and (round(top, 2), round(left, 2)) != (0.35, 0.35),
        "ending": experiment.status.ending,
        "progress": handler.progress_value.value,
        "probe": str(controller.probe_position),
        "probe_before": str(before),
    }


async def drag_middle(window, display_item, rectangle, dx, dy):
    """Drag a rectangle on the displayed overview by its middle."""
    display_panel = next(p for p in window.workspace_controller.display_panels if p.display_item == display_item)
    canvas_item = display_panel.display_canvas_item
    bounds = Geometry.FloatRect.from_tlhw(0, 0, canvas_item.canvas_size.height, canvas_item.canvas_size.width)
    image = Geometry.fit_to_size(bounds, display_item.data_item.data_shape)
    (top, left), (height, width) = rectangle.bounds
    y = int(image.top + (top + height / 2) * image.height)
    x = int(image.left + (left + width / 2) * image.width)
    point = canvas_item.map_to_global(Geometry.IntPoint(y=y, x=x))
    await shell("xdotool", "mousemove", str(point.x), str(point.y), "click", "1")
    await asyncio.sleep(0.3)
    await shell("xdotool", "mousemove", str(point.x), str(point.y), "mousedown", "1")
    for step in range(1, 9):
        await shell("xdotool", "mousemove", str(point.x + dx * step // 8), str(point.y + dy * step // 8))
        await asyncio.sleep(0.05)
    await shell("xdotool", "mouseup", "1")
