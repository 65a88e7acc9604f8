"""Centring the bright-field disk: a frame, where the disk is, a move; all through the guardian.

What decides the moves (:class:`autoexp.agents.aligner.Aligner`) knows positions on a camera of 255 pixels and controls
whose unit shifts the disk by about one of them. Here that is translated, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from autoexp import events as ev
from autoexp.agents.aligner import Aligner, Caution, MakeAligner
from autoexp.disk import Disk, center_of_mass, find_disk
from autoexp.errors import AlignmentError, InstrumentError
from autoexp.guardian import Guardian
from autoexp.instrument import CameraFrame
from autoexp.models.response import Array, Belief
from autoexp.plan import AlignmentSpec

ALIGNER_PX = 255.0
"""Width of the camera for which the aligner's expectations are written down."""
EDGE = 0.96
"""Share of half the frame beyond which the aligner does not want the centre of the disk to go."""
INTERRUPTED = "ended on request"
NO_DISK = "no disk is to be seen; look whether there is a beam and the aperture is in, and bring it onto the camera"
ONE = np.ones(1, dtype=bool)
SURE = 0.9
"""So confident has it to be of the handedness to speak of it."""
APART_PX = 1.0
"""How much farther than the tolerance the centre of mass may be from the goal when the fit says that it is there."""


@dataclass(frozen=True)
class Response:
    """How the controls move the disk, as learned.

    Attributes:
        rotation_deg: by how much the axes of the controls are turned against the camera's.
        px_per_unit: pixels of the frame that a unit of the controls shifts the disk by.
        mirrored: whether the axes are mirrored; None as long as no move has told.
        confidence: in the likelier answer to that, 0.5 to 1.
    """

    rotation_deg: float
    px_per_unit: float
    mirrored: bool | None
    confidence: float

    def describe(self) -> str:
        """In words."""
        mirrored = {True: "mirrored", False: "not mirrored", None: "whether mirrored is not known yet"}[self.mirrored]
        return f"turned by {self.rotation_deg:.0f}°, {self.px_per_unit:.4g} px a unit, {mirrored}"


@dataclass(frozen=True)
class Look:
    """One frame of an alignment.

    Attributes:
        frame: what the camera showed.
        disk: where the disk is; None where there is none.
        residual_px: from the goal, pixels of the frame; None where there is no disk.
        residual_mrad: the same as an angle, where the camera is calibrated.
        values: of the two controls when the frame was taken.
        aligned: whether this is near enough.
        dose_e: electrons that it took; 0 where the beam current is not known.
    """

    frame: CameraFrame
    disk: Disk | None
    residual_px: float | None
    residual_mrad: float | None
    values: tuple[float, float]
    aligned: bool
    dose_e: float = 0.0

    def event(self) -> ev.Looked:
        """For a journal."""
        return ev.Looked(
            values=self.values,
            center=None if self.disk is None else self.disk.center,
            residual_px=self.residual_px,
            residual_mrad=self.residual_mrad,
            aligned=self.aligned,
            dose_e=self.dose_e,
        )


@dataclass
class Alignment:
    """What came of it.

    Attributes:
        looks: every frame, in order.
        success: whether the disk is at the goal.
        reason: how it ended, in words.
        interrupted: whether it was ended because it was not wanted any more.
        response: what was learned; None if nothing was.
    """

    looks: list[Look] = field(default_factory=list)
    success: bool = False
    reason: str = ""
    interrupted: bool = False
    response: Response | None = None

    def event(self) -> ev.Aligned:
        """For a journal."""
        learned = self.response
        told = {} if learned is None else {n: getattr(learned, n) for n in ("rotation_deg", "px_per_unit", "mirrored")}
        return ev.Aligned(success=self.success, reason=self.reason, frames=len(self.looks), **told)


