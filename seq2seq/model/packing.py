"""Packed batches, in the layout of torch's PackedSequence.

B sentences, T steps, N rows without padding, F features. The sentences are sorted by falling
length, those of equal length as they were; the rows of step 0 come first, then those of step 1, and
so on. Step t has one row for each sentence that is longer than t: no work is done on padding.
"""

from copy import copy

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from ..rnn import Layout


class Packing:
    """The way from a padded batch (B, T, ...) to packed rows (N, ...) and back."""

    def __init__(self, lengths: Tensor, steps: int, device: torch.device) -> None:
        """Sort sentences of these lengths (B,), padded to `steps`; tensors lie on `device`."""
        index = torch.arange(lengths.numel() * steps).view(-1, steps)
        falling, order = torch.sort(lengths.cpu(), descending=True, stable=True)
        packed = pack_padded_sequence(index[order], falling, batch_first=True)
        self.shape = (lengths.numel(), steps)
        self.batch_sizes = packed.batch_sizes  # (T,), on the CPU
        # (N,) of each row: its place in the flat (B * T)
        self.index = packed.data.to(device, non_blocking=True)
        self.sorted_indices = order.to(device, non_blocking=True)  # (B,)
        self.unsorted_indices = order.argsort().to(device, non_blocking=True)  # (B,)

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

    def by_steps(self, size: int) -> list["Packing"]:
        """Return the packing of the rows of every `size` steps, of the same sentences, in turn."""
        sentences, steps = self.shape
        if size >= steps:
            return [self]
        parts, first = [], 0
        for start in range(0, steps, size):
            part = copy(self)
            part.shape = (sentences, min(size, steps - start))
            part.batch_sizes = self.batch_sizes[start : start + size]
            index = self.index[first : first + int(part.batch_sizes.sum())]
            part.index = index // steps * part.shape[1] + index % steps - start
            parts.append(part)
            first += len(index)
        return parts

    def positions(self) -> Tensor:
        """Return the position in the sorted batch of each row's sentence (N,)."""
        _, sentences = Layout.of_packed(self.batch_sizes).places()
        return sentences.to(self.index.device, non_blocking=True)
