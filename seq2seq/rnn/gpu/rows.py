"""Layer norm and rms norm on a GPU, over the features of a row; the counterpart of cpu/rows.h.

One program works on one row. It holds one gate at a time in a block of BLOCK >= H elements, of
which the first H count. A row of features is passed as a pointer, or as a block where it is of H
features alone.
"""

import triton
import triton.language as tl

from .elementwise import value
from .terms import Block, Layer, Term, normal, scale_of, vector


@triton.jit
def row_block(C: tl.constexpr) -> Block:
    """Return the features of a program's row."""
    feature = tl.arange(0, C.BLOCK)
    return Block(0, feature, feature < C.H, feature < C.H)


@triton.jit
def part(v: tl.tensor, k: tl.constexpr, b: Block, C: tl.constexpr) -> tl.tensor:
    """Return gate k's features of a row v; 0 beyond H."""
    if v.dtype.is_ptr():
        v = value(v, k * C.H + b.feature, b.mask)
    return tl.where(b.mask, v, 0.0)


@triton.jit
def moments(v: tl.tensor, PARTS: tl.constexpr, b: Block, C: tl.constexpr) -> tl.tensor:
    """Return mean and 1 / sqrt(var + eps) of the first PARTS * H features of a row v.

    They take two passes, and are 0 and 1 without a norm; rms norm has no mean.
    """
    mean = 0.0
    scale = 1.0
    if C.NORM == "layer":
        total = 0.0
        for k in tl.static_range(PARTS):
            total += part(v, k, b, C)
        mean = tl.sum(total) / (PARTS * C.H)
    if C.NORM != "none":
        squares = 0.0
        for k in tl.static_range(PARTS):
            deviation = tl.where(b.mask, part(v, k, b, C) - mean, 0.0)
            squares += deviation * deviation
        scale = 1.0 / tl.sqrt(tl.sum(squares) / (PARTS * C.H) + C.EPS)
    return mean, scale


@triton.jit
def row_back_means(
    d: tl.tensor,
    v: tl.tensor,
    t: Term,
    FIRST: tl.constexpr,
    PARTS: tl.constexpr,
    b: Block,
    layer: Layer,
    C: tl.constexpr,
) -> tl.tensor:
    """Return the means of e = gain * d and of e * N(v) over PARTS gates from FIRST on.

    d is dL/dy of the term y of a row v. The first mean is 0 in rms norm; both are 0
    where v has no norm.
    """
    mean_e = 0.0
    mean_en = 0.0
    if C.NORM != "none" and t.mean is not None:
        sum_e = 0.0
        sum_en = 0.0
        for k in tl.static_range(FIRST, FIRST + PARTS):
            e = vector(t.GAIN + k, b, layer, C) * part(d, k, b, C)
            sum_e += e
            sum_en += e * normal(part(v, k, b, C), t, k, b, C)
        if C.NORM == "layer":
            mean_e = tl.sum(sum_e) / (PARTS * C.H)
        mean_en = tl.sum(sum_en) / (PARTS * C.H)
    return mean_e, mean_en


@triton.jit
def row_back(
    d: tl.tensor,
    v: tl.tensor,
    t: Term,
    means: tl.tensor,
    k: tl.constexpr,
    b: Block,
    layer: Layer,
    C: tl.constexpr,
) -> tl.tensor:
    """Return dL/dv of gate k: scale * (e - mean(e) - N(v) * mean(e * N(v))), e as above.

    It is d itself where v has no norm.
    """
    e = part(d, k, b, C)
    if C.NORM != "none" and t.mean is not None:
        n = normal(part(v, k, b, C), t, k, b, C)
        e = scale_of(t, k, b, C) * (vector(t.GAIN + k, b, layer, C) * e - means[0] - n * means[1])
    return e


@triton.jit
def row_back_through(
    d: tl.tensor,
    t: Term,
    dv: tl.tensor,
    FIRST: tl.constexpr,
    PARTS: tl.constexpr,
    b: Block,
    layer: Layer,
    C: tl.constexpr,
) -> None:
    """Write dL/dv of PARTS gates from FIRST on, which are normalised together."""
    means = row_back_means(d, t.v, t, FIRST, PARTS, b, layer, C)
    for k in tl.static_range(FIRST, FIRST + PARTS):
        tl.store(dv + k * C.H + b.feature, row_back(d, t.v, t, means, k, b, layer, C), mask=b.mask)
