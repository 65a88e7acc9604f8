"""What the tests of the engine share: a quick plan, a run, waiting, and acting at a given event."""

from __future__ import annotations

import time

from autoexp.engine import Engine
from autoexp.limits import BlankerLimits, SiteLimits
from autoexp.plan import Budget, OverviewSpec, PatchSpec, Plan, RandomAgent


def plan(**changes):
    """A quick plan: 400 nm at 64 pixels, six spectra."""
    given = {
        "overview": OverviewSpec(fov_nm=400, pixels=64),
        "patches": PatchSpec(pixels=8, stride=4),
        "agent": RandomAgent(),
        "budget": Budget(points=6),
        **changes,
    }
    return Plan(**given)


def run(plan, instrument, folder, locks, **given):
    """Run to the end on this thread, in the way of a command line."""
    engine = Engine(plan, instrument, folder, lock_folder=locks, beam_current_pA=50.0, **given)
    engine.run()
    return engine


def insist(engine):
    """Stay with a run that was started to its end, and resume it whenever it asks."""
    asked = 0
    end = time.monotonic() + PATIENCE_S
    while not engine.join(0.005):
        assert time.monotonic() < end, "waited in vain"
        if engine.waits_for_help:
            asked += 1
            seq = engine.state.seq
            engine.resume()
            until(lambda: engine.join(0) or (engine.state.seq > seq + 1))  # noqa: B023 - it is over before the next
    return asked


BLANKED = SiteLimits(blanker=BlankerLimits(control="C_Blank", blanked=1.0, unblanked=0.0))
"""With it the time that passes between exposures is no dose, so a limit on the dose is reached at the same point
however busy the machine is."""

PATIENCE_S = 60.0
"""How long a test waits for what takes a moment: only a hang, not a busy machine, makes it wait in vain."""


def until(condition, seconds=PATIENCE_S):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


class Stepper:
    """An observer that calls a function on the engine's thread at the n-th event of a class."""

    def __init__(self, kind, act, nth=1):
        self.kind, self.act, self.left = kind, act, nth

    def __call__(self, record, state):
        if isinstance(record.event, self.kind):
            self.left -= 1
            if self.left == 0:
                self.act()
