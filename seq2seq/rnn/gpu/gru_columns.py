"""GPU kernels of a step of the GRU with batch norm; the counterpart of cpu/gru_columns.h.

The arguments are described in columns.py. vectors are gain_ih, gain_hh, bias_ih and bias_hh, each
3H, of the gates r, z and n. Statistics: 6H.
"""

import triton
import triton.language as tl

from .columns import VARYING, term, term_backward, write_statistics
from .elementwise import gradient_of_h, sigmoid, tanh, value


@triton.jit
def terms(
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
    """Return input and recurrent term with their biases, of a tile of rows.

    column (COLUMNS,) counts the 3H features of all gates.
    """
    y_ih = term(u, vectors, mean, var, row, column, mask, inside, eps, 3 * H, NORMALISES_INPUT)
    y_ih += value(vectors + 6 * H, column, inside)[None, :]
    y_hh = tl.zeros_like(y_ih) + value(vectors + 9 * H, column, inside)[None, :]
    if has_z:
        y_hh += term(
            z,
            vectors + 3 * H,
            mean + 3 * H,
            var + 3 * H,
            row,
            column,
            mask,
            inside,
            eps,
            3 * H,
            True,
        )
    return y_ih, y_hh


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
    """Return r, z, n and the recurrent term of n, of a tile of rows."""
    r_ih, r_hh = terms(
        u, z, vectors, mean, var, row, feature, mask, inside, has_z, eps, H, NORMALISES_INPUT
    )
    z_ih, z_hh = terms(
        u, z, vectors, mean, var, row, H + feature, mask, inside, has_z, eps, H, NORMALISES_INPUT
    )
    n_ih, n_hh = terms(
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
    r = sigmoid(r_ih + r_hh)
    return r, sigmoid(z_ih + z_hh), tanh(n_ih + r * n_hh), n_hh


@triton.jit(do_not_specialize=VARYING)
def gru_forward(
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
    """Run gru_step of reference.py with batch norm."""
    feature = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = feature < H
    u += start.to(tl.int64) * (3 * H)
    z += place.to(tl.int64) * (3 * H)
    before += before_start.to(tl.int64) * H
    output += start.to(tl.int64) * H
    mean += t.to(tl.int64) * (6 * H)
    var += t.to(tl.int64) * (6 * H)
    if by_batch:
        for k in range(3):
            column = k * H + feature
            if NORMALISES_INPUT:
                write_statistics(u, rows, column, inside, mean, var, 3 * H, TILE, COLUMNS)
            if has_z:
                write_statistics(
                    z, rows, column, inside, mean + 3 * H, var + 3 * H, 3 * H, TILE, COLUMNS
                )
        tl.debug_barrier()
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        _, update, n, _ = gates(
            u, z, vectors, mean, var, row, feature, mask, inside, has_z, eps, H, NORMALISES_INPUT
        )
        h = (1.0 - update) * n + update * value(before, at, mask)
        tl.store(output + at, h, mask=mask)
        if LOW:
            tl.store(low + at, h, mask=mask)


@triton.jit
def recurrent_backward(
    d: tl.tensor,
    d_column: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    dz: tl.tensor,
    sums: tl.tensor,
    rows: tl.tensor,
    has_z: tl.tensor,
    by_batch: tl.tensor,
    column: tl.tensor,
    inside: tl.tensor,
    eps: tl.tensor,
    D_WIDTH: tl.constexpr,
    H: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Run term_backward for a gate's recurrent term and its bias.

    Without h_{t-1} the bias alone has a gradient.
    """
    if has_z:
        sum_hh = term_backward(
            d,
            d_column,
            z,
            vectors + 3 * H,
            mean + 3 * H,
            var + 3 * H,
            dz,
            sums + 3 * H,
            rows,
            by_batch,
            column,
            inside,
            eps,
            D_WIDTH,
            3 * H,
            TILE,
            COLUMNS,
            True,
        )
    else:
        sum_hh = term_backward(
            d,
            d_column,
            z,
            vectors,
            mean,
            var,
            dz,
            sums + 3 * H,
            rows,
            by_batch,
            column,
            inside,
            eps,
            D_WIDTH,
            3 * H,
            TILE,
            COLUMNS,
            False,
        )
    tl.store(sums + 9 * H + column, sum_hh, mask=inside)


@triton.jit(do_not_specialize=VARYING)
def gru_backward(
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
    """Run the backward pass of gru_step.

    carried becomes the part of dL/dh_{t-1} that does not pass through W_hh; extra is the gradient
    of n's recurrent term, which differs from that of its input term.
    """
    feature = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = feature < H
    first_row = start.to(tl.int64)
    d_output += first_row * H
    u += first_row * (3 * H)
    z += first_row * (3 * H)
    du += first_row * (3 * H)
    dz += first_row * (3 * H)
    before += before_start.to(tl.int64) * H
    mean += t.to(tl.int64) * (6 * H)
    var += t.to(tl.int64) * (6 * H)
    sums += t.to(tl.int64) * (12 * H)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        at_r = row[:, None] * (3 * H) + feature[None, :]
        r, update, n, n_hh = gates(
            u, z, vectors, mean, var, row, feature, mask, inside, has_z, eps, H, NORMALISES_INPUT
        )
        dh = gradient_of_h(d_output, after, d_h_n, at, at, row[:, None], rows_after, mask) + value(
            carried, at, mask
        )
        dn = dh * (1.0 - update) * (1.0 - n * n)
        tl.store(da + at_r, dn * n_hh * r * (1.0 - r), mask=mask)
        tl.store(
            da + at_r + H, dh * (value(before, at, mask) - n) * update * (1.0 - update), mask=mask
        )
        tl.store(da + at_r + 2 * H, dn, mask=mask)
        tl.store(extra + at, dn * r, mask=mask)
        tl.store(carried + at, dh * update, mask=mask)
    tl.debug_barrier()
    for k in range(3):
        column = k * H + feature
        sum_ih = term_backward(
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
            3 * H,
            3 * H,
            TILE,
            COLUMNS,
            NORMALISES_INPUT,
        )
        tl.store(sums + 6 * H + column, sum_ih, mask=inside)
        if k < 2:
            recurrent_backward(
                da,
                column,
                z,
                vectors,
                mean,
                var,
                dz,
                sums,
                rows,
                has_z,
                by_batch,
                column,
                inside,
                eps,
                3 * H,
                H,
                TILE,
                COLUMNS,
            )
    recurrent_backward(
        extra,
        feature,
        z,
        vectors,
        mean,
        var,
        dz,
        sums,
        rows,
        has_z,
        by_batch,
        2 * H + feature,
        inside,
        eps,
        H,
        H,
        TILE,
        COLUMNS,
    )
