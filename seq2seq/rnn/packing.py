"""Rows of packed sequences.

As in torch's PackedSequence, sequences are sorted by falling length, and the rows of one time step
follow those of the step before.
"""

import torch
from torch import Tensor

Steps = int | Tensor
"""A time step of all rows, or one of each: (rows,)."""


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


def time_steps(first_step: Steps, t: int, rows: int) -> Steps:
    """Return the steps of the t-th rows of sequences that begin at first_step, of all or (B,)."""
    return first_step[:rows] + t if isinstance(first_step, Tensor) else first_step + t
