"""Recurrences on a GPU with no norm, layer norm or rms norm, as in cpu/rows.cpp.

Rows are packed: step t is the next batch_sizes[t] rows. There are N rows in all and B in the first
step; H hidden features, G gates, T steps. Products are float or bfloat16, states and norms float.
"""

import torch
from torch import Tensor

from . import all_rows, kernels
from .cells import Cell, constants
from .checks import check, expect, product_weight, row_cell
from .steps import Backward, Forward, blocks
from .terms import Constants

SUMMED_ROWS, SUM_TILE, SUM_COLUMNS = 128, 32, 64
"""Rows whose column sums a program finds, and the tile in which it does."""


def recurrence(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    batch_sizes: Tensor,
    sequences: int,
    cell: str,
    norm: str,
    eps: float,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run a cell of reference.py with its default terms and no norm, layer norm or rms norm.

    u (N, G * H), weight_hh (G * H, H), float or of the type of u; h_0, c_0 (B, H); vectors as in
    cpu/operands.py. Returns output (N, H), h_n (B, H), c_n (B, H), and for the backward pass
    z (N, G * H), c (N, H) and moments (N, 2 * pairs). Without save these have no rows, as c_n and c
    have none for cells without a cell state.
    """
    kind = row_cell(cell, norm)
    weight_hh = product_weight(u, weight_hh)
    sizes: list[int] = batch_sizes.tolist()
    check(u, weight_hh, h_0, c_0, vectors, sizes, sequences, kind)
    expect(
        u.dtype == weight_hh.dtype,
        f"expected weight_hh of the type of u or Float, got {weight_hh.dtype} and {u.dtype}",
    )
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        run = Forward(u, weight_hh, h_0, c_0, sizes, kind.has_c, save)
        moments = vectors.new_empty(u.size(0) if save else 0, 2 * kind.pairs)
        C = constants(cell, norm, eps, hidden, run.is_low, save)
        for step in run.steps():
            kernels.rows_forward[(step.rows,)](
                *step.arguments, vectors, moments, C, num_warps=warps(C)
            )
        if h_0 is None and save:
            for part in kind.parts:  # where there is no h_{t-1}, N(z) is 0
                if part.v == "z":
                    moments[:sequences, 2 * part.pair : 2 * part.pair + 2] = 0.0
        return *run.results(), moments


def recurrence_backward(
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
    moments: Tensor,
    sequences: int,
    cell: str,
    norm: str,
    eps: float,
    weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, weight_hh, h_0, c_0 and vectors.

    That of weight_hh is empty without weight_grad; that of c_0 has no rows for cells without a cell
    state. A step computes only what the step before it needs; du and the sums over rows follow the
    loop, for all steps at once.
    """
    kind, sizes = row_cell(cell, norm), batch_sizes.tolist()
    given, weight_hh = weight_hh.dtype, product_weight(u, weight_hh)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        da = vectors.new_empty(u.size(0), kind.width * hidden)
        incoming, same = (d_output, d_h_n, d_c_n), kind.same_terms(norm)
        run = Backward(*incoming, u, weight_hh, h_0, c_0, output, z, c, da, sizes, kind.has_c, same)
        C = constants(cell, norm, eps, hidden)
        for step in run.steps():
            kernels.rows_backward[(step.rows,)](
                *step.arguments, vectors, moments, C, num_warps=warps(C)
            )
        if run.du is not run.dz:
            input_gradient(kind, C, da, u, vectors, moments, run.du)
        dvectors = vector_gradients(kind, C, da, {"u": u, "z": z, "c": c}, moments)
        return run.du, run.weight(weight_grad).to(given), *run.states(), dvectors


def input_gradient(
    cell: Cell, C: Constants, da: Tensor, u: Tensor, vectors: Tensor, moments: Tensor, du: Tensor
) -> None:
    """Write du (N, G * H), given da (N, width * H)."""
    for part in cell.parts:
        if part.v == "u":
            all_rows.input_backward[(u.size(0),)](
                da, u, vectors, moments, du, part, C, num_warps=warps(C)
            )


def vector_gradients(
    cell: Cell, C: Constants, da: Tensor, sources: dict[str, Tensor], moments: Tensor
) -> Tensor:
    """Return the gradients of gains and biases: sums over rows, first of blocks, then of all.

    `sources` are u, z and c.
    """
    rows = da.size(0)
    sums = da.new_zeros(blocks(rows, SUMMED_ROWS), cell.vectors * C.H)
    for part in cell.parts:
        if C.NORM != "none" or part.bias is not None:
            arrays = (da, sources[part.v], sources["z"], moments, sums)
            grid = (blocks(part.size * C.H, SUM_COLUMNS), sums.size(0))
            tile = {"ROWS": SUMMED_ROWS, "TILE": SUM_TILE, "COLUMNS": SUM_COLUMNS}
            all_rows.column_sums[grid](*arrays, rows, part, C, **tile)
    return sums.sum(0)


def warps(C: Constants) -> int:
    """Return the warps of a row's program: at most four elements of a block for each thread."""
    return min(16, max(1, C.BLOCK // 128))
