"""What the tests of training share: ways to run parts of a training and to look at it."""

import torch

from seq2seq.runs.jsonl import read_metrics
from seq2seq.runs.logbook import Logbook
from seq2seq.training.loop import fit
from seq2seq.training.step import train_step

PLAIN = [
    "norm=none",
    "model.dropout=0",
    "optimizer=sgd",
    "optimizer.momentum=0",
    "optimizer.clip_norm=0",
    "optimizer.lr=0.5",
]
"""An update that is the gradient times a known rate."""


def fit_quietly(state):
    """The loop, logged without a progress bar."""
    with Logbook(state.run.folder, 0, progress=False) as logbook:
        fit(state, logbook)


def training_entries(state):
    """The log entries of updates."""
    return [e for e in read_metrics(state.run.metrics_file) if e["kind"] == "train"]


def first_batches(state, count=1):
    stream = state.train_set.batches(state.sampler)
    return [next(stream) for _ in range(count)]


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def step(state, group):
    """One update at the configured peak rate: its result, and how the weights moved."""
    before = weights(state.model)
    result = train_step(state.model, state.optimizer, group, state.config, state.device)
    moved = torch.cat(
        [(value - before[name]).flatten() for name, value in state.model.named_parameters()]
    )
    return result, moved.detach()
