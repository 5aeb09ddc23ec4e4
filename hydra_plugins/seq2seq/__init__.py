"""Hydra's own sweeper, but at the end of a sweep it lists the jobs that failed.

It stands here because Hydra takes plugins from the package hydra_plugins alone.
"""

import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Recorder(Launcher):
    """A launcher, already set up, that keeps what its jobs returned."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.returned: list[JobReturn] = []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing: it has been."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs."""
        returned = self.launcher.launch(job_overrides, initial_job_idx)
        self.returned += returned
        return returned


class SweepWithSummary(BasicSweeper):
    """Every combination of the values given, and at the end how many jobs ran and which of them failed."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs; raises the first failed one's error."""
        assert self.launcher is not None
        self.launcher = recorder = Recorder(self.launcher)
        try:
            return super().sweep(arguments)
        finally:
            summarise(recorder.returned)


def summarise(returned: Sequence[JobReturn]) -> None:
    """Say how a sweep went."""
    failed = [job for job in returned if job.status is JobStatus.FAILED]
    print(f"sweep: {len(returned) - len(failed)} of {len(returned)} jobs done, {len(failed)} failed")
    for job in failed:
        print(f"failed: {' '.join(job.overrides or ())}: {job._return_value}", file=sys.stderr)


def register() -> None:
    """Make it known as hydra/sweeper=with_summary."""
    Plugins.instance().register(SweepWithSummary)
    ConfigStore.instance().store(
        group="hydra/sweeper", name="with_summary", provider="seq2seq",
        node={"_target_": f"{__name__}.{SweepWithSummary.__name__}", "max_batch_size": None, "params": None})
