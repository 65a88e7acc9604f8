"""A run on an instrument of one's own."""

import sys

from own_instrument import PlayedBack

from autoexp.engine import Engine
from autoexp.limits import SiteLimits
from autoexp.plan import Budget, DeepKernelAgent, OverviewSpec, PatchSpec, Plan, SpectrumSpec, SwiftInstrument
from autoexp.scalarizers import Window

plan = Plan(
    name="rim",
    instrument=SwiftInstrument(),  # not the virtual microscope; the engine uses what it is given
    overview=OverviewSpec(fov_nm=100, pixels=128),
    patches=PatchSpec(pixels=16, stride=4),
    spectrum=SpectrumSpec(exposure_s=0.005),
    scalarizer=Window(low_eV=1.5, high_eV=2.5),
    agent=DeepKernelAgent(seeds=8),
    budget=Budget(points=40),
)
engine = Engine(plan, PlayedBack(), sys.argv[1], site=SiteLimits(max_exposure_s=0.1), beam_current_pA=20.0)
state = engine.run()
best = state.best()
print(f"{state.finished.ending}: {len(state.measured)} spectra, best {best.value:,.0f} counts at {best.position}")
