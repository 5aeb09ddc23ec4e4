"""Recurrences on a GPU with batch norm, as in cpu/columns.cpp.

Rows are packed: step t is the next batch_sizes[t] rows. There are N rows in all and B in the first
step; H hidden features, G gates, T steps. Products are float or bfloat16, states and norms float.
"""

import torch
from torch import Tensor

from . import kernels
from .cells import constants
from .checks import check, check_columns, column_cell, product_weight
from .steps import Backward, Forward, blocks


def batch_norm_recurrence(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    batch_sizes: Tensor,
    mean: Tensor,
    var: Tensor,
    sequences: int,
    batch_steps: int,
    cell: str,
    eps: float,
    normalises_input: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run a cell of reference.py with batch norm.

    As `recurrence`, but u may be float with bfloat16 products, except in the RNN of joint terms.
    mean, var (T, F) are the running statistics of input term, recurrent term and the LSTM's cell,
    where it has a norm, in the RNN of joint terms of the sum; var is biased. The first batch_steps
    steps are normalised by their own statistics instead, which the returned mean and var hold.
    Without normalises_input u is the whole input term; in the RNN of joint terms that means
    nothing.
    """
    kind = column_cell(cell)
    weight_hh = product_weight(u, weight_hh)
    sizes: list[int] = batch_sizes.tolist()
    check(u, weight_hh, h_0, c_0, vectors, sizes, sequences, kind)
    check_columns(u, weight_hh, mean, var, sizes, kind)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        mean, var = (s.clone(memory_format=torch.contiguous_format) for s in (mean, var))
        run = Forward(u, weight_hh, h_0, c_0, sizes, kind.has_c, save)
        C = constants(cell, "batch", eps, hidden, run.is_low, normalises_input=normalises_input)
        for step in run.steps():
            flags = (step.t, step.rows, int(step.has_z), int(step.t < batch_steps))
            kernels.columns_forward[(blocks(C.H, C.COLUMNS),)](
                *step.arguments, vectors, mean, var, *flags, C
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
    batch_sizes: Tensor,
    output: Tensor,
    z: Tensor,
    c: Tensor,
    mean: Tensor,
    var: Tensor,
    sequences: int,
    batch_steps: int,
    cell: str,
    eps: float,
    normalises_input: bool,
    weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, weight_hh, h_0, c_0 and vectors, as `recurrence_backward`."""
    kind, sizes = column_cell(cell), batch_sizes.tolist()
    given, weight_hh = weight_hh.dtype, product_weight(u, weight_hh)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        da = vectors.new_empty(sequences, kind.width * hidden)
        incoming, same = (d_output, d_h_n, d_c_n), kind.joint
        run = Backward(*incoming, u, weight_hh, h_0, c_0, output, z, c, da, sizes, kind.has_c, same)
        sums = vectors.new_empty(len(sizes), vectors.numel())
        C = constants(cell, "batch", eps, hidden, normalises_input=normalises_input)
        for step in run.steps():
            flags = (step.t, step.rows, int(step.has_z), int(step.t < batch_steps))
            kernels.columns_backward[(blocks(C.H, C.COLUMNS),)](
                *step.arguments, vectors, mean, var, run.du, sums, *flags, C
            )
        dh_0, dc_0 = run.states()
        return run.du, run.weight(weight_grad).to(given), dh_0, dc_0, sums.sum(0)
