"""What a translation may not contain: an end that comes too early, repeated n-grams of pieces.

R hypotheses, t target steps so far, V vocabulary.
"""

from torch import Tensor

from ..config import DecodeConfig

MINUS_INFINITY = float("-inf")


def forbid(
    logits: Tensor,
    words: Tensor | None,
    lengths: Tensor,
    config: DecodeConfig,
    eos_id: int,
) -> None:
    """Set the logits (R, V) of forbidden next pieces to minus infinity, in place.

    lengths (R,) count the pieces so far; words (R, t) are the pieces themselves, -1 before the
    first one, or None where no rule needs them. A hypothesis that no piece may continue may end,
    even before its shortest length.
    """
    if words is not None and words.size(1) >= config.no_repeat_ngram:
        forbid_repeats(logits, words, config.no_repeat_ngram)
    early = lengths < config.min_length
    if early.any():
        end = logits[:, eos_id].clone()
        logits[:, eos_id] = end.masked_fill(early, MINUS_INFINITY)
        stuck = logits.isneginf().all(dim=1)
        logits[stuck, eos_id] = end[stuck]


def forbid_repeats(logits: Tensor, words: Tensor, n: int) -> None:
    """Forbid in place each piece that would complete an n-gram of words (R, t) a second time.

    Words are -1 before the first one of a hypothesis.
    """
    ngrams = words.unfold(1, n, 1)  # (R, t - n + 1, n)
    last = words[:, words.size(1) - n + 1 :]  # (R, n - 1)
    repeats = (ngrams[:, :, :-1] == last[:, None]).all(dim=2) & (ngrams[:, :, -1] >= 0)
    rows, places = repeats.nonzero(as_tuple=True)
    logits[rows, ngrams[rows, places, -1]] = MINUS_INFINITY
