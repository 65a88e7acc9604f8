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

    Where a file holds several maps, ``session.hspy#2`` is the second of its signals.

    Raises:
        ValueError: there is no such specimen and no such file, or the file cannot be used; the message says which.
    """
    if name in SPECIMENS:
        return SPECIMENS[name](seed)
    path, number = _numbered(name)
    if path.exists():
        return RecordedSpecimen.read(path, number)
    raise ValueError(
        f"There is no specimen named {name!r}, and no such file. Choose one of {', '.join(sorted(SPECIMENS))}, "
        f"or a recorded spectrum image ({', '.join(sorted(READERS))})."
    )


def _numbered(name: str) -> tuple[pathlib.Path, int | None]:
    """A path, and the number of the signal that is meant, where one follows."""
    path = pathlib.Path(name).expanduser()
    head, mark, number = name.rpartition("#")
    if mark and number.isascii() and number.isdigit() and len(number) < 10 and not path.exists():
        return pathlib.Path(head).expanduser(), int(number)
    return path, None
