"""A run's folder: what is where in it, and whether it may be written to."""

import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..config import Config, Tying, saved_settings
from ..config.settings import EXTENDABLE, differences
from ..data.tokenizer import Tokenizers
from ..files import TEMPORARY, write_text
from ..model import Translator, Vocabulary
from .checkpoint import group, load_checkpoint, load_weights


class Status(Enum):
    """What stands in a run's folder."""

    new = "new"
    unfinished = "unfinished"
    finished = "finished"
    replaced = "replaced"
    """By overwrite=true, whatever it is."""


class RunError(ValueError):
    """A run's folder that is missing, incomplete, or not ours to write to."""


@cache
def schema() -> DictConfig:
    """The types of all settings."""
    made: DictConfig = OmegaConf.structured(Config)
    return made


def read_yaml(text: str) -> Any:
    """Plain data of a YAML text, by libyaml where that is there: many times as fast."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class Run:
    """The folder of one run."""

    def __init__(self, folder: str | Path, asked: Sequence[str] | None = None) -> None:
        """`asked`: the overrides that train.py starts it with."""
        self.folder, self.asked = Path(folder), asked
        self.config_file = self.folder / "config.yaml"
        self.overrides_file = self.folder / "overrides.yaml"
        self.metrics_file = self.folder / "metrics.jsonl"
        self.probes_file = self.folder / "probes.jsonl"
        self.results_file = self.folder / "results.json"
        self.failure_file = self.folder / "failure.txt"
        self.checkpoints = self.folder / "checkpoints"
        self.translations = self.folder / "translations"

    def resume_command(self) -> str:
        """What goes on with this run, to be typed at a shell."""
        return "python train.py " + shlex.quote(f"resume={self.folder}")

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """An existing run."""
        run = cls(folder)
        if not run.config_file.is_file():
            raise RunError(
                f"{folder}: no such run (expected a folder with config.yaml, as train.py writes it)"
            )
        return run

    def checkpoint(self, name: str) -> Path:
        """The file of checkpoint 'last' or 'best', or of one that is to be averaged."""
        return self.checkpoints / f"{name}.safetensors"

    # -- configuration ---

    def config(self) -> Config:
        """The run's configuration."""
        try:
            merged = OmegaConf.merge(
                schema(), read_yaml(self.config_file.read_text(encoding="utf-8"))
            )
            with saved_settings():
                config = OmegaConf.to_object(merged)
        except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            raise RunError(
                f"{self.config_file}: not a configuration of this program ({error})"
            ) from error
        assert isinstance(config, Config)
        return config

    def save_config(self, config: Config) -> None:
        """Write config.yaml, and the overrides that it was composed of, without what was asked of
        this one start.
        """
        kept = replace(config, resume=None, overwrite=False)
        write_text(self.config_file, OmegaConf.to_yaml(OmegaConf.structured(kept)))
        if self.asked is not None:
            write_text(self.overrides_file, yaml.safe_dump(list(self.asked), allow_unicode=True))

    def overrides(self) -> list[str] | None:
        """What train.py was asked for, to tell the command that repeats the run; None where that
        was not kept.
        """
        if not self.overrides_file.is_file():
            return None
        try:
            found = read_yaml(self.overrides_file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(f"{self.overrides_file}: damaged ({error})") from error
        return [str(override) for override in found or ()]

    def results(self) -> dict[str, Any] | None:
        """results.json, or None before the run has finished."""
        if not self.results_file.is_file():
            return None
        try:
            results: dict[str, Any] = json.loads(self.results_file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{self.results_file}: damaged ({error})") from error
        return results

    def failure(self) -> str | None:
        """Why it failed when it was last started, in one line; None where it didn't."""
        return (
            " ".join(self.failure_file.read_text(encoding="utf-8").split())
            if self.failure_file.is_file()
            else None
        )

    def state(self) -> str:
        """finished, failed, unfinished (it may be under way) or not begun, by the files that are
        here.
        """
        if self.results_file.exists():
            return "finished"
        if self.failure_file.exists():
            return "failed"
        return "unfinished" if self.config_file.exists() else "not begun"

    # -- whether it may be written to ---

    def status(self, config: Config) -> Status:
        """What stands here already. RunError where that is a run of another configuration.

        A resumed run may have got another end; then it has not finished.
        """
        if not self.config_file.exists():
            return Status.new
        if config.overwrite:
            return Status.replaced
        different = differences(self.config(), config)
        if config.resume is not None and different.keys() <= set(EXTENDABLE):
            return (
                Status.finished
                if self.results_file.exists() and not different
                else Status.unfinished
            )
        if different:
            key, (old, new) = next(iter(different.items()))
            raise RunError(
                f"{self.folder}: holds a run of another configuration ({key}={old} there, {new} now"
                f"{', and more' if len(different) > 1 else ''}); overwrite=true replaces it, "
                "hydra.run.dir=DIR puts this one elsewhere"
            )
        return Status.finished if self.results_file.exists() else Status.unfinished

    def clear(self) -> None:
        """Remove a run's files, and only these. The configuration goes last: without it there is no
        run.
        """
        for folder in (self.checkpoints, self.translations):
            shutil.rmtree(folder, ignore_errors=True)
        patterns = (
            "overrides.yaml",
            "results.json",
            "metrics.jsonl",
            "probes.jsonl",
            "failure.txt",
            "events.out.tfevents.*",
            "tokenizer*",
            "*.vocab",
        )
        for pattern in patterns:
            for file in self.folder.glob(pattern):
                file.unlink()
        self.config_file.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                for folder in (self.folder, self.checkpoints, self.translations):
                    for abandoned in folder.glob(
                        f".*{TEMPORARY}"
                    ):  # by a process that was killed: we hold the lock
                        abandoned.unlink()
                yield
        except Timeout as error:
            raise RunError(f"{self.folder}: another process is training here") from error

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Keep the folder locked; where no run stands in it yet, leave failure.txt behind if none
        can begin.

        A run that stands here is left as it is until it goes on.
        """
        with self.locked(), nullcontext() if self.config_file.exists() else self.noting_failure():
            yield

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Leave failure.txt behind on a failure; what a former start left there is removed."""
        self.failure_file.unlink(missing_ok=True)
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            with suppress(OSError):  # the disk may be what fails
                write_text(self.failure_file, f"{error}\n")
            raise

    # -- the trained model ---

    def tokenizers(self) -> Tokenizers:
        """The run's own tokenizers."""
        return Tokenizers.load(self.folder)

    def translator(self, device: torch.device, name: str = "best") -> Translator:
        """The model with the weights of a checkpoint, ready to translate."""
        model = build_translator(self.config(), self.tokenizers())
        path = self.checkpoint(name)
        load_weights(model, group(load_checkpoint(path)[0], "model"), path)
        return model.to(device).eval()


def build_translator(config: Config, tokenizers: Tokenizers) -> Translator:
    """A model as configured, with fresh weights."""
    source, target = tokenizers.source, tokenizers.target
    shared = config.tokenizer.joint or (config.model.tying is Tying.all and source is target)
    vocabulary = Vocabulary(
        source.vocab_size, target.vocab_size, shared, target.pad_id, target.bos_id, target.eos_id
    )
    return Translator(config.model, config.norm, config.cell, vocabulary, config.backend.value)
