"""Hydra's own sweeper, with a summary of the jobs at the end of a sweep.

It is here because Hydra takes plugins from the package hydra_plugins only.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from seq2seq.errors import Diverged
from seq2seq.shown import escaped, failed_job


@dataclass
class Result:
    """The outcome of a job."""

    overrides: str
    state: str
    """As Run.state returns it."""
    reason: object = None
    """Why it failed."""


@dataclass
class Place:
    """The folder of a job's run."""

    folder: Path
    overwrite: bool
    """Whether the job replaces the run that the folder holds."""


class Recorder(Launcher):
    """A launcher, already set up, that keeps the return values of its jobs."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.launched = False
        self.returned: list[JobReturn] = []
        self.error: Exception | None = None
        """That of the first failed job."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Do nothing: the launcher has been set up."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs; return those that ended well, so that the next batch follows.

        A run that diverged is a result of the sweep, and no failure. If one was killed or the sweep
        was stopped, the launcher raises and returns none of them.
        """
        self.launched = True
        returned = self.launcher.launch(job_overrides, initial_job_idx)
        self.returned += returned
        for job in returned:
            if job.status is JobStatus.FAILED and not isinstance(job._return_value, Diverged):
                self.error = self.error or job._return_value
        return [job for job in returned if job.status is not JobStatus.FAILED]


class SweepWithSummary(BasicSweeper):
    """Runs every combination of the given values, then reports how many jobs failed and which.

    With `cases` it does so for each of them: overrides with values of their own, such as
    "model.init_scale=0.02,1", apart from those that the command line sets too. "" is the case
    without any. Equal jobs run once.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        cases: Sequence[str] | None = None,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.cases = cases or [""]
        self.given: set[str] = set()
        """Keys of the settings on the command line."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs; then raise the error of the first failed one."""
        assert self.launcher is not None
        self.given = {o.get_key_element() for o in self.parsed(arguments)}
        self.launcher = recorder = Recorder(self.launcher)
        self.places: list[Place] = []
        self.began = time.time()
        try:
            found = super().sweep(arguments)
            if recorder.error is not None:
                raise recorder.error
            return found
        finally:
            if recorder.launched:
                results = self.results(recorder.returned)
                summarise(results, stopped=len(recorder.returned) < len(results))

    def parsed(self, overrides: Sequence[str]) -> list[Override]:
        """Return overrides as Hydra reads them."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides(list(overrides))

    def split_arguments(  # type: ignore[override]  # Hydra's is static, and called on the object
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return the jobs of every case, in batches; each job is a list of overrides."""
        jobs: dict[tuple[str, ...], None] = {}
        for case in self.cases:
            own = [o for o in self.parsed(case.split()) if o.get_key_element() not in self.given]
            (all_values,) = BasicSweeper.split_arguments([*overrides, *own], None)
            jobs |= dict.fromkeys(map(tuple, all_values))
        split = BasicSweeper.split_overrides_to_chunks([list(job) for job in jobs], max_batch_size)
        return list(split)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose each job's configuration, and keep the folder that it names.

        Raises Hydra's error if a job can't be composed.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        for overrides in batch:
            job = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(job):
                job.hydra.job.num = len(self.places)
                job.hydra.job.id = str(len(self.places))
            folder = Path(job.resume or Path(job.hydra.sweep.dir) / job.hydra.sweep.subdir)
            self.places.append(Place(folder, job.overwrite))

    def results(self, returned: Sequence[JobReturn]) -> list[Result]:
        """Return the outcome of each job, in order.

        A job that returned nothing is judged by its folder.
        """
        jobs = [" ".join(job) for batch in self.overrides or () for job in batch]
        ended, composed = len(returned), len(self.places)
        return [
            *map(returned_result, jobs, returned),
            *(
                result_in_folder(job, place, self.began)
                for job, place in zip(jobs[ended:], self.places[ended:], strict=False)
            ),
            *(Result(job, "not begun") for job in jobs[composed:]),
        ]


def returned_result(overrides: str, job: JobReturn) -> Result:
    """Return the outcome of a job whose end the launcher has seen."""
    found = job._return_value
    failed = "diverged" if isinstance(found, Diverged) else "failed"
    return Result(overrides, failed if job.status is JobStatus.FAILED else "finished", found)


def result_in_folder(overrides: str, place: Place, began: float) -> Result:
    """Return the outcome of a job that was killed, stopped or never started.

    Only what was written since the sweep began counts: an earlier sweep's failure does not, nor
    does a run that this job was to overwrite.
    """
    from seq2seq.runs.folder import Run  # only here: a sweep that ends well need not wait for it

    run = Run(place.folder)
    state = run.state()
    failed = state in ("failed", "diverged")
    tells = run.config_file if place.overwrite else run.failure_file if failed else None
    if tells is not None and (not tells.exists() or tells.stat().st_mtime < began):
        return Result(overrides, "not begun")
    return Result(overrides, state, run.failure())


def summarise(results: Sequence[Result], stopped: bool) -> None:
    """Print how many jobs are done, failed, unfinished or not begun.

    If the launcher gave up, as on a cluster, unfinished jobs may still be running.
    """
    count = Counter(result.state for result in results)
    done = count["finished"] + count["diverged"]
    said = f"{done} of {len(results)} jobs done, {count['failed']} failed"
    if count["diverged"]:
        said += f", {count['diverged']} diverged"
    rest = f", {count['unfinished']} unfinished, {count['not begun']} not begun" if stopped else ""
    print(f"sweep{' stopped' if stopped else ''}: {said}{rest}")
    for result in results:
        if result.state == "unfinished":
            print(f"unfinished: {escaped(result.overrides)}")
        elif result.state in ("failed", "diverged"):
            print(failed_job(result.overrides, str(result.reason)), file=sys.stderr)


def register() -> None:
    """Register the sweeper as hydra/sweeper=with_summary."""
    Plugins.instance().register(SweepWithSummary)
    ConfigStore.instance().store(
        group="hydra/sweeper",
        name="with_summary",
        provider="seq2seq",
        node={
            "_target_": f"{__name__}.{SweepWithSummary.__name__}",
            "max_batch_size": None,
            "params": None,
            "cases": None,
        },
    )
