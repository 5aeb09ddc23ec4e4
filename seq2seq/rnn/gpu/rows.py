"""GPU kernels of a step with no norm, layer norm or rms norm: one program for each row; the
counterpart of cpu/rows.h.

Sizes are in units of H, the hidden features; a row's gates stand side by side, gate k from k * H
on. A program holds one gate at a time in a block of BLOCK >= H elements, of which the first H
count. u and z are of the products' type, all else is float. Row indices are 64 bits wide: N * G * H
may pass 2^31.

`kept` (N, 2 * moments) holds the pairs mean, scale of a row: scale is 1 / sqrt(var + eps), N(v) =
(v - mean) * scale.
"""

import triton
import triton.language as tl

from .elementwise import gradient_of_h, sigmoid, tanh, value

VARYING = ["start", "place", "before_start", "rows_after"]
"""Arguments that change from step to step: no kernel of their own for a 1 or for what 16
divides.
"""
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
"""The same, of those that tell cells and terms apart."""


# -- a term, forward and backward ---


@triton.jit
def moments(
    v: tl.tensor,
    eps: tl.tensor,
    PARTS: tl.constexpr,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
) -> tl.tensor:
    """Mean and scale of the PARTS * H first features of a row v. In two passes, as in
    cpu/norms.h.
    """
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
    """`moments` of a block x, of which H elements are within the mask."""
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
    """gain * N(v) of a row v; v itself without a norm."""
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
    """Writes dL/dv of the PARTS * H first features of a row v, given d = dL/d(gain * N(v) + bias).

    With e = gain * d: dL/dv = scale * (e - mean(e) - N(v) * mean(e * N(v))), the first mean in
    layer norm alone.
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
    """`back_through` for a block, given e, which is 0 beyond H, and N(v)."""
    mean_e = 0.0
    if NORM == "layer":
        mean_e = tl.sum(e) / H
    if NORM != "none":
        e = scale * (e - mean_e - normal * (tl.sum(e * normal) / H))
    return e


# -- the cells' steps ---
#
# One signature for all cells. Step t is the rows from `start` on; those of the step before begin at
# `before_start` of
# `before`. Where nothing is saved, z and c hold one step alone: then `place` is 0, else `start`.
#
# forward    u, z (N, G * H); vectors as in cpu/; before (N, H): of the LSTM c, of the GRU h.
#            Writes h into output (N, H), for the next product into low (B, H) too where that is of
# another type (LOW),
#            c (N, H) and, with SAVE, kept.
# backward   d_output (N, H), after (B, H) and d_h_n (B, H): see gradient_of_h. carried (B, H) is
# the gradient
#            that goes on without passing through W_hh: of c_t, of the GRU's h_{t-1}; it is read and
# written.
#            state (N, H): of the LSTM c, else h. Writes dz (N, G * H), and into da (N, width * H)
# what is left to do
#            for all steps at once needs.
#
# A program reads dL/dy_hh back from da, which its own threads wrote, after a barrier among them.


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
    """Summed inputs of a gate; own: mean and scale of input and recurrent term; vectors: gain_ih,
    gain_hh, bias.
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
    """i, f, g and o of lstm_step."""
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
    """lstm_step of reference.py (Ba et al. 2016, eqs. 20 to 22)."""
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
    """The way back through lstm_step. da (N, 5H): of the gates' summed inputs, and of the
    normalised cell.
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
    """r, z and n of gru_step, and y_hh of the n part.

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
    """gru_step of reference.py with separate terms."""
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
    """The way back through gru_step. da (N, 4H): of y_ih (r z n), and of y_hh, of which the n part
    alone differs.
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
    """rnn_step of reference.py (Ba et al. 2016, eq. 4), its norm on the sum of both terms; vectors:
    gain_ih, bias.
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
    """The way back through rnn_step. da (N, H): of the summed inputs. dz is du, since both terms
    are only added up.
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


# -- what is left to do for all steps at once ---


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
    """du of SIZE * H features of a row of u (N, gates * H), from at * H on, which one pair of
    moments normalises.

    Reads da (N, width * H) from at * H on too; vectors begin with gain_ih.
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
    """Sums over ROWS rows of d * N(v) and of d, for size * H features: part of the gradients of a
    gain and a bias.

    d (rows, d_width * H) is read from d_at * H on, v (rows, v_width * H), or v + added where ADDED,
    from v_at * H on. The sums go into `sums` (programs along the rows, vectors * H), from gain * H
    and bias * H on.
    """
    block = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < size * H
    sum_d = tl.zeros([COLUMNS], tl.float32)
    sum_dn = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, ROWS, TILE):
        row = block * ROWS + first + tl.arange(0, TILE)
        alive = row < rows
        mask = alive[:, None] & inside[None, :]
        gradient = value(d, (row * (d_width * H) + d_at * H)[:, None] + column[None, :], mask)
        sum_d += tl.sum(gradient, axis=0)
        if NORM != "none":
            at = (row * (v_width * H) + v_at * H)[:, None] + column[None, :]
            x = value(v, at, mask)
            if ADDED:
                x += value(added, at, mask)
            mean = value(kept, row * (2 * pairs) + 2 * pair, alive)
            scale = value(kept, row * (2 * pairs) + 2 * pair + 1, alive)
            sum_dn += tl.sum(gradient * ((x - mean[:, None]) * scale[:, None]), axis=0)
    sums += block * (vectors * H)
    if NORM != "none":
        tl.store(sums + gain * H + column, sum_dn, mask=inside)
    if HAS_BIAS:
        tl.store(sums + bias * H + column, sum_d, mask=inside)
