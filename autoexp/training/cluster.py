"""The trainings of a sweep on a Ray cluster: a task each, tried again when its node is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from autoexp.errors import MissingDependencyError, PlanError
from autoexp.training.sweeps import Job, Result, attempt

INSTALL = "pip install 'nionswift-autoexp[rl,cluster]'"
TRIES = 3


class RayWorkers:
    """A Ray cluster that is there already; every node needs this package with its extra ``rl``.

    A training takes one core, and is begun again elsewhere, up to three times, when its process or its node dies.

    Args:
        address: of the cluster, as ``ray start`` prints it, or ``auto``.

    Raises:
        MissingDependencyError: Ray is not installed.
        PlanError: no cluster answers there.
    """

    def __init__(self, address: str):
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise MissingDependencyError(f"A cluster needs Ray. Install it with: {INSTALL}") from error
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # Ray raises many kinds
                raise PlanError(f"No Ray cluster answers at {address!r}: {error}") from error

    def run(self, jobs: Sequence[Job], wanted: Callable[[], bool]) -> Iterator[Result]:
        """See :class:`autoexp.training.sweeps.Workers`."""
        ray = self._ray
        task = ray.remote(num_cpus=1, max_retries=TRIES, retry_exceptions=False)(attempt)
        running = {task.remote(job.model_dump_json()): job for job in jobs}
        try:
            while running and wanted():
                ready, _ = ray.wait(list(running), num_returns=1, timeout=0.5)
                for one in ready:
                    yield self._result(running.pop(one), one)
        finally:
            for one in running:
                ray.cancel(one, force=True)

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def _result(self, job: Job, reference: Any) -> Result:
        try:
            files, error = self._ray.get(reference)
        except self._ray.exceptions.RayError as lost:
            return Result(job, {}, f"lost on the cluster {TRIES + 1} times: {type(lost).__name__}")
        return Result(job, files, error)
