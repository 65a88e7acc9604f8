"""The specimens that come with the virtual microscope, and recorded ones."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from virtual_stem.specimen import Specimen
from virtual_stem.specimens.catalyst import OxideCatalyst
from virtual_stem.specimens.files import READERS
from virtual_stem.specimens.flake import LayeredFlake
from virtual_stem.specimens.plasmonic import PlasmonicParticles
from virtual_stem.specimens.rare import RareContacts
from virtual_stem.specimens.recorded import RecordedSpecimen

SPECIMENS: dict[str, Callable[[int], Specimen]] = {
    "plasmonic": PlasmonicParticles,
    "catalyst": OxideCatalyst,
    "flake": LayeredFlake,
    "rare": RareContacts,
}


def make_specimen(name: str, seed: int = 0) -> Specimen:
    """The named specimen, as a function of ``seed``, or the recorded one of the file or folder of that path.

    Raises:
        ValueError: there is no such specimen and no such file, or the file cannot be used; the message says which.
    """
    if name in SPECIMENS:
        return SPECIMENS[name](seed)
    path = pathlib.Path(name).expanduser()
    if path.exists():
        return RecordedSpecimen.read(path)
    raise ValueError(
        f"There is no specimen named {name!r}, and no such file. Choose one of {', '.join(sorted(SPECIMENS))}, "
        f"or a recorded spectrum image ({', '.join(sorted(READERS))})."
    )
