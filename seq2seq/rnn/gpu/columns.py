"""Batch norm on a GPU, over the rows of a step; the counterpart of cpu/columns.h.

One program works on COLUMNS hidden features. A feature is normalised over the rows of a step,
independently of the others. A program reads the rows in tiles of TILE rows; statistics take two
passes. What it has written it reads back after a barrier among its threads.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from .elementwise import value
from .terms import Backward, Block, Layer, Term, at, load, normal, scale_of, vector


class Columns(NamedTuple):
    """What a program works on."""

    feature: tl.tensor
    """(COLUMNS,)."""
    inside: tl.tensor
    """Which features are below H."""
    rows: tl.tensor
    """Rows of the step."""
    by_batch: tl.tensor
    """Whether the step is normalised by its own statistics, not by given ones."""
    mean: tl.tensor
    """Of the step: of input term, recurrent term and, where it has a norm, the LSTM's cell; or of
    the sum in the RNN of joint terms."""
    var: tl.tensor
    """Biased."""


@triton.jit
def columns_of(
    mean: tl.tensor,
    var: tl.tensor,
    t: tl.tensor,
    rows: tl.tensor,
    by_batch: tl.tensor,
    C: tl.constexpr,
) -> Columns:
    """Return a program's features in step t, given the statistics of all steps."""
    feature = tl.program_id(0) * C.COLUMNS + tl.arange(0, C.COLUMNS)
    first = t.to(tl.int64) * (C.STATISTICS * C.H)
    return Columns(feature, feature < C.H, rows, by_batch, mean + first, var + first)


@triton.jit
def tile(first: tl.tensor, p: Columns, C: tl.constexpr) -> Block:
    """Return the tile of rows from `first` on."""
    row = (first + tl.arange(0, C.TILE)).to(tl.int64)[:, None]
    inside = p.inside[None, :]
    return Block(row, p.feature[None, :], inside, (row < p.rows) & inside)


@triton.jit
def write_statistics(t: Term, k: tl.tensor, p: Columns, C: tl.constexpr) -> None:
    """Write mean and biased variance of gate k's features."""
    total = tl.full([C.COLUMNS], 0.0, tl.float32)
    squares = tl.full([C.COLUMNS], 0.0, tl.float32)
    for first in range(0, p.rows, C.TILE):
        total += tl.sum(load(t, k, tile(first, p, C), C), axis=0)
    average = total / p.rows
    for first in range(0, p.rows, C.TILE):
        b = tile(first, p, C)
        deviation = tl.where(b.mask, load(t, k, b, C) - average[None, :], 0.0)
        squares += tl.sum(deviation * deviation, axis=0)
    tl.store(t.mean + k * C.H + p.feature, average, mask=p.inside)
    tl.store(t.spread + k * C.H + p.feature, squares / p.rows, mask=p.inside)


@triton.jit
def write_gate_statistics(ih: Term, hh: Term, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Write the statistics of the input and recurrent terms of all gates."""
    for k in range(C.GATES):
        if ih.mean is not None:
            write_statistics(ih, k, p, C)
        if layer.has_z:
            write_statistics(hh, k, p, C)
    tl.debug_barrier()


@triton.jit
def term_sums(
    t: Term,
    k: tl.tensor,
    k_d: tl.tensor,
    s: Backward,
    p: Columns,
    C: tl.constexpr,
) -> tl.tensor:
    """Return the sums over rows of d and of d * N(v), gate k's gradients of a bias and the gain.

    d, the gradient of the term, is gate k_d of da (rows, WIDTH * H).
    """
    sum_d = tl.full([C.COLUMNS], 0.0, tl.float32)
    sum_dn = tl.full([C.COLUMNS], 0.0, tl.float32)
    for first in range(0, p.rows, C.TILE):
        b = tile(first, p, C)
        d = value(s.da, at(b, C.WIDTH, k_d, C), b.mask)
        sum_d += tl.sum(d, axis=0)
        if t.mean is not None:
            sum_dn += tl.sum(d * normal(load(t, k, b, C), t, k, b, C), axis=0)
    return sum_d, sum_dn


@triton.jit
def write_sum(sum_d: tl.tensor, place: tl.tensor, s: Backward, p: Columns, C: tl.constexpr) -> None:
    """Write the gradient of a gain or bias, which is at a place in vectors."""
    tl.store(s.sums + place * C.H + p.feature, sum_d, mask=p.inside)


@triton.jit
def column_back(
    d: tl.tensor,
    t: Term,
    k: tl.tensor,
    sums: tl.tensor,
    b: Block,
    p: Columns,
    layer: Layer,
    C: tl.constexpr,
) -> tl.tensor:
    """Return dL/dv of a tile of gate k, given the gradient d of the term.

    It is gain * scale * (d - mean(d) - n * mean(d * n)), n = N(v), means over rows; gain * scale *
    d where the statistics were given; d where v is the whole term. sums are those of d and d * n.
    """
    if t.mean is not None:
        n = normal(load(t, k, b, C), t, k, b, C)
        mean_d = tl.where(p.by_batch != 0, sums[0] / p.rows, 0.0)[None, :]
        mean_dn = tl.where(p.by_batch != 0, sums[1] / p.rows, 0.0)[None, :]
        d = scale_of(t, k, b, C) * (d - mean_d - n * mean_dn)
        d *= vector(t.GAIN + k, b, layer, C)
    return d


@triton.jit
def term_backward(
    t: Term,
    dv: tl.tensor,
    k: tl.tensor,
    k_d: tl.tensor,
    present: tl.tensor,
    s: Backward,
    p: Columns,
    layer: Layer,
    C: tl.constexpr,
) -> tl.tensor:
    """Write dL/dv and the gain's gradient of gate k's term; return the gradient of a bias.

    Where the term is not present, dL/dv is not written, and the gain's gradient is 0. The other
    arguments are those of `term_sums`.
    """
    sums = term_sums(t, k, k_d, s, p, C)
    write_sum(tl.where(present != 0, sums[1], 0.0), t.GAIN + k, s, p, C)
    if present:
        for first in range(0, p.rows, C.TILE):
            b = tile(first, p, C)
            d = value(s.da, at(b, C.WIDTH, k_d, C), b.mask)
            d = column_back(d, t, k, sums, b, p, layer, C)
            tl.store(dv + at(b, t.WIDTH, k, C), d, mask=b.mask)
    return sums[0]
