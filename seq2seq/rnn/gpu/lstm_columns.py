"""GPU kernels of a step of the LSTM with batch norm: the gates and the forward pass.

The counterpart of cpu/lstm_columns.h; the arguments are described in columns.py. vectors are
gain_ih, gain_hh and bias, each 4H, gain_c and bias_c, each H. Statistics: 9H.
"""

import triton
import triton.language as tl

from .columns import VARYING, normal, term, write_statistics
from .elementwise import sigmoid, tanh, value


@triton.jit
def gate(
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    mask: tl.tensor,
    inside: tl.tensor,
    has_z: tl.tensor,
    eps: tl.tensor,
    H: tl.constexpr,
    NORMALISES_INPUT: tl.constexpr,
) -> tl.tensor:
    """Return the summed inputs of a tile of rows.

    column (COLUMNS,) counts the 4H features of all gates.
    """
    y = term(u, vectors, mean, var, row, column, mask, inside, eps, 4 * H, NORMALISES_INPUT)
    y += value(vectors + 8 * H, column, inside)[None, :]
    if has_z:
        gain, z_mean, z_var = vectors + 4 * H, mean + 4 * H, var + 4 * H
        y += term(z, gain, z_mean, z_var, row, column, mask, inside, eps, 4 * H, True)
    return y


@triton.jit
def gates(
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    row: tl.tensor,
    feature: tl.tensor,
    mask: tl.tensor,
    inside: tl.tensor,
    has_z: tl.tensor,
    eps: tl.tensor,
    H: tl.constexpr,
    NORMALISES_INPUT: tl.constexpr,
) -> tl.tensor:
    """Return i, f and g of a tile of rows."""
    i = gate(u, z, vectors, mean, var, row, feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
    f = gate(
        u, z, vectors, mean, var, row, H + feature, mask, inside, has_z, eps, H, NORMALISES_INPUT
    )
    g = gate(
        u,
        z,
        vectors,
        mean,
        var,
        row,
        2 * H + feature,
        mask,
        inside,
        has_z,
        eps,
        H,
        NORMALISES_INPUT,
    )
    return sigmoid(i), sigmoid(f), tanh(g)


@triton.jit(do_not_specialize=VARYING)
def lstm_forward(
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    before: tl.tensor,
    output: tl.tensor,
    c: tl.tensor,
    low: tl.tensor,
    t: tl.tensor,
    rows: tl.tensor,
    start: tl.tensor,
    place: tl.tensor,
    before_start: tl.tensor,
    has_z: tl.tensor,
    by_batch: tl.tensor,
    eps: tl.tensor,
    H: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
    NORMALISES_INPUT: tl.constexpr,
    RELU: tl.constexpr,
    LOW: tl.constexpr,
) -> None:
    """Run lstm_step of reference.py with batch norm (Cooijmans et al. 2016, eqs. 6 to 8)."""
    feature = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = feature < H
    u += start.to(tl.int64) * (4 * H)
    z += place.to(tl.int64) * (4 * H)
    c += place.to(tl.int64) * H
    before += before_start.to(tl.int64) * H
    output += start.to(tl.int64) * H
    mean += t.to(tl.int64) * (9 * H)
    var += t.to(tl.int64) * (9 * H)
    if by_batch:
        for k in range(4):
            column = k * H + feature
            if NORMALISES_INPUT:
                write_statistics(u, rows, column, inside, mean, var, 4 * H, TILE, COLUMNS)
            if has_z:
                write_statistics(
                    z, rows, column, inside, mean + 4 * H, var + 4 * H, 4 * H, TILE, COLUMNS
                )
        tl.debug_barrier()
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        i, f, g = gates(
            u, z, vectors, mean, var, row, feature, mask, inside, has_z, eps, H, NORMALISES_INPUT
        )
        o = gate(
            u,
            z,
            vectors,
            mean,
            var,
            row,
            3 * H + feature,
            mask,
            inside,
            has_z,
            eps,
            H,
            NORMALISES_INPUT,
        )
        tl.store(c + at, f * value(before, at, mask) + i * g, mask=mask)
        tl.store(output + at, sigmoid(o), mask=mask)  # until the cell's statistics are known
    tl.debug_barrier()
    if by_batch:
        write_statistics(c, rows, feature, inside, mean + 8 * H, var + 8 * H, H, TILE, COLUMNS)
        tl.debug_barrier()
    gain_c = value(vectors + 12 * H, feature, inside)[None, :]
    bias_c = value(vectors + 13 * H, feature, inside)[None, :]
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        n = normal(value(c, at, mask), mean + 8 * H, var + 8 * H, feature, inside, eps)
        h = value(output, at, mask) * tanh(gain_c * n + bias_c)
        tl.store(output + at, h, mask=mask)
        if LOW:
            tl.store(low + at, h, mask=mask)
