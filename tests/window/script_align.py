"""Open the alignment panel, press Look, Align, Undo, Align and Accept with the mouse, look at every step."""

import asyncio
import json
import os

from hands import click, screenshot, until
from nion.utils import Registry

PAIR = ("AlignY", "AlignX")
HIDDEN = ((0.43, 0.95), (0.88, -0.4))
AWAY = (0.03, -0.035)


def connect_hidden_controls():
    """To Nion's simulator: an aperture, and two controls that act on its deflectors by a turned, mirrored matrix."""
    from autoexp.swift import preferences
    from autoexp.testing.hidden import HiddenControls

    stem = Registry.get_component("stem_controller")
    HiddenControls(stem, PAIR).connect(HIDDEN)
    site = preferences.path().parent / "limits"
    site.mkdir(parents=True)
    limits = {"controls": {name: {"low": -0.2, "high": 0.2} for name in PAIR}}
    (site / f"{stem.instrument_id}.json").write_text(json.dumps(limits))
    preferences.save(preferences.Preferences(site_folder=str(site)))
    return PAIR


async def run(app, window, out):
    window._document_window.fill_screen()
    stem = Registry.get_component("stem_controller")
    pair = ("CAperture.y", "CAperture.x") if os.environ["AUTOEXP_VIRTUAL_STEM"] else connect_hidden_controls()
    for name, value in zip(pair, AWAY, strict=True):
        stem.SetVal(name, value)
    before = [stem.TryGetVal(name)[1] for name in pair]
    window.find_dock_panel("autoexp-panel").show()
    await asyncio.sleep(0.5)
    panel = window.find_dock_panel("autoexp-alignment-panel")
    panel.show()  # comes to the front of the other
    await asyncio.sleep(1)
    handler = panel._handler
    alignment = handler.alignment
    handler.form.set(tolerance_px=1.0)

    async def press(button, what):
        await until(lambda: not alignment.busy, 30, "the end of what was done before")
        await asyncio.sleep(0.3)
        await click(button)
        await until(lambda: alignment.busy, 5, f"{what} to begin")
        await until(lambda: not alignment.busy, 30, f"the end of {what}")
        await asyncio.sleep(1)

    await press(handler.look_button, "Look")
    looked = alignment.looks[-1].residual_px
    await screenshot(out / "1-looked.png")
    await press(handler.align_button, "Align")
    first = [look.residual_px for look in alignment.looks]
    found = alignment.found
    centred = [stem.TryGetVal(name)[1] for name in pair]
    await screenshot(out / "2-aligned.png")
    texts = {name: getattr(handler.texts, name).value for name in ("headline", "residual", "response", "limits")}
    await press(handler.undo_button, "Undo")
    undone = [stem.TryGetVal(name)[1] for name in pair]
    await screenshot(out / "3-undone.png")
    await press(handler.align_button, "Align again")
    again = [look.residual_px for look in alignment.looks]
    await click(handler.accept_button)
    await until(lambda: not alignment.entry, 5, "Accept")
    await asyncio.sleep(0.5)
    await screenshot(out / "4-accepted.png")
    titles = [d.title for d in window.document_model.data_items]
    frame = next(d for d in window.document_model.display_items if d.title.startswith("Beam alignment"))
    return {
        "looked": looked,
        "first": first,
        "success": found.success,
        "mirrored": found.response.mirrored,
        "rotation_deg": found.response.rotation_deg,
        "before": before,
        "centred": centred,
        "undone": undone,
        "again": again,
        "accepted": handler.texts.headline.value,
        "kept": [stem.TryGetVal(name)[1] for name in pair],
        "texts": texts,
        "titles": titles,
        "graphics": [g.graphic_id for g in frame.graphics],
        "controls": handler.form.value("controls"),
    }
