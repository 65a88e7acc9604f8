"""Many trainings, each by itself, on the processes of this machine or the nodes of a cluster.

A training has a folder of its own, which appears in one step when it is finished: with its row of numbers, its policy
and its episodes, or with the reason why it failed. So a sweep that was cut off goes on where it was.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import math
import os
import pathlib
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from typing import Any, Literal, Protocol

from pydantic import Field, ValidationError

from autoexp.documents import read_json, shown
from autoexp.errors import PlanError
from autoexp.export.atomic import replace_file
from autoexp.fields import Number, Whole, explain
from autoexp.plan import Model, checked
from autoexp.text import cell
from autoexp.training.learning import (
    BySecant,
    Skill,
    Trainer,
    Training,
    by_policy,
    by_response,
    judge,
    solved_at,
    write_episodes,
)

ROW, FAILED, TABLE = "row.json", "failed.json", "table.csv"
MAX_JOBS = 10_000
UNFINISHED = ".keep-"
ABANDONED_S = 3600.0
"""What is under way for so long is what a process that was killed has left."""
Value = str | int | float | bool | None
Row = dict[str, Value]


class Job(Model):
    """One training of a sweep, how it is judged, and what happens to its instrument afterwards.

    Attributes:
        training: what is trained, and how.
        judged_on: episodes by which the policy is judged.
        then_scale: the scale of the instrument is so many times larger afterwards, and the agent learns again.
        then_steps: for so many steps.
    """

    training: Training = Training()
    judged_on: Whole = Field(200, ge=1, le=100_000)
    then_scale: Number | None = Field(None, ge=1e-3, le=10)
    then_steps: Whole = Field(5000, ge=100, le=100_000_000)

    @property
    def name(self) -> str:
        """A name for its folder: what is the same has the same, what is not has another."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
        training = self.training
        return f"{training.agent}-{training.environment.reward}-{training.hidden}-{training.seed}-{digest}"


class Sweep(Model):
    """Trainings that differ in some settings: all combinations of what these may be.

    Attributes:
        job: what they have in common.
        vary: settings by their path in the job, as ``training.environment.binning``, and the values of each.
    """

    job: Job = Job()
    vary: dict[str, list[Value]] = Field(default_factory=dict, max_length=100)

    @classmethod
    def read(cls, path: pathlib.Path) -> Sweep:
        """Read a sweep from a file of JSON.

        Raises:
            PlanError: it cannot be read or used; the message names the field.
        """
        try:
            return cls.model_validate(read_json(path, "The sweep"))
        except ValidationError as error:
            raise PlanError(f"The sweep {shown(path)} cannot be used:\n{explain(error)}") from error

    def jobs(self) -> list[Job]:
        """All of its trainings, in order.

        Raises:
            PlanError: a setting does not exist, or may not have such a value; or there are too many.
        """
        count = math.prod(len(values) for values in self.vary.values())
        if count > MAX_JOBS:
            raise PlanError(
                f"The sweep has {count:,} combinations; at most {MAX_JOBS:,} are trained. Vary fewer settings, or give "
                "fewer values."
            )
        found = []
        for values in itertools.product(*self.vary.values()):
            document = self.job.model_dump()
            for path, value in zip(self.vary, values, strict=True):
                _put(document, path, value)
            found.append(checked(Job, **document))
        return found


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of one training: its files by name, among them its row; or why there are none."""

    job: Job
    files: Mapping[str, bytes]
    error: str = ""


class Workers(Protocol):
    """Carry trainings out, several at a time, in any order; one that dies is a result with an error."""

    def run(self, jobs: Sequence[Job], wanted: Callable[[], bool]) -> Iterator[Result]:
        """Carry jobs out; when they are not wanted any more, what is under way is dropped."""
        ...


def sweep(
    jobs: Sequence[Job],
    folder: pathlib.Path,
    workers: Workers,
    *,
    retry: bool = False,
    on_row: Callable[[Row], None] = lambda row: None,
    wanted: Callable[[], bool] = lambda: True,
) -> list[Row]:
    """Carry out those trainings that are not finished, and return the rows of all, in order.

    Args:
        jobs: the trainings.
        folder: where each has its own; ``table.csv`` there holds all rows.
        workers: who carries them out.
        retry: try those again that failed before.
        on_row: told of each that ends.
        wanted: False ends it; what is finished is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    unique = list({job.name: job for job in jobs}.values())
    todo = [job for job in unique if not _is_finished(folder / job.name, retry)]
    for result in workers.run(todo, wanted) if todo else ():
        row = keep(result, folder)
        on_row(row)
    found = (read_row(folder / job.name) for job in jobs)
    rows = [row for row in found if row is not None]
    write_table(rows, folder / TABLE)
    return rows


