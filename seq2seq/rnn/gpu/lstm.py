"""The LSTM on a GPU: the equations, and a step by rows and by columns.

vectors are gain_ih, gain_hh and bias, each 4H, gain_c and bias_c, each H. da (rows, 5H) is the
gradient of the gates' summed inputs, and of gain_c * N(c) + bias_c. Without NORMALISES_CELL
gain_c * N(c) is c, gain_c is not used, and bias_c is 0.
"""

import triton
import triton.language as tl

from .columns import (
    Columns,
    column_back,
    term_backward,
    term_sums,
    tile,
    write_gate_statistics,
    write_statistics,
    write_sum,
)
from .elementwise import sigmoid, tanh, value
from .rows import moments, row_back, row_back_means, row_back_through
from .terms import (
    Backward,
    Block,
    Forward,
    Layer,
    Term,
    at,
    gradient_of_h,
    load,
    scaled,
    term,
    vector,
    write_h,
)


@triton.jit
def gate(ih: Term, hh: Term, k: tl.constexpr, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Return the summed inputs of gate k."""
    y = term(ih, k, b, layer, C)
    if layer.has_z:
        y += term(hh, k, b, layer, C)
    return y + vector(8 + k, b, layer, C)


@triton.jit
def gates(ih: Term, hh: Term, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Return i, f and g."""
    i = sigmoid(gate(ih, hh, 0, b, layer, C))
    f = sigmoid(gate(ih, hh, 1, b, layer, C))
    return i, f, tanh(gate(ih, hh, 2, b, layer, C))


@triton.jit
def cell_state(
    ih: Term, hh: Term, s: Forward, b: Block, layer: Layer, C: tl.constexpr
) -> tl.tensor:
    """Write and return c_t = f * c_{t-1} + i * g."""
    i, f, g = gates(ih, hh, b, layer, C)
    c = f * value(s.before, at(b, 1, 0, C), b.mask) + i * g
    tl.store(s.c + at(b, 1, 0, C), c, mask=b.mask)
    return c


@triton.jit
def squashed(c: tl.tensor, cell: Term, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Return tanh(gain_c * N(c) + bias_c); h_t is o times that."""
    return tanh(scaled(c, cell, 0, b, layer, C) + vector(13, b, layer, C))


@triton.jit
def back_from_h(
    c: tl.tensor,
    ih: Term,
    hh: Term,
    cell: Term,
    s: Backward,
    b: Block,
    layer: Layer,
    C: tl.constexpr,
) -> tl.tensor:
    """Write da of o, and of gain_c * N(c) + bias_c; return the latter."""
    o, y = sigmoid(gate(ih, hh, 3, b, layer, C)), squashed(c, cell, b, layer, C)
    dh = gradient_of_h(s, b, C)
    d = dh * o * (1.0 - y * y)
    da = s.da + at(b, C.WIDTH, 0, C)
    tl.store(da + 3 * C.H, dh * y * o * (1.0 - o), mask=b.mask)
    tl.store(da + 4 * C.H, d, mask=b.mask)
    return d


@triton.jit
def back_from_c(
    d_c: tl.tensor, ih: Term, hh: Term, s: Backward, b: Block, layer: Layer, C: tl.constexpr
) -> None:
    """Write da of i, f and g, and dL/dc_{t-1}, given the part of dL/dc_t through h_t."""
    i, f, g = gates(ih, hh, b, layer, C)
    place = at(b, 1, 0, C)
    d_c += value(s.carried, place, b.mask)
    da = s.da + at(b, C.WIDTH, 0, C)
    tl.store(da, d_c * g * i * (1.0 - i), mask=b.mask)
    tl.store(da + C.H, d_c * value(s.before, place, b.mask) * f * (1.0 - f), mask=b.mask)
    tl.store(da + 2 * C.H, d_c * i * (1.0 - g * g), mask=b.mask)
    tl.store(s.carried + place, d_c * f, mask=b.mask)


@triton.jit
def cell_term(v: tl.tensor, mean: tl.tensor, spread: tl.tensor, C: tl.constexpr) -> Term:
    """Return the term of c: gain_c * N(c), or c itself where it has no norm."""
    return Term(v, mean if C.NORMALISES_CELL else None, spread, 1, 12)


@triton.jit
def cell_moments(c: tl.tensor, b: Block, C: tl.constexpr) -> tl.tensor:
    """Return the moments of c; 0 and 1 where it is not normalised."""
    mean = 0.0
    scale = 1.0
    if C.NORMALISES_CELL:
        mean, scale = moments(c, 1, b, C)
    return mean, scale


@triton.jit
def rows_forward(s: Forward, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Run lstm_step of reference.py (Ba et al. 2016, eqs. 20 to 22); return the moments."""
    ih_mean, ih_scale = moments(s.u, 4, b, C)
    hh_mean, hh_scale = moments(s.z, 4, b, C)
    ih = Term(s.u, ih_mean, ih_scale, 4, 0)
    hh = Term(s.z, hh_mean, hh_scale, 4, 4)
    c = cell_state(ih, hh, s, b, layer, C)
    c_mean, c_scale = cell_moments(c, b, C)
    cell = cell_term(s.c, c_mean, c_scale, C)
    h = sigmoid(gate(ih, hh, 3, b, layer, C)) * squashed(c, cell, b, layer, C)
    write_h(h, s, b, C)
    return ih_mean, ih_scale, hh_mean, hh_scale, c_mean, c_scale


@triton.jit
def rows_backward(s: Backward, kept: tl.tensor, b: Block, layer: Layer, C: tl.constexpr) -> None:
    """Run the backward pass of lstm_step, down to dz."""
    ih = Term(s.u, tl.load(kept), tl.load(kept + 1), 4, 0)
    hh = Term(s.z, tl.load(kept + 2), tl.load(kept + 3), 4, 4)
    cell = cell_term(s.state, tl.load(kept + 4), tl.load(kept + 5), C)
    c = load(cell, 0, b, C)
    d = back_from_h(c, ih, hh, cell, s, b, layer, C)
    means = row_back_means(d, c, cell, 0, 1, b, layer, C)
    back_from_c(row_back(d, c, cell, means, 0, b, layer, C), ih, hh, s, b, layer, C)
    tl.debug_barrier()
    row_back_through(s.da, hh, s.dz, 0, 4, b, layer, C)


@triton.jit
def columns_forward(s: Forward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run lstm_step with batch norm (Cooijmans et al. 2016, eqs. 6 to 8)."""
    ih = Term(s.u, p.mean if C.NORMALISES_INPUT else None, p.var, 4, 0)
    hh = Term(s.z, p.mean + 4 * C.H, p.var + 4 * C.H, 4, 4)
    cell = cell_term(s.c, p.mean + 8 * C.H, p.var + 8 * C.H, C)
    if p.by_batch:
        write_gate_statistics(ih, hh, p, layer, C)
    for first in range(0, p.rows, C.TILE):
        b = tile(first, p, C)
        cell_state(ih, hh, s, b, layer, C)
        o = sigmoid(gate(ih, hh, 3, b, layer, C))  # kept there until c's statistics are known
        tl.store(s.output + at(b, 1, 0, C), o, mask=b.mask)
    tl.debug_barrier()
    if p.by_batch and cell.mean is not None:
        write_statistics(cell, 0, p, C)
        tl.debug_barrier()
    for first in range(0, p.rows, C.TILE):
        b = tile(first, p, C)
        o = value(s.output, at(b, 1, 0, C), b.mask)
        write_h(o * squashed(load(cell, 0, b, C), cell, b, layer, C), s, b, C)


@triton.jit
def columns_backward(s: Backward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run the backward pass of lstm_step with batch norm."""
    ih = Term(s.u, p.mean if C.NORMALISES_INPUT else None, p.var, 4, 0)
    hh = Term(s.z, p.mean + 4 * C.H, p.var + 4 * C.H, 4, 4)
    cell = cell_term(s.state, p.mean + 8 * C.H, p.var + 8 * C.H, C)
    for first in range(0, p.rows, C.TILE):
        b = tile(first, p, C)
        back_from_h(load(cell, 0, b, C), ih, hh, cell, s, b, layer, C)
    tl.debug_barrier()
    sums = term_sums(cell, 0, 4, s, p, C)
    write_sum(sums[1], 12, s, p, C)
    write_sum(sums[0], 13, s, p, C)
    for first in range(0, p.rows, C.TILE):
        b = tile(first, p, C)
        d = value(s.da, at(b, C.WIDTH, 4, C), b.mask)
        d_c = column_back(d, cell, 0, sums, b, p, layer, C)
        back_from_c(d_c, ih, hh, s, b, layer, C)
    tl.debug_barrier()
    for k in range(C.GATES):
        sum_a = term_backward(ih, s.du, k, k, True, s, p, layer, C)
        write_sum(sum_a, 8 + k, s, p, C)
        term_backward(hh, s.dz, k, k, layer.has_z, s, p, layer, C)
