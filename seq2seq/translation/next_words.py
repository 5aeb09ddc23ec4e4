"""The best next words of every hypothesis, from a model's scores of all words.

A sentences, K hypotheses each, R = A * K, V vocabulary, M candidates of a sentence. For its first
word a sentence has one row: R = A.
"""

import numpy as np
from torch import Tensor

from ..model.kernels import best_words
from .beams import Beams, Candidates
from .constraints import MINUS_INFINITY
from .sampling import Draws


def likeliest(
    logits: Tensor, normaliser: Tensor, beams: Beams, backend: str, allowed: Tensor | None = None
) -> Candidates:
    """Return the best 2K candidates of each sentence: of K of them at most K end.

    log p = logits (R, V) - normaliser (R,), whatever the logits of forbidden words are. With
    `allowed` words (A, W) the logits are (R, W), of these words.
    """
    size, width = beams.config.beam_size, len(logits) // len(beams)
    count = min(2 * size, logits.size(1))
    best, words = best_words(logits, count, backend)  # (R, count)
    if allowed is not None:
        own = allowed.repeat_interleave(width, dim=0)
        words = own.gather(1, words).long().clamp(min=0)  # where there is none, log p is -inf
    next_ones = (best - normaliser[:, None]).cpu().numpy().reshape(len(beams), width, count)
    log_probs = (next_ones + beams.table["log_prob"][:, :width, None]).reshape(len(beams), -1)
    order = np.argsort(-log_probs, axis=1, kind="stable")[:, : 2 * size]
    rows = np.repeat(np.arange(len(logits)), count).reshape(len(beams), -1)
    log_probs, rows, each = (
        np.take_along_axis(x, order, axis=1)
        for x in (log_probs, rows, words.cpu().numpy().reshape(len(beams), -1))
    )
    if missing := 2 * size - order.shape[1]:  # there are fewer words than hypotheses
        edges = ((0, 0), (0, missing))
        log_probs = np.pad(log_probs, edges, constant_values=-np.inf)
        rows, each = (np.pad(x, edges, "edge") for x in (rows, each))
    return Candidates(log_probs, rows, each)


def of_all_words(logits: Tensor, allowed: Tensor, words: int) -> Tensor:
    """Return logits (R, W) of allowed words (A, W), then -1, as logits of all words (R, V)."""
    size = logits.size(0) // allowed.size(0)
    index = allowed.long().clamp(min=0).repeat_interleave(size, dim=0)
    found = logits.new_full((logits.size(0), words), MINUS_INFINITY)
    return found.scatter_reduce_(1, index, logits, "amax")


def drawn(logits: Tensor, normaliser: Tensor, beams: Beams, draws: Draws) -> Candidates:
    """Return one candidate for each hypothesis, drawn at random."""
    size, shape = beams.config.beam_size, (len(beams), -1, logits.size(1))
    log_probs = (logits - normaliser[:, None]).view(shape).expand(-1, size, -1)
    words = draws.words(log_probs, beams.table["sentence"].tolist())
    chosen = log_probs.gather(2, words[:, :, None])[:, :, 0].cpu().numpy()
    rows = np.arange(len(logits)).reshape(len(beams), -1)
    log_prob = beams.table["log_prob"] + chosen
    return Candidates(log_prob, np.broadcast_to(rows, log_prob.shape), words.cpu().numpy())
