"""GPU kernels of a step of the vanilla RNN with no norm, layer norm or rms norm.

The arguments are described in rows.py.
"""

import triton
import triton.language as tl

from .elementwise import gradient_of_h, tanh, value
from .rows import VARYING, block_back_through, block_moments


@triton.jit(do_not_specialize=VARYING)
def rnn_forward(
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
    """Run rnn_step of reference.py (Ba et al. 2016, eq. 4), its norm on u + z.

    vectors are gain_ih and bias.
    """
    program = tl.program_id(0).to(tl.int64)
    row, j = start + program, tl.arange(0, BLOCK)
    mask = j < H
    summed = value(u, row * H + j, mask) + value(z, (place + program) * H + j, mask)
    mean, scale = block_moments(summed, mask, eps, H, NORM)
    y = summed
    if NORM != "none":
        y = value(vectors, j, mask) * ((summed - mean) * scale)
    y += value(vectors + H, j, mask)
    h = tl.where(y < 0.0, 0.0, y) if CELL == "rnn_relu" else tanh(y)  # a NaN stays one
    tl.store(output + row * H + j, h, mask=mask)
    if LOW:
        tl.store(low + program * H + j, h, mask=mask)
    if SAVE:
        tl.store(kept + row * 2, mean)
        tl.store(kept + row * 2 + 1, scale)


@triton.jit(do_not_specialize=VARYING)
def rnn_backward(
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
    """Run the backward pass of rnn_step.

    da (N, H) is the gradient of the summed inputs. dz is du, since the cell only adds u and z.
    """
    program = tl.program_id(0).to(tl.int64)
    row, j = start + program, tl.arange(0, BLOCK)
    mask = j < H
    at = row * H + j
    dh = gradient_of_h(d_output, after, d_h_n, at, program * H + j, program, rows_after, mask)
    h = value(state, at, mask)
    d = tl.where(h > 0.0, dh, 0.0) if CELL == "rnn_relu" else dh * (1.0 - h * h)
    tl.store(da + at, d, mask=mask)
    if NORM != "none":
        mean, scale = tl.load(kept + row * 2), tl.load(kept + row * 2 + 1)
        normal = (value(u, at, mask) + value(z, at, mask) - mean) * scale
        d = block_back_through(value(vectors, j, mask) * d, normal, scale, H, NORM)
    tl.store(dz + at, d, mask=mask)
