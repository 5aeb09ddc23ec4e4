"""The vanilla RNN on a GPU: the equations, and a step by rows and by columns.

da (rows, H) is the gradient of the summed inputs. With joint terms the norm is on u + z, vectors
are gain and bias, each H, and dz is du. With separate terms, which batch norm may have, it is on u
and on z; vectors are gain_ih, gain_hh and bias.
"""

import triton
import triton.language as tl

from .columns import (
    Columns,
    term_backward,
    tile,
    write_gate_statistics,
    write_statistics,
    write_sum,
)
from .elementwise import tanh, value
from .rows import moments, row_back, row_back_means
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
def activation(y: tl.tensor, C: tl.constexpr) -> tl.tensor:
    """Return h_t, given the summed inputs."""
    return tl.where(y < 0.0, 0.0, y) if C.RELU else tanh(y)  # a NaN stays one


@triton.jit
def state(x: tl.tensor, t: Term, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Return h_t, given x = u + z."""
    return activation(scaled(x, t, 0, b, layer, C) + vector(1, b, layer, C), C)


@triton.jit
def back_from_h(s: Backward, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Write and return da."""
    place = at(b, 1, 0, C)
    dh, h = gradient_of_h(s, b, C), value(s.state, place, b.mask)
    d = tl.where(h > 0.0, dh, 0.0) if C.RELU else dh * (1.0 - h * h)
    tl.store(s.da + place, d, mask=b.mask)
    return d


@triton.jit
def rows_forward(s: Forward, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Run rnn_step of reference.py (Ba et al. 2016, eq. 4); return the moments."""
    place = at(b, 1, 0, C)
    x = value(s.u, place, b.mask) + value(s.z, place, b.mask)
    mean, scale = moments(x, 1, b, C)
    t = Term(s.u, mean, scale, 1, 0, s.z)
    write_h(state(x, t, b, layer, C), s, b, C)
    return mean, scale


@triton.jit
def rows_backward(s: Backward, kept: tl.tensor, b: Block, layer: Layer, C: tl.constexpr) -> None:
    """Run the backward pass of rnn_step."""
    t = Term(s.u, tl.load(kept), tl.load(kept + 1), 1, 0, s.z)
    d, x = back_from_h(s, b, layer, C), load(t, 0, b, C)
    means = row_back_means(d, x, t, 0, 1, b, layer, C)
    dz = row_back(d, x, t, means, 0, b, layer, C)
    tl.store(s.dz + at(b, 1, 0, C), dz, mask=b.mask)


@triton.jit
def joint_columns_forward(s: Forward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run rnn_step with batch norm of the sum."""
    t = Term(s.u, p.mean, p.var, 1, 0, s.z)
    if p.by_batch:
        write_statistics(t, 0, p, C)
        tl.debug_barrier()
    for first in range(0, p.rows, C.TILE):
        b = tile(first, p, C)
        write_h(state(load(t, 0, b, C), t, b, layer, C), s, b, C)


@triton.jit
def joint_columns_backward(s: Backward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run the backward pass of rnn_step with batch norm of the sum."""
    t = Term(s.u, p.mean, p.var, 1, 0, s.z)
    for first in range(0, p.rows, C.TILE):
        back_from_h(s, tile(first, p, C), layer, C)
    tl.debug_barrier()
    sum_d = term_backward(t, s.du, 0, 0, True, s, p, layer, C)
    write_sum(sum_d, 1, s, p, C)


@triton.jit
def separate_columns_forward(s: Forward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run rnn_step with batch norm of each term."""
    ih = Term(s.u, p.mean if C.NORMALISES_INPUT else None, p.var, 1, 0)
    hh = Term(s.z, p.mean + C.H, p.var + C.H, 1, 1)
    if p.by_batch:
        write_gate_statistics(ih, hh, p, layer, C)
    for first in range(0, p.rows, C.TILE):
        b = tile(first, p, C)
        y = term(ih, 0, b, layer, C) + vector(2, b, layer, C)
        if layer.has_z:
            y += term(hh, 0, b, layer, C)
        write_h(activation(y, C), s, b, C)


@triton.jit
def separate_columns_backward(s: Backward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run the backward pass of rnn_step with batch norm of each term."""
    ih = Term(s.u, p.mean if C.NORMALISES_INPUT else None, p.var, 1, 0)
    hh = Term(s.z, p.mean + C.H, p.var + C.H, 1, 1)
    for first in range(0, p.rows, C.TILE):
        back_from_h(s, tile(first, p, C), layer, C)
    tl.debug_barrier()
    write_sum(term_backward(ih, s.du, 0, 0, True, s, p, layer, C), 2, s, p, C)
    term_backward(hh, s.dz, 0, 0, layer.has_z, s, p, layer, C)


@triton.jit
def columns_forward(s: Forward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run rnn_step with batch norm."""
    if C.JOINT:
        joint_columns_forward(s, p, layer, C)
    else:
        separate_columns_forward(s, p, layer, C)


@triton.jit
def columns_backward(s: Backward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run the backward pass of rnn_step with batch norm."""
    if C.JOINT:
        joint_columns_backward(s, p, layer, C)
    else:
        separate_columns_backward(s, p, layer, C)
