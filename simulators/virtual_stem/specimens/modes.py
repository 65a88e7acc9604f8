"""Metal nanoparticles with localised plasmon modes: what their spectra are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from virtual_stem import eels
from virtual_stem.maps import sample_map
from virtual_stem.specimen import Array, MixtureSpecimen
from virtual_stem.specimens.particles import Particles

BULK_EV = 3.8
SOURCE_FWHM_EV = 0.12
TIP_DECAY_NM = 9.0
EDGE_DECAY_NM = 7.0
BULK_RIM_NM = 1.5
REACH_NM = 45.0  # no mode is felt farther from its particle
FILM_THICKNESS = 0.25  # in inelastic mean free paths
METAL_THICKNESS = 0.35

# Mode energies are rounded to these, far more finely than the modes are wide, so that equal energies share one shape.
STEP_EV = 0.01
MODES_EV = 0.5 + STEP_EV * np.arange(310)


class Nanoparticles(MixtureSpecimen):
    """Particles on a film, with a mode at every tip, one along the edge, and the bulk plasmon inside.

    Args:
        particles: where they are.
        tip_eV: (n, 4) energies of the tip modes; of no meaning where a particle has no such tip.
        tip_gain: (n, 4) how bright they are, zero where there is no tip.
        edge_eV: (n,) energies of the edge modes.
        size_nm: side of the field.
        pixels: pixels along a side of the HAADF map.
        contrast: HAADF contrast of the particles, one for all or (n,).
        rng: draws the film's grain.
    """

    def __init__(
        self,
        particles: Particles,
        tip_eV: Array,
        tip_gain: Array,
        edge_eV: Array,
        *,
        size_nm: float,
        pixels: int,
        contrast: Array | float,
        rng: np.random.Generator,
    ):
        self.size_nm = size_nm
        self.particles = particles
        self._tips = particles.tips()[0]
        self._tip_gain = tip_gain
        self._tip_mode, self._edge_mode = _mode(tip_eV), _mode(edge_eV)
        self._reach_nm = float(particles.reach.max()) + REACH_NM
        self._haadf = particles.render(size_nm, pixels, rng, contrast)

    def haadf(self, points_nm: Array) -> Array:
        return sample_map(self._haadf, self.size_nm, points_nm)

    def shapes(self, energy_eV: Array) -> Array:
        """Zero loss, continuum, bulk, then the tip modes and the edge modes of all energies."""
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
        to_tip = np.linalg.norm(local[:, None] - self._tips[particle], axis=-1)
        tip = self._tip_gain[particle] * np.exp(-to_tip / TIP_DECAY_NM)
        edge = np.exp(-np.abs(distance) / EDGE_DECAY_NM)
        inside = 1 / (1 + np.exp(np.minimum(distance / BULK_RIM_NM, 50)))
        bulk = np.bincount(point, inside, len(points_nm))
        thickness = FILM_THICKNESS + METAL_THICKNESS * bulk

        every = np.arange(len(points_nm))
        tips_from, edges_from = 3, 3 + len(MODES_EV)
        parts = [
            (every, np.zeros_like(every), np.exp(-thickness)),
            (every, np.ones_like(every), thickness),
            (every, np.full_like(every, 2), bulk),
            (np.repeat(point, tip.shape[1]), tips_from + self._tip_mode[particle].ravel(), tip.ravel()),
            (point, edges_from + self._edge_mode[particle], edge),
        ]
        rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        return sparse.csr_array((values, (rows, columns)), shape=(len(every), edges_from + len(MODES_EV)))


def _mode(energy_eV: Array) -> npt.NDArray[np.intp]:
    return np.asarray(np.clip(np.rint((energy_eV - MODES_EV[0]) / STEP_EV), 0, len(MODES_EV) - 1), np.intp)
