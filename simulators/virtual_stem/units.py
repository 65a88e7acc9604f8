"""What the units of an axis mean: one place for files, for Swift's items, and for frames of a live camera."""

from __future__ import annotations

import unicodedata

ELECTRONVOLTS = {"eV": 1.0, "meV": 1e-3, "keV": 1e3, "MeV": 1e6, "µeV": 1e-6, "ueV": 1e-6}
NANOMETRES = {"pm": 1e-3, "Å": 0.1, "A": 0.1, "nm": 1.0, "µm": 1e3, "um": 1e3, "mm": 1e6, "m": 1e9}
WORDS = {
    "electronvolt": "eV",
    "electronvolts": "eV",
    "electron volt": "eV",
    "electron volts": "eV",
    "angstrom": "Å",
    "angstroms": "Å",
    "ångström": "Å",
    "nanometer": "nm",
    "nanometers": "nm",
    "nanometre": "nm",
    "nanometres": "nm",
    "micron": "µm",
    "microns": "µm",
}


def electronvolts(units: object) -> float | None:
    """How many eV one of these units is; None where they are no energy.

    Spaces around them and the case of the letters do not matter, but ``meV`` and ``MeV`` are what they say.

    >>> electronvolts(" ev"), electronvolts("KEV"), electronvolts("channels")
    (1.0, 1000.0, None)
    """
    return _factor(units, ELECTRONVOLTS)


def nanometres(units: object) -> float | None:
    """How many nm one of these units is; None where they are no length.

    >>> nanometres("µm"), nanometres("Å"), nanometres("eV")
    (1000.0, 0.1, None)
    """
    return _factor(units, NANOMETRES)


def _factor(units: object, known: dict[str, float]) -> float | None:
    if not isinstance(units, str):
        return None
    name = unicodedata.normalize("NFKC", units).strip().replace("μ", "µ")  # a Greek mu, and the sign for micro
    name = WORDS.get(name.lower(), name)
    if name in known:
        return known[name]
    alike = {factor for spelling, factor in known.items() if spelling.lower() == name.lower()}
    if len(alike) == 2 and name == name.lower():  # mev: nobody means mega where energy losses are measured
        return min(alike)
    return alike.pop() if len(alike) == 1 else None
