"""A run as it is seen from a terminal: one live line, and Ctrl-C to pause, abort or halt."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from autoexp.cli.console import ENDINGS, clock, messages, plain, words

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from autoexp.engine import Engine
    from autoexp.status import Status

POLL_S = 0.1
PLAIN_EVERY_S = 5.0
Choice = Literal["resume", "finish", "abort"]


class LiveLine:
    """One line that follows a run: in place on a terminal, a new line now and then where output is kept.

    Args:
        console: where to write.
        simulated: whether the instrument is a simulation.
        units: units of the values.
    """

    def __init__(self, console: Console, simulated: bool, units: str = ""):
        self._console = console
        self._simulated = simulated
        self._units = units
        self._live: Any = None
        self._told = ("", -1, 0.0)

    def __enter__(self) -> LiveLine:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, refresh_per_second=10, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: Status) -> None:
        """Bring the line up to date."""
        if self._live is not None:
            self._live.update(self._render(status))
            return
        phase, points, at = self._told
        now = time.monotonic()
        changed = status.phase != phase and status.phase not in ("finishing", "idle")
        if changed or (status.points != points and now - at >= PLAIN_EVERY_S):
            self._told = (status.phase, status.points, now)
            self._console.print(words(self._text(status)), soft_wrap=True)

    def say(self, text: str) -> None:
        """A remark above the line."""
        self._console.print(words(text), soft_wrap=True)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """The line steps aside while somebody is asked."""
        if self._live is not None:
            self._live.stop()
        try:
            yield
        finally:
            if self._live is not None:
                self._live.start()

    def _render(self, status: Status) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, status.budget_points), completed=status.points, width=24)
        badge = Text("SIMULATED", style="bold black on yellow") if self._simulated else Text("REAL", style="bold red")
        told = (f"{status.points}/{status.budget_points}", self._best(status), self._left(status))
        line.add_row(badge, words((status.phase, "bold")), bar, *map(words, told))
        return line

    def _text(self, status: Status) -> str:
        badge = "SIMULATED" if self._simulated else "REAL"
        points = f"{status.points} of {status.budget_points} points"
        return f"{badge}  {status.phase}: {points}, {self._best(status)}, {self._left(status)}"

    def _best(self, status: Status) -> str:
        if status.best is None:
            return "best –"
        return f"best {plain(status.best.value, self._units)} (point {status.best.id + 1})"

    def _left(self, status: Status) -> str:
        failed = f", {status.failed} failed" if status.failed else ""
        return f"{clock(status.left_s)} left{failed}"


class Interrupts:
    """Ctrl-C, counted: once to pause (or, with nobody there, to finish), twice to abort, three times to halt.

    Args:
        engine: what is interrupted.
        interactive: whether somebody can be asked how to go on.
        say: tells what was understood.
    """

    def __init__(self, engine: Engine, interactive: bool, say: Callable[[str], None]):
        self._engine = engine
        self._interactive = interactive
        self._say = say
        self._presses = 0
        self.asking = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *ENDINGS):
                self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def presses(self) -> int:
        """How often it was pressed."""
        return self._presses

    def forget(self) -> None:
        """The next Ctrl-C counts as the first again."""
        self._presses = 0

    def press(self) -> None:
        """What a Ctrl-C does."""
        self._presses += 1
        if self._presses == 1 and self._interactive:
            self._say("Pausing after this point. Ctrl-C again aborts and puts the instrument back.")
            self._engine.pause()
        elif self._presses == 1:
            self._say("Finishing after this point. Ctrl-C again aborts and puts the instrument back.")
            self._engine.stop()
        elif self._presses == 2:
            self._say("Aborting. Ctrl-C again halts: nothing more is sent, not even to put the instrument back.")
            self._engine.abort()
        else:
            self._say("Halting. Nothing more is sent to the instrument.")
            self._engine.halt()

    def _caught(self, number: int, _frame: object) -> None:
        if number in ENDINGS:
            self._presses = max(self._presses, 1)
        self.press()
        if self.asking:
            raise KeyboardInterrupt


def follow(engine: Engine, line: LiveLine, interactive: bool, ask: Callable[[str], Choice] | None = None) -> bool:
    """Start a run and stay with it to its end.

    A pause that nobody asked for (a fault, a changed field) asks how to go on; with nobody there the run is finished
    in good order. A run that waits for the disk goes on by itself as soon as it can be written, so nobody is asked.

    Returns:
        Whether the run had to be given up because nobody was there to say how to go on.
    """
    given_up = waiting = False
    warned = ""
    with line, Interrupts(engine, interactive, line.say) as interrupts:
        engine.start()
        while not engine.join(POLL_S):
            status = engine.status
            line.show(status)
            if status.warning and status.warning != warned:
                warned = status.warning
                line.say(f"warning: {warned}")
            if engine.waits_for_disk:
                if not waiting:
                    line.say(f"waiting: {status.reason}")
                waiting = True
                continue
            waiting = False
            if not engine.waits_for_help:
                continue
            status = engine.status
            if not interactive:
                if not given_up:
                    line.say(f"{status.phase}: {status.reason} Nobody is here to ask: finishing.")
                    engine.stop()
                given_up = True
                continue
            with line.asking():
                _go_on(engine, interrupts, ask or _ask, status.reason)
        line.show(engine.status)
    return given_up


def _go_on(engine: Engine, interrupts: Interrupts, ask: Callable[[str], Choice], reason: str) -> None:
    interrupts.asking = True
    try:
        choice = ask(reason)
    except (KeyboardInterrupt, EOFError):
        if not interrupts.presses:
            engine.abort()
        engine.join(0.5)
        return
    finally:
        interrupts.asking = False
    interrupts.forget()
    {"resume": engine.resume, "finish": engine.stop, "abort": engine.abort}[choice]()
    engine.join(0.3)


def _ask(reason: str) -> Choice:
    from rich.prompt import Prompt

    class Question(Prompt):
        illegal_choice_message = "Please say one of these."  # rich's own has markup in it

    console = messages()
    console.print(words(f"Paused: {reason}"), soft_wrap=True)
    choices: list[Choice] = ["resume", "finish", "abort"]
    answer = Question.ask("How to go on", console=console, choices=list(choices), default="resume")
    return next(choice for choice in choices if choice == answer)
