"""The operators of cpu/ for GPUs: loops over time on the host, a product and one Triton kernel a
step.

`recurrence`, `batch_norm_recurrence` and their backward passes take and give what the operators of
the same names in cpu/rows.cpp and cpu/columns.cpp do; `register` makes them PyTorch's for CUDA
tensors. Nothing waits for the device, no path depends on values and no sum on the order of threads:
calls can be captured in a CUDA graph, and the same input gives the same bits.

Rows are packed: step t is the next batch_sizes[t] rows of N in all, B of them in the first step; H
hidden features, G gates, T steps. Products are float or bfloat16, states and norms float. Arguments
named pack_weight mean nothing here.
"""

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import gru_columns as triton_gru_columns
from . import lstm_columns as triton_lstm_columns
from . import rnn_columns as triton_rnn_columns
from . import rows as triton_rows
from .steps import Backward, Forward

SUMMED_ROWS, SUM_TILE, SUM_COLUMNS = 128, 32, 64
"""Rows whose column sums a program finds, and the tile in which it does."""
TILE, COLUMNS = 64, 8
"""Rows and features of which a program of batch norm holds a tile: 16 bytes for each of 128
threads.
"""
NORMS = ("none", "layer", "rms")


class Part(NamedTuple):
    """A stretch of u, z or c that one pair of moments normalises; sizes and places are in units of
    H.
    """

    v: str
    at: int
    size: int
    pair: int
    d_at: int
    """Where its gradient begins in da."""
    gain: int
    """Where that begins in vectors, and the bias."""
    bias: int | None


@dataclass(frozen=True)
class Cell:
    """What the loops have to know about a cell; sizes are in units of H."""

    gates: int
    vectors: int
    pairs: int
    """Of moments."""
    width: int
    """Of da."""
    statistics: int
    """Of a step, with batch norm."""
    forward: Any
    backward: Any
    column_forward: Any
    """With batch norm, as is the next."""
    column_backward: Any
    parts: tuple[Part, ...]
    joint: bool = False
    """The norm is on u + z."""

    @property
    def has_c(self) -> bool:
        """Whether there is a cell state."""
        return any(part.v == "c" for part in self.parts)

    def same_terms(self, norm: str) -> bool:
        """Whether du is dz, because u and z are only added up."""
        return self.joint or (norm == "none" and self.has_c)


LSTM = Cell(
    gates=4,
    vectors=14,
    pairs=3,
    width=5,
    statistics=9,
    forward=triton_rows.lstm_forward,
    backward=triton_rows.lstm_backward,
    column_forward=triton_lstm_columns.lstm_forward,
    column_backward=triton_lstm_columns.lstm_backward,
    parts=(
        Part("u", 0, 4, pair=0, d_at=0, gain=0, bias=8),
        Part("z", 0, 4, pair=1, d_at=0, gain=4, bias=None),
        Part("c", 0, 1, pair=2, d_at=4, gain=12, bias=13),
    ),
)
GRU = Cell(
    gates=3,
    vectors=12,
    pairs=4,
    width=4,
    statistics=6,
    forward=triton_rows.gru_forward,
    backward=triton_rows.gru_backward,
    column_forward=triton_gru_columns.gru_forward,
    column_backward=triton_gru_columns.gru_backward,
    parts=(
        Part("u", 0, 2, pair=0, d_at=0, gain=0, bias=6),
        Part("u", 2, 1, pair=1, d_at=2, gain=2, bias=8),
        Part("z", 0, 2, pair=2, d_at=0, gain=3, bias=9),
        Part("z", 2, 1, pair=3, d_at=3, gain=5, bias=11),
    ),
)
RNN = Cell(
    gates=1,
    vectors=2,
    pairs=1,
    width=1,
    statistics=1,
    forward=triton_rows.rnn_forward,
    backward=triton_rows.rnn_backward,
    column_forward=triton_rnn_columns.rnn_forward,
    column_backward=triton_rnn_columns.rnn_backward,
    parts=(Part("u", 0, 1, pair=0, d_at=0, gain=0, bias=1),),
    joint=True,
)
CELLS = {"lstm": LSTM, "gru": GRU, "rnn_tanh": RNN, "rnn_relu": RNN}


