"""Choose the repeat mode "Autonomous" in Swift's own Acquisition panel and press its Acquire button."""

import asyncio

from hands import screenshot, until


async def run(app, window, out):
    window._document_window.fill_screen()
    panel = window.find_dock_panel("acquisition-panel")
    panel.show()
    await asyncio.sleep(1)
    controller = panel.widget._handler if hasattr(panel.widget, "_handler") else panel.widget.handler
    method = find(controller, "_AcquisitionController__acquisition_method_component")
    handlers = method._component_handler_map
    handler = handlers["autoexp-autonomous"]
    handler.count_model.value = 12
    items = method._combo_box_handler.sorted_items.items
    method._combo_box_handler.selected_index_model.value = items.index(handler)
    await asyncio.sleep(0.5)
    await screenshot(out / "1-mode.png")
    before = set(window.document_model.data_items)
    controller.handle_button(None)
    await until(lambda: any(d.title.startswith("Autonomous") for d in window.document_model.data_items), 30, "data")
    await until(lambda: not controller.is_acquiring_model.value, 60, "the end")
    await asyncio.sleep(1)
    await screenshot(out / "2-acquired.png")
    data_item = next(d for d in window.document_model.data_items if d not in before and d.title.startswith("Autonomous"))
    state = data_item.metadata.get("action_state", data_item.metadata)
    return {"shape": list(data_item.data_shape), "positions": state["autoexp"]["positions"]}


def find(owner, name):
    return getattr(owner, name)
