"""What the kernels of all cells and norms share: where a program reads and writes, and gain * N(v).

Named tuples carry pointers and blocks from function to function; a constant in one would become a
tensor where it is assigned, and is in `Constants` instead. Sizes are in units of H, the hidden
features: the gates of a row are side by side, gate k from k * H on. Pointers to rows begin at the
program's first row: its own in rows.py, that of the step in columns.py. u is float or of the
products' type, z of the latter, everything else is float.
"""

from dataclasses import dataclass
from typing import NamedTuple

import triton
import triton.language as tl

from .elementwise import value


@dataclass(frozen=True)
class Constants:
    """What a kernel is compiled for; sizes are those of `Cell`, in units of H."""

    CELL: str
    """Its name in cpu/vectors.py, for tests and profiles."""
    EQUATIONS: str
    """lstm, gru or rnn."""
    NORM: str
    """none, layer, rms or batch."""
    EPS: float
    JOINT: bool
    """The norm is on u + z."""
    H: int
    GATES: int
    WIDTH: int
    PAIRS: int
    STATISTICS: int
    VECTORS: int
    BLOCK: int
    """Elements of a block that holds a row's H features."""
    LOW: bool = False
    """The products are of another type than float."""
    SAVE: bool = False
    """A backward pass may follow."""
    NORMALISES_INPUT: bool = True
    """With batch norm: u is not the whole input term already."""
    NORMALISES_CELL: bool = False
    """The norm is on c too."""
    RELU: bool = False
    """The vanilla cell's activation, which else is tanh."""
    TILE: int = 64
    """Rows and features of a tile, with batch norm: 16 bytes for each of 128 threads."""
    COLUMNS: int = 8


class Block(NamedTuple):
    """Hidden features of one row, or of a tile of rows."""

    row: tl.tensor
    """From the program's first row on: 0, or (TILE, 1)."""
    feature: tl.tensor
    """(BLOCK,) or (1, COLUMNS)."""
    inside: tl.tensor
    """Which features are below H."""
    mask: tl.tensor
    """Which elements are of such a feature, and of a row of the step."""


class Layer(NamedTuple):
    """What all terms of a layer share."""

    vectors: tl.tensor
    """Gains and biases, in the order of cpu/vectors.h."""
    has_z: tl.tensor
    """Whether there is an h_{t-1}; else N(z) is 0."""


class Term(NamedTuple):
    """gain * N(v), v (rows, WIDTH * H)."""

    v: tl.tensor
    mean: tl.tensor
    """Of the row; with batch norm a pointer to those of the features, or None where v is the whole
    term already."""
    spread: tl.tensor
    """1 / sqrt(var + eps) of the row; with batch norm a pointer to var of the features."""
    WIDTH: tl.tensor
    GAIN: tl.tensor
    """Place of the gain in vectors."""
    added: tl.tensor = None
    """Where v is a sum, as in the vanilla RNN: its other part (rows, WIDTH * H)."""


class Forward(NamedTuple):
    """Arrays of a forward pass, each (rows, H) but u and z (rows, G * H)."""

    u: tl.tensor
    z: tl.tensor
    before: tl.tensor
    """c_{t-1}, or h_{t-1} for cells without a cell state."""
    output: tl.tensor
    c: tl.tensor
    low: tl.tensor
    """h for the next product, where that is of another type than float (LOW)."""


class Backward(NamedTuple):
    """Arrays of a backward pass, each (rows, H) where nothing else is written."""

    d_output: tl.tensor
    after: tl.tensor
    """dL/dh_t that comes through the product of the later step, of the products' type."""
    d_h_n: tl.tensor
    carried: tl.tensor
    """The gradient that does not pass through W_hh, of c_t or of the GRU's h_t; that of the step
    before is written there."""
    u: tl.tensor
    """(rows, G * H), as z and dz."""
    z: tl.tensor
    before: tl.tensor
    """c_{t-1}, or h_{t-1} for cells without a cell state."""
    state: tl.tensor
    """c, or h for cells without a cell state."""
    da: tl.tensor
    """(rows, width * H): the gradients that a cell describes."""
    dz: tl.tensor
    rows_after: tl.tensor
    """So many rows have a later step."""
    du: tl.tensor = None
    """(rows, G * H), with batch norm, as it needs the same sums over rows as dz."""
    sums: tl.tensor = None
    """With batch norm: the step's part of the gradient of vectors."""


@triton.jit
def at(b: Block, WIDTH: tl.tensor, k: tl.tensor, C: tl.constexpr) -> tl.tensor:
    """Return the places of gate k's features in an array (rows, WIDTH * H)."""
    return b.row * (WIDTH * C.H) + k * C.H + b.feature


@triton.jit
def vector(place: tl.tensor, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Return a gain or bias, which is at a place in vectors."""
    return value(layer.vectors, place * C.H + b.feature, b.inside)


@triton.jit
def load(t: Term, k: tl.tensor, b: Block, C: tl.constexpr) -> tl.tensor:
    """Return the features v of gate k."""
    x = value(t.v, at(b, t.WIDTH, k, C), b.mask)
    if t.added is not None:
        x += value(t.added, at(b, t.WIDTH, k, C), b.mask)
    return x


@triton.jit
def scale_of(t: Term, k: tl.tensor, b: Block, C: tl.constexpr) -> tl.tensor:
    """Return 1 / sqrt(var + eps), of the row or of gate k's features."""
    scale = t.spread
    if C.NORM == "batch":
        scale = 1.0 / tl.sqrt(value(scale, k * C.H + b.feature, b.inside) + C.EPS)
    return scale


@triton.jit
def normal(x: tl.tensor, t: Term, k: tl.tensor, b: Block, C: tl.constexpr) -> tl.tensor:
    """Return N(x), x the features of gate k."""
    mean = t.mean
    if C.NORM == "batch":
        mean = value(mean, k * C.H + b.feature, b.inside)
    return (x - mean) * scale_of(t, k, b, C)


@triton.jit
def scaled(
    x: tl.tensor, t: Term, k: tl.tensor, b: Block, layer: Layer, C: tl.constexpr
) -> tl.tensor:
    """Return gain * N(x), x the features of gate k; x itself without a norm."""
    if C.NORM != "none" and t.mean is not None:
        x = vector(t.GAIN + k, b, layer, C) * normal(x, t, k, b, C)
    return x


@triton.jit
def term(t: Term, k: tl.tensor, b: Block, layer: Layer, C: tl.constexpr) -> tl.tensor:
    """Return the term of gate k."""
    return scaled(load(t, k, b, C), t, k, b, layer, C)


@triton.jit
def write_h(h: tl.tensor, s: Forward, b: Block, C: tl.constexpr) -> None:
    """Write h_t."""
    tl.store(s.output + at(b, 1, 0, C), h, mask=b.mask)
    if C.LOW:
        tl.store(s.low + at(b, 1, 0, C), h, mask=b.mask)


@triton.jit
def gradient_of_h(s: Backward, b: Block, C: tl.constexpr) -> tl.tensor:
    """Return dL/dh_t: from the output, and from the later step or, in a last step, from h_n."""
    place = at(b, 1, 0, C)
    later = tl.where(
        b.row < s.rows_after, value(s.after, place, b.mask), value(s.d_h_n, place, b.mask)
    )
    return value(s.d_output, place, b.mask) + later
