"""Calls of the fused operators: from a cell's parameters to its output, on the CPU or a GPU."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..packing import Layout, Steps
from ..precision import product_dtype
from ..reference import CellParameters, State
from .operands import Operands, prepare, weights
from .recurrences import Call, run
from .running import places_with_statistics, record_statistics, running_statistics
from .vectors import cell_of, kernel_of, vector_parts


def recurrence(
    x: Tensor, layout: Layout, state: State | None, p: CellParameters, first_step: Steps = 0
) -> tuple[Tensor, State]:
    """Return what `reference.recurrence` returns, for a case that the kernels support."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return _recurrence(x, layout, state, p, first_step)
    with torch._C._AutoDispatchBelowAutograd():  # saves the time of autograd, which has no work
        return _recurrence(x, layout, state, p, first_step)


def recurrences(
    inputs: list[Tensor],
    layout: Layout,
    states: list[State | None],
    cells: list[CellParameters],
    first_step: int = 0,
) -> list[tuple[Tensor, State]]:
    """Return what `recurrence` returns for one, or for two at once, on the CPU in eager mode.

    The settings of both are the same.
    """
    if torch.is_grad_enabled():
        return _recurrences(inputs, layout, states, cells, first_step)
    with torch._C._AutoDispatchBelowAutograd():
        return _recurrences(inputs, layout, states, cells, first_step)


def _recurrence(
    x: Tensor, layout: Layout, state: State | None, p: CellParameters, first_step: Steps
) -> tuple[Tensor, State]:
    dtype = product_dtype(p.weight_hh)
    operands = prepare(p, dtype, by_row=isinstance(first_step, Tensor))
    u = input_term(x, p, operands.weight_ih, dtype)
    given = (u, *others(state, operands), layout.batch_sizes)
    if p.ih.statistics is None:
        output, h_n, c_n, *_ = torch.ops.seq2seq.recurrence(
            *given, layout.sequences, *row_settings(p), saves(given)
        )
    elif isinstance(first_step, Tensor):
        places = layout.time_steps(first_step).clamp(max=places_with_statistics(p) - 1)
        settings = (layout.sequences, kernel_of(p), p.ih.eps, not p.whole_sequence)
        output, h_n, c_n = torch.ops.seq2seq.batch_norm_inference(
            *given, *operands.statistics, places, *settings
        )
    else:
        output, h_n, c_n, _, _, mean, var = torch.ops.seq2seq.batch_norm_recurrence(
            *given,
            *running_statistics(p, first_step, layout.steps),
            layout.sequences,
            *column_settings(p, layout),
            saves(given),
        )
        record(p, layout, first_step, state, mean, var)
    return output, last_state(p, h_n, c_n)


def _recurrences(
    inputs: list[Tensor],
    layout: Layout,
    states: list[State | None],
    cells: list[CellParameters],
    first_step: int,
) -> list[tuple[Tensor, State]]:
    p = cells[0]
    batch_norm = p.ih.statistics is not None
    name = "batch_norm_recurrences" if batch_norm else "recurrences"
    settings = column_settings(p, layout) if batch_norm else row_settings(p)
    given_from = own_steps(p, layout) if batch_norm else 0
    cell = cell_of(kernel_of(p))
    call = Call(name, cell, layout, len(p.weight_hh), settings, len(cells))
    tensors: list[Tensor | None] = []
    for x, state, p in zip(inputs, states, cells, strict=True):
        tensors += tensors_of(x, state, p)
        if batch_norm:
            tensors += running_statistics(p, first_step + given_from, layout.steps - given_from)
    found = []
    for p, state, (output, h_n, c_n, *statistics) in zip(
        cells, states, run(call, tensors), strict=True
    ):
        if batch_norm:
            record(p, layout, first_step, state, *statistics)
        found.append((output, last_state(p, h_n, c_n)))
    return found


def tensors_of(x: Tensor, state: State | None, p: CellParameters) -> tuple[Tensor | None, ...]:
    """Return x, weights, state, gains and biases of a recurrence."""
    dtype = product_dtype(p.weight_hh)
    weight_ih, weight_hh = weights(p, dtype)
    return (
        *input_of(x, p, weight_ih, dtype),
        weight_hh,
        *float_state(state),
        *vector_parts(p),
    )


def input_of(
    x: Tensor, p: CellParameters, weight_ih: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return x and weight_ih of a recurrence; or rows (N,) of a table, and the table; or u."""
    table = p.table
    if p.whole_sequence or (
        table is not None and (table.dtype is not dtype or torch.is_grad_enabled())
    ):
        return input_term(x, p, weight_ih, dtype), None
    return (x.to(dtype), weight_ih) if table is None else (x.flatten().long(), table)


def saves(tensors: Sequence[Tensor | None]) -> bool:
    """Return whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def input_term(x: Tensor, p: CellParameters, weight_ih: Tensor, dtype: torch.dtype) -> Tensor:
    """Return u = W_ih x (N, G * H), normalised where batch norm does so over the whole sequence."""
    if p.table is None:
        u = product_with(weight_ih, x.to(dtype), len(p.weight_ih))
    else:
        u = p.u(x).to(dtype)
    return p.ih(u.float(), 0) if p.whole_sequence else u


def product_with(weight: Tensor, x: Tensor, width: int) -> Tensor:
    """Return x W^T (N, width) for W (width, I), which may be packed."""
    if x.is_cuda:
        return F.linear(x, weight.to(x.dtype))
    if weight.dim() == 2:
        found: Tensor = torch.ops.seq2seq.projection(x, weight)
    else:
        found = torch.ops.seq2seq.packed_projection(x, weight, None, width)
    return found


def project(x: Tensor, p: CellParameters) -> Tensor:
    """Return W_ih x (N, G * H) of inputs (N, I), in the type of products."""
    dtype = product_dtype(p.weight_hh)
    return product_with(weights(p, dtype)[0], x.to(dtype), len(p.weight_ih))


def others(
    state: State | None, operands: Operands
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """Return weight_hh, h_0, c_0 and the vectors of a call."""
    return operands.weight_hh, *float_state(state), operands.vectors


def float_state(state: State | None) -> tuple[Tensor | None, Tensor | None]:
    """Return h_0 and c_0 in float, as far as there are any."""
    h_0, c_0 = (*(() if state is None else (s.float() for s in state)), None, None)[:2]
    return h_0, c_0


def row_settings(p: CellParameters) -> tuple[str, str, float]:
    """Return cell, norm and eps."""
    return kernel_of(p), p.ih.kind, p.ih.eps


def column_settings(p: CellParameters, layout: Layout) -> tuple[int, str, float, bool]:
    """Return how many steps have statistics of their own; cell; eps; whether u is normalised."""
    return own_steps(p, layout), kernel_of(p), p.ih.eps, not p.whole_sequence


def own_steps(p: CellParameters, layout: Layout) -> int:
    """Return how many steps batch norm normalises by their own statistics: the first ones."""
    statistics = p.ih.statistics
    assert statistics is not None
    return layout.steps_of(statistics.norm.min_rows) if statistics.use_batch else 0


def last_state(p: CellParameters, h_n: Tensor, c_n: Tensor) -> State:
    """Return the parts of the state that a cell has."""
    return (h_n, c_n) if p.cell == "lstm" else (h_n,)


def record(
    p: CellParameters, layout: Layout, first_step: int, state: State | None, mean: Tensor,
    var: Tensor,
) -> None:  # fmt: skip
    """Record the statistics of the steps that were normalised by their own."""
    own = layout.batch_sizes[: own_steps(p, layout)]
    record_statistics(p, first_step, own, mean, var, has_state=state is not None)
