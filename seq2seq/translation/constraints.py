"""What a translation may not contain: an end that comes too early, repeated n-grams of pieces.

R hypotheses, t target steps so far, V vocabulary.
"""

from torch import Tensor

from ..config import DecodeConfig

MINUS_INFINITY = float("-inf")


def forbid(log_probs: Tensor, tokens: Tensor, config: DecodeConfig, eos_id: int) -> None:
    """Set the log-probabilities (R, V) of forbidden next pieces to minus infinity, in place.

    tokens (R, t) are the pieces so far. A hypothesis that no piece may continue may end, even
    before its shortest length.
    """
    if 0 < config.no_repeat_ngram <= tokens.size(1):
        forbid_repeats(log_probs, tokens, config.no_repeat_ngram)
    if tokens.size(1) < config.min_length:
        end = log_probs[:, eos_id].clone()
        log_probs[:, eos_id] = MINUS_INFINITY
        stuck = log_probs.isneginf().all(dim=1)
        log_probs[stuck, eos_id] = end[stuck]


def forbid_repeats(log_probs: Tensor, tokens: Tensor, n: int) -> None:
    """Forbid in place each piece that would complete an n-gram of tokens (R, t) a second time."""
    ngrams = tokens.unfold(1, n, 1)  # (R, t - n + 1, n)
    last = tokens[:, tokens.size(1) - n + 1 :]  # (R, n - 1)
    rows, places = (ngrams[:, :, :-1] == last[:, None]).all(dim=2).nonzero(as_tuple=True)
    log_probs[rows, ngrams[rows, places, -1]] = MINUS_INFINITY
