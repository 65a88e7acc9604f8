"""Silver nanoparticles on a thin film: discs, rods and cubes with corner, edge and bulk plasmons.

Every particle is a rounded rectangle, which makes discs and rods special cases of one shape. The localised modes sit
at corners and tips and along edges; the larger the particle the lower their energy, and a close neighbour pulls the
facing corner mode further down and makes it brighter (hybridisation; Nelayah et al., Nature Physics 3, 348 (2007) map
such modes by EELS). Particles of one height look equally bright in HAADF, so what a patch looks like, not how bright
it is, tells what its spectrum will be.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse

from virtual_stem import eels
from virtual_stem.specimen import Array, EnergyAxis, Goal, MixtureSpecimen, View, sample_map
from virtual_stem.specimens.particles import Particles

BULK_EV = 3.8
SOURCE_FWHM_EV = 0.12
CORNER_DECAY_NM = 9.0
EDGE_DECAY_NM = 7.0
HYBRIDISATION_NM = 10.0
REACH_NM = 45.0
FILM_THICKNESS = 0.25  # in inelastic mean free paths

# Mode energies are rounded to these bins, far narrower than the modes, so that equal energies share one shape.
MODES_EV = np.round(np.arange(0.5, 3.6, 0.01), 2)


class PlasmonicParticles(MixtureSpecimen):
    """Specimen (a): plasmonic nanoparticles whose modes depend on shape, size and neighbours.

    Args:
        seed: the specimen is a function of it.
        count: how many particles to place.
        size_nm: side of the field.
    """

    name = "plasmonic"
    title = "Silver nanoparticles with corner, edge and bulk plasmons"
    axis = EnergyAxis(offset_eV=-1.0, dispersion_eV=0.01)
    goal = Goal(
        "corners and gaps of the large particles, where the low-energy corner mode is bright",
        {"kind": "window", "low_eV": 1.1, "high_eV": 1.7},
    )
    view = View(fov_nm=500.0, pixels=512, exposure_s=0.05)

    def __init__(self, seed: int = 0, count: int = 110, size_nm: float = 1000.0):
        self.size_nm = size_nm
        rng = np.random.default_rng([seed, 1])
        self.particles = scatter_particles(rng, count, size_nm)
        self._reach_nm = float(self.particles.reach.max()) + REACH_NM
        self._set_modes()
        self._haadf = self.particles.render(size_nm, 2048, rng)

    def haadf(self, points_nm: Array) -> Array:
        return sample_map(self._haadf, self.size_nm, points_nm)

    def shapes(self, energy_eV: Array) -> Array:
        dispersion = float(energy_eV[1] - energy_eV[0])
        lost = np.concatenate(
            [
                0.004 * np.exp(-np.maximum(energy_eV, 0) / 6)[None] * (energy_eV > 0.3),
                0.10 * eels.lorentzian(energy_eV, [BULK_EV], 0.25),
                0.045 * eels.lorentzian(energy_eV, MODES_EV, 0.22),
                0.022 * eels.lorentzian(energy_eV, MODES_EV, 0.30),
            ]
        )
        broad = ndimage.gaussian_filter1d(lost, SOURCE_FWHM_EV / dispersion / 2.3548, axis=-1, mode="nearest")
        return np.concatenate([eels.zero_loss(energy_eV, SOURCE_FWHM_EV)[None], broad])

    def weights(self, points_nm: Array, dose_e_nm2: Array) -> sparse.csr_array:
        point, particle = self.particles.near(points_nm, self._reach_nm)
        local = self.particles.local(points_nm[point], particle)
        distance = self.particles.signed_distance(local, particle)
        inside = 1 / (1 + np.exp(np.minimum(distance / 1.5, 50)))
        to_tip = np.linalg.norm(local[:, None] - self._tips[particle], axis=-1)
        corner = self._gain[particle] * np.exp(-to_tip / CORNER_DECAY_NM)
        bulk = np.bincount(point, inside, len(points_nm))
        thickness = FILM_THICKNESS + 0.35 * bulk

        every = np.arange(len(points_nm))
        rows = [every, every, every, np.repeat(point, corner.shape[1]), point]
        columns = [0 * every, 0 * every + 1, 0 * every + 2]
        columns += [3 + self._corner_mode[particle].ravel(), 3 + len(MODES_EV) + self._edge_mode[particle]]
        values = [np.exp(-thickness), thickness, bulk, corner.ravel(), np.exp(-np.abs(distance) / EDGE_DECAY_NM)]
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_array(entries, shape=(len(points_nm), 3 + 2 * len(MODES_EV)))

    def _set_modes(self) -> None:
        """Mode energies, as bins, and gains of all particles' tips and edges."""
        particles = self.particles
        self._tips, exist = particles.tips()
        length = 2 * particles.half.max(axis=1)
        aspect = particles.half.max(axis=1) / particles.half.min(axis=1)
        base = 0.95 + 2.1 * np.exp(-length / 60.0) - 0.12 * (aspect - 1)
        closeness = np.exp(-self._gaps() / HYBRIDISATION_NM)
        self._gain = exist * (1 + 1.5 * closeness)
        self._corner_mode = _bin(np.clip(base[:, None] - 0.35 * closeness, 0.6, 3.3))
        self._edge_mode = _bin(np.clip(base + 0.75, 1.9, 3.4))

    def _gaps(self) -> Array:
        """Distance (n, 4) in nm from each tip to the outline of the nearest other particle."""
        particles = self.particles
        owner = np.repeat(np.arange(len(particles)), self._tips.shape[1])
        tips = particles.to_specimen(self._tips.reshape(-1, 2), owner)
        tip, other = particles.near(tips, 2 * self._reach_nm)
        tip, other = tip[other != owner[tip]], other[other != owner[tip]]
        gaps = np.full(len(tips), np.inf)
        np.minimum.at(gaps, tip, particles.signed_distance(particles.local(tips[tip], other), other))
        return np.maximum(gaps, 0).reshape(self._tips.shape[:2])