# -- operators ---


def recurrence(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    batch_sizes: list[int],
    cell: str,
    norm: str,
    eps: float,
    pack_weight: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The steps of a cell of reference.py with its default terms, and no norm or one over the
    features of a row.

    u (N, G * H), weight_hh (G * H, H), both of one type; h_0, c_0 (B, H); vectors as in cpu/
    (fused.vectors). Returns output (N, H), h_n (B, H), c_n (B, H), and for the way back z (N, G *
    H), c (N, H) and moments (N, 2 * pairs): with save=False these have no rows, as c_n and c have
    none for cells without one.
    """
    kind = kind_of(cell)
    expect(norm in NORMS, f"norm={norm}: expected none, layer or rms")
    check(u, weight_hh, h_0, c_0, vectors, batch_sizes, kind)
    expect(
        u.dtype == weight_hh.dtype,
        f"expected u and weight_hh of one type, got {u.dtype} and {weight_hh.dtype}",
    )
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        run = Forward(u, weight_hh, h_0, c_0, batch_sizes, kind.has_c, save)
        moments = vectors.new_empty(u.size(0) if save else 0, 2 * kind.pairs)
        for step in run.steps():
            kind.forward[(step.rows,)](
                u,
                run.z,
                vectors,
                step.before,
                run.output,
                run.c,
                run.low,
                moments,
                step.start,
                step.place,
                step.before_start,
                eps,
                H=hidden,
                NORM=norm,
                CELL=cell,
                SAVE=save,
                LOW=run.is_low,
                **sizes(hidden),
            )
        if h_0 is None and save:
            for part in kind.parts:  # where there is no h_{t-1}, N(z) is 0
                if part.v == "z":
                    moments[: batch_sizes[0], 2 * part.pair : 2 * part.pair + 2] = 0.0
        return *run.results(), moments


def recurrence_backward(
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    output: Tensor,
    z: Tensor,
    c: Tensor,
    moments: Tensor,
    batch_sizes: list[int],
    cell: str,
    norm: str,
    eps: float,
    pack_weight: bool,
    weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, weight_hh (empty without weight_grad), h_0, c_0 (no rows for cells without
    one) and vectors.

    In a step there is only what the step before it waits for; du and the sums over rows come after
    the loop, at once.
    """
    kind = kind_of(cell)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        run = Backward(
            d_output,
            d_h_n,
            d_c_n if kind.has_c else None,
            u,
            weight_hh,
            h_0,
            c_0,
            output,
            z,
            c,
            batch_sizes,
            kind.has_c,
            kind.same_terms(norm),
        )
        da = vectors.new_empty(u.size(0), kind.width * hidden)
        for step in run.steps():
            kind.backward[(step.rows,)](
                run.d_output,
                run.after,
                run.d_h_n,
                run.carried,
                u,
                z,
                vectors,
                step.before,
                c if kind.has_c else output,
                moments,
                da,
                run.dz,
                step.start,
                step.before_start,
                step.rows_after,
                H=hidden,
                NORM=norm,
                CELL=cell,
                **sizes(hidden),
            )
        if run.du is not run.dz:
            input_gradient(kind, norm, da, u, vectors, moments, run.du)
        dvectors = vector_gradients(kind, norm, da, {"u": u, "z": z, "c": c}, moments, vectors)
        dh_0, dc_0 = run.states()
        return run.du, run.weight(weight_grad), dh_0, dc_0, dvectors


def batch_norm_recurrence(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    mean: Tensor,
    var: Tensor,
    batch_sizes: list[int],
    batch_steps: int,
    cell: str,
    eps: float,
    normalises_input: bool,
    pack_weight: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The steps of a cell of reference.py with batch norm (Cooijmans et al. 2016, eqs. 6 to 8, for
    the LSTM).

    As `recurrence`, but u may be float beside bfloat16 products, except in the vanilla RNN. mean,
    var (T, F): the running statistics of input term, recurrent term and the LSTM's cell, in the
    vanilla RNN of the sum; var is biased. The first batch_steps steps are normalised by their own
    statistics instead, and what is returned as mean and var holds those. Without normalises_input u
    is the whole input term; in the vanilla RNN that means nothing.
    """
    kind = kind_of(cell)
    check(u, weight_hh, h_0, c_0, vectors, batch_sizes, kind)
    check_columns(u, weight_hh, mean, var, batch_sizes, kind)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        mean, var = (s.clone(memory_format=torch.contiguous_format) for s in (mean, var))
        run = Forward(u, weight_hh, h_0, c_0, batch_sizes, kind.has_c, save)
        for step in run.steps():
            kind.column_forward[(blocks(hidden, COLUMNS),)](
                u,
                run.z,
                vectors,
                mean,
                var,
                step.before,
                run.output,
                run.c,
                run.low,
                step.t,
                step.rows,
                step.start,
                step.place,
                step.before_start,
                int(step.has_z),
                int(step.t < batch_steps),
                eps,
                H=hidden,
                TILE=TILE,
                COLUMNS=COLUMNS,
                NORMALISES_INPUT=normalises_input,
                RELU=cell == "rnn_relu",
                LOW=run.is_low,
            )
        return *run.results(), mean, var


def batch_norm_recurrence_backward(
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    output: Tensor,
    z: Tensor,
    c: Tensor,
    mean: Tensor,
    var: Tensor,
    batch_sizes: list[int],
    batch_steps: int,
    cell: str,
    eps: float,
    normalises_input: bool,
    pack_weight: bool,
    weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, weight_hh (empty without weight_grad), h_0, c_0 (no rows for cells without
    one) and vectors.
    """
    kind = kind_of(cell)
    u, vectors, hidden = u.contiguous(), vectors.contiguous(), weight_hh.size(1)
    with torch.cuda.device_of(u):
        run = Backward(
            d_output,
            d_h_n,
            d_c_n if kind.has_c else None,
            u,
            weight_hh,
            h_0,
            c_0,
            output,
            z,
            c,
            batch_sizes,
            kind.has_c,
            kind.joint,
        )
        da, extra = (vectors.new_empty(batch_sizes[0], width * hidden) for width in (kind.gates, 1))
        sums = vectors.new_empty(len(batch_sizes), vectors.numel())
        for step in run.steps():
            kind.column_backward[(blocks(hidden, COLUMNS),)](
                run.d_output,
                run.after,
                run.d_h_n,
                run.carried,
                u,
                z,
                vectors,
                mean,
                var,
                step.before,
                c if kind.has_c else output,
                da,
                extra,
                run.du,
                run.dz,
                sums,
                step.t,
                step.rows,
                step.start,
                step.before_start,
                step.rows_after,
                int(step.has_z),
                int(step.t < batch_steps),
                eps,
                H=hidden,
                TILE=TILE,
                COLUMNS=COLUMNS,
                NORMALISES_INPUT=normalises_input,
                RELU=cell == "rnn_relu",
            )
        dh_0, dc_0 = run.states()
        return run.du, run.weight(weight_grad), dh_0, dc_0, sums.sum(0)


@functools.cache
def register() -> torch.library.Library:
    """Make these the operators' for CUDA tensors, once operators.load has defined them. The cache
    keeps the library.
    """
    library = torch.library.Library("seq2seq", "IMPL")
    for operator in (
        recurrence,
        recurrence_backward,
        batch_norm_recurrence,
        batch_norm_recurrence_backward,
    ):
        library.impl(operator.__name__, operator, "CUDA")
    return library


# -- what is left to do for all rows at once ---


def input_gradient(
    cell: Cell, norm: str, da: Tensor, u: Tensor, vectors: Tensor, moments: Tensor, du: Tensor
) -> None:
    """Write du (N, G * H), from da (N, width * H)."""
    hidden = vectors.numel() // cell.vectors
    for part in cell.parts:
        if part.v == "u":
            triton_rows.input_backward[(u.size(0),)](
                da,
                u,
                vectors,
                moments,
                du,
                cell.width,
                cell.gates,
                cell.pairs,
                part.at,
                part.pair,
                SIZE=part.size,
                H=hidden,
                NORM=norm,
                **sizes(hidden),
            )


def vector_gradients(
    cell: Cell, norm: str, da: Tensor, sources: dict[str, Tensor], moments: Tensor, vectors: Tensor
) -> Tensor:
    """The gradients of gains and biases: sums over rows, first of blocks of rows, then of all;
    sources are u, z, c.
    """
    rows, hidden = da.size(0), vectors.numel() // cell.vectors
    sums = vectors.new_zeros(blocks(rows, SUMMED_ROWS), vectors.numel())
    for part in cell.parts:
        if norm == "none" and part.bias is None:
            continue
        v, bias = sources[part.v], part.bias
        triton_rows.column_sums[(blocks(part.size * hidden, SUM_COLUMNS), sums.size(0))](
            da,
            v,
            sources["z"],
            moments,
            sums,
            rows,
            cell.width,
            part.d_at,
            v.size(1) // hidden,
            part.at,
            part.size,
            cell.pairs,
            part.pair,
            cell.vectors,
            part.gain,
            0 if bias is None else bias,
            H=hidden,
            NORM=norm,
            ADDED=cell.joint,
            HAS_BIAS=bias is not None,
            ROWS=SUMMED_ROWS,
            TILE=SUM_TILE,
            COLUMNS=SUM_COLUMNS,
        )
    return sums.sum(0)


# -- what comes in ---


def expect(holds: bool, message: str) -> None:
    """RuntimeError unless it holds, as from the operators for the CPU: kernels see pointers
    alone.
    """
    if not holds:
        raise RuntimeError(message)


def kind_of(cell: str) -> Cell:
    """The cell of this name."""
    expect(cell in CELLS, f"cell={cell}: expected lstm, gru, rnn_tanh or rnn_relu")
    return CELLS[cell]


def check(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    batch_sizes: list[int],
    cell: Cell,
) -> None:
    """Whether shapes and types fit together."""
    hidden, width, rows = (
        weight_hh.size(1),
        cell.gates * weight_hh.size(1),
        batch_sizes[0] if batch_sizes else 0,
    )
    expect(
        weight_hh.dtype in (torch.float32, torch.bfloat16),
        f"expected products in float or bfloat16, got {weight_hh.dtype}",
    )
    expect(
        u.size(1) == width and weight_hh.size(0) == width,
        f"expected u (N, {width}) and weight_hh ({width}, {hidden}), got {[*u.shape]} and"
        f" {[*weight_hh.shape]}",
    )
    falling = all(before >= after for before, after in pairwise(batch_sizes))
    expect(
        rows > 0 and sum(batch_sizes) == u.size(0) and falling and batch_sizes[-1] > 0,
        f"expected falling batch_sizes that add up to {u.size(0)}, got {batch_sizes}",
    )
    for state in (h_0, c_0):
        expect(
            state is None or (state.shape == (rows, hidden) and state.dtype == torch.float32),
            f"expected float states ({rows}, {hidden}), got {described(state)}",
        )
    expect(
        vectors.dtype == torch.float32 and vectors.numel() == cell.vectors * hidden,
        f"expected float vectors of {cell.vectors * hidden} elements, got {vectors.numel()} of type"
        f" {vectors.dtype}",
    )


def check_columns(
    u: Tensor, weight_hh: Tensor, mean: Tensor, var: Tensor, batch_sizes: list[int], cell: Cell
) -> None:
    """Whether batch norm's arguments fit too."""
    expect(
        u.dtype == weight_hh.dtype or (u.dtype == torch.float32 and not cell.joint),
        f"expected an input term in float or the products' type, got {u.dtype}",
    )
    shape = (len(batch_sizes), cell.statistics * weight_hh.size(1))
    for statistics in (mean, var):
        expect(
            statistics.shape == shape and statistics.dtype == torch.float32,
            f"expected float statistics {shape}, got {described(statistics)}",
        )


def described(t: Tensor | None) -> str:
    """Shape and type, for a message."""
    return "none" if t is None else f"{[*t.shape]} of type {t.dtype}"


def sizes(hidden: int) -> dict[str, int]:
    """The block that holds H elements, and the warps that share it: four elements or less for a
    thread.
    """
    block = 1 << (hidden - 1).bit_length()
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 128))}


def blocks(count: int, size: int) -> int:
    """Programs for so many things."""
    return -(-count // size)
