"""Everything that a checkpoint holds: weights, optimizer, batches, random numbers and progress."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import Config, TrainerConfig
from ..data.batches import BatchSampler
from ..data.bpe_dropout import DropoutDataset
from ..data.corpora import read_split, splits
from ..data.dataset import ParallelDataset, Prepared
from ..data.preparation import prepare
from ..device import choose_device, set_threads
from ..errors import AGAIN, Diverged
from ..model import Translator
from ..probes import Subject
from ..rnn import NormKind, Statistics
from ..runs.checkpoint import (
    CheckpointError,
    first_shapes,
    group,
    load_checkpoint,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    prefixed,
    read_state,
    save_checkpoint,
)
from ..runs.folder import Run, RunError
from ..runs.origin import Origin
from ..runs.typed import counts
from ..shown import brief
from ..stored import DAMAGE
from ..translation.loading import build_translator, check_size, ready_tokenizers
from ..translation.scores import bleu_metric
from .evaluation import training_batches
from .optimizer import make_optimizer, state_kinds
from .processes import ONE_PROCESS, SEED_STRIDE, Processes
from .step import StepResult, Unread, read


@dataclass
class Progress:
    """How far a run is; its fields are the keys of `progress` in a checkpoint."""

    update: int = 0  # number of updates so far
    tokens: int = 0  # number of target tokens trained on; those of skipped updates do not count
    skipped: int = 0  # number of updates skipped, as loss or gradient was not finite
    skipped_in_row: int = 0  # number of them since the last one that was not
    seconds: float = 0.0  # time spent in updates alone
    wall_seconds: float = 0.0  # time in the loop, validation included, set-up and pauses not
    best: float | None = None  # BLEU of the best validation, or its loss with the sign changed
    best_ties: list[float] = field(default_factory=list)  # its further numbers (see `standing_of`)
    best_update: int = 0  # update of the best validation
    bad_validations: int = 0  # number of validations since the best one
    plateau_scale: float = 1.0  # factor on the learning rate under the plateau schedule


NOT_COUNTS = ("best", "best_ties")
"""Fields of Progress that may be negative."""


@dataclass
class Interval:
    """Sums over the updates since the last log entry (`average` in a checkpoint)."""

    loss: float = 0.0
    nll: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    def mean(self, total: float) -> float:
        """Return a sum divided by the target tokens; nan where every update was skipped."""
        return total / self.tokens if self.tokens else math.nan


@dataclass
class TrainingState:
    """A run under way: its model, optimizer, data and progress."""

    config: Config
    run: Run
    processes: Processes
    prepared: Prepared
    train_set: ParallelDataset
    valid_set: ParallelDataset
    model: Translator
    optimizer: torch.optim.Optimizer
    sampler: BatchSampler
    progress: Progress = field(default_factory=Progress)
    interval: Interval = field(default_factory=Interval)
    started: float = field(default_factory=time.perf_counter)
    """Reading of the clock at which `wall_seconds` was 0."""
    origin: Origin | None = None
    """What the weights of a new run are from; None for random ones."""
    validation_owed: bool = False
    """Whether a signal has cut the validation of the last update short."""
    unread: list[Unread] = field(default_factory=list)
    """The last updates, whose results are still on the device."""

    @property
    def device(self) -> torch.device:
        """That of the model."""
        return self.model.device

    @property
    def subject(self) -> Subject:
        """The model as what is measured."""
        return Subject(self.model, self.config, self.prepared)

    # -- progress ---

    def start_clock(self) -> None:
        """Count `wall_seconds` from now on, in addition to those of earlier starts."""
        self.started = time.perf_counter() - self.progress.wall_seconds

    def count(self, update: Unread) -> None:
        """Count an update; its results are added by `read`."""
        self.progress.update += 1
        self.unread.append(update)

    def spend(self, seconds: float) -> None:
        """Add time to the progress and to the interval."""
        self.progress.seconds += seconds
        self.interval.seconds += seconds

    def read(self) -> Iterator[tuple[int, StepResult]]:
        """Yield number and result of the updates since the last call; wait for a GPU once.

        Each is added to the progress and to the interval first.
        """
        first = self.progress.update - len(self.unread) + 1
        results, self.unread = read(self.unread), []
        for number, result in enumerate(results, first):
            self._add(result)
            yield number, result

    def _add(self, result: StepResult) -> None:
        progress, interval = self.progress, self.interval
        if result.skipped:
            progress.skipped += 1
            progress.skipped_in_row += 1
            return
        progress.skipped_in_row = 0
        interval.loss += result.loss
        interval.nll += result.nll
        for sums in (progress, interval):
            sums.tokens += result.tokens

    def diverged(self, update: int, what: str) -> Diverged:
        """Return the error of a training that has diverged: when, what happened, what may help."""
        rate, kept = self.optimizer.param_groups[0]["lr"], "no checkpoint yet"
        if paths := self.run.resumable():
            saved = read_state(paths[0])["progress"]["update"]
            kept = f"last checkpoint: {paths[0].stem}, update {saved}"
        return Diverged(
            f"{Diverged.BEGINS}update {update}, lr {rate:.3g}: {what}; try a lower optimizer.lr or"
            f" optimizer.clip_norm, or trainer.precision=fp32; {kept}"
        )

    def fraction_done(self, trainer: TrainerConfig | None = None) -> float:
        """Return the finished part of the training, 0 to 1, by the limit that is closer.

        The limits are the run's own, or those of `trainer`.
        """
        return min(self.part_done(trainer), 1.0)

    def part_done(self, trainer: TrainerConfig | None = None) -> float:
        """Return the finished part of the training, above 1 where it has gone beyond a limit."""
        trainer, sampler, parts = trainer or self.config.trainer, self.sampler, [0.0]
        if trainer.max_updates is not None:
            parts.append(self.progress.update / trainer.max_updates)
        if trainer.max_epochs is not None:
            epochs = sampler.epoch + sampler.position / len(sampler)
            parts.append(epochs / trainer.max_epochs)
        return max(parts)

    def total_updates(self) -> int | None:
        """Return the approximate number of updates of the whole training."""
        trainer, limits = self.config.trainer, []
        if trainer.max_updates is not None:
            limits.append(trainer.max_updates)
        if trainer.max_epochs is not None:
            updates = math.ceil(len(self.sampler) / self.config.optimizer.accumulate)
            limits.append(updates * trainer.max_epochs)
        return min(limits, default=None)

    def is_over(self) -> bool:
        """Return whether a limit is reached or patience is used up."""
        return self.is_impatient() or self.fraction_done() >= 1

    def is_impatient(self) -> bool:
        """Return whether patience is used up."""
        patience = self.config.trainer.patience
        return patience is not None and self.progress.bad_validations >= patience

    def position(self) -> dict[str, Any]:
        """Return the coordinates of a log entry: update, epoch, tokens and seconds."""
        return {
            "update": self.progress.update,
            "epoch": self.sampler.epoch,
            "tokens": self.progress.tokens,
            "seconds": round(self.progress.seconds, 3),
        }

    # -- checkpoints ---

    def save(self, name: str = "last", standing: list[float] | None = None) -> None:
        """Write a checkpoint: 'last' resumes training exactly, any other holds the model alone.

        `standing` are the numbers of the model's validation. Every process has to call it; the main
        one writes.
        """
        assert not self.unread, "updates are read before they are saved"
        self.progress.wall_seconds = time.perf_counter() - self.started
        tensors = self._random_states() if name == "last" else {}
        if not self.processes.is_main:
            return
        tensors |= prefixed(self.model.state_dict(), "model")
        if name == "last":
            tensors |= prefixed(optimizer_tensors(self.model, self.optimizer), "optimizer")
        header = {
            "progress": asdict(self.progress),
            "sampler": self.sampler.state_dict(),
            "average": asdict(self.interval),
            "corpus": self.corpus,
            "validation_owed": self.validation_owed,
        } | ({} if standing is None else {"standing": standing})
        keep = self.run.checkpoint("previous") if name == "last" else None
        save_checkpoint(self.run.checkpoint(name), tensors, header, keep)

    def restore(self) -> list[str]:
        """Load checkpoint 'last' if there is one, or the one before if that cannot be used.

        Return a line that says so; the file that cannot be used is renamed. Raises RunError if the
        corpus has changed since, CheckpointError if no file can be used: it is damaged, of another
        architecture or holds no training state. Every process has to call this.
        """
        last, errors = self.run.checkpoint("last"), list[CheckpointError]()
        for path in self.run.resumable():
            try:
                self._restore(path)
            except CheckpointError as error:
                errors.append(error)
                continue
            self.processes.wait()  # nobody reads the damaged file any more
            if path == last:
                return []
            if errors and self.processes.is_main:
                os.replace(last, self.run.checkpoint("damaged"))
            problem = errors[0].what if errors else f"{last}: no such checkpoint"
            return [f"{problem}; going on from {path}, of update {self.progress.update}"]
        if errors:
            raise errors[0]
        return []

    def _restore(self, path: Path) -> None:
        """Load a checkpoint of training; RunError and CheckpointError as `restore` says."""
        tensors, header = load_checkpoint(path)
        before = header.get("corpus", self.corpus)
        if not isinstance(before, dict):
            raise CheckpointError(f"{path}: describes no corpus", AGAIN)
        corpus = self.corpus
        if not {"train", "valid"} & before.keys():  # of a version up to 0.2
            corpus = {k: v for k, v in corpus.items() if k not in ("train", "valid")}
        if different := [key for key, now in corpus.items() if before.get(key) != now]:
            key = different[0]
            raise RunError(
                f"{path}: {'validated' if key == 'valid' else 'trained'} on other text: expected"
                f" {key} {brief(str(before.get(key)), 24)}, found {brief(str(corpus[key]), 24)}"
                f" (init_from={self.run.folder} trains its weights on it)"
            )
        load_weights(self.model, group(tensors, "model"), path)
        try:
            kinds, kept = state_kinds(self.optimizer), group(tensors, "optimizer")
            load_optimizer(self.model, self.optimizer, kept, kinds)
            self._restore_random(tensors)
            self.sampler.load_state_dict(header["sampler"])
            self.progress = counts(Progress, header["progress"], NOT_COUNTS)
            self.interval = counts(Interval, header.get("average", {}))
            self.validation_owed = bool(header.get("validation_owed", False))
        except (*DAMAGE, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: not a checkpoint that training can resume from ({brief(str(error), 48)})",
                AGAIN,
            ) from error

    def _random_states(self) -> dict[str, Tensor]:
        """Return the state of every process' random numbers (processes, bytes)."""
        states = {"random.cpu": self.processes.gather(torch.get_rng_state())}
        if self.device.type == "cuda":
            states["random.cuda"] = self.processes.gather(torch.cuda.get_rng_state(self.device))
        return states

    def _restore_random(self, tensors: dict[str, Tensor]) -> None:
        """Restore this process' random numbers; a process that is new keeps its own.

        torch reads a state from the start of its memory, even of a view: hence the clones.
        """
        rank = self.processes.rank
        if rank < len(tensors["random.cpu"]):
            torch.set_rng_state(tensors["random.cpu"][rank].clone())
        if self.device.type == "cuda" and rank < len(tensors.get("random.cuda", ())):
            torch.cuda.set_rng_state(tensors["random.cuda"][rank].clone(), self.device)

    @cached_property
    def corpus(self) -> dict[str, Any]:
        """What has to be the same in a resumed run: text, pairs, their pieces, the tokenizers."""
        lengths = (self.train_set.src_lengths, self.train_set.tgt_lengths)
        tokenizers = self.prepared.tokenizers
        return {
            "pairs": len(self.train_set),
            "pieces": [int(side.sum()) for side in lengths],
            "tokenizers": [tokenizers.source.sha256[:16], tokenizers.target.sha256[:16]],
            **self.prepared.manifest.texts,
        }


