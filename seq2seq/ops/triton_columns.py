"""GPU kernels of a step of the LSTM with batch norm: one program for COLUMNS hidden features; as csrc/lstm_columns.h.

A feature is normalised over the rows of a step and has nothing to do with the others until the next product. A program
walks over the rows in tiles of TILE rows; statistics take two walks. u is float or of the products' type, z of the
latter, all else is float. Row indices are 64 bits wide: N * 4H may pass 2^31.

vectors are gain_ih, gain_hh, bias, each 4H, gain_c and bias_c, each H. mean and var (T, 9H) are of the input term, the
recurrent term and the cell, var biased. by_batch, 0 or 1: a step is normalised by its own statistics, not by given
ones. has_z, 0 or 1: there is an h_{t-1}, else N(z) is 0. Without NORMALISES_INPUT u is the whole input term already.

What a program has written it reads back after a barrier among its threads.
"""

import triton
import triton.language as tl

from .triton_elementwise import gradient_of_h, sigmoid, tanh, value

VARYING = ["t", "rows", "start", "place", "before_start", "rows_after", "has_z", "by_batch"]
"""Arguments that change from step to step: no kernel of their own for a 1 or for what 16 divides."""


# -- forward -------------------------------------------------------------------------------------------------------


@triton.jit
def write_statistics(v: tl.tensor, rows: tl.tensor, feature: tl.tensor, inside: tl.tensor, mean: tl.tensor,
                     var: tl.tensor, WIDTH: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr) -> None:
    """Mean and biased variance of some features over the rows of v (rows, WIDTH), into mean and var (WIDTH)."""
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
    """1 / sqrt(var + eps) of some features."""
    return 1.0 / tl.sqrt(value(var, feature, inside) + eps)


@triton.jit
def normal(x: tl.tensor, mean: tl.tensor, var: tl.tensor, feature: tl.tensor, inside: tl.tensor,
           eps: tl.tensor) -> tl.tensor:
    """N(x) of a tile (TILE, COLUMNS), by the statistics at mean and var."""
    return (x - value(mean, feature, inside)[None, :]) * scale_of(var, feature, inside, eps)[None, :]


@triton.jit
def gate(u: tl.tensor, z: tl.tensor, vectors: tl.tensor, mean: tl.tensor, var: tl.tensor, row: tl.tensor,
         column: tl.tensor, mask: tl.tensor, inside: tl.tensor, has_z: tl.tensor, eps: tl.tensor, H: tl.constexpr,
         NORMALISES_INPUT: tl.constexpr) -> tl.tensor:
    """Summed inputs of a tile of rows of a step; column (COLUMNS,) counts within the 4H features of all gates."""
    at = row[:, None] * (4 * H) + column[None, :]
    y = value(u, at, mask)
    if NORMALISES_INPUT:
        y = value(vectors, column, inside)[None, :] * normal(y, mean, var, column, inside, eps)
    y += value(vectors + 8 * H, column, inside)[None, :]
    if has_z:
        n = normal(value(z, at, mask), mean + 4 * H, var + 4 * H, column, inside, eps)
        y += value(vectors + 4 * H, column, inside)[None, :] * n
    return y


