"""Dropout on packed batches (Srivastava et al. 2014).

N rows without padding, F features.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .packing import Packing

LEVELS = 1 << 16
"""On a CPU a rate is rounded to a multiple of 1 / LEVELS."""


def dropout_mask(like: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """Return what dropout multiplies by, of this shape: 0 with probability p, else 1 / (1 - p).

    Type and device are those of `like`. A CPU draws 16 random bits for each value from torch's
    generator, which takes a twentieth of the time of torch's own dropout.
    """
    if like.device.type != "cpu":
        return F.dropout(like.new_ones(shape), p)
    mask = like.new_empty(shape)
    dropped = min(round(p * LEVELS), LEVELS - 1)
    words = torch.empty((mask.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: mask.numel()].view(mask.shape)
    torch.ge(bits, dropped - LEVELS // 2, out=mask)
    return mask.mul_(LEVELS / (LEVELS - dropped))


class Dropout:
    """Dropout for one pass over a batch.

    Variational dropout draws one mask for each sentence and place, the same at every step (Gal &
    Ghahramani 2016, section 4).
    """

    def __init__(self, p: float, variational: bool, packing: Packing | None = None) -> None:
        """Drop with probability p; variational masks need the packing that they are for."""
        self.p, self.variational = p, variational
        self.sentences = 0 if packing is None else packing.shape[0]
        self.positions = None
        if variational and packing is not None and p > 0:
            self.positions = packing.positions()
        self.masks: dict[str, Tensor] = {}

    def __call__(self, place: str, x: Tensor) -> Tensor:
        """Drop features of x (rows, F), which is at a named place of the model.

        The rows are all packed ones, or at one step the first ones of the sorted batch.
        """
        if self.p == 0:
            return x
        if not self.variational:
            return x * dropout_mask(x, x.shape, self.p)
        if place not in self.masks:
            self.masks[place] = dropout_mask(x, (self.sentences, x.size(1)), self.p)
        mask = self.masks[place]  # (B, F)
        if self.positions is not None and x.size(0) == self.positions.size(0):
            return x * mask[self.positions]
        return x * mask[: x.size(0)]


def drop_words(rows: Tensor, ids: Tensor, packing: Packing, p: float) -> Tensor:
    """Return embeddings (N, F) of ids (N,), each word of a sentence set to 0 with probability p.

    All places of a word in a sentence share one mask. The others are scaled by 1 / (1 - p). Source:
    Gal & Ghahramani 2016 (arXiv:1512.05287), section 4.2. With p = 0 no mask is drawn.
    """
    if p == 0:
        return rows
    words = packing.positions() * (int(ids.max()) + 1) + ids  # one number for sentence and word
    found, places = torch.unique(words, return_inverse=True)
    return rows * dropout_mask(rows, (found.numel(), 1), p)[places]


NO_DROPOUT = Dropout(0.0, False)
