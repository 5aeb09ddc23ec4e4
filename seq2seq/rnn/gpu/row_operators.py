"""Recurrences on a GPU with no norm, layer norm or rms norm, as in cpu/rows.cpp.

Rows are packed: step t is the next batch_sizes[t] rows. There are N rows in all and B in the first
step; H hidden features, G gates, T steps. Products are float or bfloat16, states and norms float.
pack_weight means nothing here.
"""

import torch
from torch import Tensor

from . import all_rows
from .cells import Cell
from .checks import check, check_norm, expect, kind_of
from .steps import Backward, Forward, blocks

SUMMED_ROWS, SUM_TILE, SUM_COLUMNS = 128, 32, 64
"""Rows whose column sums a program finds, and the tile in which it does."""


def recurrence(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    batch_sizes: list[int],
    cell: str,
    norm: str,
    eps: float,
    pack_weight: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run a cell of reference.py with its default terms and no norm, layer norm or rms norm.

    u (N, G * H), weight_hh (G * H, H), both of one type; h_0, c_0 (B, H); vectors as in
    cpu/operands.py. Returns output (N, H), h_n (B, H), c_n (B, H), and for the backward pass
    z (N, G * H), c (N, H) and moments (N, 2 * pairs). Without save these have no rows, as c_n and c
    have none for cells without a cell state.
    """
    kind = kind_of(cell)
    check_norm(norm)
    check(u, weight_hh, h_0, c_0, vectors, batch_sizes, kind)
    expect(
        u.dtype == weight_hh.dtype,
        f"expected u and weight_hh of one type, got {u.dtype} and {weight_hh.dtype}",
    )
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        run = Forward(u, weight_hh, h_0, c_0, batch_sizes, kind.has_c, save)
        moments = vectors.new_empty(u.size(0) if save else 0, 2 * kind.pairs)
        for step in run.steps():
            arrays = (u, run.z, vectors, step.before, run.output, run.c, run.low, moments)
            places = (step.start, step.place, step.before_start)
            options = {"NORM": norm, "CELL": cell, "SAVE": save, "LOW": run.is_low}
            kind.forward[(step.rows,)](*arrays, *places, eps, **options, **sizes(hidden))
        if h_0 is None and save:
            for part in kind.parts:  # where there is no h_{t-1}, N(z) is 0
                if part.v == "z":
                    moments[: batch_sizes[0], 2 * part.pair : 2 * part.pair + 2] = 0.0
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
    output: Tensor,
    z: Tensor,
    c: Tensor,
    moments: Tensor,
    batch_sizes: list[int],
    cell: str,
    norm: str,
    eps: float,
    pack_weight: bool,
    weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, weight_hh, h_0, c_0 and vectors.

    That of weight_hh is empty without weight_grad; that of c_0 has no rows for cells without a cell
    state. A step computes only what the step before it needs; du and the sums over rows follow the
    loop, for all steps at once.
    """
    kind = kind_of(cell)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        incoming = (d_output, d_h_n, d_c_n if kind.has_c else None)
        same = kind.same_terms(norm)
        run = Backward(
            *incoming, u, weight_hh, h_0, c_0, output, z, c, batch_sizes, kind.has_c, same
        )
        da = vectors.new_empty(u.size(0), kind.width * hidden)
        for step in run.steps():
            gradients = (run.d_output, run.after, run.d_h_n, run.carried)
            arrays = (u, z, vectors, step.before, c if kind.has_c else output, moments, da, run.dz)
            places = (step.start, step.before_start, step.rows_after)
            options = {"NORM": norm, "CELL": cell, **sizes(hidden)}
            kind.backward[(step.rows,)](*gradients, *arrays, *places, **options)
        if run.du is not run.dz:
            input_gradient(kind, norm, da, u, vectors, moments, run.du)
        dvectors = vector_gradients(kind, norm, da, {"u": u, "z": z, "c": c}, moments, vectors)
        return run.du, run.weight(weight_grad), *run.states(), dvectors


def input_gradient(
    cell: Cell, norm: str, da: Tensor, u: Tensor, vectors: Tensor, moments: Tensor, du: Tensor
) -> None:
    """Write du (N, G * H), given da (N, width * H)."""
    hidden = vectors.numel() // cell.vectors
    for part in cell.parts:
        if part.v == "u":
            widths = (cell.width, cell.gates, cell.pairs)
            options = {"SIZE": part.size, "NORM": norm, **sizes(hidden)}
            all_rows.input_backward[(u.size(0),)](
                da, u, vectors, moments, du, *widths, part.at, part.pair, **options
            )


def vector_gradients(
    cell: Cell, norm: str, da: Tensor, sources: dict[str, Tensor], moments: Tensor, vectors: Tensor
) -> Tensor:
    """Return the gradients of gains and biases: sums over rows, first of blocks, then of all.

    `sources` are u, z and c.
    """
    rows, hidden = da.size(0), vectors.numel() // cell.vectors
    sums = vectors.new_zeros(blocks(rows, SUMMED_ROWS), vectors.numel())
    for part in cell.parts:
        if norm == "none" and part.bias is None:
            continue
        v, bias = sources[part.v], part.bias
        arrays = (da, v, sources["z"], moments, sums)
        places = (rows, cell.width, part.d_at, v.size(1) // hidden, part.at, part.size)
        pairs, into = (cell.pairs, part.pair), (cell.vectors, part.gain, bias or 0)
        options = {"NORM": norm, "ADDED": cell.joint, "HAS_BIAS": bias is not None}
        tile = {"ROWS": SUMMED_ROWS, "TILE": SUM_TILE, "COLUMNS": SUM_COLUMNS}
        all_rows.column_sums[(blocks(part.size * hidden, SUM_COLUMNS), sums.size(0))](
            *arrays, *places, *pairs, *into, H=hidden, **options, **tile
        )
    return sums.sum(0)


def sizes(hidden: int) -> dict[str, int]:
    """Return H, the block that holds H elements, and its warps: at most four elements a thread."""
    block = 1 << (hidden - 1).bit_length()
    return {"H": hidden, "BLOCK": block, "num_warps": min(16, max(1, block // 128))}
