"""Terms of the GPU kernels with no norm, layer norm or rms norm; the counterpart of cpu/rows.h.

One program works on one row. Sizes are in units of H, the hidden features; the gates of a row are
side by side, gate k from k * H on. A program holds one gate at a time in a block of BLOCK >= H
elements, of which the first H count. u and z are of the products' type, everything else is float.
Row indices are 64 bits wide, since N * G * H may exceed 2^31.

`kept` (N, 2 * moments) holds the pairs mean, scale of a row: scale is 1 / sqrt(var + eps), and
N(v) = (v - mean) * scale.

The kernels of all cells take the same arguments. Step t is the rows from `start` on; those of the
step before begin at `before_start` of `before`. Where nothing is saved, z and c hold one step
alone and `place` is 0; otherwise `place` is `start`.

forward
    u, z (N, G * H); vectors as in cpu/; before (N, H): c of the LSTM, h of the GRU. Writes h into
    output (N, H), into low (B, H) for the next product where that is of another type (LOW),
    c (N, H), and with SAVE also kept.
backward
    d_output (N, H), after (B, H) and d_h_n (B, H): see gradient_of_h. carried (B, H) is the
    gradient that does not pass through W_hh, of c_t or of the GRU's h_{t-1}; it is read and
    written. state (N, H): c of the LSTM, else h. Writes dz (N, G * H), and into da (N, width * H)
    what the kernels of all_rows.py need. A program reads dL/dy_hh back from da after a barrier
    among its threads.
"""

import triton
import triton.language as tl

from .elementwise import value

VARYING = ["start", "place", "before_start", "rows_after"]
"""Arguments that change from step to step, for whose values no kernel is specialised."""


@triton.jit
def moments(
    v: tl.tensor,
    eps: tl.tensor,
    PARTS: tl.constexpr,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
) -> tl.tensor:
    """Return mean and scale of the first PARTS * H features of a row v, in two passes."""
    j = tl.arange(0, BLOCK)
    mean = 0.0
    scale = 1.0
    if NORM == "layer":
        total = tl.zeros([BLOCK], tl.float32)
        for k in tl.static_range(PARTS):
            total += value(v, k * H + j, j < H)
        mean = tl.sum(total) / (PARTS * H)
    if NORM != "none":
        squares = tl.zeros([BLOCK], tl.float32)
        for k in tl.static_range(PARTS):
            deviation = tl.where(j < H, value(v, k * H + j, j < H) - mean, 0.0)
            squares += deviation * deviation
        scale = 1.0 / tl.sqrt(tl.sum(squares) / (PARTS * H) + eps)
    return mean, scale


@triton.jit
def block_moments(
    x: tl.tensor, mask: tl.tensor, eps: tl.tensor, H: tl.constexpr, NORM: tl.constexpr
) -> tl.tensor:
    """Return the moments of a block x with H elements within the mask."""
    mean = 0.0
    scale = 1.0
    if NORM == "layer":
        mean = tl.sum(tl.where(mask, x, 0.0)) / H
    if NORM != "none":
        deviation = tl.where(mask, x - mean, 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(deviation * deviation) / H + eps)
    return mean, scale


@triton.jit
def term(
    v: tl.tensor,
    gain: tl.tensor,
    at: tl.tensor,
    mask: tl.tensor,
    mean: tl.tensor,
    scale: tl.tensor,
    NORM: tl.constexpr,
) -> tl.tensor:
    """Return gain * N(v) of a row v; v itself without a norm."""
    x = value(v, at, mask)
    if NORM != "none":
        x = value(gain, at, mask) * ((x - mean) * scale)
    return x


@triton.jit
def back_through(
    d: tl.tensor,
    v: tl.tensor,
    gain: tl.tensor,
    mean: tl.tensor,
    scale: tl.tensor,
    dv: tl.tensor,
    PARTS: tl.constexpr,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
) -> None:
    """Write dL/dv of the first PARTS * H features of a row v, given d = dL/d(gain * N(v) + bias).

    With e = gain * d: dL/dv = scale * (e - mean(e) - N(v) * mean(e * N(v))), the first mean only in
    layer norm.
    """
    j = tl.arange(0, BLOCK)
    mean_e = 0.0
    mean_en = 0.0
    if NORM != "none":
        sum_e = tl.zeros([BLOCK], tl.float32)
        sum_en = tl.zeros([BLOCK], tl.float32)
        for k in tl.static_range(PARTS):
            e = value(gain, k * H + j, j < H) * value(d, k * H + j, j < H)
            sum_e += e
            sum_en += e * ((value(v, k * H + j, j < H) - mean) * scale)
        if NORM == "layer":
            mean_e = tl.sum(sum_e) / (PARTS * H)
        mean_en = tl.sum(sum_en) / (PARTS * H)
    for k in tl.static_range(PARTS):
        e = value(d, k * H + j, j < H)
        if NORM != "none":
            normal = (value(v, k * H + j, j < H) - mean) * scale
            e = scale * (value(gain, k * H + j, j < H) * e - mean_e - normal * mean_en)
        tl.store(dv + k * H + j, e, mask=j < H)


@triton.jit
def block_back_through(
    e: tl.tensor, normal: tl.tensor, scale: tl.tensor, H: tl.constexpr, NORM: tl.constexpr
) -> tl.tensor:
    """Return dL/dv of a block, as `back_through`, given e, which is 0 beyond H, and N(v)."""
    mean_e = 0.0
    if NORM == "layer":
        mean_e = tl.sum(e) / H
    if NORM != "none":
        e = scale * (e - mean_e - normal * (tl.sum(e * normal) / H))
    return e
