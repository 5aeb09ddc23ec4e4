"""The GRU on a GPU: the equations, and a step by rows and by columns.

vectors are gain_ih, gain_hh, bias_ih and bias_hh, each 3H, of the gates r, z and n. da (rows, 4H)
is the gradient of the input terms of r, z and n, and of the recurrent term of n; r and z have both
terms' gradients in common.
"""

import triton
import triton.language as tl

from .columns import Columns, term_backward, tile, write_gate_statistics, write_sum
from .elementwise import sigmoid, tanh, value
from .rows import moments, row_back_through
from .terms import Backward, Block, Forward, Layer, Term, at, gradient_of_h, term, vector, write_h


@triton.jit
def terms(
    ih: Term, hh: Term, k: tl.constexpr, b: Block, layer: Layer, C: tl.constexpr
) -> tl.tensor:
    """Return gate k's input and recurrent term with their biases."""
    y_ih = term(ih, k, b, layer, C) + vector(6 + k, b, layer, C)
    y_hh = tl.zeros_like(y_ih) + vector(9 + k, b, layer, C)
    if layer.has_z:
        y_hh += term(hh, k, b, layer, C)
    return y_ih, y_hh


@triton.jit
def gates(
    ih: Term, hh: Term, ih_n: Term, hh_n: Term, b: Block, layer: Layer, C: tl.constexpr
) -> tl.tensor:
    """Return r, z, n and the recurrent term of n."""
    r_ih, r_hh = terms(ih, hh, 0, b, layer, C)
    z_ih, z_hh = terms(ih, hh, 1, b, layer, C)
    n_ih, n_hh = terms(ih_n, hh_n, 2, b, layer, C)
    r = sigmoid(r_ih + r_hh)
    return r, sigmoid(z_ih + z_hh), tanh(n_ih + r * n_hh), n_hh


@triton.jit
def write_state(
    ih: Term, hh: Term, ih_n: Term, hh_n: Term, s: Forward, b: Block, layer: Layer, C: tl.constexpr
) -> None:
    """Write h_t = (1 - z) * n + z * h_{t-1}."""
    _, z, n, _ = gates(ih, hh, ih_n, hh_n, b, layer, C)
    before = value(s.before, at(b, 1, 0, C), b.mask)
    write_h((1.0 - z) * n + z * before, s, b, C)


@triton.jit
def back_from_h(
    ih: Term, hh: Term, ih_n: Term, hh_n: Term, s: Backward, b: Block, layer: Layer, C: tl.constexpr
) -> None:
    """Write da, and the part of dL/dh_{t-1} that does not pass through W_hh."""
    r, z, n, n_hh = gates(ih, hh, ih_n, hh_n, b, layer, C)
    place = at(b, 1, 0, C)
    dh = gradient_of_h(s, b, C) + value(s.carried, place, b.mask)
    dn = dh * (1.0 - z) * (1.0 - n * n)
    dz = dh * (value(s.before, place, b.mask) - n) * z * (1.0 - z)
    da = s.da + at(b, C.WIDTH, 0, C)
    tl.store(da, dn * n_hh * r * (1.0 - r), mask=b.mask)
    tl.store(da + C.H, dz, mask=b.mask)
    tl.store(da + 2 * C.H, dn, mask=b.mask)
    tl.store(da + 3 * C.H, dn * r, mask=b.mask)
    tl.store(s.carried + place, dh * z, mask=b.mask)


@triton.jit
def rows_forward(s: Forward, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Run gru_step of reference.py with separate terms; return the moments."""
    ih_mean, ih_scale = moments(s.u, 2, b, C)
    ih_n_mean, ih_n_scale = moments(s.u + 2 * C.H, 1, b, C)
    hh_mean, hh_scale = moments(s.z, 2, b, C)
    hh_n_mean, hh_n_scale = moments(s.z + 2 * C.H, 1, b, C)
    ih, ih_n = (
        Term(s.u, ih_mean, ih_scale, 3, 0),
        Term(s.u, ih_n_mean, ih_n_scale, 3, 0),
    )
    hh, hh_n = (
        Term(s.z, hh_mean, hh_scale, 3, 3),
        Term(s.z, hh_n_mean, hh_n_scale, 3, 3),
    )
    write_state(ih, hh, ih_n, hh_n, s, b, layer, C)
    return ih_mean, ih_scale, ih_n_mean, ih_n_scale, hh_mean, hh_scale, hh_n_mean, hh_n_scale


@triton.jit
def rows_backward(s: Backward, kept: tl.tensor, b: Block, layer: Layer, C: tl.constexpr) -> None:
    """Run the backward pass of gru_step, down to dz."""
    ih = Term(s.u, tl.load(kept), tl.load(kept + 1), 3, 0)
    ih_n = Term(s.u, tl.load(kept + 2), tl.load(kept + 3), 3, 0)
    hh = Term(s.z, tl.load(kept + 4), tl.load(kept + 5), 3, 3)
    hh_n = Term(s.z, tl.load(kept + 6), tl.load(kept + 7), 3, 3)
    back_from_h(ih, hh, ih_n, hh_n, s, b, layer, C)
    tl.debug_barrier()
    row_back_through(s.da, hh, s.dz, 0, 2, b, layer, C)
    row_back_through(s.da + C.H, hh_n, s.dz, 2, 1, b, layer, C)


@triton.jit
def columns_forward(s: Forward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run gru_step with batch norm."""
    ih = Term(s.u, p.mean if C.NORMALISES_INPUT else None, p.var, 3, 0)
    hh = Term(s.z, p.mean + 3 * C.H, p.var + 3 * C.H, 3, 3)
    if p.by_batch:
        write_gate_statistics(ih, hh, p, layer, C)
    for first in range(0, p.rows, C.TILE):
        write_state(ih, hh, ih, hh, s, tile(first, p, C), layer, C)


@triton.jit
def columns_backward(s: Backward, p: Columns, layer: Layer, C: tl.constexpr) -> None:
    """Run the backward pass of gru_step with batch norm."""
    ih = Term(s.u, p.mean if C.NORMALISES_INPUT else None, p.var, 3, 0)
    hh = Term(s.z, p.mean + 3 * C.H, p.var + 3 * C.H, 3, 3)
    for first in range(0, p.rows, C.TILE):
        back_from_h(ih, hh, ih, hh, s, tile(first, p, C), layer, C)
    tl.debug_barrier()
    for k in range(C.GATES):
        sum_ih = term_backward(ih, s.du, k, k, True, s, p, layer, C)
        write_sum(sum_ih, 6 + k, s, p, C)
        k_hh = tl.where(k == 2, 3, k)
        sum_hh = term_backward(hh, s.dz, k, k_hh, layer.has_z, s, p, layer, C)
        write_sum(sum_hh, 9 + k, s, p, C)
