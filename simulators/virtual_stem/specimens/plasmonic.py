"""Silver nanoparticles on a thin film: discs, rods and cubes with corner, edge and bulk plasmons.

Every particle is a rounded rectangle, which makes discs and rods special cases of one shape. The localised modes sit
at corners and tips and along edges; the larger the particle the lower their energy, and a close neighbour pulls the
facing corner mode further down and makes it brighter (hybridisation; Nelayah et al., Nature Physics 3, 348 (2007) map
such modes by EELS). Particles of one height look equally bright in HAADF, so what a patch looks like, not how bright
it is, tells what its spectrum will be.
"""

from __future__ import annotations

import numpy as np

from virtual_stem.specimen import Array, EnergyAxis, Goal, View
from virtual_stem.specimens.modes import REACH_NM, Nanoparticles
from virtual_stem.specimens.particles import Particles

HYBRIDISATION_NM = 10.0


class PlasmonicParticles(Nanoparticles):
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
        "ends of the longer rods and corners of the largest cubes, brightest where a neighbour is close",
        {"kind": "window", "low_eV": 1.1, "high_eV": 1.7},
    )
    view = View(fov_nm=500.0, pixels=512, exposure_s=0.05)

    def __init__(self, seed: int = 0, count: int = 110, size_nm: float = 1000.0):
        rng = np.random.default_rng([seed, 1])
        particles = scatter_particles(rng, count, size_nm)
        exist = particles.tips()[1]
        length = 2 * particles.half.max(axis=1)
        aspect = particles.half.max(axis=1) / particles.half.min(axis=1)
        base = 0.95 + 2.1 * np.exp(-length / 60.0) - 0.12 * (aspect - 1)
        closeness = np.exp(-_gaps(particles) / HYBRIDISATION_NM)
        super().__init__(
            particles,
            np.clip(base[:, None] - 0.35 * closeness, 0.6, 3.3),
            np.where(exist, 1 + 1.5 * closeness, 0.0),
            np.clip(base + 0.75, 1.9, 3.4),
            size_nm=size_nm,
            pixels=2048,
            contrast=0.10,
            rng=rng,
        )


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


def _gaps(particles: Particles) -> Array:
    """Distance (n, 4) in nm from each tip to the outline of the nearest other particle."""
    tips, _ = particles.tips()
    owner = np.repeat(np.arange(len(particles)), tips.shape[1])
    places = particles.to_specimen(tips.reshape(-1, 2), owner)
    tip, other = particles.near(places, 2 * (float(particles.reach.max()) + REACH_NM))
    tip, other = tip[other != owner[tip]], other[other != owner[tip]]
    gaps = np.full(len(places), np.inf)
    np.minimum.at(gaps, tip, particles.signed_distance(particles.local(places[tip], other), other))
    return np.asarray(np.maximum(gaps, 0).reshape(tips.shape[:2]))
