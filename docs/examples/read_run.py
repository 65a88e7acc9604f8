"""Reads a run: what was measured where, its spectra, and the last map of the model."""

import sys

from autoexp import events as ev
from autoexp.runlog import RunReader


def main(folder):
    """Print what a run holds."""
    reader = RunReader(folder)
    state = reader.state

    print(f"{state.run_id}: {state.finished.ending if state.finished else 'not finished'}")
    for point in state.measured[:3]:
        print(f"  {point.id + 1}: {point.position}, {point.value:.4g} ± {point.noise:.2g}; {point.reason}")

    best = state.best()
    found = reader.checked([best])  # each spectrum is compared with its checksum
    for point, counts in zip(found.points, found.counts, strict=True):
        print(f"  best: point {point.id + 1}, its maximum at {state.spectra.energy[counts.argmax()]:.2f} eV")
    for point in found.damaged:
        print(f"  best: point {point.id + 1}; its spectrum is damaged")

    overview = reader.array(state.prepared.overview)
    print(f"  overview {overview.shape}, {state.prepared.fov_nm} nm")
    if state.predicted:
        mean, std = reader.array(state.predicted.array)
        print(f"  the model after {state.predicted.after} points: {mean.max():.3g} at most, ± {std.min():.2g} or more")

    when = {record.event.id: record.utc for record in reader.records if isinstance(record.event, ev.Measured)}
    print(f"  the first spectrum came at {when[state.measured[0].id]}")


if __name__ == "__main__":
    main(sys.argv[1])
