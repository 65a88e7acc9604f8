"""What a site allows on an instrument: its limits file, which no user, plan or agent can widen."""

from __future__ import annotations

import os
import pathlib
import re

from pydantic import Field, ValidationError, model_validator

from autoexp.documents import read_json, shown
from autoexp.errors import PlanError
from autoexp.fields import Number, explain
from autoexp.instrument import Identity
from autoexp.plan import AlignmentSpec, ControlName, Model, Setting, require_upward

WIDEST_TOLERANCE = 0.1 * (1 + 1e-9)
"""Of a control's range."""


def _require_narrow(tolerance: float | None, way: float, what: str) -> None:
    """Refuse a tolerance that is wide beside the way that a control goes.

    Raises:
        ValueError: it is.
    """
    if tolerance is not None and tolerance > WIDEST_TOLERANCE * way:
        raise ValueError(
            f"a tolerance of {tolerance:g} is more than a tenth of {what}, so that nothing would be noticed; give a "
            "smaller one"
        )


class ControlLimits(Model):
    """What the site allows for one control, in its own units.

    Attributes:
        low: lowest value.
        high: highest value.
        step: largest change in one command, at most the whole range.
        rate: largest change per second, over any time.
        settle_s: wait after a change before anything is measured.
        tolerance: how far the value read back may differ, at most a tenth of the range; a thousand-millionth of it
            where it is not given.
    """

    low: Setting
    high: Setting
    step: Number | None = Field(None, gt=0)
    rate: Number | None = Field(None, gt=0, le=1e12)
    settle_s: Number = Field(0.0, ge=0, le=60)
    tolerance: Number | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _make_sense(self) -> ControlLimits:
        require_upward(self.low, self.high, "the range")
        range_ = self.high - self.low
        if self.step is not None and self.step > range_:
            raise ValueError(f"a step of {self.step:g} is longer than the range of {range_:g}; give a shorter one")
        _require_narrow(self.tolerance, range_, f"the range of {range_:g}")
        return self

    @property
    def readback_tolerance(self) -> float:
        """How far the value read back may differ."""
        return 1e-9 * (self.high - self.low) if self.tolerance is None else self.tolerance


class BlankerLimits(Model):
    """What blanks the beam of an instrument: a control, which then nobody else may move.

    Attributes:
        control: its name.
        blanked: its value while the beam is off the specimen.
        unblanked: its value while the beam is on it.
        settle_s: wait after unblanking before anything is measured.
        tolerance: how far the value read back may differ, at most a tenth of the way between both; a thousandth of it
            where it is not given.
    """

    control: ControlName
    blanked: Setting
    unblanked: Setting
    settle_s: Number = Field(0.0, ge=0, le=10)
    tolerance: Number | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _differ(self) -> BlankerLimits:
        way = abs(self.blanked - self.unblanked)
        if not way > 0:
            raise ValueError(f"blanked and unblanked are both {self.blanked:g}; give the two values of {self.control}")
        _require_narrow(self.tolerance, way, f"the way of {way:g} between both values")
        return self

    @property
    def readback_tolerance(self) -> float:
        """How far the value read back may differ."""
        return 1e-3 * abs(self.blanked - self.unblanked) if self.tolerance is None else self.tolerance


SIMULATORS = ("usim", "virtual_stem")
DEFLECTORS = ("CAperture.y", "CAperture.x")
DEFLECTOR_LIMITS = ControlLimits(low=-0.15, high=0.15)
"""Of a simulator, rad: farther out the disk is off its camera."""


class SiteLimits(Model):
    """The limits that a facility sets for an instrument; no user, plan or agent can widen them.

    Attributes:
        max_exposure_s: longest single exposure, 1e-6 to 1e6 s.
        max_overview_s: longest overview, 1e-6 to 1e6 s.
        max_dose_e: electrons that one run may put into the specimen, at most 1e30.
        max_time_s: duration of one run, 0.001 to 1e9 s.
        saturation_counts: a channel of a spectrum at or above this is saturated; found from a plateau where not given.
        beam_current_pA: the beam current, for the account of dose where the instrument does not tell it.
        controls: the controls that may be moved at all.
        blanker: what blanks the beam; it is blanked whenever nothing is measured. None: the beam stays where it is.
    """

    max_exposure_s: Number = Field(60.0, ge=1e-6, le=1e6)
    max_overview_s: Number = Field(600.0, ge=1e-6, le=1e6)
    max_dose_e: Number | None = Field(None, gt=0, le=1e30)
    max_time_s: Number | None = Field(None, ge=1e-3, le=1e9)
    saturation_counts: Number | None = Field(None, gt=0, le=1e12)
    beam_current_pA: Number | None = Field(None, ge=1e-6, le=1e6)
    controls: dict[ControlName, ControlLimits] = Field(default_factory=dict, max_length=1000)
    blanker: BlankerLimits | None = None

    @model_validator(mode="after")
    def _leave_the_blanker_alone(self) -> SiteLimits:
        if self.blanker is not None and self.blanker.control in self.controls:
            raise ValueError(
                f"{self.blanker.control} blanks the beam, so it cannot be among the controls that may be moved; take "
                "it out of one of the two"
            )
        return self

    @classmethod
    def read(cls, path: str | pathlib.Path) -> SiteLimits:
        """Read a site file.

        Raises:
            PlanError: it cannot be read or used; the message names the field.
        """
        try:
            return cls.model_validate(read_json(path, "The site's limits"))
        except ValidationError as error:
            raise PlanError(f"The site's limits {shown(path)} cannot be used:\n{explain(error)}") from error


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

    Raises:
        PlanError: there is a file, or may be one, and it cannot be read or used.
    """
    path = limits_file(identity, folder)
    if _may_be_there(path):
        return SiteLimits.read(path)
    known = identity.simulated and identity.key.startswith(SIMULATORS)
    return SiteLimits(controls=dict.fromkeys(DEFLECTORS, DEFLECTOR_LIMITS) if known else {})


def _may_be_there(path: pathlib.Path) -> bool:
    """Whether limits are meant here: a link that leads nowhere, or a folder that cannot be looked into, counts."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def limits_file(identity: Identity, folder: pathlib.Path) -> pathlib.Path:
    """Where the site's limits for an instrument belong."""
    name = re.sub(r"[^\w .-]", "_", identity.key)
    return folder / f"{name}.json"
