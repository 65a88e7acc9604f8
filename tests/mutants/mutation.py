"""Deliberate faults, each put into a copy of the source by itself, and judged by the tests that concern it.

A fault that no test finds shows a test that is missing. The list is ``mutants.toml``; each entry has a ``name``, the
``file`` in which the ``old`` text, which occurs there once, gives way to the ``new`` one, and the ``tests`` (files, or
single tests of a file) that should find it. Run by ``make mutants``; not a test file itself.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = pathlib.Path(__file__).with_name("mutants.toml")
COPIED = ("autoexp", "simulators", "nionswift_plugin", "benchmarks", "tests", "docs")
FILES = ("pyproject.toml", "setup.py", "README.md")
BAR = 0.95
PATIENCE = 6
"""Times that the tests may take as long as they do without a fault, or the fault has made them hang."""


class BrokenMutantError(Exception):
    """An entry of the list that cannot be used."""


@dataclass(frozen=True)
class Mutant:
    """One deliberate fault."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, root: pathlib.Path) -> str:
        """The text of its file with the fault in it.

        Raises:
            BrokenMutantError: the old text does not occur once, or the new one is no Python.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise BrokenMutantError(
                f"{self.name}: the old text occurs {text.count(self.old)} times in {self.file}, not once. "
                "Write the mutant anew for the source as it is now."
            )
        changed = text.replace(self.old, self.new)
        try:
            compile(changed, self.file, "exec")
        except SyntaxError as error:
            raise BrokenMutantError(f"{self.name}: with the new text {self.file} is no Python: {error}") from error
        return changed


def read_list(path: pathlib.Path = LIST) -> list[Mutant]:
    """All mutants.

    Raises:
        BrokenMutantError: an entry is not complete, or two have one name.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    try:
        mutants = [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
    except (KeyError, TypeError) as error:
        raise BrokenMutantError(f"an entry of {path.name} is not complete: {error}") from error
    twice = {m.name for m in mutants if sum(m.name == other.name for other in mutants) > 1}
    if twice:
        raise BrokenMutantError(f"two mutants are named {', '.join(sorted(twice))}")
    return mutants


class Copy:
    """A copy of the source, in which tests are run."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        unwanted = shutil.ignore_patterns("__pycache__", ".hypothesis", "out", "_build")
        for name in COPIED:
            shutil.copytree(ROOT / name, root / name, ignore=unwanted)
        for name in FILES:
            shutil.copy(ROOT / name, root / name)
        shared = ROOT.parent / "shared"
        if shared.is_dir():
            (root.parent / "shared").symlink_to(shared) if not (root.parent / "shared").exists() else None
        # by their content, since a fault may have the size and the second of what it replaces
        compiling = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", *COPIED[:3]]
        subprocess.run(compiling, cwd=root, check=True, stdout=subprocess.DEVNULL)

    @contextlib.contextmanager
    def having(self, mutant: Mutant) -> Iterator[None]:
        """With a fault in it."""
        path = self.root / mutant.file
        before, changed = path.read_text(encoding="utf-8"), mutant.applied(self.root)
        path.write_text(changed, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")

    def test(self, tests: Sequence[str], seconds: float | None = None) -> tuple[int | None, str]:
        """Exit code and output of the tests, which stop at their first failure; None if they took too long."""
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        command += [f"--basetemp={self.root / 'tmp'}", "-m", "not slow and not window"]
        command += [str(self.root / "tests" / name) for name in tests]
        path = os.pathsep.join([str(self.root), str(self.root / "simulators")])
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "XDG_STATE_HOME": str(self.root / "state"),
            "AUTOEXP_FUZZ": os.environ.get("AUTOEXP_FUZZ", "100"),
        }
        output = self.root / "output.txt"
        with open(output, "w") as file:
            child = subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            try:
                code: int | None = child.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                code = None
        return code, output.read_text(errors="replace")


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: found, survived, or broken, and what shows it."""

    mutant: Mutant
    word: str
    why: str
    seconds: float


class Court:
    """Judges mutants, as many at a time as there are copies."""

    def __init__(self, copies: Iterable[Copy]):
        self._free: queue.Queue[Copy] = queue.Queue()
        for copy in copies:
            self._free.put(copy)
        self.jobs = self._free.qsize()
        self._usual: dict[tuple[str, ...], float] = {}

    def require_innocent(self, mutants: Sequence[Mutant]) -> list[str]:
        """Run the tests without any fault, and note how long they take; returns those that fail all the same."""
        wanted = sorted({m.tests for m in mutants})
        with ThreadPoolExecutor(self.jobs) as pool:
            return [name for found in pool.map(self._innocent, wanted) for name in found]

    def _innocent(self, tests: tuple[str, ...]) -> list[str]:
        copy, begun = self._free.get(), time.monotonic()
        code, output = copy.test(tests)
        self._free.put(copy)
        self._usual[tests] = time.monotonic() - begun
        if code == 0:
            return []
        return [f"{', '.join(tests)} without any fault:\n{output[-3000:]}"]

    def judge(self, mutant: Mutant) -> Verdict:
        """Put the fault in, and see whether its tests fail."""
        copy, begun = self._free.get(), time.monotonic()
        try:
            with copy.having(mutant):
                code, output = copy.test(mutant.tests, PATIENCE * self._usual[mutant.tests] + 60)
        except BrokenMutantError as error:
            return Verdict(mutant, "broken", str(error), 0.0)
        finally:
            self._free.put(copy)
        return Verdict(mutant, *_meaning(code, output), time.monotonic() - begun)


def _meaning(code: int | None, output: str) -> tuple[str, str]:
    if code is None:
        return "found", "its tests did not end"
    if code == 0:
        return "survived", ""
    failed = [line for line in output.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))]
    if code == 1 and failed:
        return "found", failed[0].split(" - ")[0].removeprefix("FAILED ").removeprefix("ERROR ")
    return "broken", f"pytest ended with {code}:\n{output[-3000:]}"


