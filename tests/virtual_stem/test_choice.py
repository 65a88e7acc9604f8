"""What is taken of a file that holds several things: chosen by what they are, or asked for."""

from __future__ import annotations

import numpy as np
import pytest

from virtual_stem.recordings import Axis, RecordingError, Signal
from virtual_stem.recordings.choice import choose, choose_image, describe
from virtual_stem.recordings.dead_pixels import mended, mended_image
from virtual_stem.units import electronvolts, nanometres

EV = Axis(400.0, 0.5, "eV")


def nm(step):
    return Axis(scale=step, units="nm")


def a_map(side=4, channels=30, energy=EV, step=1.0, **about):
    return Signal(np.ones((side, side, channels)), (nm(step), nm(step), energy), datum=1, **about)


def an_image(side=8, step=0.5, **about):
    axis = nm(step) if step else Axis()
    return Signal(np.ones((side, side)), (axis, axis), datum=2, **about)


def test_energy_losses_come_before_what_is_larger():
    losses = a_map(kind="EELS")
    assert choose([a_map(channels=500, energy=Axis(0, 0.01, "keV"), kind="EDS_TEM"), losses]).cube.data is losses.data
    assert choose([a_map(side=9, energy=Axis(0, 1, "mrad")), a_map()]).cube.data.shape == (4, 4, 30)


def test_what_may_be_meant_twice_is_asked_for():
    signals = [a_map(name="low loss"), an_image(), a_map(name="core loss")]
    with pytest.raises(RecordingError, match=r"2 maps.*1: .*\(low loss\); 3: .*\(core loss\); choose with --signal"):
        choose(signals)
    chosen = choose(signals, [3])
    assert chosen.cube.name == "core loss"
    assert chosen.image is not None
    for number in (0, 4):
        with pytest.raises(RecordingError, match=f"signal {number} of it"):
            choose(signals, [number])


def test_an_image_of_another_field_is_not_the_overview():
    chosen = choose([a_map(), an_image(side=512, step=0.5, name="survey")])
    assert chosen.image is None
    assert "'survey' shows 256 × 256 nm, the map 4 × 4 nm" in chosen.notes[0]
    small = an_image(name="small")
    assert choose([a_map(), an_image(side=512), small]).image.name == "small"


def test_an_image_of_an_unknown_field_is_taken_and_that_is_said():
    chosen = choose([a_map(), an_image(step=None)])
    assert chosen.image is not None
    assert "not known" in chosen.notes[0]
    assert choose([a_map(), an_image(step=None), an_image(name="known")]).image.name == "known"


def test_of_several_images_the_dark_field_is_taken_or_it_is_asked():
    dark = an_image(name="HAADF image")
    assert choose([a_map(), an_image(name="BF"), dark]).image.name == "HAADF image"
    with pytest.raises(RecordingError, match="2 images"):
        choose([a_map(), an_image(name="A"), an_image(name="B")])
    assert choose([a_map(), an_image(name="A"), an_image(name="B")], [3]).image.name == "B"
    assert choose([a_map(), an_image(), an_image()], with_image=False).image is None


@pytest.mark.parametrize(
    ("shape", "about", "said"),
    [
        ((24, 241), {"datum": 1}, "a line of 24 spectra with 241 channels in eV"),
        ((241, 12, 12), {"datum": 2}, "a stack of 241 images of 12 × 12 pixels"),
        ((24, 24, 241), {"datum": 2, "sequence": True}, "a sequence of 24 images of 24 × 241 pixels"),
        ((24, 241), {"datum": 1, "sequence": True}, "a sequence of 24 spectra with 241 channels in eV"),
        ((2, 12, 12, 241), {"datum": 1}, "a series of 2 × 12 × 12 spectra with 241 channels in eV"),
        ((12, 12, 16, 16), {"datum": 2}, "a map of 12 × 12 images of 16 × 16 pixels"),
        ((241,), {"datum": 1}, "a spectrum with 241 channels in eV"),
        ((3, 3, 3), {}, "an array of 3 × 3 × 3"),
    ],
)
def test_what_is_no_map_is_called_what_it_is(shape, about, said):
    signal = Signal(np.ones(shape), (*(nm(1.0) for _ in shape[1:]), EV), **about)
    assert describe(signal) == said
    if about:
        with pytest.raises(RecordingError, match=f"it holds {said}; a map of spectra"):
            choose([signal])
        with pytest.raises(RecordingError, match="an image"):
            choose_image([signal])


def test_dimensions_of_one_step_are_none():
    lone = Signal(np.ones((1, 4, 5, 30)), (Axis(), nm(1.0), nm(1.0), EV), datum=1)
    assert choose([lone]).cube.data.shape == (4, 5, 30)
    single = Signal(np.ones((1, 6, 7)), (Axis(), nm(1.0), nm(1.0)), datum=2, sequence=True)
    assert choose_image([single]).data.shape == (6, 7)
    assert choose([a_map(side=1)]).cube.data.shape == (1, 1, 30)


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        *[(units, 1.0) for units in ("eV", "ev", "EV", " eV ", "electronvolts", "Electron volt")],
        *[(units, 1e3) for units in ("keV", "kev", "KeV", "KEV")],
        *[(units, 1e-3) for units in ("meV", "mev")],
        ("MeV", 1e6),
        *[(units, None) for units in ("MEV", "", "nm", "channels", "e", "V", "eV/ch", None, 3)],
        *[(units, 1e-6) for units in ("µeV", "μeV", "ueV")],
    ],
)
def test_units_of_energy(units, factor):
    assert electronvolts(units) == factor


def test_units_of_length():
    assert [nanometres(u) for u in ("nm", "NM", "Å", "A", "pm", "µm", "μm", "um", "Angstrom")] == [
        *(1.0, 1.0, 0.1, 0.1, 1e-3, 1e3, 1e3, 1e3, 0.1)
    ]
    assert [nanometres(u) for u in ("", "px", "eV", None)] == [None] * 4


def test_dead_places_and_channels():
    data = np.arange(4 * 5 * 6, dtype=float).reshape(4, 5, 6)
    spoiled = data.copy()
    spoiled[:, :, 2] = np.nan
    spoiled[1, 3] = np.inf
    found, dead, notes = mended(spoiled)
    assert np.isfinite(found).all()
    assert dead.sum() == 1
    assert dead[1, 3]
    assert np.allclose(found[0, 0], data[0, 0])  # a straight line is what lies between
    assert len(notes) == 2
    assert np.isnan(spoiled).any()  # what was given is not changed
    assert mended(data)[0] is data
    image, said = mended_image(spoiled[:, :, 0])
    assert np.isfinite(image).all()
    assert "1 pixels" in said[0]
    assert mended(np.full((2, 2, 3), np.nan))[1].all()
