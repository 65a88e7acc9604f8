"""train: agents that learn to align."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from autoexp.cli.console import ENDED_BADLY, INTERRUPTED, JsonFlag, interruptible, progress, replying
from autoexp.errors import PlanError

ENVIRONMENT = "BrightFieldDisk-v0"


def train(
    env: Annotated[str, typer.Option(help=f"What is to be learned: {ENVIRONMENT}.")] = ENVIRONMENT,
    agent: Annotated[str, typer.Option(help="How: sac, tqc or crossq.")] = "sac",
    steps: Annotated[int, typer.Option(min=100, help="Steps of learning.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, exploration and environment.")] = 0,
    hidden: Annotated[int, typer.Option(min=2, help="Neurons in each of the two hidden layers.")] = 128,
    step_size: Annotated[float, typer.Option(help="Longest shift, tenths of a pixel of a camera of 255.")] = 100.0,
    tolerance: Annotated[float, typer.Option(min=0, help="Bins from the goal that are near enough.")] = 3.0,
    binning: Annotated[int, typer.Option(help="Camera pixels to a bin: 1, 2 or 4.")] = 4,
    reward: Annotated[str, typer.Option(help="informative, non-informative or sparse.")] = "informative",
    out: Annotated[
        pathlib.Path, typer.Option(help="Folder for policy, checkpoints, episodes and the learning curve.")
    ] = pathlib.Path("trained"),
    relearn: Annotated[pathlib.Path | None, typer.Option(help="Begin with the policy in this folder.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes by which the policy is judged in the end.")] = 200,
    as_json: JsonFlag = False,
) -> None:
    """Train an agent in simulation, and say how it does beside one that is told the response.

    Ctrl-C ends the training early; what was learned is kept. The policy is kept as numbers and a card, nothing else,
    and can be used without the libraries that trained it.
    """
    with replying(as_json) as reply:
        if env != ENVIRONMENT:
            raise PlanError(f"There is no environment {env!r}; there is {ENVIRONMENT}.")
        from autoexp.plan import checked
        from autoexp.training import learning
        from autoexp.training.policies import Policy

        disk = {"step_size": step_size, "tolerance": tolerance, "binning": binning, "reward": reward}
        training = checked(learning.Training, environment=disk, agent=agent, steps=steps, seed=seed, hidden=hidden)
        if (out / "card.json").exists():
            raise PlanError(f"There is a policy in {out} already; name another folder.")
        start_from = Policy.load(relearn) if relearn else None
        with interruptible() as wanted, progress("learning", steps) as told:

            def on_step(step: int) -> bool:
                told(step)
                return wanted()

            policy, course = learning.train(training, out, start_from, on_step)
        taken = int(policy.card["steps"])
        floor = learning.judge(training.environment, learning.by_response, episodes)
        skill = learning.judge(training.environment, learning.by_policy(policy), episodes)
        solved = learning.solved_at(course)
        title = f"{agent.upper()}, {taken:,} steps, seed {seed}"
        learning.draw_learning(course, floor, title, out / "learning.png")
        reply.document(
            {
                "folder": str(out),
                "steps": taken,
                "wall_s": policy.card["wall_s"],
                "solved_at": solved,
                "success": skill.success,
                "steps_per_alignment": skill.steps if skill.success else None,
                "floor_steps": floor.steps,
                "rms_px": skill.rms_px if skill.success else None,
                "episodes": episodes,
            }
        )
        reply.line(f"policy    {out}")
        reply.line(f"solved    {f'after {solved:,} steps' if solved else 'no'} (9 of 10 episodes at the goal)")
        aligned = f"{100 * skill.success:.1f} % of {episodes} episodes"
        reply.line(f"aligned   {aligned}" + (f", {skill.steps:.2f} steps" if skill.success else ""))
        reply.line(f"floor     {floor.steps:.2f} steps by one that is told the response")
        if taken < steps:
            raise typer.Exit(INTERRUPTED)
        if not skill.success:
            raise typer.Exit(ENDED_BADLY)
