"""The specimens that come with the virtual microscope."""

from __future__ import annotations

from collections.abc import Callable

from virtual_stem.specimen import Specimen
from virtual_stem.specimens.catalyst import OxideCatalyst
from virtual_stem.specimens.flake import LayeredFlake
from virtual_stem.specimens.plasmonic import PlasmonicParticles
from virtual_stem.specimens.rare import RareContacts

SPECIMENS: dict[str, Callable[[int], Specimen]] = {
    "plasmonic": PlasmonicParticles,
    "rare": RareContacts,
    "catalyst": OxideCatalyst,
    "flake": LayeredFlake,
}


def make_specimen(name: str, seed: int = 0) -> Specimen:
    """The named specimen, as a function of ``seed``.

    Raises:
        ValueError: there is no such specimen.
    """
    if name not in SPECIMENS:
        raise ValueError(f"There is no specimen named {name!r}. Choose one of: {', '.join(sorted(SPECIMENS))}.")
    return SPECIMENS[name](seed)
