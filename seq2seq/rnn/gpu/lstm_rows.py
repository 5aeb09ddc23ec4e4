"""GPU kernels of a step of the LSTM with no norm, layer norm or rms norm.

The arguments are described in rows.py.
"""

import triton
import triton.language as tl

from .elementwise import gradient_of_h, sigmoid, tanh, value
from .rows import VARYING, back_through, block_back_through, block_moments, moments, term


@triton.jit
def lstm_gate(
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    at: tl.tensor,
    mask: tl.tensor,
    own: tl.tensor,
    H: tl.constexpr,
    NORM: tl.constexpr,
) -> tl.tensor:
    """Return the summed inputs of a gate.

    own is mean and scale of input and recurrent term; vectors are gain_ih, gain_hh, bias.
    """
    ih_mean, ih_scale, hh_mean, hh_scale = own
    ih = term(u, vectors, at, mask, ih_mean, ih_scale, NORM)
    hh = term(z, vectors + 4 * H, at, mask, hh_mean, hh_scale, NORM)
    return ih + hh + value(vectors + 8 * H, at, mask)


@triton.jit
def lstm_gates(
    u: tl.tensor,
    z: tl.tensor,
    vectors: tl.tensor,
    j: tl.tensor,
    mask: tl.tensor,
    own: tl.tensor,
    H: tl.constexpr,
    NORM: tl.constexpr,
) -> tl.tensor:
    """Return i, f, g and o of lstm_step."""
    i = sigmoid(lstm_gate(u, z, vectors, j, mask, own, H, NORM))
    f = sigmoid(lstm_gate(u, z, vectors, H + j, mask, own, H, NORM))
    g = tanh(lstm_gate(u, z, vectors, 2 * H + j, mask, own, H, NORM))
    return i, f, g, sigmoid(lstm_gate(u, z, vectors, 3 * H + j, mask, own, H, NORM))


@triton.jit(do_not_specialize=VARYING)
def lstm_forward(
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
    """Run lstm_step of reference.py (Ba et al. 2016, eqs. 20 to 22)."""
    program = tl.program_id(0).to(tl.int64)
    row, j = start + program, tl.arange(0, BLOCK)
    mask = j < H
    u += row * 4 * H
    z += (place + program) * 4 * H
    ih_mean, ih_scale = moments(u, eps, 4, H, BLOCK, NORM)
    hh_mean, hh_scale = moments(z, eps, 4, H, BLOCK, NORM)
    i, f, g, o = lstm_gates(u, z, vectors, j, mask, (ih_mean, ih_scale, hh_mean, hh_scale), H, NORM)
    c_now = f * value(before, (before_start + program) * H + j, mask) + i * g
    tl.store(c + (place + program) * H + j, c_now, mask=mask)
    c_mean, c_scale = block_moments(c_now, mask, eps, H, NORM)
    normalised = c_now
    if NORM != "none":
        normalised = value(vectors + 12 * H, j, mask) * ((c_now - c_mean) * c_scale)
    h = o * tanh(normalised + value(vectors + 13 * H, j, mask))
    tl.store(output + row * H + j, h, mask=mask)
    if LOW:
        tl.store(low + program * H + j, h, mask=mask)
    if SAVE:
        tl.store(kept + row * 6, ih_mean)
        tl.store(kept + row * 6 + 1, ih_scale)
        tl.store(kept + row * 6 + 2, hh_mean)
        tl.store(kept + row * 6 + 3, hh_scale)
        tl.store(kept + row * 6 + 4, c_mean)
        tl.store(kept + row * 6 + 5, c_scale)


@triton.jit(do_not_specialize=VARYING)
def lstm_backward(
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
    """Run the backward pass of lstm_step.

    da (N, 5H) is the gradient of the gates' summed inputs, and of the normalised cell.
    """
    program = tl.program_id(0).to(tl.int64)
    row, j = start + program, tl.arange(0, BLOCK)
    mask = j < H
    at_step = program * H + j
    u += row * 4 * H
    z += row * 4 * H
    da += row * 5 * H
    kept += row * 6
    ih_mean, ih_scale, hh_mean, hh_scale = (
        tl.load(kept),
        tl.load(kept + 1),
        tl.load(kept + 2),
        tl.load(kept + 3),
    )
    c_mean, c_scale = tl.load(kept + 4), tl.load(kept + 5)
    i, f, g, o = lstm_gates(u, z, vectors, j, mask, (ih_mean, ih_scale, hh_mean, hh_scale), H, NORM)
    dh = gradient_of_h(d_output, after, d_h_n, row * H + j, at_step, program, rows_after, mask)
    normal = (value(state, row * H + j, mask) - c_mean) * c_scale
    gain_c = value(vectors + 12 * H, j, mask)
    if NORM == "none":
        gain_c = tl.full([BLOCK], 1.0, tl.float32)
    squashed = tanh(gain_c * normal + value(vectors + 13 * H, j, mask))
    d_cell = dh * o * (1.0 - squashed * squashed)
    d_c = value(carried, at_step, mask) + block_back_through(
        gain_c * d_cell, normal, c_scale, H, NORM
    )
    c_before = value(before, (before_start + program) * H + j, mask)
    tl.store(da + j, d_c * g * i * (1.0 - i), mask=mask)
    tl.store(da + H + j, d_c * c_before * f * (1.0 - f), mask=mask)
    tl.store(da + 2 * H + j, d_c * i * (1.0 - g * g), mask=mask)
    tl.store(da + 3 * H + j, dh * squashed * o * (1.0 - o), mask=mask)
    tl.store(da + 4 * H + j, d_cell, mask=mask)
    tl.store(carried + at_step, d_c * f, mask=mask)
    tl.debug_barrier()
    back_through(da, z, vectors + 4 * H, hh_mean, hh_scale, dz + row * 4 * H, 4, H, BLOCK, NORM)
