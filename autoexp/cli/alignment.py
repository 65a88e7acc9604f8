"""align: the bright-field disk is centred."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoexp.cli.console import (
    ENDED_BADLY,
    ENDINGS,
    RUNS,
    ArmFlag,
    JsonFlag,
    Reply,
    RunsFolder,
    interruptible,
    replying,
)
from autoexp.errors import PlanError

if TYPE_CHECKING:
    from autoexp.plan import AlignmentSpec, InstrumentSpec
    from autoexp.tasks.alignment import Alignment, Look
    from autoexp.training.deployed import Pilot


def align(
    instrument: Annotated[str, typer.Option(help="virtual, or swift: what Swift's plug-ins bring.")] = "virtual",
    controls: Annotated[
        str, typer.Option(help="The two controls that shift the disk, with a comma between.")
    ] = "CAperture.y,CAperture.x",
    tolerance: Annotated[float, typer.Option(help="How near is near enough, pixels of the frame.")] = 1.0,
    exposure: Annotated[float, typer.Option(help="Exposure of a frame, s.")] = 0.05,
    binning: Annotated[int, typer.Option(help="Camera pixels to a pixel of the frame.")] = 8,
    px_per_unit: Annotated[
        float | None,
        typer.Option(help="Pixels that a unit of the controls shifts the disk by; not needed for angles in rad."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=2, help="Frames after which it is given up; 20, or 60 with a policy.")
    ] = None,
    policy: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder of a policy, trained with autoexp train, that says where the disk goes."),
    ] = None,
    times: Annotated[
        int, typer.Option(min=1, help="Only virtual: align so often, the disk being displaced before each.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Only virtual: which instrument, unknown to the aligner.")] = 0,
    back: Annotated[bool, typer.Option("--back", help="Put the controls back in the end.")] = False,
    runs: RunsFolder = RUNS,
    arm: ArmFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Centre the bright-field disk, by controls of which nobody knows how they move it.

    The controls have to be listed in the instrument's limits file. Every move is in a journal, in
    RUNS/alignments, before it is made. If it fails, or is ended by Ctrl-C, they are put
    back to where they were; a second Ctrl-C cuts the exposure short as well.

    Exit code 0: centred; 1: not; 2: it cannot be done as asked.
    """
    with replying(as_json) as reply:
        from autoexp.agents.aligner import Aligner
        from autoexp.plan import AlignmentSpec, checked
        from autoexp.session import open_alignments

        pilot = _pilot(policy) if policy else None
        where = _instrument(instrument, seed)
        if times > 1 and where.kind != "virtual":
            raise PlanError("Only the virtual microscope's disk can be displaced; leave --times out.")
        spec = checked(
            AlignmentSpec,
            controls=[name.strip() for name in controls.split(",")],
            frame={"exposure_s": exposure, "binning": binning},
            tolerance_px=tolerance,
            px_per_unit=px_per_unit,
            frames=frames or (60 if pilot else 20),
        )
        done: list[dict[str, Any]] = []
        opened = open_alignments(where, runs, armed=arm, make_aligner=pilot or Aligner)
        with opened as alignments, interruptible(*ENDINGS) as wanted:
            wanted.abort = alignments.abort
            alignments.check(spec)
            if alignments.recover():
                reply.line("  an alignment was cut off before; the controls go back to where it found them")
                alignments.undo()
            for turn in range(times):
                if where.kind == "virtual":
                    alignments.displace(_elsewhere(spec, seed, turn))
                found = alignments.align(spec, lambda look: _show(reply, look), wanted)
                share = pilot.share() if pilot else None
                done.append(_summary(found, share))
                _conclude(reply, found, share)
                if not found.success:
                    break
            if found.success and back:
                alignments.undo()
        reply.document(done[0] if times == 1 else {"success": done[-1]["success"], "alignments": done})
        if not found.success:
            raise typer.Exit(ENDED_BADLY)


def _pilot(folder: pathlib.Path) -> Pilot:
    """The policy in a folder.

    Raises:
        PlanError: there is none that can align.
    """
    from autoexp.training.deployed import Pilot
    from autoexp.training.policies import Policy

    return Pilot(Policy.load(folder))


def _instrument(kind: str, seed: int) -> InstrumentSpec:
    """Which instrument.

    Raises:
        PlanError: there is none of that kind.
    """
    from autoexp.plan import SwiftInstrument, VirtualInstrument

    if kind not in ("virtual", "swift"):
        raise PlanError(f"There is no instrument {kind!r}; there are: virtual, swift.")
    return VirtualInstrument(seed=seed) if kind == "virtual" else SwiftInstrument()


def _elsewhere(spec: AlignmentSpec, seed: int, turn: int) -> dict[str, float]:
    """Controls with which the virtual disk is somewhere else, where it still is to be seen."""
    import numpy as np

    values = np.random.default_rng([seed, turn, 5]).uniform(-0.05, 0.05, 2)
    return dict(zip(spec.controls, values.tolist(), strict=True))


def _show(reply: Reply, look: Look) -> None:
    """One line for each frame."""
    if look.residual_px is None:
        reply.line("  no disk")
        return
    mrad = "" if look.residual_mrad is None else f"  {look.residual_mrad:7.2f} mrad"
    centred = [("  centred", "green")] if look.aligned else []
    reply.line(f"  {look.residual_px:7.2f} px{mrad}  from the goal", *centred)


def _conclude(reply: Reply, found: Alignment, share: dict[str, int] | None) -> None:
    """How it ended; with the policy's share in it, if there was one."""
    frames = len(found.looks)
    reply.line(f"{'aligned' if found.success else 'not aligned'}  {found.reason}; {frames} frame{'s' * (frames != 1)}")
    if found.response is not None:
        reply.line(f"response {found.response.describe()}")
    if share is not None:
        reply.line("policy   {moves} moves; {overruled} overruled".format(**share))


def _summary(found: Alignment, share: dict[str, int] | None) -> dict[str, Any]:
    """For programs."""
    last = found.looks[-1]
    response = found.response
    return {
        "success": found.success,
        "reason": found.reason,
        "frames": len(found.looks),
        "residual_px": last.residual_px,
        "residual_mrad": last.residual_mrad,
        "path": [
            {
                "controls": list(look.values),
                "center_px": None if look.disk is None else list(look.disk.center),
                "residual_px": look.residual_px,
            }
            for look in found.looks
        ],
        "response": None
        if response is None
        else {
            "rotation_deg": response.rotation_deg,
            "px_per_unit": response.px_per_unit,
            "mirrored": response.mirrored,
            "confidence": response.confidence,
        },
        **({} if share is None else {"policy": share}),
    }
