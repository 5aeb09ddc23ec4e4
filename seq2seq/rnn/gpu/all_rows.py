"""GPU kernels that finish the backward pass for the rows of all steps at once."""

import triton
import triton.language as tl

from .elementwise import value
from .rows import back_through

PLACES = [
    "rows",
    "width",
    "gates",
    "pairs",
    "at",
    "pair",
    "d_width",
    "d_at",
    "v_width",
    "v_at",
    "size",
    "vectors",
    "gain",
    "bias",
]
"""Arguments that differ between cells and terms, for which no kernel is specialised."""


@triton.jit(do_not_specialize=PLACES)
def input_backward(
    da: tl.tensor,
    u: tl.tensor,
    vectors: tl.tensor,
    kept: tl.tensor,
    du: tl.tensor,
    width: tl.tensor,
    gates: tl.tensor,
    pairs: tl.tensor,
    at: tl.tensor,
    pair: tl.tensor,
    SIZE: tl.constexpr,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
) -> None:
    """Write du for SIZE * H features of a row that one pair of moments normalises.

    The features of u (N, gates * H) and da (N, width * H) start at at * H; vectors start with
    gain_ih.
    """
    row = tl.program_id(0).to(tl.int64)
    kept += row * (2 * pairs) + 2 * pair
    first = row * (gates * H) + at * H
    back_through(
        da + row * (width * H) + at * H,
        u + first,
        vectors + at * H,
        tl.load(kept),
        tl.load(kept + 1),
        du + first,
        SIZE,
        H,
        BLOCK,
        NORM,
    )


@triton.jit(do_not_specialize=PLACES)
def column_sums(
    d: tl.tensor,
    v: tl.tensor,
    added: tl.tensor,
    kept: tl.tensor,
    sums: tl.tensor,
    rows: tl.tensor,
    d_width: tl.tensor,
    d_at: tl.tensor,
    v_width: tl.tensor,
    v_at: tl.tensor,
    size: tl.tensor,
    pairs: tl.tensor,
    pair: tl.tensor,
    vectors: tl.tensor,
    gain: tl.tensor,
    bias: tl.tensor,
    H: tl.constexpr,
    NORM: tl.constexpr,
    ADDED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Sum d * N(v) and d over ROWS rows, as part of the gradients of a gain and a bias.

    The sums are of size * H features. d (rows, d_width * H) is read from d_at * H on, and
    v (rows, v_width * H), or v + added where ADDED, from v_at * H on. The sums go into `sums`
    (programs along the rows, vectors * H), from gain * H and bias * H on.
    """
    block = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < size * H
    sum_d = tl.zeros([COLUMNS], tl.float32)
    sum_dn = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, ROWS, TILE):
        row = block * ROWS + first + tl.arange(0, TILE)
        active = row < rows
        mask = active[:, None] & inside[None, :]
        gradient = value(d, (row * (d_width * H) + d_at * H)[:, None] + column[None, :], mask)
        sum_d += tl.sum(gradient, axis=0)
        if NORM != "none":
            at = (row * (v_width * H) + v_at * H)[:, None] + column[None, :]
            x = value(v, at, mask)
            if ADDED:
                x += value(added, at, mask)
            mean = value(kept, row * (2 * pairs) + 2 * pair, active)
            scale = value(kept, row * (2 * pairs) + 2 * pair + 1, active)
            sum_dn += tl.sum(gradient * ((x - mean[:, None]) * scale[:, None]), axis=0)
    sums += block * (vectors * H)
    if NORM != "none":
        tl.store(sums + gain * H + column, sum_dn, mask=inside)
    if HAS_BIAS:
        tl.store(sums + bias * H + column, sum_d, mask=inside)
