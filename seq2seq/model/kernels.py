"""The translator's own fused C++ kernels on a CPU, each beside the same in plain torch.

Both give the same up to rounding. Which of them runs depends on backend, device and types, on
whether gradients are needed and whether the kernels compile, and never on what ran before: a
resumed training computes the same bits. The result of a search's kernel for a row depends on that
row alone, whatever the batch, its padding and the number of threads are.

B sentences, K hypotheses each, R = B * K, S source steps, H hidden, V vocabulary, W words of a
shortlist.
"""

import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

from ..rnn.cpu import build, operators

LOG = logging.getLogger(__name__)
NoCompiler = build.NoCompiler
KERNELS = build.Kernels("translator", Path(__file__).parent / "cpu")


def prebuild(cache: Path, kind: str | None) -> None:
    """Compile all kernels, also those of the layers, for a kind of processor; None: for this one.

    Raises BuildError, a RuntimeError; where there is no compiler, NoCompiler.
    """
    processor = build.this_processor() if kind is None else build.PROCESSORS[kind]
    for kernels in (build.LAYERS, KERNELS):
        build.compiled(kernels, cache, processor)


@functools.cache
def load() -> bool:
    """Compile or load the kernels; return whether that worked, and warn once if it did not."""
    cause = operators.failure() or build.failure(KERNELS)
    if cause:
        LOG.warning("loss and search run in plain torch, more slowly: %s", cause)
    return cause is None


def serves(backend: str, x: Tensor, *others: Tensor) -> bool:
    """Return whether the kernels take these tensors and load.

    They take float tensors on a CPU, and have no gradients of their own.
    """
    tensors = (x, *others)
    return (
        backend != "reference"
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
        and load()
    )


def attend(
    query: Tensor, keys: Tensor, states: Tensor, mask: Tensor, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Return context (B, K, H) and weights (B, K, S) of queries (B, K, H) by dot products.

    keys and states (B, S, H); mask (B, S) is true on words. Weights are 0 on padding.
    """
    if serves(backend, query, keys, states):
        context, weights = torch.ops.seq2seq.attention_step(query, keys, states, mask)
        return context, weights
    scores = torch.bmm(query, keys.transpose(1, 2))
    weights = masked_softmax(scores, mask).to(query.dtype)
    return torch.bmm(weights, states), weights


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax of scores (B, T, S) over words, in float; mask (B, S) is true on them."""
    return torch.softmax(scores.float().masked_fill(~mask[:, None], float("-inf")), dim=2)


def shortlist_logits(
    x: Tensor, weight: Tensor, bias: Tensor, words: Tensor, backend: str = "auto"
) -> Tensor:
    """Return x W^T + b (R, W) for the words (B, W) of each sentence, in float.

    x (R, H), weight (V, H), bias (V,). Words below 0 come last and get minus infinity.
    """
    x = x.to(weight.dtype).contiguous()
    if serves(backend, x, weight.detach(), bias.detach()):
        found: Tensor = torch.ops.seq2seq.shortlist_logits(
            x, weight.detach(), bias.detach(), words.contiguous()
        )
        return found
    known = words.clamp(min=0)
    rows = x.view(len(words), -1, x.size(1))  # (B, K, H)
    logits = torch.baddbmm(bias[known][:, None], rows, weight[known].transpose(1, 2))
    return logits.float().masked_fill(words[:, None] < 0, float("-inf")).flatten(0, 1)


def log_sum_exp(logits: Tensor, backend: str = "auto") -> Tensor:
    """Return log sum_v exp logits_v (R,) of logits (R, V)."""
    if serves(backend, logits):
        found: Tensor = torch.ops.seq2seq.log_sum_exp(logits)
        return found
    return torch.logsumexp(logits, dim=1)


def best_words(logits: Tensor, count: int, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Return the largest logits (R, count), falling, and their words, of logits (R, V)."""
    if serves(backend, logits):
        values, words = torch.ops.seq2seq.best_words(logits, count)
        return values, words
    found = logits.topk(count, dim=1)
    return found.values, found.indices


def best_log_probs(
    logits: Tensor, forbidden: list[int], count: int, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Return the largest log-probabilities (R, count), falling, and their words.

    Those of the forbidden words become minus infinity: their logits (R, V) are changed.
    """
    normaliser = log_sum_exp(logits, backend)
    logits[:, forbidden] = float("-inf")
    return best_of(logits, normaliser, count, backend)


def best_of(logits: Tensor, normaliser: Tensor, count: int, backend: str) -> tuple[Tensor, Tensor]:
    """Return the best log-probabilities and words (R, count at most) of each row.

    log p = logits (R, V) - normaliser (R,), whatever the logits of forbidden words are.
    """
    values, words = best_words(logits, min(count, logits.size(1)), backend)
    return values - normaliser[:, None], words
