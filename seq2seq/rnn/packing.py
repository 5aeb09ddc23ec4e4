"""Rows of packed sequences.

As in torch's PackedSequence, sequences are sorted by falling length, and the rows of one time step
follow those of the step before.
"""

from itertools import pairwise

import torch
from torch import Tensor


def flipped_rows(batch_sizes: list[int], device: torch.device) -> Tensor:
    """Return where each packed row (N,) goes when every sequence is flipped by itself.

    The permutation is its own inverse.
    """
    lengths = [0] * batch_sizes[0]
    for t, (size, following) in enumerate(pairwise([*batch_sizes, 0])):
        lengths[following:size] = [t + 1] * (size - following)
    sizes = torch.tensor(batch_sizes)
    offsets = sizes.cumsum(0) - sizes
    rows = torch.cat([torch.arange(size) for size in batch_sizes])
    steps = torch.repeat_interleave(torch.arange(len(batch_sizes)), sizes)
    return (offsets[torch.tensor(lengths)[rows] - 1 - steps] + rows).to(device)
