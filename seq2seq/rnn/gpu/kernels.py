"""The GPU kernels of a step, for all cells: their arguments, and where a program begins.

Rows are packed, N in all, of which step t has those from `start` on; B are in the first step. Row
indices are 64 bits wide, since N * G * H may exceed 2^31. Arguments of all kernels:

u, z, dz
    (N, G * H). Where nothing is saved, z and c hold one step alone, and `place` is 0 instead of
    `start`.
before, output, c, d_output, state
    (N, H). The rows of the step before begin at before_start of `before`.
low, after, d_h_n, carried
    (B, H), of which a step's rows are the first ones.
vectors, has_z
    As in `Layer`. The other arrays are described in `Forward` and `Backward`.
kept
    (N, 2 * pairs): mean and 1 / sqrt(var + eps) of what is normalised together.
da
    (N, WIDTH * H) by rows; (B, WIDTH * H), scratch, by columns.
mean, var, sums
    (T, STATISTICS * H) and (T, VECTORS * H); step t has row t.
C
    `Constants`.
"""

import triton
import triton.language as tl

from . import gru, lstm, rnn
from .columns import columns_of
from .rows import row_block
from .terms import Backward, Forward, Layer

VARYING = [
    *("t", "rows", "start", "place", "before_start", "rows_after", "has_z", "by_batch"),
]
"""Arguments that change from step to step, for whose values no kernel is specialised."""


@triton.jit(do_not_specialize=VARYING)
def rows_forward(
    u: tl.tensor,
    z: tl.tensor,
    before: tl.tensor,
    output: tl.tensor,
    c: tl.tensor,
    low: tl.tensor,
    start: tl.tensor,
    place: tl.tensor,
    before_start: tl.tensor,
    vectors: tl.tensor,
    kept: tl.tensor,
    C: tl.constexpr,
) -> None:
    """Run a step of a cell with no norm, layer norm or rms norm."""
    program = tl.program_id(0).to(tl.int64)
    s = Forward(
        u + (start + program) * (C.GATES * C.H),
        z + (place + program) * (C.GATES * C.H),
        before + (before_start + program) * C.H,
        output + (start + program) * C.H,
        c + (place + program) * C.H,
        low + program * C.H,
    )
    b, layer = row_block(C), Layer(vectors, True)
    if C.EQUATIONS == "lstm":
        own = lstm.rows_forward(s, b, layer, C)
    elif C.EQUATIONS == "gru":
        own = gru.rows_forward(s, b, layer, C)
    else:
        own = rnn.rows_forward(s, b, layer, C)
    if C.SAVE:
        for k in tl.static_range(len(own)):
            tl.store(kept + (start + program) * len(own) + k, own[k])


@triton.jit(do_not_specialize=VARYING)
def rows_backward(
    d_output: tl.tensor,
    after: tl.tensor,
    d_h_n: tl.tensor,
    carried: tl.tensor,
    u: tl.tensor,
    z: tl.tensor,
    before: tl.tensor,
    state: tl.tensor,
    da: tl.tensor,
    dz: tl.tensor,
    start: tl.tensor,
    before_start: tl.tensor,
    rows_after: tl.tensor,
    vectors: tl.tensor,
    kept: tl.tensor,
    C: tl.constexpr,
) -> None:
    """Run the backward pass of a step, down to da and dz; all_rows.py has the rest."""
    program = tl.program_id(0).to(tl.int64)
    row = start + program
    s = Backward(
        d_output + row * C.H,
        after + program * C.H,
        d_h_n + program * C.H,
        carried + program * C.H,
        u + row * (C.GATES * C.H),
        z + row * (C.GATES * C.H),
        before + (before_start + program) * C.H,
        state + row * C.H,
        da + row * (C.WIDTH * C.H),
        dz + row * (C.GATES * C.H),
        rows_after - program,
    )
    b, layer = row_block(C), Layer(vectors, True)
    kept += row * (2 * C.PAIRS)
    if C.EQUATIONS == "lstm":
        lstm.rows_backward(s, kept, b, layer, C)
    elif C.EQUATIONS == "gru":
        gru.rows_backward(s, kept, b, layer, C)
    else:
        rnn.rows_backward(s, kept, b, layer, C)


@triton.jit(do_not_specialize=VARYING)
def columns_forward(
    u: tl.tensor,
    z: tl.tensor,
    before: tl.tensor,
    output: tl.tensor,
    c: tl.tensor,
    low: tl.tensor,
    start: tl.tensor,
    place: tl.tensor,
    before_start: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    t: tl.tensor,
    rows: tl.tensor,
    has_z: tl.tensor,
    by_batch: tl.tensor,
    C: tl.constexpr,
) -> None:
    """Run a step of a cell with batch norm."""
    s = Forward(
        u + start.to(tl.int64) * (C.GATES * C.H),
        z + place.to(tl.int64) * (C.GATES * C.H),
        before + before_start.to(tl.int64) * C.H,
        output + start.to(tl.int64) * C.H,
        c + place.to(tl.int64) * C.H,
        low,
    )
    p, layer = columns_of(mean, var, t, rows, by_batch, C), Layer(vectors, has_z)
    if C.EQUATIONS == "lstm":
        lstm.columns_forward(s, p, layer, C)
    elif C.EQUATIONS == "gru":
        gru.columns_forward(s, p, layer, C)
    else:
        rnn.columns_forward(s, p, layer, C)


@triton.jit(do_not_specialize=VARYING)
def columns_backward(
    d_output: tl.tensor,
    after: tl.tensor,
    d_h_n: tl.tensor,
    carried: tl.tensor,
    u: tl.tensor,
    z: tl.tensor,
    before: tl.tensor,
    state: tl.tensor,
    da: tl.tensor,
    dz: tl.tensor,
    start: tl.tensor,
    before_start: tl.tensor,
    rows_after: tl.tensor,
    vectors: tl.tensor,
    mean: tl.tensor,
    var: tl.tensor,
    du: tl.tensor,
    sums: tl.tensor,
    t: tl.tensor,
    rows: tl.tensor,
    has_z: tl.tensor,
    by_batch: tl.tensor,
    C: tl.constexpr,
) -> None:
    """Run the whole backward pass of a step: du needs the same sums over rows as dz."""
    row = start.to(tl.int64)
    s = Backward(
        d_output + row * C.H,
        after,
        d_h_n,
        carried,
        u + row * (C.GATES * C.H),
        z + row * (C.GATES * C.H),
        before + before_start.to(tl.int64) * C.H,
        state + row * C.H,
        da,
        dz + row * (C.GATES * C.H),
        rows_after,
        du + row * (C.GATES * C.H),
        sums + t.to(tl.int64) * (C.VECTORS * C.H),
    )
    p, layer = columns_of(mean, var, t, rows, by_batch, C), Layer(vectors, has_z)
    if C.EQUATIONS == "lstm":
        lstm.columns_backward(s, p, layer, C)
    elif C.EQUATIONS == "gru":
        gru.columns_backward(s, p, layer, C)
    else:
        rnn.columns_backward(s, p, layer, C)
