"""Packed batches, in the layout of torch's PackedSequence, and dropout on them.

B sentences, T steps, N rows without padding, F features. The sentences are sorted by falling
length; the rows of step 0 come first, then those of step 1, and so on. Step t has one row for each
sentence that is longer than t: no work is done on padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


class Packing:
    """The way from a padded batch (B, T, ...) to packed rows (N, ...) and back."""

    def __init__(self, lengths: Tensor, steps: int, device: torch.device) -> None:
        """Sort sentences of these lengths (B,), padded to `steps`; tensors lie on `device`."""
        index = torch.arange(lengths.numel() * steps).view(-1, steps)
        packed = pack_padded_sequence(index, lengths.cpu(), batch_first=True, enforce_sorted=False)
        assert packed.sorted_indices is not None
        assert packed.unsorted_indices is not None
        self.shape = (lengths.numel(), steps)
        self.batch_sizes = packed.batch_sizes  # (T,), on the CPU
        self.index = packed.data.to(device)  # (N,) of each row: its place in the flat (B * T)
        self.sorted_indices = packed.sorted_indices.to(device)  # (B,)
        self.unsorted_indices = packed.unsorted_indices.to(device)  # (B,)

    def pack(self, padded: Tensor) -> Tensor:
        """Return the rows (N, ...) of padded (B, T, ...)."""
        return padded.flatten(0, 1).index_select(0, self.index)

    def pad(self, rows: Tensor) -> Tensor:
        """Return rows (N, F) as (B, T, F), with zeros for padding."""
        padded = rows.new_zeros(self.shape[0] * self.shape[1], rows.size(1))
        return padded.index_copy(0, self.index, rows).view(*self.shape, -1)

    def sequence(self, rows: Tensor) -> PackedSequence:
        """Return rows (N, F) as a recurrent layer takes them; its states are in sorted order."""
        return PackedSequence(rows, self.batch_sizes)

    def positions(self) -> Tensor:
        """Return the position in the sorted batch of each row's sentence (N,)."""
        return torch.cat([torch.arange(n) for n in self.batch_sizes.tolist()]).to(self.index.device)


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
            return F.dropout(x, self.p)
        if place not in self.masks:
            self.masks[place] = F.dropout(x.new_ones(self.sentences, x.size(1)), self.p)
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
    return rows * F.dropout(rows.new_ones(found.numel(), 1), p)[places]


NO_DROPOUT = Dropout(0.0, False)
