"""The folder of a run: what is where in it, and whether it may be written to."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from ..config import Config, saved_settings
from ..config.checks import as_text
from ..config.settings import EXTENDABLE, differences
from ..errors import AGAIN, DataError, Diverged, TrainingError
from ..files import TEMPORARY, exists, place, remove_abandoned, remove_temporary, write_text
from ..programs import program
from ..shown import brief
from ..stored import naming_damage, read_json, text
from .configuration import LARGEST, read_config, read_yaml, write_config
from .origin import Origin
from .results import Results, results_of
from .typed import record, typed

TOKENIZER_FILES = (
    "tokenizer.json",
    *(f"tokenizer{side}.model" for side in ("", ".source", ".target")),
    *(f"tokenizer{side}.vocab" for side in ("", ".source", ".target")),
)
"""Files of a run's tokenizers: one of both languages, or one of each."""
TEMPORARY_CHECKPOINTS = f"{TEMPORARY}??????"
"""Pattern of temporary files of safetensors, which writes under its own names."""


class Status(Enum):
    """State of a run's folder."""

    new = "new"
    unfinished = "unfinished"
    finished = "finished"
    replaced = "replaced"
    """overwrite=true replaces it, whatever it is."""


class RunError(ValueError):
    """A run's folder that is missing, damaged, or must not be written to."""


@contextmanager
def _as_run_error() -> Iterator[None]:
    """Let an error about a file of a run be one about the run."""
    try:
        yield
    except ValueError as error:
        raise RunError(str(error)) from error


def _reason(error: ValueError) -> str:
    """Return in brief which setting is wrong, so that what to do still fits into the message."""
    key, sign, rest = str(error).partition("=")
    return brief(str(error), 48) if not sign else f"{key}={brief(rest, max(48 - len(key), 24))}"


