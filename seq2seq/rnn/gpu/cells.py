"""What the loops over time on a GPU need to know about each cell."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from . import (
    gru_columns,
    gru_rows,
    lstm_columns,
    lstm_columns_backward,
    lstm_rows,
    rnn_columns,
    rnn_rows,
)


class Part(NamedTuple):
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
    """Sizes and kernels of a cell; sizes are in units of H."""

    gates: int
    vectors: int
    pairs: int
    """Pairs of moments of a row."""
    width: int
    """Width of da."""
    statistics: int
    """Statistics of a step, with batch norm."""
    forward: Any
    backward: Any
    column_forward: Any
    """With batch norm."""
    column_backward: Any
    """With batch norm."""
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
    forward=lstm_rows.lstm_forward,
    backward=lstm_rows.lstm_backward,
    column_forward=lstm_columns.lstm_forward,
    column_backward=lstm_columns_backward.lstm_backward,
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
    forward=gru_rows.gru_forward,
    backward=gru_rows.gru_backward,
    column_forward=gru_columns.gru_forward,
    column_backward=gru_columns.gru_backward,
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
    forward=rnn_rows.rnn_forward,
    backward=rnn_rows.rnn_backward,
    column_forward=rnn_columns.rnn_forward,
    column_backward=rnn_columns.rnn_backward,
    parts=(Part("u", 0, 1, pair=0, d_at=0, gain=0, bias=1),),
    joint=True,
)
CELLS = {"lstm": LSTM, "gru": GRU, "rnn_tanh": RNN, "rnn_relu": RNN}
