"""Metal particles on a mixture of two oxides: TiO2 grains and MnO2 nanorods, with core-loss edges.

Titanium and manganese scatter alike, so the oxides look equally bright; their shape tells them apart. Where a metal
particle touches a manganese oxide, Mn(IV) is reduced to Mn(II) within a few nanometres of its rim, the more so the
smaller the particle: the Mn L3 line moves down by 2.6 eV and the L3/L2 ratio doubles (Kurata and Colliex, Phys. Rev. B
48, 2102 (1993); Schmid and Mader, Micron 37, 426 (2006)). The brightest places, the metal itself, hold no manganese.
"""

from __future__ import annotations

import numpy as np

from virtual_stem import eels
from virtual_stem.maps import grain, map_boxes, sample_map
from virtual_stem.specimen import Array, EnergyAxis, Goal, Image, MixtureSpecimen, View
from virtual_stem.specimens.particles import Particles
from virtual_stem.specimens.polygons import Polygon

PIXELS = 1600
FILM = 0.15  # thickness of the carbon film; all thicknesses are in inelastic mean free paths
MEAN_FREE_PATH_NM = 100.0
INTERFACE_NM = 1.6  # decay of the reduction with the distance from a particle's rim
BACKGROUND = 6e-5  # electrons per electron and eV at 456 eV, for unit thickness
PLASMONS = 4  # more at once take part in less than half a percent, up to unit thickness

# HAADF fraction for unit thickness: carbon, TiO2, MnO2, metal
CONTRAST = {"film": 0.08, "titania": 0.17, "mangania": 0.18, "metal": 0.85}


class OxideCatalyst(MixtureSpecimen):
    """Specimen (b): oxide-supported metal particles with a valence change at their interfaces.

    Args:
        seed: the specimen is a function of it.
    """

    name = "catalyst"
    title = "Metal particles on TiO2 grains and MnO2 rods: Ti L, O K and Mn L edges"
    size_nm = 400.0
    axis = EnergyAxis(offset_eV=400.0, dispersion_eV=0.3)
    goal = Goal(
        "reduced manganese: the rims of small metal particles that sit on the rods, not on the grains",
        {
            "kind": "ratio",
            "numerator": {"low_eV": 638.6, "high_eV": 641.3},
            "denominator": {"low_eV": 641.8, "high_eV": 644.5},
        },
    )
    view = View(fov_nm=200.0, pixels=512, exposure_s=0.2)

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng([seed, 5])
        self._titania = _titania(rng, self.size_nm)
        self._mangania = _mangania(rng, self.size_nm)
        metal = _metal(rng, self.size_nm, self._titania + self._mangania)
        self._metal, self._reduced = self._metal_maps(metal)
        self._haadf = self._render(rng)

    def haadf(self, points_nm: Array) -> Array:
        return sample_map(self._haadf, self.size_nm, points_nm)

    def shapes(self, energy_eV: Array) -> Array:
        """One shape for each number of plasmons and each constituent, in that order."""
        dispersion = float(energy_eV[1] - energy_eV[0])
        below = round(150 / dispersion)  # what is scattered into the first channel comes from down here
        extended = energy_eV[0] + dispersion * np.arange(-below, len(energy_eV))
        plasmon = eels.bulk_plasmon(dispersion * np.arange(below), 23.0, 9.0)
        orders = eels.scattered(_constituents(extended), plasmon, PLASMONS, dispersion)
        return np.concatenate(orders)[:, below:]

    def weights(self, points_nm: Array, dose_e_nm2: Array) -> Array:
        titania, mangania, metal, reduced = (
            sample_map(m, self.size_nm, points_nm) for m in (self._titania, self._mangania, self._metal, self._reduced)
        )
        total = FILM + titania + mangania + metal
        oxygen = titania + mangania * (1 - 0.4 * reduced)
        single = np.stack([total, titania, oxygen, mangania * (1 - reduced), mangania * reduced], axis=1)
        plural = eels.poisson_weights(total, PLASMONS)
        return np.asarray(np.einsum("nk,nc->nkc", plural, single).reshape(len(points_nm), -1))

    def _metal_maps(self, metal: Particles) -> tuple[Image, Image]:
        """Thickness of the metal, and how much of the manganese is reduced, 0..1."""
        thickness = np.zeros((PIXELS, PIXELS), np.float32)
        kept = np.ones((PIXELS, PIXELS), np.float32)
        radius = metal.half.mean(axis=1)
        for k, box, distance in metal.outlines(self.size_nm, PIXELS, 4 * INTERFACE_NM):
            thickness[box] += 2 * np.sqrt(np.maximum(-distance * (2 * radius[k] + distance), 0)) / MEAN_FREE_PATH_NM
            strength = 0.2 + 0.8 * np.exp(-(radius[k] - 1.8) / 1.2)
            kept[box] *= 1 - strength * np.exp(-np.abs(distance) / INTERFACE_NM)
        return thickness, 1 - kept

    def _render(self, rng: np.random.Generator) -> Image:
        image = CONTRAST["film"] * FILM * (1 + 0.08 * grain(rng, PIXELS, 2.0))
        image += CONTRAST["titania"] * self._titania + CONTRAST["mangania"] * self._mangania
        image += CONTRAST["metal"] * self._metal
        return np.asarray(image, np.float32)