class Run:
    """The folder of one run."""

    def __init__(self, folder: str | Path, asked: Sequence[str] | None = None) -> None:
        """`asked` are the overrides that train.py was started with."""
        self.folder, self.asked = Path(folder), asked
        self.config_file = self.folder / "config.yaml"
        self.overrides_file = self.folder / "overrides.yaml"
        self.metrics_file = self.folder / "metrics.jsonl"
        self.probes_file = self.folder / "probes.jsonl"
        self.results_file = self.folder / "results.json"
        self.speed_file = self.folder / "speed.json"
        self.failure_file = self.folder / "failure.txt"
        self.origin_file = self.folder / "origin.json"
        self.shortlist_file = self.folder / "shortlist.npz"
        self.checkpoints = self.folder / "checkpoints"
        self.translations = self.folder / "translations"

    def has_begun(self) -> bool:
        """Return whether there is a run; PermissionError where that may not be known."""
        return exists(self.config_file)

    def is_finished(self) -> bool:
        """Return whether the run has results; PermissionError where that may not be known."""
        return exists(self.results_file)

    def resume_command(self) -> str:
        """Return the shell command that resumes this run."""
        return shlex.join([*program("train"), f"resume={self.folder}"])

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Return an existing run; RunError if the folder holds none."""
        run = cls(folder)
        if not run.has_begun():
            raise RunError(
                f"{folder}: no such run{place(folder)}"
                " (expected a folder with config.yaml, as train.py writes it)"
            )
        return run

    def checkpoint(self, name: str) -> Path:
        """Return the file of checkpoint `last`, `previous`, `best`, or one to be averaged."""
        return self.checkpoints / f"{name}.safetensors"

    def resumable(self) -> list[Path]:
        """Return the checkpoints that training can resume from, the newest first."""
        paths = [self.checkpoint(name) for name in ("last", "previous")]
        return [path for path in paths if exists(path)]

    def origin_checkpoint(self) -> Path:
        """Return the checkpoint that other runs start from; RunError if there is none yet."""
        best = self.checkpoint("best")
        if not best.is_file():
            raise RunError(
                f"{best}: no such checkpoint; init_from expects a run that has been validated"
            )
        return best

    def as_origin(self) -> Origin:
        """Return this run as one that others start from; RunError if it has no weights yet."""
        return Origin.of(str(self.folder), self.origin_checkpoint())

    def origin(self) -> Origin | None:
        """Return what the run has started from; None for random weights."""
        with _as_run_error():
            return Origin.read(self.origin_file) if exists(self.origin_file) else None

    # -- configuration ---

    def config(self) -> Config:
        """Return the run's configuration; RunError if this version cannot read it."""
        try:
            with saved_settings():
                return read_config(self.config_file)
        except DataError as error:  # which names the file
            raise RunError(str(error)) from error
        except ValueError as error:
            raise RunError(
                f"{self.config_file}: not a configuration ({_reason(error)}); {AGAIN}"
            ) from error

    def save_config(self, config: Config) -> None:
        """Write config.yaml and the overrides it was composed of.

        `resume` and `overwrite` belong to one start of the program and are left out. config.yaml
        is written last: from then on the run can be resumed, and nobody asks for overrides again.
        """
        if self.asked is not None:
            write_text(self.overrides_file, yaml.safe_dump(list(self.asked), allow_unicode=True))
        write_config(self.config_file, replace(config, resume=None, overwrite=False))

    def overrides(self) -> list[str] | None:
        """Return the overrides that train.py was started with; None where they were not kept."""
        if not exists(self.overrides_file):
            return None
        with _as_run_error(), naming_damage(self.overrides_file):
            found = read_yaml(text(self.overrides_file, LARGEST)) or []
            overrides: list[str] = typed(found, list[str], "overrides", record)
        return overrides

    def results(self) -> Results | None:
        """Return what results.json holds; None before the run has finished.

        RunError where it is not that of a run.
        """
        if not self.is_finished():
            return None
        with _as_run_error():
            return results_of(read_json(self.results_file), self.results_file)

    def failure(self) -> str | None:
        """Return in one line why the run failed when it was last started; None if it did not."""
        return " ".join(text(self.failure_file).split()) if exists(self.failure_file) else None

    def state(self) -> str:
        """Return finished, diverged, failed, unfinished (perhaps in training) or not begun."""
        if self.is_finished():
            return "finished"
        if exists(self.failure_file):
            return "diverged" if (self.failure() or "").startswith(Diverged.BEGINS) else "failed"
        return "unfinished" if self.has_begun() else "not begun"

    # -- whether it may be written to ---

    def status(self, config: Config) -> Status:
        """Return what the folder holds; RunError if that is a run of another configuration.

        A finished run that is resumed with a later end counts as unfinished.
        """
        if config.init_from and Path(config.init_from).resolve() == self.folder.resolve():
            raise RunError(f"init_from={config.init_from}: expected another folder than the run's")
        if not self.has_begun():
            return Status.new
        if config.overwrite:
            return Status.replaced
        different = differences(self.config(), config)
        if config.resume is not None and different.keys() <= set(EXTENDABLE):
            return Status.finished if self.is_finished() and not different else Status.unfinished
        if different:
            key, (old, new) = next(iter(different.items()))
            raise RunError(
                f"{self.folder}: holds another configuration ({key}={brief(as_text(old))} there,"
                f" {brief(as_text(new))} now{', and more' * (len(different) > 1)});"
                " overwrite=true replaces it, hydra.run.dir=DIR puts this one elsewhere"
            )
        if config.resume is None and config.init_from is not None:
            self.check_origin(config.init_from)
        return Status.finished if self.is_finished() else Status.unfinished

    def check_origin(self, init_from: str) -> None:
        """Raise RunError if the weights that the run has started with have changed since."""
        began = self.origin()
        if began is not None and began.sha256 != Run.open(init_from).as_origin().sha256:
            raise RunError(
                f"{self.folder}: began with other weights, as {init_from} has changed since;"
                " resume=RUN continues, overwrite=true starts from the new ones"
            )

    def clear(self) -> None:
        """Remove a run's files and no others.

        The configuration goes last: without it there is no run.
        """
        for folder in (self.checkpoints, self.translations):
            for file in folder.glob("*"):
                file.unlink()
            if folder.is_dir() and not folder.is_symlink():  # a link, to another disk, stays
                folder.rmdir()
        events = self.folder.glob("events.out.tfevents.*")
        for file in (*self._without_lock(), *events, *self._with_lock()):
            file.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                self._remove_abandoned()
                yield
        except Timeout as error:
            raise RunError(
                f"{self.folder}: another process is training here; wait for its"
                " end, or put this run elsewhere (hydra.run.dir=DIR)"
            ) from error

    def _with_lock(self) -> list[Path]:
        """Return the files that only a training writes, which holds the lock; config.yaml last."""
        return [
            *(self.overrides_file, self.results_file, self.metrics_file, self.probes_file),
            *(self.failure_file, self.origin_file),
            *(self.folder / name for name in TOKENIZER_FILES),
            self.config_file,
        ]

    def _without_lock(self) -> tuple[Path, ...]:
        """Return the files that other commands write, too, perhaps during a training."""
        return self.shortlist_file, self.speed_file

    def _remove_abandoned(self) -> None:
        """Remove temporary files of killed processes; this one holds the lock."""
        for path in self._with_lock():
            remove_temporary(self.folder, path.name)
        for path in self._without_lock():
            remove_abandoned(self.folder, f".{path.name}.")
        for folder in (self.checkpoints, self.translations):
            remove_temporary(folder)
        for temporary in self.checkpoints.glob(TEMPORARY_CHECKPOINTS):
            temporary.unlink(missing_ok=True)

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Lock the folder; write failure.txt if a new run cannot begin.

        An existing run is left as it is until it resumes.
        """
        with self.locked(), nullcontext() if self.has_begun() else self.noting_failure():
            yield

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Write failure.txt on a failure; first remove that of an earlier start.

        TrainingError if the folder is gone.
        """
        self.failure_file.unlink(missing_ok=True)
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            if not self.folder.is_dir():
                raise TrainingError(f"{self.folder}: removed while it was trained") from error
            with suppress(OSError):  # the disk may be what fails
                write_text(self.failure_file, f"{error}\n")
            raise
