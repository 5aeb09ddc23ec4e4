"""Calls of the fused operators: from a cell's parameters to its output, on the CPU or a GPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..packing import Layout, Steps
from ..precision import product_dtype
from ..reference import CellParameters, State
from .operands import places_with_statistics, prepare, record_statistics, running_statistics


def run(
    x: Tensor,
    layout: Layout,
    state: State | None,
    p: CellParameters,
    first_step: Steps,
) -> tuple[Tensor, State]:
    """Return what `reference.recurrence` returns."""
    on_gpu, dtype = x.is_cuda, product_dtype(p.weight_hh)
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
    tensors = (u, operands.weight_hh, h_0, c_0, operands.vectors, layout.batch_sizes)
    if p.ih.statistics is None:
        output, h_n, c_n, *_ = torch.ops.seq2seq.recurrence(
            *tensors, layout.sequences, name, p.ih.kind, p.ih.eps, _saves(tensors)
        )
    elif isinstance(first_step, Tensor):
        places = layout.time_steps(first_step).clamp(max=places_with_statistics(p) - 1)
        settings = (layout.sequences, name, p.ih.eps, not p.ih.statistics.whole_sequence)
        output, h_n, c_n = torch.ops.seq2seq.batch_norm_inference(
            *tensors, *operands.statistics, places, *settings
        )
    else:
        output, h_n, c_n = _batch_norm(name, tensors, layout, p, first_step)
    return output, (h_n, c_n) if p.cell == "lstm" else (h_n,)


def operator_name(p: CellParameters) -> str:
    """Return the operators' name of a cell, with its nonlinearity."""
    if p.cell != "rnn":
        return p.cell
    return "rnn_relu" if p.activation is torch.relu else "rnn_tanh"


def _batch_norm(
    name: str,
    tensors: tuple[Tensor | None, ...],
    layout: Layout,
    p: CellParameters,
    first_step: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, h_n and c_n with batch norm, and record the statistics of its terms."""
    assert p.ih.statistics is not None
    batch_steps = layout.steps_of(p.ih.statistics.norm.min_rows) if p.ih.statistics.use_batch else 0
    output, h_n, c_n, _, _, mean, var = torch.ops.seq2seq.batch_norm_recurrence(
        *tensors,
        *running_statistics(p, first_step, layout.steps),
        layout.sequences,
        batch_steps,
        name,
        p.ih.eps,
        not p.ih.statistics.whole_sequence,
        _saves(tensors),
    )
    own = layout.batch_sizes[:batch_steps]
    record_statistics(p, first_step, own, mean, var, has_state=tensors[2] is not None)
    return output, h_n, c_n


def _saves(tensors: tuple[Tensor | None, ...]) -> bool:
    """Return whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
