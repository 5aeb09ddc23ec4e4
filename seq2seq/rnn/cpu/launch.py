"""Calls of the fused operators: from a cell's parameters to its output, on the CPU or a GPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..precision import product_dtype
from ..reference import CellParameters, State
from .operands import last_place, prepare, record_statistics, running_statistics
from .operators import packs

PACKED_FROM = 4
"""Time steps from which it pays to pack a weight for all their products."""


def run(
    x: Tensor,
    batch_sizes: list[int],
    state: State | None,
    p: CellParameters,
    first_step: int | Tensor,
) -> tuple[Tensor, State]:
    """Return what `reference.recurrence` returns."""
    on_gpu, dtype = x.is_cuda, product_dtype(p.weight_hh)
    pack_weight = len(batch_sizes) >= PACKED_FROM and not on_gpu and packs(dtype)
    operands = prepare(p, dtype, by_place=isinstance(first_step, Tensor))
    x, weight_ih = x.to(dtype), operands.weight_ih
    if on_gpu:
        u = F.linear(x, weight_ih.to(dtype))
    elif weight_ih.dim() == 2:
        u = torch.ops.seq2seq.projection(x, weight_ih)
    else:
        u = torch.ops.seq2seq.packed_projection(x, weight_ih, None, len(p.weight_ih))
    h_0, c_0 = (*(() if state is None else (s.float() for s in state)), None, None)[:2]
    name = operator_name(p)
    if p.ih.statistics is not None and p.ih.statistics.whole_sequence:
        u = p.ih(u.float(), 0)
    tensors = (u, operands.weight_hh, h_0, c_0, operands.vectors)
    if p.ih.statistics is None:
        output, h_n, c_n, *_ = torch.ops.seq2seq.recurrence(
            *tensors, batch_sizes, name, p.ih.kind, p.ih.eps, pack_weight, _saves(tensors)
        )
    elif isinstance(first_step, Tensor):
        places = _places(first_step, batch_sizes, p)
        settings = (batch_sizes, name, p.ih.eps, not p.ih.statistics.whole_sequence, pack_weight)
        output, h_n, c_n = torch.ops.seq2seq.batch_norm_inference(
            *tensors, *operands.statistics, places, *settings
        )
    else:
        output, h_n, c_n = _batch_norm(name, tensors, batch_sizes, p, first_step, pack_weight)
    return output, (h_n, c_n) if p.cell == "lstm" else (h_n,)


def operator_name(p: CellParameters) -> str:
    """Return the operators' name of a cell, with its nonlinearity."""
    if p.cell != "rnn":
        return p.cell
    return "rnn_relu" if p.activation is torch.relu else "rnn_tanh"


def _places(first_step: Tensor, batch_sizes: list[int], p: CellParameters) -> Tensor:
    """Return where each packed row (N,) finds the statistics of its time step."""
    steps = [first_step[:rows] + t for t, rows in enumerate(batch_sizes)]
    return torch.cat(steps).long().clamp(max=last_place(p))


def _batch_norm(
    name: str,
    tensors: tuple[Tensor | None, ...],
    batch_sizes: list[int],
    p: CellParameters,
    first_step: int,
    pack_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, h_n and c_n with batch norm, and record the statistics of its terms."""
    assert p.ih.statistics is not None
    # Batch sizes fall, so that the steps with statistics of their own are the first ones.
    batch_steps = sum(map(p.ih.statistics.by_batch, batch_sizes))
    output, h_n, c_n, _, _, mean, var = torch.ops.seq2seq.batch_norm_recurrence(
        *tensors,
        *running_statistics(p, first_step, len(batch_sizes)),
        batch_sizes,
        batch_steps,
        name,
        p.ih.eps,
        not p.ih.statistics.whole_sequence,
        pack_weight,
        _saves(tensors),
    )
    own = batch_sizes[:batch_steps]
    record_statistics(p, first_step, own, mean, var, has_state=tensors[2] is not None)
    return output, h_n, c_n


def _saves(tensors: tuple[Tensor | None, ...]) -> bool:
    """Return whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
