"""Attention maps of given pairs: weights over the pieces of a source sentence."""

import torch
from torch import Tensor

from ..data.tokenizer import Tokenizers
from ..model import Translator

MOST_WEIGHTS = 1 << 20
"""A map with more weights is not made: nobody could look at it."""


@torch.no_grad()
def attention_map(
    model: Translator, tokenizers: Tokenizers, src: str, tgt: str
) -> tuple[Tensor, list[str], list[str]] | None:
    """Return the teacher-forced weights (T, S) of a pair, and the pieces of both sides.

    The pieces end in eos. None if the model has no attention, or if T * S > MOST_WEIGHTS.
    """
    eos = model.vocabulary.eos_id
    device = model.device
    src_ids, tgt_ids = [*tokenizers.source.encode(src), eos], [*tokenizers.target.encode(tgt), eos]
    if len(src_ids) * len(tgt_ids) > MOST_WEIGHTS:
        return None
    arguments = [
        torch.tensor(x, device=device)
        for x in ([src_ids], [len(src_ids)], [tgt_ids], [len(tgt_ids)])
    ]
    weights = model.attention(*arguments)
    if weights is None:
        return None
    return (
        weights[0].float().cpu(),
        [tokenizers.source.id_to_piece(i) for i in src_ids],
        [tokenizers.target.id_to_piece(i) for i in tgt_ids],
    )
