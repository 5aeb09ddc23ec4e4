"""What the loops over time on a GPU need to know about each cell."""

import functools
from dataclasses import dataclass, replace

from .terms import Constants


@dataclass(frozen=True)
class Part:
    """A part of u, z or c that has one pair of moments; in units of H."""

    v: str
    at: int
    size: int
    pair: int
    d_at: int
    """Start of its gradient in da."""
    gain: int | None
    """Start of its gain in vectors; None where it is not normalised."""
    bias: int | None
    """Start of its bias in vectors."""


@dataclass(frozen=True)
class Cell:
    """Sizes of a cell, in units of H."""

    equations: str
    """lstm, gru or rnn."""
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
    relu: bool = False
    """The vanilla cell's activation, which else is tanh."""

    @property
    def has_c(self) -> bool:
        """Whether there is a cell state."""
        return self.equations == "lstm"

    @property
    def normalises_cell(self) -> bool:
        """Return whether the norm is on c too."""
        return any(part.v == "c" and part.gain is not None for part in self.parts)

    def same_terms(self, norm: str) -> bool:
        """Return whether du is dz, because the cell only adds u and z."""
        return self.joint or (norm == "none" and self.has_c)


LSTM = Cell(
    "lstm",
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
PLAIN_CELL = replace(
    LSTM,
    statistics=8,
    parts=(*LSTM.parts[:2], replace(LSTM.parts[2], gain=None)),
)
GRU = Cell(
    "gru",
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
    "rnn",
    gates=1,
    vectors=2,
    pairs=1,
    width=1,
    statistics=1,
    parts=(Part("u", 0, 1, pair=0, d_at=0, gain=0, bias=1),),
    joint=True,
)
SEPARATE_RNN = replace(RNN, vectors=3, statistics=2, parts=(), joint=False)
ROW_CELLS = {
    "lstm": LSTM,
    "lstm_plain_cell": PLAIN_CELL,
    "gru": GRU,
    "rnn_tanh": RNN,
    "rnn_relu": replace(RNN, relu=True),
}
"""Cells with no norm, layer norm or rms norm, by the names of cpu/vectors.py."""
COLUMN_CELLS = {
    **ROW_CELLS,
    "separate_rnn_tanh": SEPARATE_RNN,
    "separate_rnn_relu": replace(SEPARATE_RNN, relu=True),
}
"""Cells with batch norm."""


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
    kind = COLUMN_CELLS[cell]
    sizes = (hidden, kind.gates, kind.width, kind.pairs, kind.statistics, kind.vectors)
    block = 1 << (hidden - 1).bit_length()
    return Constants(
        cell,
        kind.equations,
        norm,
        eps,
        kind.joint,
        *sizes,
        block,
        LOW=low,
        SAVE=save,
        NORMALISES_INPUT=normalises_input,
        NORMALISES_CELL=kind.normalises_cell,
        RELU=kind.relu,
    )
