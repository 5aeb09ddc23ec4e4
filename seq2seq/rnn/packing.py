"""Rows of packed sequences.

As in torch's PackedSequence, sequences are sorted by falling length, and the rows of one time step
follow those of the step before.
"""

import torch
from torch import Tensor


def flipped_rows(batch_sizes: list[int], device: torch.device) -> Tensor:
    """Return where each packed row (N,) goes when every sequence is flipped by itself.

    The permutation is its own inverse.
    """
    sizes = torch.tensor(batch_sizes)
    starts = sizes.cumsum(0) - sizes
    steps = torch.repeat_interleave(sizes)
    rows = torch.arange(steps.size(0)) - starts[steps]
    lengths = (sizes > torch.arange(batch_sizes[0]).unsqueeze(1)).sum(1)
    return (starts[lengths[rows] - 1 - steps] + rows).to(device)


def time_step(first_step: int | Tensor, t: int, rows: int) -> int | Tensor:
    """Return the time step of the t-th rows of sequences that begin at first_step.

    It is one number for all, or (rows,) where first_step is (B,): a number for each sequence.
    """
    return first_step[:rows] + t if isinstance(first_step, Tensor) else first_step + t
