"""GPU kernels of a step of the vanilla RNN with batch norm on u + z, as in cpu/rnn_columns.h.

The arguments are described in columns.py. vectors are gain and bias, each H. Statistics: H,
of u + z.
"""

import triton
import triton.language as tl

from .columns import VARYING, term, term_backward, write_statistics
from .elementwise import gradient_of_h, tanh, value


@triton.jit
def write_sum(
    u: tl.tensor,
    z: tl.tensor,
    into: tl.tensor,
    rows: tl.tensor,
    feature: tl.tensor,
    inside: tl.tensor,
    H: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """Write u + z in float; where there is no h_{t-1}, z is 0."""
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        tl.store(into + at, value(u, at, mask) + value(z, at, mask), mask=mask)
    tl.debug_barrier()


@triton.jit(do_not_specialize=VARYING)
def rnn_forward(
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
    """Run rnn_step of reference.py with batch norm."""
    feature = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = feature < H
    u += start.to(tl.int64) * H
    z += place.to(tl.int64) * H
    output += start.to(tl.int64) * H
    mean += t.to(tl.int64) * H
    var += t.to(tl.int64) * H
    write_sum(u, z, output, rows, feature, inside, H, TILE)  # h is written there later
    if by_batch:
        write_statistics(output, rows, feature, inside, mean, var, H, TILE, COLUMNS)
        tl.debug_barrier()
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        y = term(output, vectors, mean, var, row, feature, mask, inside, eps, H, True)
        y += value(vectors + H, feature, inside)[None, :]
        h = tl.where(y < 0.0, 0.0, y) if RELU else tanh(y)  # a NaN stays one
        tl.store(output + at, h, mask=mask)
        if LOW:
            tl.store(low + at, h, mask=mask)


@triton.jit(do_not_specialize=VARYING)
def rnn_backward(
    d_output: tl.tensor,
    after: tl.tensor,
    d_h_n: tl.tensor,
    carried: tl.tensor,
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    before: tl.tensor,
    state: tl.tensor,
    da: tl.tensor,
    extra: tl.tensor,
    du: tl.tensor,
    dz: tl.tensor,
    sums: tl.tensor,
    t: tl.tensor,
    rows: tl.tensor,
    start: tl.tensor,
    before_start: tl.tensor,
    rows_after: tl.tensor,
    has_z: tl.tensor,
    by_batch: tl.tensor,
    eps: tl.tensor,
    H: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
    NORMALISES_INPUT: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """Run the backward pass of rnn_step.

    state is h (N, H), extra is u + z, dz is du, and nothing is carried.
    """
    feature = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = feature < H
    first_row = start.to(tl.int64) * H
    d_output += first_row
    u += first_row
    z += first_row
    du += first_row
    state += first_row
    mean += t.to(tl.int64) * H
    var += t.to(tl.int64) * H
    sums += t.to(tl.int64) * (2 * H)
    write_sum(u, z, extra, rows, feature, inside, H, TILE)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        h = value(state, at, mask)
        dh = gradient_of_h(d_output, after, d_h_n, at, at, row[:, None], rows_after, mask)
        tl.store(da + at, tl.where(h > 0.0, dh, 0.0) if RELU else dh * (1.0 - h * h), mask=mask)
    tl.debug_barrier()
    sum_d = term_backward(
        da,
        feature,
        extra,
        vectors,
        mean,
        var,
        du,
        sums,
        rows,
        by_batch,
        feature,
        inside,
        eps,
        H,
        H,
        TILE,
        COLUMNS,
        True,
    )
    tl.store(sums + H + feature, sum_d, mask=inside)
