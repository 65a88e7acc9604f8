"""Makes a recorded spectrum image to practice on: every pixel of a small field, taken by the virtual microscope."""

import sys

import numpy as np

from virtual_stem.geometry import ScanGeometry
from virtual_stem.microscope import VirtualMicroscope
from virtual_stem.specimens import make_specimen

FOV_NM, PIXELS, ROWS, EXPOSURE_S = 120.0, 120, 40, 0.2

microscope = VirtualMicroscope(make_specimen("catalyst", seed=3), time_scale=1000)
field = ScanGeometry((FOV_NM, FOV_NM))
image = microscope.scan(field, (PIXELS, PIXELS), dwell_s=8e-6)
places = field.pixel_centres((ROWS, ROWS))
channels = microscope.specimen.axis.channels
spectra = [microscope.spectrum_frame(place, EXPOSURE_S, (1, channels))[0] for place in places.reshape(-1, 2)]
np.savez_compressed(
    sys.argv[1] if len(sys.argv) > 1 else "map.npz",
    image=image,
    spectra=np.reshape(spectra, (ROWS, ROWS, channels)),
    energy_eV=microscope.specimen.axis.energy_eV,
    pixel_nm=FOV_NM / ROWS,
)
