"""The likelihood of given translations."""

from collections.abc import Iterable

import torch

from ..config import Config
from ..data.batches import Batch
from ..device import autocast
from ..model import Translator


@torch.no_grad()
def mean_nll(
    model: Translator, batches: Iterable[Batch], config: Config, device: torch.device
) -> float:
    """Return the mean negative log-likelihood of a target token, teacher-forced, in nats.

    The model stays in its present mode. Tokens count eos.
    """
    total, tokens = 0.0, 0
    for batch in batches:
        moved = batch.to(device)
        with autocast(device, config.trainer.precision):
            _, nll = model(moved.src, moved.src_lengths, moved.tgt, moved.tgt_lengths)
        total, tokens = total + nll.item(), tokens + batch.tgt_tokens
    return total / tokens
