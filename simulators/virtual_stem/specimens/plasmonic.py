"""Silver nanoparticles on a thin film: discs, rods and cubes with corner, edge and bulk plasmons.

Every particle is a rounded rectangle, which makes discs and rods special cases of one shape. The localised modes sit
at corners and tips and along edges; the larger the particle the lower their energy, and a close neighbour pulls the
facing corner mode further down and makes it brighter (hybridisation). Particles of one height look equally bright in
HAADF, so what a patch looks like, not how bright it is, tells what its spectrum will be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from virtual_stem import eels
from virtual_stem.specimen import Array, EnergyAxis, Goal, Image, Specimen, map_points, sample_map

BULK_EV = 3.8
CORNER_DECAY_NM = 9.0
EDGE_DECAY_NM = 7.0
HYBRIDISATION_NM = 10.0


@dataclass(frozen=True)
class Particles:
    """Rounded rectangles: centre (n, 2) nm, half sides (n, 2) nm, corner radius (n,) nm, angle (n,) rad."""

    centre: Array
    half: Array
    radius: Array
    angle: Array

    def __len__(self) -> int:
        return len(self.angle)

    def local(self, points_nm: Array, index: int) -> Array:
        """Positions (..., 2) in the frame of one particle."""
        c, s = np.cos(self.angle[index]), np.sin(self.angle[index])
        return (points_nm - self.centre[index]) @ np.array([[c, s], [-s, c]])

    def signed_distance(self, local_nm: Array, index: int) -> Array:
        """Distance (...,) to the outline in nm, negative inside."""
        q = np.abs(local_nm) - (self.half[index] - self.radius[index])
        outside = np.hypot(*np.moveaxis(np.maximum(q, 0), -1, 0))
        inside = np.minimum(np.max(q, axis=-1), 0)
        return outside + inside - self.radius[index]

    def tips(self, index: int) -> Array:
        """Where the localised modes sit, in the particle's frame: four corners, a rod's two ends, none of a disc."""
        a, b = self.half[index]
        r = self.radius[index]
        if r < 0.6 * min(a, b):
            d = 0.29 * r
            return np.array([[sa * (a - d), sb * (b - d)] for sa in (-1, 1) for sb in (-1, 1)])
        if abs(a - b) < 0.2 * max(a, b):
            return np.empty((0, 2))
        return np.array([[a, 0.0], [-a, 0.0]]) if a > b else np.array([[0.0, b], [0.0, -b]])

    def tips_nm(self, index: int) -> Array:
        """The same in the specimen's frame, (k, 2) nm."""
        c, s = np.cos(self.angle[index]), np.sin(self.angle[index])
        return self.tips(index) @ np.array([[c, -s], [s, c]]) + self.centre[index]