def unfinished(jobs: Sequence[Job], folder: pathlib.Path, retry: bool = False) -> int:
    """How many different trainings are still to be done."""
    return len({job.name for job in jobs if not _is_finished(folder / job.name, retry)})


def train_one(job: Job) -> dict[str, bytes]:
    """Carry one training out on this process; returns its files by name.

    Raises:
        AutoexpError: it cannot be done.
    """
    training = job.training
    begun = time.monotonic()
    trainer = Trainer(training)
    episodes = trainer.learn(training.steps)
    wall_s = time.monotonic() - begun
    policy = trainer.policy()
    row = _settings(job)
    row |= {"solved_at": solved_at(episodes), "wall_s": round(wall_s, 1), "episodes": len(episodes)}
    row |= _skill(judge(training.environment, by_policy(policy), job.judged_on))
    row |= _skill(judge(training.environment, by_response, job.judged_on), "floor_")
    row |= _skill(judge(training.environment, BySecant(), job.judged_on), "secant_")
    if job.then_scale is not None:
        scale = training.environment.scale * job.then_scale
        changed = training.environment.model_copy(update={"scale": scale})
        row |= _skill(judge(changed, by_policy(policy), job.judged_on), "frozen_")
        trainer.change(changed)
        again = trainer.learn(job.then_steps)
        row |= {"relearned_at": solved_at(again)}
        row |= _skill(judge(changed, by_policy(trainer.policy()), job.judged_on), "relearned_")
        row |= _skill(judge(changed, by_response, job.judged_on), "changed_floor_")
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        policy.save(folder)
        write_episodes(episodes, folder / "episodes.csv")
        if job.then_scale is not None:
            write_episodes(again, folder / "again.csv")
        (folder / ROW).write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def keep(result: Result, folder: pathlib.Path) -> Row:
    """Write a result into a folder of its own, in one step that a power cut does not undo; returns its row."""
    final, files = folder / result.job.name, dict(result.files)
    if result.error:
        row = {**_settings(result.job), "error": result.error}
        files = {FAILED: (json.dumps(row, indent=2) + "\n").encode()}
    made = pathlib.Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    try:
        for name, content in files.items():
            _write(made / pathlib.PurePath(name).name, content)
        made.chmod(0o755)
        _fsync_folder(made)
        _remove(final)  # one that failed before, or is damaged
        os.replace(made, final)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    _fsync_folder(folder)
    return read_row(final) or {}


def read_row(folder: pathlib.Path) -> Row | None:
    """The row of a training, with the reason if it failed; None where it is not finished.

    What cannot be read, as after a power cut, is not finished.
    """
    return _row(folder / ROW) or _row(folder / FAILED)


