"""Functions of the training tests: they run parts of a training and read its results."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seq2seq.data.batches import Batch
from seq2seq.runs.jsonl import read_metrics
from seq2seq.runs.logbook import Logbook
from seq2seq.training.loop import fit
from seq2seq.training.state import TrainingState
from seq2seq.training.step import StepResult, read, train_step

PLAIN = [
    "norm=none",
    "model.dropout=0",
    "optimizer=sgd",
    "optimizer.momentum=0",
    "optimizer.clip_norm=0",
    "optimizer.lr=0.5",
]
"""Settings with which an update is the gradient times a known rate."""


class NewState(Protocol):
    """Makes a state of the toy corpus before its first update."""

    def __call__(self, *overrides: str) -> TrainingState: ...


class Scripted(Protocol):
    """Makes validation return these scores and losses in turn, then the last one again."""

    def __call__(self, bleus: Sequence[float] = ..., losses: Sequence[float] = ...) -> None: ...


class Fitted(Protocol):
    """Runs the loop; its validations return these scores and losses."""

    def __call__(
        self, *overrides: str, bleus: Sequence[float] = ..., losses: Sequence[float] = ...
    ) -> TrainingState: ...


def fit_quietly(state: TrainingState) -> None:
    """Run the loop, logged without a progress bar."""
    with Logbook(state.run.folder, 0, progress=False) as logbook:
        fit(state, logbook)


def training_entries(state: TrainingState) -> list[dict[str, Any]]:
    """Return the log entries of updates."""
    return [e for e in read_metrics(state.run.metrics_file) if e["kind"] == "train"]


def first_batches(state: TrainingState, count: int = 1) -> list[Batch]:
    stream = state.train_set.batches(state.sampler)
    return [next(stream) for _ in range(count)]


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def step(state: TrainingState, group: Sequence[Batch]) -> tuple[StepResult, Tensor]:
    """Make one update at the configured peak rate; return its result and the weights' change."""
    before = weights(state.model)
    [result] = read([train_step(state.model, state.optimizer, group, state.config)])
    moved = torch.cat(
        [(value - before[name]).flatten() for name, value in state.model.named_parameters()]
    )
    return result, moved.detach()
