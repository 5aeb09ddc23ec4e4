"""GPU kernels that finish the backward pass for the rows of all steps at once.

PART is a `Part`, C are `Constants`. u and du are (N, GATES * H), da (N, WIDTH * H) and kept
(N, 2 * PAIRS).
"""

import triton
import triton.language as tl

from .elementwise import value
from .rows import row_back_through, row_block
from .terms import Layer, Term


@triton.jit
def input_backward(
    da: tl.tensor,
    u: tl.tensor,
    vectors: tl.tensor,
    kept: tl.tensor,
    du: tl.tensor,
    PART: tl.constexpr,
    C: tl.constexpr,
) -> None:
    """Write du of a part of the input term."""
    row = tl.program_id(0).to(tl.int64)
    kept += row * (2 * C.PAIRS) + 2 * PART.pair
    u += row * (C.GATES * C.H)
    t = Term(u, tl.load(kept), tl.load(kept + 1), 0, 0)  # one row needs no width
    da, du = da + row * (C.WIDTH * C.H), du + row * (C.GATES * C.H)
    row_back_through(da, t, du, PART.at, PART.size, row_block(C), Layer(vectors, True), C)


@triton.jit(do_not_specialize=["rows"])
def column_sums(
    da: tl.tensor,
    v: tl.tensor,
    z: tl.tensor,
    kept: tl.tensor,
    sums: tl.tensor,
    rows: tl.tensor,
    PART: tl.constexpr,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Sum d * N(v) and d over ROWS rows, as part of the gradients of a part's gain and bias.

    d is the part of da, v that of u, z, c or, where JOINT, u + z. The sums go into `sums`
    (programs along the rows, VECTORS * H).
    """
    block = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < PART.size * C.H
    sum_d = tl.zeros([COLUMNS], tl.float32)
    sum_dn = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, ROWS, TILE):
        row = block * ROWS + first + tl.arange(0, TILE)
        mask = (row < rows)[:, None] & inside[None, :]
        at = (row * (C.WIDTH * C.H) + PART.d_at * C.H)[:, None] + column[None, :]
        d = value(da, at, mask)
        sum_d += tl.sum(d, axis=0)
        if C.NORM != "none" and PART.gain is not None:
            width = C.H if PART.v == "c" else C.GATES * C.H
            at = (row * width + PART.at * C.H)[:, None] + column[None, :]
            x = value(v, at, mask)
            if C.JOINT:
                x += value(z, at, mask)
            pair = kept + row * (2 * C.PAIRS) + 2 * PART.pair
            mean, scale = value(pair, 0, row < rows), value(pair, 1, row < rows)
            sum_dn += tl.sum(d * ((x - mean[:, None]) * scale[:, None]), axis=0)
    sums += block * (C.VECTORS * C.H) + column
    if C.NORM != "none" and PART.gain is not None:
        tl.store(sums + PART.gain * C.H, sum_dn, mask=inside)
    if PART.bias is not None:
        tl.store(sums + PART.bias * C.H, sum_d, mask=inside)