def scatter_particles(rng: np.random.Generator, count: int, size_nm: float) -> Particles:
    """Place discs, rods and cubes at random without overlap, some of them as close pairs."""
    centre: list[Array] = []
    half: list[Array] = []
    radius: list[float] = []
    angle: list[float] = []
    reach: list[float] = []
    for _ in range(60 * count):
        if len(centre) == count:
            break
        kind = rng.choice(3, p=[0.35, 0.3, 0.35])
        side = rng.uniform(11, 32)
        shape = {0: (side, side), 1: (rng.uniform(1.8, 3.2) * 11, 11.0), 2: (side, side)}[int(kind)]
        corner = {0: side, 1: 11.0, 2: 0.18 * side}[int(kind)]
        paired = len(centre) > 4 and rng.random() < 0.35
        own_reach = float(np.hypot(*shape)) if kind == 2 else max(shape)
        if paired:
            partner = int(rng.integers(len(centre)))
            direction = rng.uniform(0, 2 * np.pi)
            step = reach[partner] + own_reach + rng.uniform(2, 10)
            place = centre[partner] + step * np.array([np.sin(direction), np.cos(direction)])
        else:
            place = rng.uniform(-size_nm / 2, size_nm / 2, 2)
        if np.abs(place).max() > size_nm / 2:
            continue
        if any(np.linalg.norm(place - c) < own_reach + r + 1.5 for c, r in zip(centre, reach, strict=True)):
            continue
        centre.append(place)
        half.append(np.array(shape))
        radius.append(corner)
        angle.append(rng.uniform(0, np.pi))
        reach.append(own_reach)
    return Particles(np.array(centre), np.array(half), np.array(radius), np.array(angle))


def _bin(energy_eV: Array) -> np.ndarray:
    step = MODES_EV[1] - MODES_EV[0]
    return np.clip(np.rint((energy_eV - MODES_EV[0]) / step), 0, len(MODES_EV) - 1).astype(np.intp)
