"""Rows of packed sequences.

As in torch's PackedSequence, sequences are sorted by falling length, and the rows of one time step
follow those of the step before.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

Steps = int | Tensor
"""A time step of all rows, or one of each: (rows,)."""


@dataclass(frozen=True)
class Layout:
    """Where the rows of B sequences are: N rows in T time steps."""

    batch_sizes: Tensor
    """(T,) int64, on the CPU: the next batch_sizes[t] rows are those of step t; they fall."""
    sequences: int
    """B, the rows of the first step."""
    equal: bool
    """Whether every step has B rows, as in a padded tensor."""
    lengths: Tensor | None = None
    """(B,) of a padded tensor whose sequences end earlier; only while a program is exported."""

    @classmethod
    def of_padded(cls, steps: int, sequences: int, lengths: Tensor | None = None) -> Self:
        """Return the layout of a tensor (T, B, features) as (T * B, features)."""
        sizes = torch.full((steps,), sequences, dtype=torch.int64, device="cpu")
        return cls(sizes, sequences, equal=True, lengths=lengths)

    @classmethod
    def of_packed(cls, batch_sizes: Tensor | list[int]) -> Self:
        """Return the layout of a PackedSequence's data, given its batch_sizes."""
        sizes = torch.as_tensor(batch_sizes, dtype=torch.int64, device="cpu")
        return cls(sizes, int(sizes[0]), equal=False)

    @property
    def steps(self) -> int:
        """T, the number of time steps."""
        return self.batch_sizes.size(0)

    def sizes(self) -> list[int]:
        """Return the number of rows of each step."""
        if self.equal:
            return [self.sequences] * self.steps
        found: list[int] = self.batch_sizes.tolist()
        return found

    def steps_of(self, rows: int) -> int:
        """Return the number of steps with at least so many rows; they are the first ones."""
        if self.equal:
            return self.steps if self.sequences >= rows else 0
        return int((self.batch_sizes >= rows).sum())

    def time_steps(self, first_step: Tensor) -> Tensor:
        """Return the time step of each row (N,) of sequences that begin at first_step (B,)."""
        if self.equal:
            return self.equal_time_steps(first_step, first_step.device).flatten()
        steps, rows = (found.to(first_step.device) for found in self.places())
        return steps + first_step[rows]

    def equal_time_steps(self, first_step: Steps, device: torch.device) -> Tensor:
        """Return the time steps (T, B) of equally long sequences that begin at first_step."""
        steps = torch.arange(self.steps, device=device).unsqueeze(1)
        return (steps + first_step).expand(-1, self.sequences)

    def flipped(self, x: Tensor) -> Tensor:
        """Return rows x (N, F), or (T, B, F), with every sequence flipped by itself."""
        if self.lengths is not None:
            steps = torch.arange(self.steps, device=x.device).unsqueeze(1)
            places = torch.where(steps < self.lengths, self.lengths - 1 - steps, steps)
            return x.gather(0, places.unsqueeze(2).expand(-1, -1, x.size(2)))
        if x.dim() == 3:
            return x.flip(0)
        return x.index_select(0, self._flipped_rows.to(x.device, non_blocking=True))

    @cached_property
    def _flipped_rows(self) -> Tensor:
        """Return where each row (N,) goes when every sequence is flipped by itself."""
        sizes, (steps, rows) = self.batch_sizes, self.places()
        starts = sizes.cumsum(0) - sizes
        lengths = (sizes > torch.arange(self.sequences).unsqueeze(1)).sum(1)
        return starts[lengths[rows] - 1 - steps] + rows

    def places(self) -> tuple[Tensor, Tensor]:
        """Return the step and the sequence of each row, (N,) each."""
        starts = self.batch_sizes.cumsum(0) - self.batch_sizes
        steps = torch.repeat_interleave(self.batch_sizes)
        return steps, torch.arange(steps.size(0)) - starts[steps]


def time_steps(first_step: Steps, t: int, rows: int) -> Steps:
    """Return the steps of the t-th rows of sequences that begin at first_step, of all or (B,)."""
    return first_step[:rows] + t if isinstance(first_step, Tensor) else first_step + t
