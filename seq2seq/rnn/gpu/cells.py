"""What the loops over time on a GPU need to know about each cell."""

import functools
from dataclasses import dataclass

from .terms import Constants


@dataclass(frozen=True)
class Part:
    """A part of u, z or c that one pair of moments normalises; in units of H."""

    v: str
    at: int
    size: int
    pair: int
    d_at: int
    """Start of its gradient in da."""
    gain: int
    """Start of its gain in vectors."""
    bias: int | None
    """Start of its bias in vectors."""


@dataclass(frozen=True)
class Cell:
    """Sizes of a cell, in units of H."""

    gates: int
    vectors: int
    pairs: int
    """Pairs of moments of a row."""
    width: int
    """Width of da."""
    statistics: int
    """Statistics of a step, with batch norm."""
    parts: tuple[Part, ...]
    joint: bool = False
    """The norm is on u + z."""

    @property
    def has_c(self) -> bool:
        """Whether there is a cell state."""
        return any(part.v == "c" for part in self.parts)

    def same_terms(self, norm: str) -> bool:
        """Return whether du is dz, because the cell only adds u and z."""
        return self.joint or (norm == "none" and self.has_c)


LSTM = Cell(
    gates=4,
    vectors=14,
    pairs=3,
    width=5,
    statistics=9,
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
    parts=(Part("u", 0, 1, pair=0, d_at=0, gain=0, bias=1),),
    joint=True,
)
CELLS = {"lstm": LSTM, "gru": GRU, "rnn_tanh": RNN, "rnn_relu": RNN}


@functools.cache
def constants(
    cell: str,
    norm: str,
    eps: float,
    hidden: int,
    low: bool = False,
    save: bool = False,
    normalises_input: bool = True,
) -> Constants:
    """Return what kernels are compiled for."""
    kind = CELLS[cell]
    sizes = (hidden, kind.gates, kind.width, kind.pairs, kind.statistics, kind.vectors)
    block = 1 << (hidden - 1).bit_length()
    return Constants(cell, norm, eps, kind.joint, *sizes, block, low, save, normalises_input)