def _constituents(energy_eV: Array) -> Array:
    """Singly scattered spectra (5, E): background, Ti L, O K, Mn(IV) L, Mn(II) L; for unit thickness."""
    background = BACKGROUND * eels.power_law(energy_eV, [1.0], [3.0], at_eV=456.0)[0]
    titanium = eels.lines(energy_eV, [457.8, 459.9, 463.2, 465.4], [1.1, 1.3, 1.6, 2.0], [1.1, 1.5, 0.7, 1.0])
    titanium += 0.35 * eels.edge(energy_eV, [462.0], exponent=3.0, rise_eV=2.0)[0]
    oxygen = eels.lines(energy_eV, [531.0, 533.6, 540.0, 545.5], [1.6, 1.9, 4.5, 5.5], [0.9, 0.75, 0.55, 0.4])
    oxygen += 0.45 * eels.edge(energy_eV, [536.5], exponent=3.2, rise_eV=2.5)[0]
    step = 0.30 * eels.edge(energy_eV, [648.0], exponent=3.0, rise_eV=2.5)[0]
    mn4 = eels.lines(energy_eV, [642.8, 653.8], [2.4, 3.0], [2.2, 1.1]) + step
    mn2 = eels.lines(energy_eV, [640.2, 651.4], [1.8, 2.6], [3.6, 0.9]) + step
    scale = BACKGROUND * (456.0 / np.array([456.0, 532.0, 640.0, 640.0])) ** 3.0
    return np.concatenate([background[None], scale[:, None] * np.stack([titanium, oxygen, mn4, mn2])])


def _titania(rng: np.random.Generator, size_nm: float) -> Image:
    """Thickness map of faceted grains with bevelled rims; where two overlap, both count."""
    centre = _clustered(rng, 46, size_nm)
    grains = [Polygon.irregular(rng, c, rng.uniform(13, 29), 6, rng.uniform(0, 2 * np.pi)) for c in centre]
    thickness = np.zeros((PIXELS, PIXELS), np.float32)
    for k, box, points in map_boxes(centre, np.array([g.reach for g in grains]), size_nm, PIXELS):
        height = float(grains[k].apothem.min())
        depth = -grains[k].distance(points)[0]
        thickness[box] += height / MEAN_FREE_PATH_NM * np.clip(depth / 9.0, 0, 1) ** 0.8
    return thickness


def _mangania(rng: np.random.Generator, size_nm: float) -> Image:
    """Thickness map of rods, as high as they are wide."""
    n = 34
    half = np.stack([rng.uniform(35, 75, n), rng.uniform(7, 12, n)], axis=1)
    rods = Particles(_clustered(rng, n, size_nm), half, np.full(n, 1.5), rng.uniform(0, np.pi, n))
    thickness = np.zeros((PIXELS, PIXELS), np.float32)
    for k, box, distance in rods.outlines(size_nm, PIXELS, 0.0):
        thickness[box] += 1.4 * half[k, 1] / MEAN_FREE_PATH_NM * np.clip(-distance / 5.0, 0, 1) ** 0.8
    return thickness


def _clustered(rng: np.random.Generator, n: int, size_nm: float) -> Array:
    """Places (n, 2) spread evenly enough that crystals overlap here and there and leave some film bare."""
    side = int(np.ceil(np.sqrt(n)))
    cells = rng.permutation(side * side)[:n]
    corner = np.stack(np.divmod(cells, side), axis=1)
    return ((corner + rng.uniform(-0.2, 1.2, (n, 2))) / side - 0.5) * size_nm


def _metal(rng: np.random.Generator, size_nm: float, oxide: Image) -> Particles:
    """Small particles, most of them on oxide, some on the bare film."""
    n = 420
    tried = rng.uniform(-0.49, 0.49, (3 * n, 2)) * size_nm
    on_oxide = sample_map(oxide, size_nm, tried) > 0.04
    centre = tried[on_oxide | (rng.random(3 * n) < 0.08)][:n]
    n = len(centre)
    radius = np.clip(rng.lognormal(np.log(2.6), 0.32, n), 1.6, 6.0)
    half = radius[:, None] * rng.uniform(0.88, 1.12, (n, 2))
    return Particles(centre, half, 0.8 * half.min(axis=1), rng.uniform(0, np.pi, n))
