"""Terms of the GPU kernels with batch norm; the counterpart of cpu/columns.h.

One program works on COLUMNS hidden features. A feature is normalised over the rows of a step,
independently of the others. A program reads the rows in tiles of TILE rows; statistics take two
passes. u is float or of the products' type, z of the latter, everything else is float. Row indices
are 64 bits wide, since N * G * H may exceed 2^31.

mean and var (T, F) are of the input term, the recurrent term and the LSTM's cell, or of the vanilla
RNN's sum of both terms; var is biased. by_batch, 0 or 1: a step is normalised by its own
statistics, not by given ones. has_z, 0 or 1: there is an h_{t-1}, else N(z) is 0. Without
NORMALISES_INPUT u is the whole input term already.

The kernels of all cells take the same arguments. Forward: step t is `rows` rows, in u (N, G * H)
and output (N, H) from `start` on, in z (N, G * H) and c (N, H) from `place` on (0 where these hold
one step alone); those of c_{t-1}, or of h_{t-1} in cells without c, begin at before_start of
`before`. h goes into output, and into low (B, H), for the next product, where that is of another
type (LOW). Backward: d_output (N, H), after (B, H) and d_h_n (B, H) as in gradient_of_h; carried
(B, H) comes from the step after and is left for the one before; du and dz (N, G * H) are written,
and the step's part of the gradients of the vectors into sums (T, V). da (B, G * H), of the gates'
summed inputs, and extra (B, H) are scratch. It is all of a step at once: du needs the same sums
over rows as dz.

A program reads back what it has written after a barrier among its threads.
"""

import triton
import triton.language as tl

from .elementwise import value

VARYING = ["t", "rows", "start", "place", "before_start", "rows_after", "has_z", "by_batch"]
"""Arguments that change from step to step, for whose values no kernel is specialised."""


@triton.jit
def write_statistics(
    v: tl.tensor,
    rows: tl.tensor,
    feature: tl.tensor,
    inside: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Write mean and biased variance of features over the rows of v (rows, WIDTH)."""
    total = tl.zeros([COLUMNS], tl.float32)
    squares = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        total += tl.sum(value(v, row[:, None] * WIDTH + feature[None, :], mask), axis=0)
    average = total / rows
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        x = value(v, row[:, None] * WIDTH + feature[None, :], mask)
        deviation = tl.where(mask, x - average[None, :], 0.0)
        squares += tl.sum(deviation * deviation, axis=0)
    tl.store(mean + feature, average, mask=inside)
    tl.store(var + feature, squares / rows, mask=inside)


@triton.jit
def scale_of(var: tl.tensor, feature: tl.tensor, inside: tl.tensor, eps: tl.tensor) -> tl.tensor:
    """Return 1 / sqrt(var + eps) of some features."""
    return 1.0 / tl.sqrt(value(var, feature, inside) + eps)


@triton.jit
def normal(
    x: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    feature: tl.tensor,
    inside: tl.tensor,
    eps: tl.tensor,
) -> tl.tensor:
    """Return N(x) of a tile (TILE, COLUMNS), given its statistics."""
    return (x - value(mean, feature, inside)[None, :]) * scale_of(var, feature, inside, eps)[
        None, :
    ]


@triton.jit
def term(
    v: tl.tensor,
    gain: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    mask: tl.tensor,
    inside: tl.tensor,
    eps: tl.tensor,
    WIDTH: tl.constexpr,
    NORMALISED: tl.constexpr,
) -> tl.tensor:
    """Return gain * N(v) of a tile of rows of v (rows, WIDTH); v itself without NORMALISED.

    column (COLUMNS,) counts the features of all gates.
    """
    x = value(v, row[:, None] * WIDTH + column[None, :], mask)
    if NORMALISED:
        x = value(gain, column, inside)[None, :] * normal(x, mean, var, column, inside, eps)
    return x


@triton.jit
def back(
    d: tl.tensor,
    n: tl.tensor,
    sum_d: tl.tensor,
    sum_dn: tl.tensor,
    rows: tl.tensor,
    by_batch: tl.tensor,
    scale: tl.tensor,
) -> tl.tensor:
    """Return dL/dv of N(v), given d = dL/dN(v) and n = N(v), tiles (TILE, COLUMNS).

    It is scale * (d - mean(d) - n * mean(d * n)), means over rows; scale * d where the statistics
    were given. Sums and scale are of COLUMNS features.
    """
    mean_d = tl.where(by_batch != 0, sum_d / rows, 0.0)[None, :]
    mean_dn = tl.where(by_batch != 0, sum_dn / rows, 0.0)[None, :]
    return scale[None, :] * (d - mean_d - n * mean_dn)


@triton.jit
def term_backward(
    d: tl.tensor,
    d_column: tl.tensor,
    v: tl.tensor,
    gain: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    dv: tl.tensor,
    sums: tl.tensor,
    rows: tl.tensor,
    by_batch: tl.tensor,
    column: tl.tensor,
    inside: tl.tensor,
    eps: tl.tensor,
    D_WIDTH: tl.constexpr,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
    NORMALISED: tl.constexpr,
) -> tl.tensor:
    """Write dv (rows, WIDTH) and the gain's gradient of a gate's `term`.

    d (rows, D_WIDTH) is the term's gradient, from d_column on. Returns the sum of d over rows.
    """
    sum_d = tl.zeros([COLUMNS], tl.float32)
    sum_dn = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * WIDTH + column[None, :]
        x = value(d, row[:, None] * D_WIDTH + d_column[None, :], mask)
        sum_d += tl.sum(x, axis=0)
        if NORMALISED:
            sum_dn += tl.sum(x * normal(value(v, at, mask), mean, var, column, inside, eps), axis=0)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * WIDTH + column[None, :]
        x = value(d, row[:, None] * D_WIDTH + d_column[None, :], mask)
        if NORMALISED:
            n = normal(value(v, at, mask), mean, var, column, inside, eps)
            x = back(x, n, sum_d, sum_dn, rows, by_batch, scale_of(var, column, inside, eps))
            x *= value(gain, column, inside)[None, :]
        tl.store(dv + at, x, mask=mask)
    tl.store(sums + column, sum_dn, mask=inside)
    return sum_d