def judge_all(mutants: Sequence[Mutant], jobs: int) -> int:
    """Judge them, and say by the exit code whether enough were found and none was broken."""
    for mutant in mutants:
        mutant.applied(ROOT)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        court = Court(Copy(pathlib.Path(folder) / str(i) / "source") for i in range(jobs))
        guilty = court.require_innocent(mutants)
        if guilty:
            print("Tests fail without any fault in the source, so they cannot judge:", *guilty, sep="\n")
            return 2
        verdicts = []
        with ThreadPoolExecutor(jobs) as pool:
            for verdict in pool.map(court.judge, mutants):
                verdicts.append(verdict)
                what = f"{verdict.word:>8}  {verdict.mutant.name} ({verdict.seconds:.0f} s)"
                print(what, verdict.why and f"by {verdict.why}", flush=True)
    return _summed_up(verdicts)


def _summed_up(verdicts: Sequence[Verdict]) -> int:
    count = {word: sum(v.word == word for v in verdicts) for word in ("found", "survived", "broken")}
    share = count["found"] / len(verdicts)
    print(f"{count['found']} of {len(verdicts)} found ({share:.1%}; bar: {BAR:.0%}), {count['broken']} broken")
    for word in ("survived", "broken"):
        names = [v.mutant.name for v in verdicts if v.word == word]
        if names:
            print(f"{word}: {', '.join(names)}")
    return 0 if share >= BAR and not count["broken"] else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="judge this one; may be repeated")
    parser.add_argument("--file", action="append", default=[], metavar="FILE", help="judge those of this file")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    given = parser.parse_args()
    try:
        return judge_those(read_list(), parser, given)
    except BrokenMutantError as error:
        print(error)
        return 2


def judge_those(mutants: Sequence[Mutant], parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Judge those of the mutants that the command line names."""
    unknown = set(given.only) - {m.name for m in mutants}
    if unknown:
        parser.error(f"there is no mutant named {', '.join(sorted(unknown))}")
    if given.only or given.file:
        mutants = [m for m in mutants if m.name in given.only or m.file in given.file]
    if given.list:
        print(*(f"{m.file}: {m.name}" for m in mutants), sep="\n")
        return 0
    return judge_all(mutants, given.jobs)


if __name__ == "__main__":
    sys.exit(main())