class AlignmentTask:
    """Centres the disk, again and again; what was learned of the response is kept from one time to the next.

    Args:
        guardian: the only way to the instrument; its limits have to list both controls.
        spec: how.
        on_look: told of every frame, on the thread that aligns.
        wanted: False ends it before the next move.
        belief: what an earlier task with these controls has learned.
        make_aligner: makes what decides the moves.

    Attributes:
        belief: what is believed of the response now; for the next task.

    Raises:
        PlanError: the site's limits do not list a control.
    """

    def __init__(
        self,
        guardian: Guardian,
        spec: AlignmentSpec,
        on_look: Callable[[Look], None] = lambda look: None,
        wanted: Callable[[], bool] = lambda: True,
        belief: Belief | None = None,
        make_aligner: MakeAligner = Aligner,
    ):
        self.belief = belief or Belief(1, ALIGNER_PX / 2, rounded=False)
        self._guardian = guardian
        self._spec = spec
        self._on_look = on_look
        self._wanted = wanted
        self._make_aligner = make_aligner
        self._aligner: Aligner | None = None
        self._units = 1.0
        guardian.check_alignment(spec)

    def run(self) -> Alignment:
        """Align, from where the disk is now.

        Raises:
            GuardianError: a frame or a move was refused; nothing moved that was not allowed.
            InstrumentError: no frame came.
        """
        found = Alignment()
        while True:
            look = self.look()
            found.looks.append(look)
            self._on_look(look)
            aligner, scale = self._prepared(look.frame)
            if len(found.looks) == 1:
                aligner.begin()
            else:  # not by what was asked for: a limit may have cut it short
                moved = np.subtract(look.values, found.looks[-2].values) * self._units
                aligner.made(moved[None])
            shape = look.frame.image.shape
            position = np.full(2, np.nan) if look.disk is None else np.array(look.disk.offset(shape)) * scale
            found.success, found.reason = look.aligned, self._end(found.looks)
            if found.reason:
                found.interrupted = found.reason == INTERRUPTED
                aligner.see(position[None], ONE)
                found.response = self._response(aligner, scale)
                return found
            goal = (np.array(self._spec.goal) - 0.5) * np.array(shape) * scale
            self._move(aligner.next_moves(position[None], goal[None], ONE)[0] / self._units, look.values)

    def _end(self, looks: list[Look]) -> str:
        """Why there is to be no further move; nothing as long as there is."""
        look = looks[-1]
        if look.aligned:
            return "the disk is at its goal"
        if len(looks) == 1 and look.disk is None:
            return NO_DISK
        if not self._wanted():
            return INTERRUPTED
        if len(looks) < self._spec.frames:
            return ""
        if look.residual_px is not None and look.residual_px <= self._spec.tolerance_px:
            return "the disk's edge is at its goal, its centre of mass is not; is a part of the disk blocked?"
        return f"the disk is not at its goal after {self._spec.frames} frames"

    def look(self) -> Look:
        """One frame, and where the disk is; nothing moves.

        Raises:
            GuardianError: the frame was refused.
            InstrumentError: no frame came.
        """
        frame = self._guardian.camera_frame(self._spec.frame)
        dose_e = self._guardian.account.last_e
        y, x = self._spec.controls
        values = self._guardian.value(y), self._guardian.value(x)
        disk = find_disk(frame.image)
        if disk is None:
            return Look(frame, None, None, None, values, False, dose_e)
        residual = self._from_goal(frame, disk.center)
        mrad = None if frame.mrad_per_px is None else residual * frame.mrad_per_px
        aligned = residual <= self._spec.tolerance_px and self._agrees(frame)
        return Look(frame, disk, residual, mrad, values, aligned, dose_e)

    def _from_goal(self, frame: CameraFrame, center: tuple[float, float]) -> float:
        """Distance from the goal, pixels of the frame."""
        goal = [g * n - 0.5 for g, n in zip(self._spec.goal, frame.image.shape, strict=True)]
        return math.hypot(center[0] - goal[0], center[1] - goal[1])

    def _agrees(self, frame: CameraFrame) -> bool:
        """Whether another measurement than the one that is steered by says that the disk is there too."""
        mass = center_of_mass(frame.image)
        return mass is not None and self._from_goal(frame, mass) <= self._spec.tolerance_px + APART_PX

    def _prepared(self, frame: CameraFrame) -> tuple[Aligner, float]:
        """What decides, made when the first frame tells how large frames are; and its pixels to one of the frame."""
        scale = ALIGNER_PX / min(frame.image.shape)
        if self._aligner is None:
            per_unit = self._spec.px_per_unit or (1e3 / frame.mrad_per_px if frame.mrad_per_px else None)
            if per_unit is None:
                raise AlignmentError(
                    "The camera is not calibrated, so nobody knows how far the controls may shift the disk. Give "
                    "px_per_unit: how many pixels of the frame a unit shifts it by, to within a factor of two."
                )
            self._units = per_unit * scale
            tolerance = self._spec.tolerance_px * scale
            caution = Caution(largest=self._largest())
            self._aligner = self._make_aligner(1, EDGE * ALIGNER_PX / 2, tolerance, self.belief, caution)
        return self._aligner, scale

    def _largest(self) -> float:
        """How far each control may go in one move, in the aligner's units: not beyond what the site allows."""
        steps = [self._guardian.site.controls[name].step for name in self._spec.controls]
        return min([Caution.largest, *(0.999 * step * self._units for step in steps if step is not None)])

    def _move(self, move: Array, values: tuple[float, float]) -> None:
        """Move both controls; where the limits are in the way, as far in that direction as they allow.

        Raises:
            InstrumentError: a limit is reached, and the disk would have to go beyond it.
        """
        share = 1.0
        for name, part, value in zip(self._spec.controls, move, values, strict=True):
            low, high = self._guardian.allowed_range(name)
            room = (high if part > 0 else low) - value
            if part and abs(part) > abs(room):
                share = min(share, max(0.0, 0.999 * room / part))
        if share < 0.01:
            name = self._spec.controls[int(np.argmax(np.abs(move)))]
            raise InstrumentError(
                f"{name} is at the end of what the limits allow, and the disk is not at its goal. Widen the limits, or "
                "bring the disk nearer by hand."
            )
        for name, part, value in zip(self._spec.controls, move, values, strict=True):
            wanted = float(value + share * part)
            self._guardian.await_rate(name, wanted)
            self._guardian.move(name, wanted)

    def _response(self, aligner: Aligner, scale: float) -> Response | None:
        """What was learned, in the units of the frame and of the controls."""
        if not aligner.belief.known[0]:
            return None
        J = aligner.belief.response(np.array([0]))[0] * self._units / scale
        mirrored = bool(np.linalg.det(J) < 0)
        square = J @ np.diag([1.0, -1.0]) if mirrored else J
        rotation = math.degrees(math.atan2(square[1, 0] - square[0, 1], square[0, 0] + square[1, 1]))
        probability = float(aligner.belief.handedness[0])
        confidence = max(probability, 1 - probability)
        scale_of = math.sqrt(abs(float(np.linalg.det(J))))
        return Response(rotation, scale_of, probability > 0.5 if confidence >= SURE else None, confidence)
