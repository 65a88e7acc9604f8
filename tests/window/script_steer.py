"""Exclude a region while it runs, by dragging a rectangle with the mouse, then press Abort."""

import asyncio

from hands import click, screenshot, shell, until
from nion.swift.model import Graphics
from nion.utils import Geometry

from autoexp import events as ev


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
    await click(handler.exclude_button)
    overview = experiment.live.display_item("overview")
    await draw(window, overview, (0.2, 0.3), (0.6, 0.7))
    engine = experiment.engine
    await until(lambda: engine.state.settings.regions, 10, "the region in the settings")
    await asyncio.sleep(0.5)
    region = engine.state.settings.regions[0]
    (rectangle,) = (g for g in overview.graphics if isinstance(g, Graphics.RectangleGraphic))
    drawn = len([r for r in engine.records if isinstance(r.event, ev.Steered)])
    await drag_middle(window, overview, rectangle, dx=30, dy=20)
    await until(lambda: engine.state.settings.regions[0] != region, 10, "the moved region in the settings")
    await asyncio.sleep(0.5)
    dragged = len([r for r in engine.records if isinstance(r.event, ev.Steered)]) - drawn
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
        "excluded_after_drag": not inside and abs(top - region.top) < 1e-6 and abs(left - region.left) < 1e-6,
        "changes": [drawn, dragged],
        "ending": experiment.status.ending,
        "progress": handler.progress_value.value,
        "probe": str(controller.probe_position),
        "probe_before": str(before),
    }


def on_screen(window, display_item, places):
    """Where places (y, x) of a displayed overview, fractions of it, are on the screen."""
    display_panel = next(p for p in window.workspace_controller.display_panels if p.display_item == display_item)
    canvas_item = display_panel.display_canvas_item
    bounds = Geometry.FloatRect.from_tlhw(0, 0, canvas_item.canvas_size.height, canvas_item.canvas_size.width)
    image = Geometry.fit_to_size(bounds, display_item.data_item.data_shape)
    points = [
        Geometry.IntPoint(int(image.top + y * image.height), int(image.left + x * image.width)) for y, x in places
    ]
    return [canvas_item.map_to_global(point) for point in points]


async def drag(start, end):
    """Press the button at one point of the screen, move, and release it at another."""
    await shell("xdotool", "mousemove", str(start.x), str(start.y), "mousedown", "1")
    for step in range(1, 9):
        x, y = (a + (b - a) * step // 8 for a, b in ((start.x, end.x), (start.y, end.y)))
        await shell("xdotool", "mousemove", str(x), str(y))
        await asyncio.sleep(0.15)
    await shell("xdotool", "mouseup", "1")


async def draw(window, display_item, start, end):
    """Draw on the displayed overview from one place to another."""
    await asyncio.sleep(0.3)
    await drag(*on_screen(window, display_item, (start, end)))


async def drag_middle(window, display_item, rectangle, dx, dy):
    """Drag a rectangle on the displayed overview by its middle."""
    (top, left), (height, width) = rectangle.bounds
    (point,) = on_screen(window, display_item, [(top + height / 2, left + width / 2)])
    await shell("xdotool", "mousemove", str(point.x), str(point.y), "click", "1")
    await asyncio.sleep(0.3)
    await drag(point, Geometry.IntPoint(point.y + dy, point.x + dx))
