"""Calls of the fused operators: from a cell's parameters to its output, on the CPU or a GPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..precision import product_dtype
from ..reference import CellParameters, State
from .operands import prepare, record_statistics, running_statistics
from .operators import packs

PACKED_FROM = 4
"""Time steps from which it pays to pack a weight for all their products."""


def run(
    x: Tensor, batch_sizes: list[int], state: State | None, p: CellParameters, first_step: int
) -> tuple[Tensor, State]:
    """Return what `reference.recurrence` returns."""
    on_gpu, dtype = x.is_cuda, product_dtype(p.weight_hh)
    pack_weight = len(batch_sizes) >= PACKED_FROM and not on_gpu and packs(dtype)
    operands = prepare(p, dtype)
    x, weight_ih = x.to(dtype), operands.weight_ih
    if on_gpu:
        u = F.linear(x, weight_ih)
    else:
        u = torch.ops.seq2seq.projection(x, weight_ih, pack_weight)
    h_0, c_0 = (*(() if state is None else (s.float() for s in state)), None, None)[:2]
    name = p.cell if p.cell != "rnn" else "rnn_relu" if p.activation is torch.relu else "rnn_tanh"
    tensors = (u, operands.weight_hh, h_0, c_0, operands.vectors)
    if p.ih.statistics is None:
        output, h_n, c_n, *_ = torch.ops.seq2seq.recurrence(
            *tensors, batch_sizes, name, p.ih.kind, p.ih.eps, pack_weight, _saves(tensors)
        )
    else:
        output, h_n, c_n = _batch_norm(name, tensors, batch_sizes, p, first_step, pack_weight)
    return output, (h_n, c_n) if p.cell == "lstm" else (h_n,)


def _batch_norm(
    name: str,
    tensors: tuple[Tensor | None, ...],
    batch_sizes: list[int],
    p: CellParameters,
    first_step: int,
    pack_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, h_n and c_n with batch norm, and record the statistics of its terms."""
    u, *others = tensors
    assert u is not None
    assert p.ih.statistics is not None
    normalises_input = not p.ih.statistics.whole_sequence
    if not normalises_input:
        u = p.ih(u.float(), first_step)
    # Batch sizes fall, so that the steps with statistics of their own are the first ones.
    batch_steps = sum(map(p.ih.statistics.by_batch, batch_sizes))
    output, h_n, c_n, _, _, mean, var = torch.ops.seq2seq.batch_norm_recurrence(
        u,
        *others,
        *running_statistics(p, first_step, len(batch_sizes)),
        batch_sizes,
        batch_steps,
        name,
        p.ih.eps,
        normalises_input,
        pack_weight,
        _saves((u, *others)),
    )
    own = batch_sizes[:batch_steps]
    record_statistics(p, first_step, own, mean, var, has_state=others[1] is not None)
    return output, h_n, c_n


def _saves(tensors: tuple[Tensor | None, ...]) -> bool:
    """Return whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
