"""Training as contestants: updates of the rival, of our translator by norm, products alone."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..config import Config
from ..data.batches import Batch
from ..data.tokenizer import Tokenizers
from ..device import autocast
from ..training.optimizer import make_optimizer
from ..training.step import train_step
from ..translation.loading import build_translator
from .contestants import PRODUCTS, Contestant, variant
from .floor import Floor, Product, training_products
from .plain import PlainTranslator, vocabulary_of
from .timing import Speed, Task, interleaved_speeds
from .workload import Workload

CPU = torch.device("cpu")
Update = Callable[[Batch], object]


def plain_update(config: Config, tokenizers: Tokenizers) -> tuple[nn.Module, Update]:
    """Return a new plain translator and its update: zero, forward, backward, clip, step."""
    torch.manual_seed(config.seed)
    model = PlainTranslator(config, vocabulary_of(tokenizers)).train()
    optimizer = torch.optim.Adam(model.parameters(), config.optimizer.lr, fused=True)
    smoothing = config.trainer.label_smoothing

    def update(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(CPU, config.trainer.precision):
            loss = model(batch.src, batch.src_lengths, batch.tgt, batch.tgt_lengths, smoothing)
        (loss / batch.tgt_tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
        optimizer.step()

    return model, update


def our_update(config: Config, tokenizers: Tokenizers) -> tuple[nn.Module, Update]:
    """Return a new translator of ours and its update, which is the training loop's own."""
    torch.manual_seed(config.seed)
    model = build_translator(config, tokenizers).train()
    model.load_kernels()
    optimizer = make_optimizer(model, config.optimizer)
    return model, lambda batch: train_step(model, optimizer, [batch], config)


def new_update(contestant: Contestant, tokenizers: Tokenizers) -> tuple[nn.Module, Update]:
    """Return a contestant's new model and its update."""
    make = plain_update if contestant.norm is None else our_update
    return make(contestant.config, tokenizers)


def updates(work: Workload, contestant: Contestant) -> tuple[Task, Task]:
    """Return two tasks: the update with the most steps, and all of them; each makes its batches.

    The first one lets the process have all the memory that the second one needs.
    """
    _, update = new_update(contestant, work.prepared.tokenizers)
    batches = work.by_length if contestant.by_length else work.batches
    longest = max(batches, key=lambda batch: int(work.train.tgt_lengths[batch].max()))
    return partial(each, work, update, [longest]), partial(each, work, update, batches)


def training_task(work: Workload, contestant: Contestant) -> tuple[nn.Module, Task]:
    """Return a contestant's new model, and the task of all its updates."""
    model, update = new_update(contestant, work.prepared.tokenizers)
    batches = work.by_length if contestant.by_length else work.batches
    return model, partial(each, work, update, batches)


def each(work: Workload, update: Update, batches: Sequence[NDArray[np.int64]]) -> None:
    """Make each batch and its update."""
    for indices in batches:
        update(work.train.batch(indices))


def training_floor(work: Workload, config: Config) -> Task:
    """Return the task of the matrix products of all updates, without padding."""
    vocabulary = work.prepared.tokenizers.target.vocab_size
    products = list[Product]()
    for indices in work.batches:
        src, tgt = work.train.src_lengths[indices], work.train.tgt_lengths[indices]
        products += training_products(config.model, vocabulary, src, tgt)
    return Floor(config.trainer.precision).task(products)


def training_speeds(
    work: Workload, found: Sequence[Contestant], rounds: int
) -> dict[str, list[Speed]]:
    """Measure training in target tokens a second: the table, by its title."""
    tasks = {contestant.name: updates(work, contestant) for contestant in found}
    for rival in (contestant for contestant in found if contestant.norm is None):
        alone = training_floor(work, rival.config)
        tasks[variant(PRODUCTS, rival.config)] = (alone, alone)
    sentences = sum(len(batch) for batch in work.batches)
    title = (
        f"training, {work.config.data.name}: {len(work.batches)} updates, {sentences} sentences,"
        f" {work.tokens} target tokens"
    )
    return {title: interleaved_speeds(tasks, work.tokens, rounds)}
