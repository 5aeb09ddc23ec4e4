"""Hydra's Optuna sweeper, with its trials and the best settings in words.

Optuna itself is imported when a sweep begins.
"""

import importlib.util
import logging
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from seq2seq.programs import program
from seq2seq.shown import counted, escaped

from . import Recorder

AVAILABLE = importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is not None
"""Whether the extra [tune] is installed."""


@dataclass
class Trial:
    """A job of the sweep."""

    overrides: str
    """All of them, quoted for a shell."""
    drawn: str
    """The overrides that Optuna drew."""
    score: float | None
    """What `train` returned; None: the job failed."""


class Trials(Recorder):
    """A launcher, already set up, that keeps and shows what each trial has scored."""

    def __init__(self, launcher: Launcher, fixed: set[str]) -> None:
        """Take the keys of the settings that all trials share."""
        super().__init__(launcher)
        self.fixed = fixed
        self.trials: list[Trial] = []

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs, and print the score of each; a failed one has the worst score there is.

        Raises the error of the first trial if none has succeeded so far.
        """
        returned = self.launcher.launch(job_overrides, initial_job_idx)
        for overrides, job in zip(job_overrides, returned, strict=True):
            self.trials.append(trial := self.trial(overrides, job))
            score = "failed" if trial.score is None else f"{trial.score:.4g}"
            print(f"trial {len(self.trials) - 1}: {score}  {escaped(trial.drawn)}")
        if all(trial.score is None for trial in self.trials):
            raise returned[0]._return_value
        return [replace(job, **WORST) if trial_failed(job) else job for job in returned]

    def trial(self, overrides: Sequence[str], job: JobReturn) -> Trial:
        """Return what a job scored, and the overrides that are its own."""
        drawn = [o for o in overrides if o.partition("=")[0] not in self.fixed]
        score = None if trial_failed(job) else float(job._return_value)
        return Trial(shlex.join(overrides), " ".join(drawn), score)


WORST: dict[str, Any] = {"status": JobStatus.COMPLETED, "_return_value": -math.inf}
"""What Optuna is told of a failed job, so that it looks elsewhere."""


def trial_failed(job: JobReturn) -> bool:
    """Return whether a job failed."""
    return bool(job.status is JobStatus.FAILED)


def summary(trials: Sequence[Trial]) -> str:
    """Return the number of trials, and the command that trains the best of them again."""
    scored = [trial for trial in trials if trial.score is not None]
    said = f"tuning: {counted(len(trials), 'trial')}, {len(trials) - len(scored)} failed"
    if not scored:
        return said
    best = max(scored, key=lambda trial: trial.score or 0.0)
    command = f"    {shlex.join(program('train'))} {escaped(best.overrides)}"
    return f"{said}; the best scored {best.score:.4g} on valid:\n{command}"


def fixed_keys(arguments: Sequence[str]) -> set[str]:
    """Return the keys of the overrides that have one value."""
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    return {o.get_key_element() for o in parsed if not o.is_sweep_override()}


if AVAILABLE:
    from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper

    class Tuner(OptunaSweeper):
        """Trains one run after the other, or several at a time, with settings that Optuna draws.

        The same command again draws the same settings: finished runs are skipped, unfinished ones
        continued, so that a sweep that was stopped goes on where it was.
        """

        def sweep(self, arguments: list[str]) -> None:
            """Run all trials, then name the best."""
            from optuna.logging import set_verbosity

            set_verbosity(logging.WARNING)  # it names each study otherwise
            assert self.sweeper.launcher is not None
            trials = Trials(self.sweeper.launcher, fixed_keys(arguments))
            self.sweeper.launcher = trials
            try:
                super().sweep(arguments)
            finally:
                if trials.trials:
                    print(summary(trials.trials))
