"""The bright-field disk and the deflectors that move it; a plain version, without aberrations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from virtual_stem.specimen import Array

Matrix = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Optics:
    """What an instrument has but nobody tells: how deflectors move the bright-field disk on the camera.

    Attributes:
        deflector_to_rad: (2, 2) response of the disk's angle (y, x) to the deflector (y, x), rad per unit.
        disk_rad: radius of the bright-field disk (the convergence semi-angle).
        misalignment_rad: (y, x) where the disk lies with the deflectors at zero.
        camera_rad: full width of the camera in angle.
    """

    deflector_to_rad: Matrix = ((1.0, 0.0), (0.0, 1.0))
    disk_rad: float = 0.030
    misalignment_rad: tuple[float, float] = (0.0, 0.0)
    camera_rad: float = 0.200

    @classmethod
    def hidden(cls, seed: int) -> Optics:
        """An instrument's own response, drawn by ``seed``: any rotation, either handedness, gains 0.8 to 1.25."""
        rng = np.random.default_rng([seed, 4])
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        gains = np.exp(rng.uniform(-np.log(1.25), np.log(1.25), 2)) * [1, rng.choice([-1, 1])]
        (a, b), (c, d) = (turn * gains).tolist()
        y, x = rng.uniform(-0.010, 0.010, 2).tolist()
        return cls(((a, b), (c, d)), misalignment_rad=(y, x))

    def disk_centre(self, deflector: Array) -> Array:
        """Angle (2,) of the disk on the camera, for a deflector (2,); both (y, x)."""
        return np.asarray(np.asarray(self.deflector_to_rad) @ deflector + self.misalignment_rad)

    def disk(self, centre_rad: Array, shape: tuple[int, int]) -> Array:
        """Share (h, w) of the beam on each pixel of the camera: an even disk with a border one pixel wide."""
        y, x = (((np.arange(n) + 0.5) / n - 0.5) * self.camera_rad for n in shape)
        pixel_y, pixel_x = (self.camera_rad / n for n in shape)
        radius = np.hypot(y[:, None] - centre_rad[0], x[None] - centre_rad[1])
        cover = np.clip((self.disk_rad - radius) / max(pixel_y, pixel_x) + 0.5, 0, 1)
        return np.asarray(cover * (pixel_y * pixel_x / (np.pi * self.disk_rad**2)))
