"""Whether a model does in eval mode what it did in training: the same batches through both, and how
far the statistics that batch norm has stored are from those of the batches it meets.

Layer norm "performs exactly the same computation at training and test times", batch norm does not
(Ba et al. 2016, abstract); how far apart the two are depends on how far the stored statistics are
from those of a batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..config import has_statistics
from ..data.batches import Batch
from ..device import autocast
from ..rnn.backends import Pool
from ..rnn.config import NormKind
from ..rnn.layers import RecurrentLayers
from ..rnn.recalibration import batch_norm_layers, batch_statistics, pooled_statistics
from ..translation.likelihood import mean_nll
from .subject import Subject


def train_eval_gap(subject: Subject) -> Iterator[dict[str, Any]]:
    """For the training set and each test set: losses in three modes; for batch norm, distances by
    layer and step.

    Losses are in nats a target token over the same batches: `training`, as in training, with
    dropout and the batch's own statistics; `batch`, without dropout; `evaluation`, without dropout
    and with the stored statistics.
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
    """The first batches of the training set and of each test set, of as many sentences; not of too
    few to normalise.
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
    """Mean loss of a target token in each mode."""
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
    subject.model.training = (
        dropout  # the translator's own flag: it alone drops, its layers' statistics stay
    )
    try:
        with statistics:
            return mean_nll(subject.model, found, subject.config, subject.device)
    finally:
        subject.model.training = False


@torch.no_grad()
def distances(subject: Subject, found: Sequence[Batch]) -> dict[str, dict[str, list[float]]]:
    """By term and step: how far the pooled statistics of these batches are from the stored ones.

    mean_shift: root mean square over features of (mean - running mean) / running deviation;
    log_scale: of ln(deviation / running deviation); rows: how many rows a step had. Steps with
    statistics of their own alone.
    """
    model = subject.model
    with (
        pooled_statistics(model) as pools,
        autocast(subject.device, subject.config.trainer.precision),
    ):
        for batch in found:
            moved = batch.to(subject.device)
            model(moved.src, moved.src_lengths, moved.tgt, moved.tgt_lengths)
        return {
            f"{name}.{term}": _distance(layer, term, pool)
            for name, layer in batch_norm_layers(model).items()
            for term, pool in pools[name].items()
        }


def _distance(layer: RecurrentLayers, term: str, pool: Pool) -> dict[str, list[float]]:
    """`term` with its suffix, as in ih_l0: the pool of each step beside the statistics that eval
    mode takes there.
    """
    counted, mean, var = pool.result()
    steps = counted.nonzero().flatten()
    index = steps.clamp(
        max=max(int(layer.get_buffer(f"steps_seen{term[term.index('_l') :]}")) - 1, 0)
    )
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
    """Over the features of each step: (n, F) -> n numbers."""
    found: list[float] = v.square().mean(1).sqrt().tolist()
    return found