def training_set(prepared: Prepared, config: Config) -> ParallelDataset:
    """Return what is trained on: split train, with BPE-dropout if so configured."""
    tokenizer = config.tokenizer
    if not tokenizer.bpe_dropout:
        return prepared.split("train")
    rate, sides = tokenizer.bpe_dropout, tokenizer.bpe_dropout_sides
    return DropoutDataset(prepared, rate, sides, config.seed, config.data.max_length)


def check_lengths(train_set: ParallelDataset, config: Config) -> None:
    """Raise ValueError for a training sentence of more steps than batch norm has statistics for.

    With BPE-dropout a sentence may have as many pieces as data.max_length allows.
    """
    norm, longest = config.norm, max(train_set.src_lengths.max(), train_set.tgt_lengths.max())
    if isinstance(train_set, DropoutDataset):
        longest = config.data.max_length + 1
    by_step = norm.kind is NormKind.batch and norm.statistics is not Statistics.shared
    if by_step and longest > norm.max_steps:
        raise ValueError(
            f"norm.max_steps={norm.max_steps}: expected at least {longest}, the steps of the"
            " longest training sentence with its end (or a smaller data.max_length)"
        )


def initial_state(config: Config, run: Run, processes: Processes = ONE_PROCESS) -> TrainingState:
    """Return a run's state before the first update; prepares the corpus if need be.

    Raises ValueError for a setting out of range and DataError for text that cannot be read, the
    test set's included: before training, not after it.
    """
    set_threads(config.trainer.threads)
    if processes.is_main:
        bleu_metric(config.data.splits_for_bleu)  # its tokenizer can be loaded
    show_progress = config.trainer.progress and processes.is_main
    ready = ready_tokenizers(config, run)
    prepared = prepare(config.data, config.tokenizer, show_progress, ready)
    if "test" in splits(config.data):
        read_split(config.data, "test")
    train_set, valid_set = training_set(prepared, config), prepared.split("valid")
    if not config.overwrite and (known := first_shapes(run.resumable())):
        check_size(*known, config, prepared.tokenizers)
    torch.manual_seed(config.seed)
    model = build_translator(config, prepared.tokenizers).to(choose_device(config.trainer.device))
    optimizer = make_optimizer(model, config.optimizer)
    check_lengths(train_set, config)
    sampler = training_batches(train_set, config)
    if not processes.is_main:  # the same weights in every process, other dropout
        torch.manual_seed(config.seed + SEED_STRIDE * processes.rank)
    return TrainingState(
        config, run, processes, prepared, train_set, valid_set, model, optimizer, sampler
    )
