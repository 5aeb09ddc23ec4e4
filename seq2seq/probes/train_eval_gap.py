"""The gap between training and eval mode: the same batches through both.

Layer norm "performs exactly the same computation at training and test times" (Ba et al. 2016,
abstract). Batch norm does not: its gap depends on how far the stored statistics are from those of
a batch, which is measured too.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..config import has_statistics
from ..data.batches import Batch
from ..device import autocast
from ..rnn import (
    NormKind,
    Pool,
    RecurrentModule,
    batch_norm_layers,
    batch_statistics,
    pooled_statistics,
)
from ..translation.likelihood import mean_nll
from .subject import Subject


def train_eval_gap(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield the losses in three modes for the training set and each test set.

    Losses are in nats per target token, over the same batches:

    - training: with dropout and the batch's own statistics
    - batch: without dropout, with the batch's own statistics
    - evaluation: without dropout, with the stored statistics

    With batch norm, also the distances of the statistics by term and step.
    """
    for name, found in batch_sets(subject).items():
        yield {
            "set": name,
            "sentences": sum(b.src.size(0) for b in found),
            **losses(subject, found),
        }
        if subject.config.norm.kind is NormKind.batch:
            for where, values in distances(subject, found).items():
                yield {"set": name, "term": where, **values}


def batch_sets(subject: Subject) -> dict[str, list[Batch]]:
    """Return the first batches of the (shuffled) training set and of each test set.

    All have `probe.sentences` sentences; smaller ones that batch norm would not normalise by their
    own statistics are left out.
    """
    probe, dataset = subject.config.probe, subject.prepared.split("train")
    order = torch.randperm(
        len(dataset), generator=torch.Generator().manual_seed(subject.config.seed)
    ).numpy()
    chunks = [order[i * probe.sentences : (i + 1) * probe.sentences] for i in range(probe.batches)]
    sets = {"train": [dataset.batch(chunk) for chunk in chunks if len(chunk)]}
    sets |= {
        name: subject.batches(name, probe.sentences, probe.batches) for name in subject.test_sets()
    }
    kept = {
        name: [b for b in found if has_statistics(subject.config.norm, b.src.size(0))]
        for name, found in sets.items()
    }
    return {name: found for name, found in kept.items() if found}


def losses(subject: Subject, found: Sequence[Batch]) -> dict[str, float]:
    """Return the mean loss of a target token in each mode, in nats."""
    return {
        "training": _loss(subject, found, batch_statistics(subject.model), dropout=True),
        "batch": _loss(subject, found, batch_statistics(subject.model)),
        "evaluation": _loss(subject, found, nullcontext()),
    }


def _loss(
    subject: Subject,
    found: Sequence[Batch],
    statistics: AbstractContextManager[Any],
    dropout: bool = False,
) -> float:
    # The translator's own flag: dropout is the translator's, statistics are its layers'.
    subject.model.training = dropout
    try:
        with statistics:
            return mean_nll(subject.model, found, subject.config)
    finally:
        subject.model.training = False


@torch.no_grad()
def distances(subject: Subject, found: Sequence[Batch]) -> dict[str, dict[str, list[float]]]:
    """Return the distance of these batches' pooled statistics from the stored ones, by term.

    For each step that has statistics of its own, as root mean squares over features:

    - mean_shift: (mean - running mean) / running standard deviation
    - log_scale: ln(standard deviation / running standard deviation)

    `rows` is the number of rows of the step.
    """
    model = subject.model
    with (
        pooled_statistics(model) as pools,
        autocast(model.device, subject.config.trainer.precision),
    ):
        for batch in found:
            model(*batch.to(model.device).inputs)
        return {
            f"{name}.{term}": _distance(layer, term, pool)
            for name, layer in batch_norm_layers(model).items()
            for term, pool in pools[name].items()
        }


def _distance(layer: RecurrentModule, term: str, pool: Pool) -> dict[str, list[float]]:
    """Compare the pool of a term with the statistics that eval mode uses at each step.

    `term` has its suffix, as in ih_l0.
    """
    counted, mean, var = pool.result()
    steps = counted.nonzero().flatten()
    suffix = "".join(term.partition("_")[1:])
    index = steps.clamp(max=max(int(layer.get_buffer(f"steps_seen{suffix}")) - 1, 0))
    running_mean = layer.get_buffer(f"running_mean_{term}")[index].double()
    running_var = layer.get_buffer(f"running_var_{term}")[index].double() + layer.norm.eps
    shift = (mean[steps] - running_mean) / running_var.sqrt()
    scale = ((var[steps] + layer.norm.eps) / running_var).log() / 2
    return {
        "steps": steps.tolist(),
        "rows": pool.rows[steps].flatten().tolist(),
        "mean_shift": _root_mean_square(shift),
        "log_scale": _root_mean_square(scale),
    }


def _root_mean_square(v: Tensor) -> list[float]:
    """Return the root mean square over the features of each step: (n, F) -> n numbers."""
    found: list[float] = v.square().mean(1).sqrt().tolist()
    return found
