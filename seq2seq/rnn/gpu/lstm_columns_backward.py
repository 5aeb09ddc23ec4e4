"""GPU kernels of the backward pass of a step of the LSTM with batch norm.

The arguments are described in columns.py, vectors and statistics in lstm_columns.py.
"""

import triton
import triton.language as tl

from .columns import VARYING, back, normal, scale_of, term_backward
from .elementwise import gradient_of_h, sigmoid, tanh, value
from .lstm_columns import gate, gates


@triton.jit
def cell_backward(
    d_output: tl.tensor,
    after: tl.tensor,
    d_h_n: tl.tensor,
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    c: tl.tensor,
    da: tl.tensor,
    dn: tl.tensor,
    sums: tl.tensor,
    rows: tl.tensor,
    rows_after: tl.tensor,
    has_z: tl.tensor,
    feature: tl.tensor,
    inside: tl.tensor,
    eps: tl.tensor,
    H: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
    NORMALISES_INPUT: tl.constexpr,
) -> tl.tensor:
    """Write dn and the o part of da; return the sums over rows of dn and of dn * N(c)."""
    gain_c = value(vectors + 12 * H, feature, inside)[None, :]
    bias_c = value(vectors + 13 * H, feature, inside)[None, :]
    sum_d = tl.zeros([COLUMNS], tl.float32)
    sum_dn = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
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
        o = sigmoid(o)
        n = normal(value(c, at, mask), mean + 8 * H, var + 8 * H, feature, inside, eps)
        squashed = tanh(gain_c * n + bias_c)
        dh = gradient_of_h(d_output, after, d_h_n, at, at, row[:, None], rows_after, mask)
        d = dh * o * (1.0 - squashed * squashed)
        tl.store(
            da + row[:, None] * (4 * H) + (3 * H + feature)[None, :],
            dh * squashed * o * (1.0 - o),
            mask=mask,
        )
        tl.store(dn + at, d, mask=mask)
        sum_d += tl.sum(d, axis=0)
        sum_dn += tl.sum(d * n, axis=0)
    tl.store(sums + 12 * H + feature, sum_dn, mask=inside)
    tl.store(sums + 13 * H + feature, sum_d, mask=inside)
    return sum_d, sum_dn


@triton.jit
def gates_backward(
    carried: tl.tensor,
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    before: tl.tensor,
    c: tl.tensor,
    da: tl.tensor,
    dn: tl.tensor,
    sum_d: tl.tensor,
    sum_dn: tl.tensor,
    rows: tl.tensor,
    has_z: tl.tensor,
    by_batch: tl.tensor,
    feature: tl.tensor,
    inside: tl.tensor,
    eps: tl.tensor,
    H: tl.constexpr,
    TILE: tl.constexpr,
    NORMALISES_INPUT: tl.constexpr,
) -> None:
    """Write the i, f and g parts of da, and dL/dc_{t-1}, given dn."""
    gain_c = value(vectors + 12 * H, feature, inside)[None, :]
    scale = scale_of(var + 8 * H, feature, inside, eps)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        at_i = row[:, None] * (4 * H) + feature[None, :]
        i, f, g = gates(
            u, z, vectors, mean, var, row, feature, mask, inside, has_z, eps, H, NORMALISES_INPUT
        )
        n = normal(value(c, at, mask), mean + 8 * H, var + 8 * H, feature, inside, eps)
        d = gain_c * back(value(dn, at, mask), n, sum_d, sum_dn, rows, by_batch, scale) + value(
            carried, at, mask
        )
        tl.store(da + at_i, d * g * i * (1.0 - i), mask=mask)
        tl.store(da + at_i + H, d * value(before, at, mask) * f * (1.0 - f), mask=mask)
        tl.store(da + at_i + 2 * H, d * i * (1.0 - g * g), mask=mask)
        tl.store(carried + at, d * f, mask=mask)


@triton.jit(do_not_specialize=VARYING)
def lstm_backward(
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
    c: tl.tensor,
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
    """Run the backward pass of lstm_step.

    carried is dL/dc_t and becomes dL/dc_{t-1}; extra is the gradient of the normalised cell.
    """
    feature = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = feature < H
    first_row = start.to(tl.int64)
    d_output += first_row * H
    u += first_row * (4 * H)
    z += first_row * (4 * H)
    du += first_row * (4 * H)
    dz += first_row * (4 * H)
    c += first_row * H
    before += before_start.to(tl.int64) * H
    mean += t.to(tl.int64) * (9 * H)
    var += t.to(tl.int64) * (9 * H)
    sums += t.to(tl.int64) * (14 * H)
    sum_d, sum_dn = cell_backward(
        d_output,
        after,
        d_h_n,
        u,
        z,
        vectors,
        mean,
        var,
        c,
        da,
        extra,
        sums,
        rows,
        rows_after,
        has_z,
        feature,
        inside,
        eps,
        H,
        TILE,
        COLUMNS,
        NORMALISES_INPUT,
    )
    tl.debug_barrier()
    gates_backward(
        carried,
        u,
        z,
        vectors,
        mean,
        var,
        before,
        c,
        da,
        extra,
        sum_d,
        sum_dn,
        rows,
        has_z,
        by_batch,
        feature,
        inside,
        eps,
        H,
        TILE,
        NORMALISES_INPUT,
    )
    tl.debug_barrier()
    for k in range(4):
        column = k * H + feature
        sum_a = term_backward(
            da,
            column,
            u,
            vectors,
            mean,
            var,
            du,
            sums,
            rows,
            by_batch,
            column,
            inside,
            eps,
            4 * H,
            4 * H,
            TILE,
            COLUMNS,
            NORMALISES_INPUT,
        )
        tl.store(sums + 8 * H + column, sum_a, mask=inside)
        if has_z:
            term_backward(
                da,
                column,
                z,
                vectors + 4 * H,
                mean + 4 * H,
                var + 4 * H,
                dz,
                sums + 4 * H,
                rows,
                by_batch,
                column,
                inside,
                eps,
                4 * H,
                4 * H,
                TILE,
                COLUMNS,
                True,
            )
        else:
            tl.store(sums + 4 * H + column, tl.zeros([COLUMNS], tl.float32), mask=inside)
