"""Batch norm over the rows of several processes, as `torch.nn.SyncBatchNorm` has it.

The processes are those of torch.distributed's default group. Each has sequences of its own. At each
time step the sums over the rows are added up over all processes, and so are their gradients in the
backward pass. A process whose sequences have ended takes part with no row: all make the same calls.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from .packing import Layout

_ALONE = ContextVar("_ALONE", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Exchange nothing inside: for what one process computes while the others do something else."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def is_synchronized() -> bool:
    """Return whether there are other processes to exchange statistics with."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return several and not _ALONE.get()


def common(layout: Layout, device: torch.device) -> tuple[Layout, list[int]]:
    """Return a layout with as many steps as any process has, and the rows of each step in all.

    The steps that are added have no row here. Exchanged numbers are on `device`.
    """
    steps = torch.tensor(layout.steps, device=device)
    dist.all_reduce(steps, dist.ReduceOp.MAX)
    sizes = torch.zeros(int(steps), dtype=torch.int64)
    sizes[: layout.steps] = layout.batch_sizes
    rows = sizes.to(device, copy=True)
    dist.all_reduce(rows)
    return Layout(sizes, layout.sequences, equal=False), rows.tolist()


@dataclass
class AllRows:
    """What batch norm needs to know of all processes during one call of a layer."""

    rows: list[int]
    """Of each step, in all processes together."""
    first_step: int

    def rows_at(self, step: int | None) -> int:
        """Return the rows of one time step; of all for None."""
        return sum(self.rows) if step is None else self.rows[step - self.first_step]


def batch_norm(
    v: Tensor, rows: int, gain: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gain * N(v) + bias for the rows v (n, F) of this process, of `rows` in all.

    Also mean and unbiased variance (F,) of all rows.
    """
    wide = v.to(gain.dtype)
    mean = _summed(wide.sum(0)) / rows
    centred = wide - mean
    squares = _summed(centred.square().sum(0))
    y = centred * torch.rsqrt(squares / rows + eps) * gain
    return (y if bias is None else y + bias).to(v.dtype), mean, squares / (rows - 1)


def _summed(value: Tensor) -> Tensor:
    found: Tensor = _SumOfAll.apply(value)  # type: ignore[no-untyped-call]
    return found


class _SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes; so its gradient is the sum of all their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
