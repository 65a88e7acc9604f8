"""What a site allows on an instrument: its limits file, which no user, plan or agent can widen."""

from __future__ import annotations

import json
import pathlib
import re

from pydantic import Field, ValidationError

from autoexp.errors import PlanError
from autoexp.instrument import Identity
from autoexp.plan import AlignmentSpec, Model, explain


class ControlLimits(Model):
    """What the site allows for one control, in its own units.

    Attributes:
        low: lowest value.
        high: highest value.
        step: largest change in one command.
        rate: largest change per second, over any time.
        settle_s: wait after a change before anything is measured.
        tolerance: how far the value read back may differ; a thousand-millionth of the range where it is not given.
    """

    low: float
    high: float
    step: float | None = Field(None, gt=0)
    rate: float | None = Field(None, gt=0)
    settle_s: float = Field(0.0, ge=0, le=60)
    tolerance: float | None = Field(None, ge=0)

    @property
    def readback_tolerance(self) -> float:
        """How far the value read back may differ."""
        return 1e-9 * (self.high - self.low) if self.tolerance is None else self.tolerance


SIMULATORS = ("usim", "virtual_stem")
DEFLECTORS = ("CAperture.y", "CAperture.x")
DEFLECTOR_LIMITS = ControlLimits(low=-0.15, high=0.15)
"""Of a simulator, rad: farther out the disk is off its camera."""


class SiteLimits(Model):
    """The limits that a facility sets for an instrument; no user, plan or agent can widen them.

    Attributes:
        max_exposure_s: longest single exposure.
        max_overview_s: longest overview.
        max_dose_e: electrons that one run may put into the specimen.
        max_time_s: duration of one run.
        saturation_counts: a channel of a spectrum at or above this is saturated; found from a plateau where not given.
        beam_current_pA: the beam current, for the account of dose where the instrument does not tell it.
        controls: the controls that may be moved at all.
    """

    max_exposure_s: float = Field(60.0, gt=0)
    max_overview_s: float = Field(600.0, gt=0)
    max_dose_e: float | None = Field(None, gt=0)
    max_time_s: float | None = Field(None, gt=0)
    saturation_counts: float | None = Field(None, gt=0)
    beam_current_pA: float | None = Field(None, gt=0)
    controls: dict[str, ControlLimits] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: str | pathlib.Path) -> SiteLimits:
        """Read a site file.

        Raises:
            PlanError: it cannot be read or used; the message names the field.
        """
        try:
            return cls.model_validate(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise PlanError(f"The site's limits {path} cannot be read: {error}") from error
        except ValidationError as error:
            raise PlanError(f"The site's limits {path} cannot be used:\n{explain(error)}") from error


def check_controls(site: SiteLimits, spec: AlignmentSpec) -> None:
    """Refuse an alignment whose controls may not be moved.

    Raises:
        PlanError: the site's limits do not list one; the message says what to do.
    """
    for name in spec.controls:
        if name not in site.controls:
            raise PlanError(
                f"The limits of this instrument do not list {name}, so it may not be moved. Add it to the limits file, "
                "with its range, or name other controls."
            )


def site_limits(identity: Identity, folder: pathlib.Path) -> SiteLimits:
    """The limits that the site has set for an instrument, or the defaults where there is no file for it.

    Without a file no control may be moved, but those that shift the disk of a simulator that is known.
    """
    path = limits_file(identity, folder)
    if path.exists():
        return SiteLimits.read(path)
    known = identity.simulated and identity.key.startswith(SIMULATORS)
    return SiteLimits(controls=dict.fromkeys(DEFLECTORS, DEFLECTOR_LIMITS) if known else {})


def limits_file(identity: Identity, folder: pathlib.Path) -> pathlib.Path:
    """Where the site's limits for an instrument belong."""
    name = re.sub(r"[^\w .-]", "_", identity.key)
    return folder / f"{name}.json"
