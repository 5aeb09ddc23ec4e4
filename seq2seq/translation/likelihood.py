"""The likelihood of given translations."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..data.batches import Batch, BatchSampler, as_batch
from ..device import autocast
from ..model import Translator
from ..model.packing import Packing
from ..rnn import frozen
from .lines import Session

CHUNK_ROWS = 2048
"""Number of target tokens whose logits exist at a time."""


@torch.no_grad()
def mean_nll(
    model: Translator,
    batches: Iterable[Batch],
    config: Config,
    r_drop: float = 0.0,
) -> float:
    """Return the mean negative log-likelihood of a target token, teacher-forced, in nats.

    The model stays in its present mode. Tokens count eos. With `r_drop` each sentence passes twice.
    """
    total, tokens, device = 0.0, 0, model.device
    with frozen(model), autocast(device, config.trainer.precision):
        for batch in batches:
            _, nll = model(*batch.to(device).inputs, r_drop=r_drop)
            total, tokens = total + nll.item(), tokens + batch.tgt_tokens
    return total / tokens


@torch.no_grad()
def log_probabilities(model: Translator, batch: Batch) -> Tensor:
    """Return log p(tgt | src) of each pair of a batch (B,), in nats and float64, eos included."""
    memory, state = model.encode(batch.src, batch.src_lengths)
    packing = Packing(batch.tgt_lengths, batch.tgt.size(1), batch.tgt.device)
    states, _ = model.decode(memory, state, batch.tgt, packing)  # (N, A)
    targets = packing.pack(batch.tgt)  # (N,)
    found = [
        torch.log_softmax(model.output(rows).float(), dim=1).gather(1, words[:, None])
        for rows, words in zip(states.split(CHUNK_ROWS), targets.split(CHUNK_ROWS), strict=True)
    ]
    return packing.pad(torch.cat(found).double()).sum(dim=(1, 2))  # (B, T, 1) -> (B,)


@dataclass
class Likelihood:
    """How likely a model finds one given translation."""

    log_probability: float
    """Of the whole translation with its end, in nats."""
    tokens: int
    """Its pieces, and the symbol that ends it."""
    unknown: int
    """How many of its pieces are <unk>."""


def likelihoods(
    session: Session, source: Sequence[str], target: Sequence[str], batch_sentences: int = 64
) -> list[Likelihood]:
    """Return the likelihood of each line of `target` as the translation of its source line.

    Every line counts, an empty one too. The session's model has to be in eval mode.
    """
    model, tokenizers = session.model, session.tokenizers
    model.load_kernels()
    src = [tokenizers.source.encode(line) for line in source]
    tgt = [tokenizers.target.encode(line) for line in target]
    found = dict[int, float]()
    with frozen(model), autocast(model.device, session.precision):
        for batch in _batches(src, tgt, batch_sentences):
            log_p = log_probabilities(model, batch.to(model.device))
            found.update(zip(batch.indices.tolist(), log_p.tolist(), strict=True))
    unk_id = tokenizers.target.unk_id
    return [Likelihood(found[i], len(ids) + 1, ids.count(unk_id)) for i, ids in enumerate(tgt)]


def _batches(
    src: Sequence[list[int]], tgt: Sequence[list[int]], batch_sentences: int
) -> Iterator[Batch]:
    """Yield batches of pairs of about the same length."""
    src_lengths, tgt_lengths = (np.array([len(ids) + 1 for ids in side]) for side in (src, tgt))
    sampler = BatchSampler(src_lengths, tgt_lengths, batch_sentences=batch_sentences, shuffle=False)
    for indices in sampler:
        source, target = ([np.array(ids[i], np.int64) for i in indices] for ids in (src, tgt))
        yield as_batch(source, target, indices)
