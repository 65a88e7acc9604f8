"""An instrument of one's own, in the form in which the engine wants it; here it plays back a made-up sample."""

import threading

import numpy as np

from autoexp.errors import AbortedError, InstrumentError
from autoexp.instrument import EnergyCalibration, FrameOfReference, Identity, Overview, Spectrum
from autoexp.plan import OverviewSpec, SpectrumSpec
from autoexp.testing import check_instrument


class PlayedBack:
    """A round bright particle whose rim has a peak at 2 eV."""

    def __init__(self):
        self.identity = Identity("played-back", "A made-up sample", simulated=True, scan="none", camera="none")
        self._rng = np.random.default_rng(0)
        self._controls = {"C10": 0.0}
        self._field = None
        self._frames = 0
        self._cut = threading.Event()

    # --- taking over and giving back

    def open(self):
        """Remember what has to be put back, stop what is playing. Here there is nothing of the kind."""
        self._cut.clear()

    def close(self):
        """Put everything back; returns what could not be put back, in words, and never raises."""
        return []

    def check(self):
        """Raise FieldChangedError, InstrumentBusyError or DisconnectedError if a spectrum cannot be taken now."""

    def abort(self):
        """End the exposure in flight at once; called from another thread, also when nothing is in flight."""
        self._cut.set()

    # --- taking data; positions are fractions of the overview, (y, x)

    def bind(self, spec):
        """From here on, positions refer to this field."""
        self._field = spec

    def overview(self, spec):
        """Scan a frame, and bind positions to it."""
        self.bind(spec)
        y, x = np.mgrid[: spec.pixels, : spec.pixels] / spec.pixels
        image = self._rng.poisson(20 + 100 * (np.hypot(y - 0.5, x - 0.5) < 0.3)).astype(np.float32)
        return Overview(image, FrameOfReference((spec.fov_nm, spec.fov_nm), spec.center_nm))

    def spectrum(self, position, spec):
        """Park the probe, wait until it has settled, expose, read."""
        if self._field is None:
            raise InstrumentError("Take an overview first: positions have no meaning yet.")
        if self._cut.wait(spec.exposure_s):
            raise AbortedError("The exposure was cut short.")
        energy = EnergyCalibration(offset=-1.0, scale=0.05)
        rim = np.exp(-(((np.hypot(position[0] - 0.5, position[1] - 0.5) - 0.3) / 0.05) ** 2))
        mean = 50 + 500 * rim * np.exp(-(((energy.axis(200) - 2.0) / 0.3) ** 2))
        self._frames += 1
        counts = self._rng.poisson(mean).astype(np.float32)
        return Spectrum(counts, energy, frame_number=self._frames, counts_per_electron=1.0)

    # --- controls, in the instrument's own units

    def get(self, name):
        """The value of a control."""
        if name not in self._controls:
            raise InstrumentError(f"The instrument has no control {name!r}.")
        return self._controls[name]

    def set(self, name, value):
        """Ask for a new value; the guardian confirms it by reading back."""
        self.get(name)
        self._controls[name] = value


if __name__ == "__main__":
    check_instrument(PlayedBack(), OverviewSpec(fov_nm=100, pixels=64), SpectrumSpec(exposure_s=0.01))
    print("keeps to the border")
