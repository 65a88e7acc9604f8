"""A scalarizer of one's own: the center of gravity of a window, and a run that looks for its highest value."""

import pathlib
import sys

import numpy as np

from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, VirtualInstrument
from autoexp.scalarizers import Function, register_scalarizer
from autoexp.session import run_plan

LOW_EV, HIGH_EV = 1.0, 3.0


def center_of_gravity(spectra, energy_eV):
    """Mean energy (n,) of the counts between two energies, for spectra (n, E) on the axis (E,)."""
    inside = (energy_eV >= LOW_EV) & (energy_eV <= HIGH_EV)
    counts = np.maximum(spectra[:, inside], 0)
    return counts @ energy_eV[inside] / np.maximum(counts.sum(axis=1), 1)


register_scalarizer("center of gravity", center_of_gravity, units="eV")

plan = Plan(
    name="center of gravity",
    instrument=VirtualInstrument(time_scale=20),
    overview=OverviewSpec(fov_nm=400, pixels=128, dwell_us=1),
    patches=PatchSpec(pixels=16, stride=8),
    scalarizer=Function(name="center of gravity"),
    budget=Budget(points=20),
)

if __name__ == "__main__":
    state = run_plan(plan, pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/center-of-gravity"))
    best = state.best()
    print(f"{state.finished.ending}: point {best.id + 1}, {best.value:.3f} ± {best.noise:.3f} eV")
