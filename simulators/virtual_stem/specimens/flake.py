"""A beam-sensitive layered flake, in the manner of MnPS3: terraces, steps, folds, bulk and edge plasmons.

Crystal steps run along two kinds of direction, 30 degrees apart. Only the one kind (zigzag) carries the bright edge
plasmon, the stronger the higher the step; the other kind (armchair) and folds have modes of their own. In HAADF both
kinds of step look alike but for their direction, and brightness tells the number of layers alone. (Edge and bulk
plasmons of MnPS3, found by an autonomous STEM-EELS experiment: Roccapriore et al., Advanced Science 9, 2203422 (2022).)

Under the beam the crystal turns amorphous: with the dose the edge modes fade and the bulk plasmon broadens and moves,
both exponentially, as radiolysis does (Egerton, Li and Malac, Micron 35, 399 (2004)).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from virtual_stem import eels
from virtual_stem.maps import grain, map_boxes, sample_map
from virtual_stem.specimen import Array, EnergyAxis, Goal, Image, MixtureSpecimen, View
from virtual_stem.specimens.polygons import Polygon

PIXELS = 1536
SOURCE_FWHM_EV = 0.35
LAYER = 0.085  # thickness of one layer, in inelastic mean free paths
FILM = 0.05  # of the supporting film
EDGE_NM = 5.0  # decay of the edge modes with the distance from their step
CRITICAL_DOSE_E_NM2 = 1.2e7
PLASMONS = 4  # at once, at most


class LayeredFlake(MixtureSpecimen):
    """Specimen (c): a layered flake whose spectrum bleaches with accumulated dose.

    Args:
        seed: the specimen is a function of it.
    """

    name = "flake"
    title = "Beam-sensitive layered flake with terraces, folds, bulk and edge plasmons"
    size_nm = 600.0
    axis = EnergyAxis(offset_eV=-5.0, dispersion_eV=0.05)
    goal = Goal(
        "high zigzag steps, which carry the edge plasmon; spectra bleach, so each place counts once",
        {"kind": "window", "low_eV": 5.6, "high_eV": 7.4},
    )
    view = View(fov_nm=400.0, pixels=512, exposure_s=0.02, dwell_us=2.0)

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng([seed, 6])
        shape = PIXELS, PIXELS
        self._layers, self._zigzag, self._armchair, self._fold = (np.zeros(shape, np.float32) for _ in range(4))
        for polygon, layers in _terraces(rng, self.size_nm):
            self._add_terrace(polygon, layers)
        self._add_folds(rng)
        image = 0.006 * (1 + 0.25 * grain(rng, PIXELS, 2.0)) + 0.016 * self._layers
        self._haadf: Image = ndimage.gaussian_filter(image, 0.4 * PIXELS / self.size_nm)

    def haadf(self, points_nm: Array) -> Array:
        return sample_map(self._haadf, self.size_nm, points_nm)

    def shapes(self, energy_eV: Array) -> Array:
        """Zero loss to four bulk plasmons, a damaged bulk plasmon, three localised modes, excitations of the film."""
        dispersion = float(energy_eV[1] - energy_eV[0])
        below = max(0, int(np.ceil((energy_eV[0] + 10.0) / dispersion)))  # scattering begins at the zero-loss peak
        extended = energy_eV[0] + dispersion * np.arange(-below, len(energy_eV))
        elastic = eels.zero_loss(extended, SOURCE_FWHM_EV)[None]
        bulk = eels.bulk_plasmon(dispersion * np.arange(len(extended)), 19.4, 4.2)
        orders = np.concatenate(eels.scattered(elastic, bulk, PLASMONS, dispersion))[:, below:]
        single = [
            eels.bulk_plasmon(energy_eV, 22.5, 11.0),
            0.020 * eels.lorentzian(energy_eV, [6.5], 1.3)[0],
            0.012 * eels.lorentzian(energy_eV, [9.1], 1.6)[0],
            0.010 * eels.lorentzian(energy_eV, [12.4], 2.4)[0],
            eels.bulk_plasmon(energy_eV, 24.0, 14.0),
        ]
        gapped = np.stack(single) / (1 + np.exp(-(energy_eV - 2.6) / 0.25))
        return np.concatenate([orders, gapped])

    def weights(self, points_nm: Array, dose_e_nm2: Array) -> Array:
        layers, zigzag, armchair, fold = (
            sample_map(m, self.size_nm, points_nm) for m in (self._layers, self._zigzag, self._armchair, self._fold)
        )
        intact = np.exp(-dose_e_nm2 / CRITICAL_DOSE_E_NM2)
        crystal = LAYER * layers
        bulk = np.exp(-FILM) * eels.poisson_weights(crystal, PLASMONS)
        bulk[:, 1:] *= intact[:, None]
        modes = np.stack([zigzag, armchair, fold], axis=1) * intact[:, None]
        damaged = crystal * (1 - intact)
        return np.concatenate([bulk, damaged[:, None], modes, np.full((len(layers), 1), FILM)], axis=1)

    def _add_terrace(self, polygon: Polygon, layers: int) -> None:
        """Add a terrace and the modes of its steps; sides take turns to be zigzag and armchair."""
        reach = np.array([polygon.reach + 6 * EDGE_NM])
        for _, box, points in map_boxes(polygon.centre[None], reach, self.size_nm, PIXELS):
            distance, side = polygon.distance(points)
            self._layers[box] += layers / (1 + np.exp(np.clip(distance / 0.5, -40, 40)))
            near = layers * np.exp(-np.abs(distance) / EDGE_NM)
            self._zigzag[box] += np.where(side % 2 == 0, near, 0)
            self._armchair[box] += np.where(side % 2 == 1, near, 0)

    def _add_folds(self, rng: np.random.Generator) -> None:
        """Fold the flake over along a few lines: there are three sheets instead of one, and no step."""
        line = ((np.arange(PIXELS) + 0.5) / PIXELS - 0.5) * self.size_nm
        sheet = ndimage.gaussian_filter(self._layers, 2 * PIXELS / self.size_nm)
        for angle in rng.uniform(0, np.pi, 3):
            across = line[:, None] * np.cos(angle) + line[None] * np.sin(angle)
            along = line[None] * np.cos(angle) - line[:, None] * np.sin(angle)
            across += 6 * np.sin(along / rng.uniform(40, 70)) - rng.uniform(-0.25, 0.25) * self.size_nm
            half = rng.uniform(3, 6)
            ridge = (1 / (1 + np.exp(np.clip((np.abs(across) - half) / 0.6, -40, 40)))).astype(np.float32)
            self._layers += 2 * np.minimum(sheet, 2.5) * ridge
            self._fold += np.minimum(sheet, 2.5) * ridge


def _terraces(rng: np.random.Generator, size_nm: float) -> list[tuple[Polygon, int]]:
    """The flake itself and the terraces on it, each with its number of layers; their sides are 30 degrees apart."""
    turn = rng.uniform(0, np.pi / 6)
    flake = Polygon.irregular(rng, rng.uniform(-30, 30, 2), 0.44 * size_nm, 12, turn)
    centres = rng.uniform(-0.4, 0.4, (200, 2)) * size_nm
    inside = centres[flake.distance(centres)[0] < -25][:14]
    terraces = [Polygon.irregular(rng, centre, rng.uniform(25, 95), 12, turn) for centre in inside]
    return [(flake, 2), *((terrace, int(rng.choice([1, 1, 2, 3]))) for terrace in terraces)]
