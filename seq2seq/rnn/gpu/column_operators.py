"""Recurrences on a GPU with batch norm, as in cpu/columns.cpp.

Rows are packed: step t is the next batch_sizes[t] rows. There are N rows in all and B in the first
step; H hidden features, G gates, T steps. Products are float or bfloat16, states and norms float.
pack_weight means nothing here.
"""

import torch
from torch import Tensor

from .checks import check, check_columns, kind_of
from .steps import Backward, Forward, blocks

TILE, COLUMNS = 64, 8
"""Rows and features of the tile of a program: 16 bytes for each of 128 threads."""


def batch_norm_recurrence(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    mean: Tensor,
    var: Tensor,
    batch_sizes: list[int],
    batch_steps: int,
    cell: str,
    eps: float,
    normalises_input: bool,
    pack_weight: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run a cell of reference.py with batch norm.

    As `recurrence`, but u may be float with bfloat16 products, except in the vanilla RNN.
    mean, var (T, F) are the running statistics of input term, recurrent term and the LSTM's cell,
    in the vanilla RNN of the sum; var is biased. The first batch_steps steps are normalised by
    their own statistics instead, which the returned mean and var hold. Without normalises_input u
    is the whole input term; in the vanilla RNN that means nothing.
    """
    kind = kind_of(cell)
    check(u, weight_hh, h_0, c_0, vectors, batch_sizes, kind)
    check_columns(u, weight_hh, mean, var, batch_sizes, kind)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        mean, var = (s.clone(memory_format=torch.contiguous_format) for s in (mean, var))
        run = Forward(u, weight_hh, h_0, c_0, batch_sizes, kind.has_c, save)
        options = {"NORMALISES_INPUT": normalises_input, "RELU": cell == "rnn_relu"}
        for step in run.steps():
            arrays = (u, run.z, vectors, mean, var, step.before, run.output, run.c, run.low)
            places = (step.t, step.rows, step.start, step.place, step.before_start)
            flags = (int(step.has_z), int(step.t < batch_steps))
            kind.column_forward[(blocks(hidden, COLUMNS),)](
                *arrays, *places, *flags, eps, **options, LOW=run.is_low, **tiles(hidden)
            )
        return *run.results(), mean, var


def batch_norm_recurrence_backward(
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    output: Tensor,
    z: Tensor,
    c: Tensor,
    mean: Tensor,
    var: Tensor,
    batch_sizes: list[int],
    batch_steps: int,
    cell: str,
    eps: float,
    normalises_input: bool,
    pack_weight: bool,
    weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, weight_hh, h_0, c_0 and vectors, as `recurrence_backward`."""
    kind = kind_of(cell)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        incoming = (d_output, d_h_n, d_c_n if kind.has_c else None)
        run = Backward(
            *incoming, u, weight_hh, h_0, c_0, output, z, c, batch_sizes, kind.has_c, kind.joint
        )
        da, extra = (vectors.new_empty(batch_sizes[0], width * hidden) for width in (kind.gates, 1))
        sums = vectors.new_empty(len(batch_sizes), vectors.numel())
        options = {"NORMALISES_INPUT": normalises_input, "RELU": cell == "rnn_relu"}
        for step in run.steps():
            gradients = (run.d_output, run.after, run.d_h_n, run.carried)
            state = c if kind.has_c else output
            arrays = (u, z, vectors, mean, var, step.before, state, da, extra, run.du, run.dz, sums)
            places = (step.t, step.rows, step.start, step.before_start, step.rows_after)
            flags = (int(step.has_z), int(step.t < batch_steps))
            kind.column_backward[(blocks(hidden, COLUMNS),)](
                *gradients, *arrays, *places, *flags, eps, **options, **tiles(hidden)
            )
        dh_0, dc_0 = run.states()
        return run.du, run.weight(weight_grad), dh_0, dc_0, sums.sum(0)


def tiles(hidden: int) -> dict[str, int]:
    """Return H, and the rows and features of a tile."""
    return {"H": hidden, "TILE": TILE, "COLUMNS": COLUMNS}