@triton.jit(do_not_specialize=VARYING)
def column_forward(u: tl.tensor, z: tl.tensor, vectors: tl.tensor, mean: tl.tensor, var: tl.tensor, before: tl.tensor,
                   output: tl.tensor, c: tl.tensor, low: tl.tensor, t: tl.tensor, rows: tl.tensor, start: tl.tensor,
                   place: tl.tensor, before_start: tl.tensor, has_z: tl.tensor, by_batch: tl.tensor, eps: tl.tensor,
                   H: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr, NORMALISES_INPUT: tl.constexpr,
                   LOW: tl.constexpr) -> None:
    """lstm_step of reference.py with batch norm (Cooijmans et al. 2016, eqs. 6 to 8).

    Step t is `rows` rows, in u (N, 4H) and output (N, H) from `start` on, in z (N, 4H) and c (N, H) from `place` on
    (0 where these hold one step alone); those of c_{t-1} begin at before_start of `before`. Writes c, h into output,
    h for the next product into low (B, H) too where that is of another type (LOW), and own statistics.
    """
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
                write_statistics(z, rows, column, inside, mean + 4 * H, var + 4 * H, 4 * H, TILE, COLUMNS)
        tl.debug_barrier()
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        i = gate(u, z, vectors, mean, var, row, feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
        f = gate(u, z, vectors, mean, var, row, H + feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
        g = gate(u, z, vectors, mean, var, row, 2 * H + feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
        o = gate(u, z, vectors, mean, var, row, 3 * H + feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
        tl.store(c + at, sigmoid(f) * value(before, at, mask) + sigmoid(i) * tanh(g), mask=mask)
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


# -- backward ------------------------------------------------------------------------------------------------------


@triton.jit
def back(d: tl.tensor, n: tl.tensor, sum_d: tl.tensor, sum_dn: tl.tensor, rows: tl.tensor, by_batch: tl.tensor,
         scale: tl.tensor) -> tl.tensor:
    """What comes back through N: scale * (d - mean(d) - N(v) * mean(d * N(v))), the means over rows; scale * d where
    the statistics were given. d and n = N(v) are tiles (TILE, COLUMNS), sums and scale of COLUMNS features."""
    mean_d = tl.where(by_batch != 0, sum_d / rows, 0.0)[None, :]
    mean_dn = tl.where(by_batch != 0, sum_dn / rows, 0.0)[None, :]
    return scale[None, :] * (d - mean_d - n * mean_dn)


@triton.jit
def cell_backward(d_output: tl.tensor, after: tl.tensor, d_h_n: tl.tensor, u: tl.tensor, z: tl.tensor,
                  vectors: tl.tensor, mean: tl.tensor, var: tl.tensor, c: tl.tensor, da: tl.tensor, dn: tl.tensor,
                  sums: tl.tensor, rows: tl.tensor, rows_after: tl.tensor, has_z: tl.tensor, feature: tl.tensor,
                  inside: tl.tensor, eps: tl.tensor, H: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr,
                  NORMALISES_INPUT: tl.constexpr) -> tl.tensor:
    """From h to dn and to the o part of da; returns the sums over rows of dn and of dn * N(c)."""
    gain_c = value(vectors + 12 * H, feature, inside)[None, :]
    bias_c = value(vectors + 13 * H, feature, inside)[None, :]
    sum_d = tl.zeros([COLUMNS], tl.float32)
    sum_dn = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        o = gate(u, z, vectors, mean, var, row, 3 * H + feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
        o = sigmoid(o)
        n = normal(value(c, at, mask), mean + 8 * H, var + 8 * H, feature, inside, eps)
        squashed = tanh(gain_c * n + bias_c)
        dh = gradient_of_h(d_output, after, d_h_n, at, at, row[:, None], rows_after, mask)
        d = dh * o * (1.0 - squashed * squashed)
        tl.store(da + row[:, None] * (4 * H) + (3 * H + feature)[None, :], dh * squashed * o * (1.0 - o), mask=mask)
        tl.store(dn + at, d, mask=mask)
        sum_d += tl.sum(d, axis=0)
        sum_dn += tl.sum(d * n, axis=0)
    tl.store(sums + 12 * H + feature, sum_dn, mask=inside)
    tl.store(sums + 13 * H + feature, sum_d, mask=inside)
    return sum_d, sum_dn


@triton.jit
def gates_backward(carried: tl.tensor, u: tl.tensor, z: tl.tensor, vectors: tl.tensor, mean: tl.tensor, var: tl.tensor,
                   before: tl.tensor, c: tl.tensor, da: tl.tensor, dn: tl.tensor, sum_d: tl.tensor, sum_dn: tl.tensor,
                   rows: tl.tensor, has_z: tl.tensor, by_batch: tl.tensor, feature: tl.tensor, inside: tl.tensor,
                   eps: tl.tensor, H: tl.constexpr, TILE: tl.constexpr, NORMALISES_INPUT: tl.constexpr) -> None:
    """From dn through the cell's norm to the i, f and g parts of da, and to dL/dc_{t-1}."""
    gain_c = value(vectors + 12 * H, feature, inside)[None, :]
    scale = scale_of(var + 8 * H, feature, inside, eps)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + feature[None, :]
        at_i = row[:, None] * (4 * H) + feature[None, :]
        i = gate(u, z, vectors, mean, var, row, feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
        f = gate(u, z, vectors, mean, var, row, H + feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
        g = gate(u, z, vectors, mean, var, row, 2 * H + feature, mask, inside, has_z, eps, H, NORMALISES_INPUT)
        i, f, g = sigmoid(i), sigmoid(f), tanh(g)
        n = normal(value(c, at, mask), mean + 8 * H, var + 8 * H, feature, inside, eps)
        d = gain_c * back(value(dn, at, mask), n, sum_d, sum_dn, rows, by_batch, scale) + value(carried, at, mask)
        tl.store(da + at_i, d * g * i * (1.0 - i), mask=mask)
        tl.store(da + at_i + H, d * value(before, at, mask) * f * (1.0 - f), mask=mask)
        tl.store(da + at_i + 2 * H, d * i * (1.0 - g * g), mask=mask)
        tl.store(carried + at, d * f, mask=mask)


@triton.jit
def term_backward(da: tl.tensor, v: tl.tensor, gain: tl.tensor, mean: tl.tensor, var: tl.tensor, dv: tl.tensor,
                  sums: tl.tensor, rows: tl.tensor, by_batch: tl.tensor, column: tl.tensor, inside: tl.tensor,
                  eps: tl.tensor, H: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr,
                  NORMALISED: tl.constexpr) -> tl.tensor:
    """From a gate's da (rows, 4H) through gain * N(v) to dv (rows, 4H), and to the gain's gradient, into sums.

    Returns the sum of da over rows. Without NORMALISED the term is v itself.
    """
    sum_d = tl.zeros([COLUMNS], tl.float32)
    sum_dn = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * (4 * H) + column[None, :]
        d = value(da, at, mask)
        sum_d += tl.sum(d, axis=0)
        if NORMALISED:
            sum_dn += tl.sum(d * normal(value(v, at, mask), mean, var, column, inside, eps), axis=0)
    for first in range(0, rows, TILE):
        row = (first + tl.arange(0, TILE)).to(tl.int64)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * (4 * H) + column[None, :]
        d = value(da, at, mask)
        if NORMALISED:
            n = normal(value(v, at, mask), mean, var, column, inside, eps)
            d = back(d, n, sum_d, sum_dn, rows, by_batch, scale_of(var, column, inside, eps))
            d *= value(gain, column, inside)[None, :]
        tl.store(dv + at, d, mask=mask)
    tl.store(sums + column, sum_dn, mask=inside)
    return sum_d


@triton.jit(do_not_specialize=VARYING)
def column_backward(d_output: tl.tensor, after: tl.tensor, d_h_n: tl.tensor, carried: tl.tensor, u: tl.tensor,
                    z: tl.tensor, vectors: tl.tensor, mean: tl.tensor, var: tl.tensor, before: tl.tensor, c: tl.tensor,
                    da: tl.tensor, dn: tl.tensor, du: tl.tensor, dz: tl.tensor, sums: tl.tensor, t: tl.tensor,
                    rows: tl.tensor, start: tl.tensor, before_start: tl.tensor, rows_after: tl.tensor, has_z: tl.tensor,
                    by_batch: tl.tensor, eps: tl.tensor, H: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr,
                    NORMALISES_INPUT: tl.constexpr) -> None:
    """The way back through step t: all of it, since du needs the same sums over rows as dz.

    d_output (N, H), after (B, H) and d_h_n (B, H): see gradient_of_h. carried (B, H) is dL/dc_t from the step after,
    and becomes dL/dc_{t-1}. Writes du and dz (N, 4H) and the step's part of the gradients of the vectors into sums
    (T, 14H). da (B, 4H) and dn (B, H), of the gates' summed inputs and of the normalised cell, are scratch.
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
    sum_d, sum_dn = cell_backward(d_output, after, d_h_n, u, z, vectors, mean, var, c, da, dn, sums, rows, rows_after,
                                  has_z, feature, inside, eps, H, TILE, COLUMNS, NORMALISES_INPUT)
    tl.debug_barrier()
    gates_backward(carried, u, z, vectors, mean, var, before, c, da, dn, sum_d, sum_dn, rows, has_z, by_batch, feature,
                   inside, eps, H, TILE, NORMALISES_INPUT)
    tl.debug_barrier()
    for k in range(4):
        column = k * H + feature
        sum_a = term_backward(da, u, vectors, mean, var, du, sums, rows, by_batch, column, inside, eps, H, TILE,
                              COLUMNS, NORMALISES_INPUT)
        tl.store(sums + 8 * H + column, sum_a, mask=inside)
        if has_z:
            term_backward(da, z, vectors + 4 * H, mean + 4 * H, var + 4 * H, dz, sums + 4 * H, rows, by_batch, column,
                          inside, eps, H, TILE, COLUMNS, True)
        else:
            tl.store(sums + 4 * H + column, tl.zeros([COLUMNS], tl.float32), mask=inside)
