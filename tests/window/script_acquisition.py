"""Choose the repeat mode "Autonomous" in Swift's own Acquisition panel and press its Acquire button."""

import asyncio
import gc

from hands import screenshot, until

from nionswift_plugin.nion_instrumentation_ui import AcquisitionPanel


async def run(app, window, out):
    window._document_window.fill_screen()
    panel = window.find_dock_panel("acquisition-panel")
    panel.show()
    await asyncio.sleep(1)
    # Swift keeps its handlers to itself
    controller = next(o for o in gc.get_objects() if isinstance(o, AcquisitionPanel.AcquisitionController))
    method = controller._AcquisitionController__acquisition_method_component
    handlers = method._component_handler_map
    handler = handlers["autoexp-autonomous"]
    handler.count_model.value = 12
    items = method._combo_box_handler.sorted_items.items
    method._combo_box_handler.selected_index_model.value = items.index(handler)
    controller.acquisition_mode_model.value = "camera"
    await asyncio.sleep(0.5)
    configuration = AcquisitionPanel.acquisition_configuration
    camera = next(c for c in configuration.acquisition_device_components if c.entity_type.entity_id[-6:] == "camera")
    camera.camera_device_id, camera.camera_channel_id = "virtual_stem_eels", "eels_spectrum"
    await asyncio.sleep(0.5)
    await screenshot(out / "1-mode.png")
    before = set(window.document_model.data_items)
    controller.handle_button(None)
    await until(lambda: any(d.title.startswith("Autonomous") for d in window.document_model.data_items), 30, "data")
    await until(lambda: not controller.is_acquiring_model.value, 60, "the end")
    await asyncio.sleep(1)
    await screenshot(out / "2-acquired.png")
    data_item = next(
        d for d in window.document_model.data_items if d not in before and d.title.startswith("Autonomous")
    )
    return {"shape": list(data_item.data_shape), "positions": data_item.metadata["autoexp"]["positions"]}