def write_table(rows: Iterable[Row], path: pathlib.Path) -> None:
    """All rows as a table."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([cell(column) for column in columns])
    writer.writerows([cell(row.get(column, "")) for column in columns] for row in rows)
    with replace_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


class Processes:
    """A process for each training, some at a time; one that is killed takes no other with it.

    Args:
        at_once: how many at a time; as many as there are cores, if not given.
    """

    def __init__(self, at_once: int | None = None):
        self._at_once = at_once or os.cpu_count() or 1

    def run(self, jobs: Sequence[Job], wanted: Callable[[], bool]) -> Iterator[Result]:
        """See :class:`Workers`."""
        context = _context()
        left = list(jobs)
        running: dict[Any, tuple[Job, Any]] = {}
        try:
            while (left or running) and wanted():
                while left and len(running) < self._at_once:
                    job = left.pop(0)
                    receiver, sender = context.Pipe(duplex=False)
                    process = context.Process(target=_work, args=(job.model_dump_json(), sender), daemon=True)
                    process.start()
                    sender.close()
                    running[receiver] = job, process
                for ready in connection.wait(list(running), timeout=0.2):
                    job, process = running.pop(ready)
                    yield _received(job, process, ready)
        finally:
            for _, process in running.values():
                process.kill()


def _context() -> Any:
    """How processes are begun: where that can be, by one that has everything imported and forks the others."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["stable_baselines3", __name__])
    return context


def _work(job: str, sender: Any) -> None:
    """On a process of its own, which ends with the sweep's, however that ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    files, error = attempt(job)
    sender.send((files, error))
    sender.close()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def attempt(job: str) -> tuple[dict[str, bytes], str]:
    """The files of a training given as JSON, or why there are none; raises nothing."""
    try:
        return train_one(Job.model_validate_json(job)), ""
    except Exception as error:  # whatever a library raises is this training's failure, not the sweep's
        last = traceback.extract_tb(error.__traceback__)[-1]
        return {}, f"{type(error).__name__}: {error} ({pathlib.PurePath(last.filename).name}:{last.lineno})"


def _received(job: Job, process: Any, receiver: Any) -> Result:
    try:
        files, error = receiver.recv()
    except EOFError:
        files, error = {}, ""
    process.join()
    if not files and not error:
        error = f"its process ended with exit code {process.exitcode}"
    return Result(job, files, error)


def _is_finished(folder: pathlib.Path, retry: bool) -> bool:
    return _row(folder / ROW) is not None or (not retry and _row(folder / FAILED) is not None)


def _row(path: pathlib.Path) -> Row | None:
    try:
        found = read_json(path, "The row")
    except PlanError:
        return None
    plain = isinstance(found, dict) and found and all(isinstance(value, Value) for value in found.values())
    return found if plain else None


def _write(path: pathlib.Path, content: bytes) -> None:
    """Write a new file, down to the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fsync_folder(folder: pathlib.Path) -> None:
    """Make the names in a folder last; Windows does so by itself, and cannot be asked to."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _remove(folder: pathlib.Path) -> None:
    """Remove what is there, without following it if it is a link."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def _clear(folder: pathlib.Path) -> None:
    """Remove what processes that were killed have left."""
    for left in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > ABANDONED_S:
                _remove(left)


def _put(document: dict[str, Any], path: str, value: Value) -> None:
    """Change one setting of many.

    Raises:
        PlanError: there is none of that name.
    """
    *folders, name = path.split(".")
    place: Any = document
    for folder in folders:
        place = place.get(folder) if isinstance(place, dict) else None
    if not isinstance(place, dict) or name not in place or isinstance(place[name], dict):
        raise PlanError(f"There is no setting {path!r} to vary; there are: {', '.join(_paths(document))}.")
    place[name] = value


def _paths(document: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _settings(job: Job) -> Row:
    """What a training was, as the beginning of its row."""
    training = job.training
    environment: Row = training.environment.model_dump()
    named: Row = {name: getattr(training, name) for name in ("agent", "steps", "seed", "hidden")}
    return {"name": job.name, **named, **environment, "then_scale": job.then_scale}


def _skill(
    skill: Skill, before: Literal["", "floor_", "secant_", "frozen_", "relearned_", "changed_floor_"] = ""
) -> Row:
    """How something does, as a part of a row."""
    told = {"success": skill.success, "steps_mean": skill.steps, "steps_std": skill.steps_std, "rms_px": skill.rms_px}
    return {f"{before}{name}": None if math.isnan(value) else round(value, 4) for name, value in told.items()}
