"""GPU kernels of a step of the GRU with no norm, layer norm or rms norm.

The arguments are described in rows.py.
"""

import triton
import triton.language as tl

from .elementwise import gradient_of_h, sigmoid, tanh, value
from .rows import VARYING, back_through, moments, term


@triton.jit
def gru_gates(
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    j: tl.tensor,
    mask: tl.tensor,
    own: tl.tensor,
    H: tl.constexpr,
    NORM: tl.constexpr,
) -> tl.tensor:
    """Return r, z and n of gru_step, and y_hh of the n part.

    own: mean and scale of the input term's (r z) and n part, and of the recurrent term's; vectors:
    gain_ih, gain_hh, bias_ih, bias_hh, each 3H.
    """
    ih_mean, ih_scale, ih_n_mean, ih_n_scale, hh_mean, hh_scale, hh_n_mean, hh_n_scale = own
    gain_hh, bias_ih, bias_hh = vectors + 3 * H, vectors + 6 * H, vectors + 9 * H
    at_z, at_n = H + j, 2 * H + j
    r_ih = term(u, vectors, j, mask, ih_mean, ih_scale, NORM) + value(bias_ih, j, mask)
    z_ih = term(u, vectors, at_z, mask, ih_mean, ih_scale, NORM) + value(bias_ih, at_z, mask)
    n_ih = term(u, vectors, at_n, mask, ih_n_mean, ih_n_scale, NORM) + value(bias_ih, at_n, mask)
    r_hh = term(z, gain_hh, j, mask, hh_mean, hh_scale, NORM) + value(bias_hh, j, mask)
    z_hh = term(z, gain_hh, at_z, mask, hh_mean, hh_scale, NORM) + value(bias_hh, at_z, mask)
    n_hh = term(z, gain_hh, at_n, mask, hh_n_mean, hh_n_scale, NORM) + value(bias_hh, at_n, mask)
    r = sigmoid(r_ih + r_hh)
    return r, sigmoid(z_ih + z_hh), tanh(n_ih + r * n_hh), n_hh


@triton.jit(do_not_specialize=VARYING)
def gru_forward(
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    before: tl.tensor,
    output: tl.tensor,
    c: tl.tensor,
    low: tl.tensor,
    kept: tl.tensor,
    start: tl.tensor,
    place: tl.tensor,
    before_start: tl.tensor,
    eps: tl.tensor,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
    CELL: tl.constexpr,
    SAVE: tl.constexpr,
    LOW: tl.constexpr,
) -> None:
    """Run gru_step of reference.py with separate terms."""
    program = tl.program_id(0).to(tl.int64)
    row, j = start + program, tl.arange(0, BLOCK)
    mask = j < H
    u += row * 3 * H
    z += (place + program) * 3 * H
    ih_mean, ih_scale = moments(u, eps, 2, H, BLOCK, NORM)
    ih_n_mean, ih_n_scale = moments(u + 2 * H, eps, 1, H, BLOCK, NORM)
    hh_mean, hh_scale = moments(z, eps, 2, H, BLOCK, NORM)
    hh_n_mean, hh_n_scale = moments(z + 2 * H, eps, 1, H, BLOCK, NORM)
    own = (ih_mean, ih_scale, ih_n_mean, ih_n_scale, hh_mean, hh_scale, hh_n_mean, hh_n_scale)
    _, update, n, _ = gru_gates(u, z, vectors, j, mask, own, H, NORM)
    h = (1.0 - update) * n + update * value(before, (before_start + program) * H + j, mask)
    tl.store(output + row * H + j, h, mask=mask)
    if LOW:
        tl.store(low + program * H + j, h, mask=mask)
    if SAVE:
        for k in tl.static_range(8):
            tl.store(kept + row * 8 + k, own[k])


@triton.jit(do_not_specialize=VARYING)
def gru_backward(
    d_output: tl.tensor,
    after: tl.tensor,
    d_h_n: tl.tensor,
    carried: tl.tensor,
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    before: tl.tensor,
    state: tl.tensor,
    kept: tl.tensor,
    da: tl.tensor,
    dz: tl.tensor,
    start: tl.tensor,
    before_start: tl.tensor,
    rows_after: tl.tensor,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
    CELL: tl.constexpr,
) -> None:
    """Run the backward pass of gru_step.

    da (N, 4H) is the gradient of y_ih (r z n), and of the n part of y_hh.
    """
    program = tl.program_id(0).to(tl.int64)
    row, j = start + program, tl.arange(0, BLOCK)
    mask = j < H
    at_step = program * H + j
    u += row * 3 * H
    z += row * 3 * H
    da += row * 4 * H
    dz += row * 3 * H
    kept += row * 8
    own = (
        tl.load(kept),
        tl.load(kept + 1),
        tl.load(kept + 2),
        tl.load(kept + 3),
        tl.load(kept + 4),
        tl.load(kept + 5),
        tl.load(kept + 6),
        tl.load(kept + 7),
    )
    r, update, n, n_hh = gru_gates(u, z, vectors, j, mask, own, H, NORM)
    dh = gradient_of_h(d_output, after, d_h_n, row * H + j, at_step, program, rows_after, mask)
    dh += value(carried, at_step, mask)
    h_before = value(before, (before_start + program) * H + j, mask)
    d_n = dh * (1.0 - update) * (1.0 - n * n)
    tl.store(da + j, d_n * n_hh * r * (1.0 - r), mask=mask)
    tl.store(da + H + j, dh * (h_before - n) * update * (1.0 - update), mask=mask)
    tl.store(da + 2 * H + j, d_n, mask=mask)
    tl.store(da + 3 * H + j, d_n * r, mask=mask)
    tl.store(carried + at_step, dh * update, mask=mask)
    tl.debug_barrier()
    gain_hh = vectors + 3 * H
    back_through(da, z, gain_hh, own[4], own[5], dz, 2, H, BLOCK, NORM)
    back_through(
        da + 3 * H, z + 2 * H, gain_hh + 2 * H, own[6], own[7], dz + 2 * H, 1, H, BLOCK, NORM
    )