class PlasmonicParticles(Specimen):
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

    def __init__(self, seed: int = 0, count: int = 110, size_nm: float = 1000.0):
        self.size_nm = size_nm
        rng = np.random.default_rng([seed, 1])
        self.particles = scatter_particles(rng, count, size_nm)
        self._modes = _Modes(self.particles)
        self._haadf = self._render(rng)

    def haadf(self, points_nm: Array) -> Array:
        return sample_map(self._haadf, self.size_nm, points_nm)

    def spectra(self, points_nm: Array, energy_eV: Array, dose_e_nm2: Array | None = None) -> Array:
        dispersion = float(energy_eV[1] - energy_eV[0])
        surface = np.zeros((len(points_nm), len(energy_eV)))
        thickness = np.full(len(points_nm), 0.25)
        for index, near in self._modes.near(points_nm):
            corner, edge_weight, inside = self._modes.weights(points_nm[near], index)
            corner_eV, edge_eV = self._modes.corner_eV[index], self._modes.edge_eV[index]
            surface[near] += np.einsum(
                "nk,ke->ne", 0.045 * corner, eels.lorentzian(energy_eV, corner_eV, np.full(len(corner_eV), 0.22))
            )
            surface[near] += 0.022 * edge_weight[:, None] * eels.lorentzian(energy_eV, edge_eV, 0.30)
            surface[near] += 0.10 * inside[:, None] * eels.lorentzian(energy_eV, BULK_EV, 0.25)
            thickness[near] += 0.35 * inside
        elastic = eels.zero_loss(energy_eV, fwhm_eV=0.12)
        continuum = 0.004 * np.exp(-np.maximum(energy_eV, 0) / 6) * (energy_eV > 0.3)
        lost = thickness[:, None] * continuum + surface
        return np.exp(-thickness)[:, None] * elastic + _broaden(lost, 0.12 / dispersion)

    def _render(self, rng: np.random.Generator) -> Image:
        pixels = 2048
        step = self.size_nm / pixels
        image = np.full((pixels, pixels), 0.02, np.float32)
        film = ndimage.gaussian_filter(rng.standard_normal((pixels, pixels), np.float32), 6, mode="wrap")
        image += 0.004 * film / film.std()
        points = map_points(self.size_nm, pixels)
        for index in range(len(self.particles)):
            reach = float(np.hypot(*self.particles.half[index])) + 3
            low = np.maximum(((self.particles.centre[index] - reach) / self.size_nm + 0.5) * pixels, 0).astype(int)
            high = np.minimum(((self.particles.centre[index] + reach) / self.size_nm + 0.5) * pixels, pixels).astype(int)
            box = np.s_[low[0] : high[0], low[1] : high[1]]
            distance = self.particles.signed_distance(self.particles.local(points[box], index), index)
            image[box] += (0.10 / (1 + np.exp(distance / 1.2))).astype(np.float32)
        return ndimage.gaussian_filter(image, 0.6 / step)


class _Modes:
    """Mode energies of all particles, and their weights at a position."""

    REACH_NM = 45.0

    def __init__(self, particles: Particles):
        self.particles = particles
        self._tree = cKDTree(particles.centre)
        self._reach = float(np.hypot(*particles.half.T).max()) + self.REACH_NM
        length = 2 * particles.half.max(axis=1)
        aspect = particles.half.max(axis=1) / particles.half.min(axis=1)
        base = 0.95 + 2.1 * np.exp(-length / 60.0) - 0.12 * (aspect - 1)
        self.edge_eV = np.clip(base + 0.75, 1.9, 3.4)
        self.corner_eV: list[Array] = []
        self._gain: list[Array] = []
        for index in range(len(particles)):
            closeness = np.exp(-self._gaps(index) / HYBRIDISATION_NM)
            self.corner_eV.append(np.clip(base[index] - 0.35 * closeness, 0.6, 3.3))
            self._gain.append(1 + 1.5 * closeness)

    def _gaps(self, index: int) -> Array:
        """Distance in nm from each tip of a particle to the outline of the nearest other one."""
        tips = self.particles.tips_nm(index)
        gaps = np.full(len(tips), np.inf)
        for other in self._tree.query_ball_point(self.particles.centre[index], 2 * self._reach):
            if other != index and len(tips):
                gaps = np.minimum(gaps, self.particles.signed_distance(self.particles.local(tips, other), other))
        return np.maximum(gaps, 0)

    def near(self, points_nm: Array) -> list[tuple[int, np.ndarray]]:
        """For each particle within reach of any point: its index and the indices of those points."""
        found = self._tree.query_ball_tree(cKDTree(points_nm), self._reach)
        return [(index, np.asarray(near)) for index, near in enumerate(found) if near]

    def weights(self, points_nm: Array, index: int) -> tuple[Array, Array, Array]:
        """Corner (n, k), edge (n,) and bulk (n,) weights of one particle at each point."""
        local = self.particles.local(points_nm, index)
        distance = self.particles.signed_distance(local, index)
        tips = self.particles.tips(index)
        to_tip = np.linalg.norm(local[:, None, :] - tips[None], axis=-1)
        inside = 1 / (1 + np.exp(distance / 1.5))
        corner = self._gain[index] * np.exp(-to_tip / CORNER_DECAY_NM)
        return corner, np.exp(-np.abs(distance) / EDGE_DECAY_NM), inside


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


def _broaden(spectra: Array, fwhm_channels: float) -> Array:
    return ndimage.gaussian_filter1d(spectra, fwhm_channels / 2.3548, axis=-1, mode="nearest")
