"""The best next words of every hypothesis, from a model's scores of all words.

B sentences, K hypotheses each, R = B * K, V vocabulary, M candidates of a sentence. For its first
word a sentence has one row: R = B.
"""

import numpy as np
from torch import Tensor

from .beams import Beams, Candidates
from .constraints import MINUS_INFINITY
from .sampling import Draws


def likeliest(log_probs: Tensor, words: Tensor, beams: Beams) -> Candidates:
    """Return the best 2K candidates of each sentence.

    Each of its K hypotheses has one end, so that K of them or more do not end. log_probs and words
    (R, N) are each row's best next words.
    """
    size, count = beams.config.beam_size, words.size(1)
    shape = (len(beams), -1, count)
    sums = log_probs.cpu().numpy().reshape(shape)
    sums = (sums + beams.table["log_prob"][:, : sums.shape[1], None]).reshape(len(beams), -1)
    order = np.argsort(-sums, axis=1, kind="stable")[:, : 2 * size]
    rows = np.repeat(np.arange(len(words)), count).reshape(len(beams), -1)
    sums, rows, each = (
        np.take_along_axis(x, order, axis=1)
        for x in (sums, rows, words.cpu().numpy().reshape(len(beams), -1))
    )
    if missing := 2 * size - order.shape[1]:  # each row has few words
        edges = ((0, 0), (0, missing))
        sums = np.pad(sums, edges, constant_values=-np.inf)
        rows, each = (np.pad(x, edges, "edge") for x in (rows, each))
    return Candidates(sums, rows, each)


def of_shortlist(places: Tensor, allowed: Tensor) -> Tensor:
    """Return the words at these places (R, N) of the allowed ones (B, W); where none is, word 0."""
    own = allowed.repeat_interleave(len(places) // len(allowed), dim=0)
    return own.gather(1, places).long().clamp(min=0)


def of_all_words(logits: Tensor, allowed: Tensor, words: int) -> Tensor:
    """Return logits (R, W) of allowed words (B, W), then -1, as logits of all words (R, V)."""
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
