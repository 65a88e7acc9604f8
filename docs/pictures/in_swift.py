"""What a person does in Swift for the pictures of the documentation; runs inside Swift, called by ``make.py``."""

import asyncio
import gc

from hands import click, screenshot, shell, until
from nion.swift.model import Graphics
from nion.utils import Geometry, Registry

from nionswift_plugin.nion_instrumentation_ui import AcquisitionPanel

WINDOW = [9, 9, 1643, 1126]  # Swift's window on the screen, with its frame


async def run(app, window, out):
    pictures = Pictures(window, out)
    await pictures.fit_window()
    panel = window.find_dock_panel("autoexp-panel")
    panel.show()
    handler = panel._handler
    experiment = handler.experiment
    await until(lambda: experiment.unfinished, 20, "the unfinished run")
    await asyncio.sleep(1)
    await pictures.take("unfinished", panel.widget)
    handler.handle_discard_run(None)
    await asyncio.sleep(1.5)

    await click(handler.overview_button)
    await until(lambda: experiment.taken is not None and not experiment.busy, 30, "the overview")
    await asyncio.sleep(1)
    await pictures.take("overview")

    await click(handler.start_button)
    await until(lambda: experiment.status.points >= 34, 60, "some points")
    await pictures.take("running", panel.widget)
    await until(lambda: experiment.status.ending and not experiment.running, 60, "the end of the run")
    await asyncio.sleep(1.5)
    await pictures.take("panel")

    await steer(handler, pictures)
    await align(window, pictures)
    await preferences(window, pictures)
    await repeat_mode(window, pictures)
    return pictures.rectangles


async def steer(handler, pictures):
    """A second run, in which the operator excludes a part and asks for two points."""
    experiment = handler.experiment
    handler.form.set(points=400)
    await click(handler.start_button)
    await until(lambda: experiment.status.points >= 15, 60, "the second run")
    overview = experiment.live.display_item("overview")
    rectangle = Graphics.RectangleGraphic()
    rectangle.bounds, rectangle.label = ((0.60, 0.24), (0.34, 0.30)), "exclude"
    overview.add_graphic(rectangle)
    for place in ((0.33, 0.30), (0.34, 0.74)):
        point = Graphics.PointGraphic()
        point.position = place
        point.label = "next"
        overview.add_graphic(point)
    await until(lambda: not experiment.engine.state.requests, 20, "the points that were asked for")
    await until(lambda: experiment.status.points >= 34, 60, "some more points")
    await click(handler.pause_button)
    await until(lambda: experiment.status.phase == "paused", 20, "the pause")
    await asyncio.sleep(1)
    await pictures.take("steer")
    await click(handler.stop_button)
    await until(lambda: experiment.status.ending and not experiment.running, 20, "the end of the second run")


async def align(window, pictures):
    """The beam is centred, from somewhere else."""
    stem = Registry.get_component("stem_controller")
    for name, value in (("CAperture.y", 0.03), ("CAperture.x", -0.035)):
        stem.SetVal(name, value)
    panel = window.find_dock_panel("autoexp-alignment-panel")
    panel.show()
    await asyncio.sleep(1)
    alignment = panel._handler.alignment
    await click(panel._handler.align_button)
    await until(lambda: alignment.busy, 5, "the alignment to begin")
    await until(lambda: not alignment.busy, 30, "the end of the alignment")
    await asyncio.sleep(1.5)
    await pictures.take("align")


async def preferences(window, pictures):
    """The page in Swift's preferences."""
    window.open_preferences()
    await asyncio.sleep(1.5)
    frame = (await shell("xdotool", "search", "--name", "Preferences")).stdout.split()[-1]
    await shell("xdotool", "windowactivate", "--sync", frame)
    await shell("xdotool", "windowsize", "--sync", frame, "820", "340")
    await shell("xdotool", "windowmove", frame, "400", "400")
    await asyncio.sleep(0.7)
    left, top, width, height = await frame_rectangle(frame)
    await press(left + 84, top + 102)  # the last page of the list at the left
    await pictures.take("preferences")
    pictures.rectangles["preferences"] = [left, top - 18, width, height + 18]
    await press(left + width - 55, top + height - 17)  # Done


async def frame_rectangle(frame):
    """Left, top, width and height of a window without its frame."""
    told = (await shell("xdotool", "getwindowgeometry", "--shell", frame)).stdout
    given = dict(line.split("=") for line in told.split())
    # xdotool counts the height of the title bar twice
    return int(given["X"]), int(given["Y"]) - 22, int(given["WIDTH"]), int(given["HEIGHT"])


async def press(x, y):
    """Click on a place of the screen."""
    await shell("xdotool", "mousemove", str(x), str(y), "click", "1")
    await asyncio.sleep(0.7)


async def repeat_mode(window, pictures):
    """The repeat mode in Swift's own Acquisition panel."""
    panel = window.find_dock_panel("acquisition-panel")
    panel.show()
    await asyncio.sleep(1)
    # Swift keeps its handlers to itself
    controller = next(o for o in gc.get_objects() if isinstance(o, AcquisitionPanel.AcquisitionController))
    method = controller._AcquisitionController__acquisition_method_component
    handler = method._component_handler_map["autoexp-autonomous"]
    items = method._combo_box_handler.sorted_items.items
    method._combo_box_handler.selected_index_model.value = items.index(handler)
    controller.acquisition_mode_model.value = "camera"
    await asyncio.sleep(0.5)
    configuration = AcquisitionPanel.acquisition_configuration
    camera = next(c for c in configuration.acquisition_device_components if c.entity_type.entity_id[-6:] == "camera")
    camera.camera_device_id, camera.camera_channel_id = "virtual_stem_eels", "eels_spectrum"
    await asyncio.sleep(1)
    await pictures.take("acquisition", panel.widget)


class Pictures:
    """Takes screenshots, and remembers where on them the wanted part is.

    Args:
        window: Swift's window.
        out: folder of the screenshots.
    """

    def __init__(self, window, out):
        self._window = window
        self._out = out
        self.rectangles = {}

    async def fit_window(self):
        """Make the window a little smaller than the screen, so that its frame is on it too."""
        self._window._document_window.fill_screen()
        await asyncio.sleep(1)
        listed = await shell("xdotool", "search", "--name", "Nion Swift")
        for frame in listed.stdout.split():
            await shell("xdotool", "windowsize", frame, "1640", "1100")
            await shell("xdotool", "windowmove", frame, "10", "30")
        await asyncio.sleep(1)

    async def take(self, name, widget=None):
        """A screenshot of which a widget is wanted, or the whole window."""
        await screenshot(self._out / f"{name}.png")
        self.rectangles[name] = WINDOW if widget is None else _rectangle(widget)


def _rectangle(widget):
    """Left, top, width and height of a widget on the screen."""
    corner, size = widget.map_to_global(Geometry.IntPoint()), widget.size
    return [corner.x, corner.y, size.width, size.height]
