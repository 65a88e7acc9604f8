"""What all commands share: where they write, how they fail, and what they exit with."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoexp.errors import AutoexpError, InstrumentError
from autoexp.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

OK, ENDED_BADLY, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
DEBUG = "AUTOEXP_DEBUG"

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
RunsFolder = Annotated[
    pathlib.Path, typer.Option("--runs", envvar="AUTOEXP_RUNS", help="Folder in which every run has its own.")
]
RunName = Annotated[str, typer.Argument(help="A run's folder, its id in the runs folder, or: latest", metavar="RUN")]
ArmFlag = Annotated[
    bool, typer.Option("--arm", help="Allow an instrument that is not simulated; without it nothing real is touched.")
]
RUNS = pathlib.Path("runs")
ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a program whose terminal, or whose computer, is closed."""
Part = str | tuple[str, str]
"""Text, or text and its style."""


def messages() -> Console:
    """Where progress and remarks go: standard error, so that output can be piped."""
    return _console(stderr=True)


def results() -> Console:
    """Where results go."""
    return _console(soft_wrap=True)


def _console(**given: Any) -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, **given)


def words(*parts: Part) -> Text:
    """What is written on a terminal: names, paths and messages of anybody, as they are.

    Nothing in them is taken for markup or for a picture, and nothing in them reaches the terminal as a command. A style
    is only what is given beside a text, as in ``words(("error:", "bold red"), message)``.
    """
    from rich.text import Text

    text = Text()
    for part in parts:
        said, style = (part, "") if isinstance(part, str) else part
        text.append(clean(said), style)
    return text


def remark(label: Part, text: str) -> None:
    """One line on standard error: what it is, and what there is to say."""
    messages().print(words(label, " ", text), soft_wrap=True)


def tolerant_output() -> None:
    """What standard output cannot write in its encoding becomes a question mark; a name never ends a command."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


class Reply:
    """What a command answers: lines for people, or one document for programs.

    Args:
        as_json: whether a program reads it.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self._stdout = sys.stdout

    def document(self, document: dict[str, Any]) -> None:
        """The answer to a program; nothing is written for people."""
        if self.as_json:
            self.raw(json.dumps(document, indent=2, allow_nan=False, default=str))

    def raw(self, text: str) -> None:
        """A document that is JSON already, in characters that standard output has."""
        try:
            text.encode(getattr(self._stdout, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            text = "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in text)
        self._stdout.write(text + "\n")
        self._stdout.flush()

    def line(self, *parts: Part) -> None:
        """One line for people (see :func:`words`); nothing is written for programs."""
        if not self.as_json:
            results().print(words(*parts))

    def table(self, title: str, rows: Sequence[Mapping[str, Part]], whole: Sequence[str] = (), **given: Any) -> None:
        """Rows that have the same columns, for people; nothing is written for programs.

        Args:
            title: what stands above it, or nothing.
            rows: by the heads of their columns.
            whole: heads of the columns of which no line is broken.
            given: how all columns are laid out; see ``Table.add_column`` of rich.
        """
        if self.as_json or not rows:
            return
        from rich.table import Table

        table = Table(title=words(title) if title else None, title_justify="left", box=None, pad_edge=False)
        for head in rows[0]:
            layout = given if head not in whole else {}
            table.add_column(words(head), overflow="fold", no_wrap=head in whole, **layout)
        for row in rows:
            table.add_row(*(words(cell) for cell in row.values()))
        results().print(table)


@contextlib.contextmanager
def replying(as_json: bool = False) -> Iterator[Reply]:
    """Turns what goes wrong into a message and an exit code; in JSON mode nothing else reaches standard output."""
    reply = Reply(as_json)
    aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    try:
        with aside:
            yield reply
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        _fail(reply, "Interrupted", "Interrupted; nothing is running any more.", INTERRUPTED)
    except AutoexpError as error:
        _fail(reply, type(error).__name__, str(error), ENDED_BADLY if isinstance(error, InstrumentError) else BAD_INPUT)
    except OSError as error:
        _fail(reply, type(error).__name__, str(error), BAD_INPUT)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        if plain := _invalid(error):
            _fail(reply, "PlanError", plain, BAD_INPUT)
        said = f"Unexpected error: {error!r}. Set {DEBUG}=1 to see where it came from, and please report it."
        _fail(reply, type(error).__name__, said, ENDED_BADLY)


def _invalid(error: Exception) -> str | None:
    """What is wrong with values that somebody gave, where that is what an error tells."""
    from pydantic import ValidationError

    from autoexp.fields import explain

    return f"This cannot be used:\n{explain(error)}" if isinstance(error, ValidationError) else None


def _fail(reply: Reply, kind: str, message: str, code: int) -> None:
    if reply.as_json:
        reply.document({"error": {"type": kind, "message": message}})
    else:
        remark(("error:", "bold red"), message)
    raise typer.Exit(code)


class Wanted:
    """Whether something is still wanted: it is until Ctrl-C is pressed. A second time, or being ended, aborts it.

    Attributes:
        abort: ends it at once; called on a thread of its own.
    """

    def __init__(self) -> None:
        self.abort: Callable[[], None] = lambda: None
        self._presses = 0

    def __call__(self) -> bool:
        return not self._presses

    def hear(self, number: int, _frame: object = None) -> None:
        """A signal came."""
        self._presses += 1 if number == signal.SIGINT else 2
        if self._presses > 1:
            threading.Thread(target=self.abort, name="autoexp-abort", daemon=True).start()


@contextlib.contextmanager
def interruptible(*more: signal.Signals) -> Iterator[Wanted]:
    """Lets Ctrl-C, and more signals, be asked for instead of ending the program."""
    wanted = Wanted()
    before = {number: signal.signal(number, wanted.hear) for number in (signal.SIGINT, *more)}
    try:
        yield wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left, on standard error; it is told how many are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task(clean(what), total=total)
        yield lambda done: bar.update(task, completed=done)


def plain(value: float | None, units: str = "") -> str:
    """A number in four digits with its units, or a dash."""
    return "–" if value is None or value != value else f"{value:,.4g} {units}".strip()


def clock(seconds: float | None) -> str:
    """A duration as minutes and seconds, or dashes."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
