"""A large field of thousands of discs and rods, alone and in pairs, among which a few rods meet end to end.

Rods lie side by side, end to side, or end to end at a right angle all over the field. Only where two ends face each
other across a narrow gap is there a bonding gap mode at low energy (the bonding dimer plasmon; Koh et al., Nano Letters
11, 1323 (2011) see it by EELS). All particles are of the same metal, their heights vary at random, and gaps are darker
than metal: nothing in the brightness tells the rare contacts apart, only the geometry does.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree

from virtual_stem.specimen import Array, EnergyAxis, Goal, View
from virtual_stem.specimens.modes import Nanoparticles
from virtual_stem.specimens.particles import Particles

HALF_LENGTH_NM = 26.0
HALF_WIDTH_NM = 9.0
DISC_NM = 12.6
GAP_NM = 5.0
GAP_DECAY_NM = 6.0
SPACING_NM = 12.0  # between what does not belong together

# A motif is its parts as (y, x, turn): rods in units of nm and rad, a disc where the turn is None.
Part = tuple[float, float, float | None]
_APART = DISC_NM + GAP_NM / 2
_BESIDE = HALF_WIDTH_NM + GAP_NM / 2
_END = HALF_LENGTH_NM + GAP_NM / 2
_CORNER = HALF_LENGTH_NM + HALF_WIDTH_NM * 0.3
MOTIFS: dict[str, tuple[float, tuple[Part, ...]]] = {
    "disc": (0.20, ((0.0, 0.0, None),)),
    "rod": (0.30, ((0.0, 0.0, 0.0),)),
    "two discs": (0.08, ((-_APART, 0.0, None), (_APART, 0.0, None))),
    "side by side": (0.16, ((-_BESIDE, 0.0, np.pi / 2), (_BESIDE, 0.0, np.pi / 2))),
    "end to side": (0.13, ((-_END / 2, 0.0, 0.0), (_END / 2 + HALF_WIDTH_NM, 0.0, np.pi / 2))),
    "corner": (0.13, ((-_CORNER / 2, 0.0, 0.0), (_CORNER / 2 + 2, _CORNER - 2, np.pi / 2))),
    "end to end": (0.0, ((-_END, 0.0, 0.0), (_END, 0.0, 0.0))),
}


class RareContacts(Nanoparticles):
    """Specimen (d): a few end-to-end contacts, in less than 0.1 % of the area of a large field.

    Args:
        seed: the specimen is a function of it.

    Attributes:
        targets_nm: (n, 2) where the rare contacts are.
    """

    name = "rare"
    title = "Thousands of discs and rods; a few rods meet end to end"
    axis = EnergyAxis(offset_eV=-1.0, dispersion_eV=0.01)
    goal = Goal(
        "the few gaps between two rods that meet end to end, where the bonding mode shows",
        {"kind": "window", "low_eV": 0.65, "high_eV": 0.95},
    )
    view = View(fov_nm=3000.0, pixels=1024, exposure_s=0.05)

    def __init__(self, seed: int = 0):
        size_nm = 6000.0
        rng = np.random.default_rng([seed, 7])
        particles, self.targets_nm = _populate(rng, size_nm)
        exist = particles.tips()[1]
        facing, near = _contacts(particles)
        length = 2 * particles.half.max(axis=1, keepdims=True)
        super().__init__(
            particles,
            1.30 - 0.004 * (length - 52) - 0.15 * near - 0.62 * facing,
            np.where(exist, 1 + 0.4 * near + 1.2 * facing, 0.0),
            np.full(len(particles), 2.2),
            size_nm=size_nm,
            pixels=3072,
            contrast=rng.uniform(0.075, 0.125, len(particles)),
            rng=rng,
        )


def _populate(rng: np.random.Generator, size_nm: float) -> tuple[Particles, Array]:
    """Scatter motifs over the field without overlap, the rare ones first; returns where those are, too."""
    side = 4
    cells = np.delete(np.arange(side * side), rng.choice([0, 3, 12, 15], 2, replace=False))
    targets = (np.stack(np.divmod(cells, side), axis=1) + rng.uniform(0.15, 0.85, (len(cells), 2))) / side - 0.5
    targets *= size_nm
    common = list(MOTIFS)[:-1]
    tries = 14_000
    kinds = rng.choice(common, tries, p=[MOTIFS[name][0] for name in common])
    names = ["end to end"] * len(targets) + kinds.tolist()
    places = np.concatenate([targets, rng.uniform(-0.495, 0.495, (tries, 2)) * size_nm])
    reach = np.array([_reach(name) for name in names])
    kept = _without_overlap(places, reach + SPACING_NM / 2)
    return _assemble(rng, [names[k] for k in kept], places[kept]), targets


def _reach(name: str) -> float:
    """Radius of a circle round a motif, nm."""
    parts = MOTIFS[name][1]
    return max(math.hypot(y, x) + (DISC_NM if turn is None else HALF_LENGTH_NM) for y, x, turn in parts)


def _without_overlap(places: Array, reach: Array) -> list[int]:
    """Which of the circles to keep so that none overlaps; earlier ones go first."""
    neighbours = cKDTree(places).query_ball_point(places, reach + reach.max())
    free = np.ones(len(places), bool)
    kept = []
    for k, near in enumerate(neighbours):
        if free[k]:
            kept.append(k)
            others = np.asarray(near)
            apart = np.linalg.norm(places[others] - places[k], axis=1)
            free[others[apart < reach[others] + reach[k]]] = False
    return kept


def _assemble(rng: np.random.Generator, names: list[str], places: Array) -> Particles:
    """The particles of the named motifs, each turned at random about its place; no two are of quite the same size."""
    centre, half, radius, angle = [], [], [], []
    for name, place in zip(names, places, strict=True):
        turn = rng.uniform(0, np.pi)
        c, s = np.cos(turn), np.sin(turn)
        for y, x, own in MOTIFS[name][1]:
            disc = own is None
            centre.append((place[0] + y * c + x * s, place[1] + x * c - y * s))
            half.append([DISC_NM] * 2 if disc else [HALF_LENGTH_NM, HALF_WIDTH_NM])
            radius.append(DISC_NM if disc else HALF_WIDTH_NM * 0.95)
            angle.append(turn if own is None else turn + own)
    shrunk = rng.uniform(0.95, 1.0, len(half))
    return Particles(
        np.asarray(centre), np.asarray(half) * shrunk[:, None], np.asarray(radius) * shrunk, np.asarray(angle)
    )


def _contacts(particles: Particles) -> tuple[Array, Array]:
    """For each tip (n, 4): how much another tip faces it, and how near another particle's metal is; 0..1."""
    tips, exist = particles.tips()
    owner = np.repeat(np.arange(len(particles)), tips.shape[1])
    places = particles.to_specimen(tips.reshape(-1, 2), owner)
    outward = places - particles.centre[owner]
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    facing, near = np.zeros(len(places)), np.zeros(len(places))
    real = np.flatnonzero(exist.ravel())
    pairs = real[cKDTree(places[real]).query_pairs(4 * GAP_DECAY_NM, output_type="ndarray")]
    for a, b in (pairs.T, pairs[:, ::-1].T):
        gap = np.linalg.norm(places[a] - places[b], axis=1)
        opposed = np.maximum(-np.sum(outward[a] * outward[b], axis=1), 0) ** 4
        np.maximum.at(facing, a, opposed * np.exp(-np.maximum(gap - GAP_NM, 0) / GAP_DECAY_NM) * (owner[a] != owner[b]))
    tip, other = particles.near(places, float(particles.reach.max()) + 4 * GAP_DECAY_NM)
    tip, other = tip[other != owner[tip]], other[other != owner[tip]]
    distance = particles.signed_distance(particles.local(places[tip], other), other)
    np.maximum.at(near, tip, np.exp(-np.maximum(distance, 0) / GAP_DECAY_NM))
    return facing.reshape(exist.shape), near.reshape(exist.shape)
