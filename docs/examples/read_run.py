"""Reads a run: what was measured where, its spectra, and the last map of the model."""

import sys

import numpy as np

from autoexp import events as ev
from autoexp.runlog import RunReader
from autoexp.state import fold


def main(folder):
    """Print what a run holds."""
    reader = RunReader(folder)
    state = fold(reader.records)

    print(f"{state.run_id}: {state.finished.ending if state.finished else 'not finished'}")
    for point in state.measured[:3]:
        print(f"  {point.id + 1}: {point.position}, {point.value:.4g} ± {point.noise:.2g}; {point.reason}")

    spectra = reader.spectra()  # (n, E), mapped from disk
    opened = state.spectra
    energy_eV = opened.offset + opened.scale * np.arange(opened.channels)
    best = state.best()
    print(f"  best: point {best.id + 1}, its maximum at {energy_eV[spectra[best.record].argmax()]:.2f} eV")

    overview = reader.array(state.prepared.overview)
    print(f"  overview {overview.shape}, {state.prepared.fov_nm} nm")
    if state.predicted:
        mean, std = reader.array(state.predicted.array)
        print(f"  the model after {state.predicted.after} points: {mean.max():.3g} at most, ± {std.min():.2g} or more")

    when = {record.event.id: record.utc for record in reader.records if isinstance(record.event, ev.Measured)}
    print(f"  the first spectrum came at {when[state.measured[0].id]}")


if __name__ == "__main__":
    main(sys.argv[1])
