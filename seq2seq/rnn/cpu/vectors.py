"""Gains and biases of a cell in one vector, as vectors.h has them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..reference import CellParameters

LENGTHS = {
    "lstm": (4, 4, 4, 1, 1),
    "gru": (3, 3, 3, 3),
    "rnn": (1, 1),
    "separate_rnn": (1, 1, 1),
}
"""Lengths of the vectors of a cell, in multiples of H."""
PLACES = {
    "lstm": (0, 1, 2, 2, 3, 4),
    "gru": (0, 1, 2, 3),
    "rnn": (0, 1, 1),
    "separate_rnn": (0, 1, 2, 2),
}
"""The vector to which each gain and bias belongs: gain_ih, gain_hh, bias_ih, bias_hh, gain_c,
bias_c, as far as a cell has them. Biases of one place are added.
"""


def kernel_of(p: CellParameters) -> str:
    """Return the name by which the operators know a cell and where its norms are.

    lstm_plain_cell is the LSTM with norm.cell=none; the vanilla cell's name has its activation.
    """
    if p.cell == "lstm" and p.ih.kind != "none" and p.c.gain is None:
        return "lstm_plain_cell"
    if p.cell != "rnn":
        return p.cell
    cell = "rnn" if p.hh.gain is None else "separate_rnn"
    return f"{cell}_relu" if p.activation is torch.relu else f"{cell}_tanh"


def cell_of(kernel: str) -> str:
    """Return the name of a kernel's cell in `LENGTHS` and `PLACES`."""
    for suffix in ("_tanh", "_relu", "_plain_cell"):
        kernel = kernel.removesuffix(suffix)
    return kernel


def has_cell(kernel: str) -> bool:
    """Return whether a kernel's cell has a state c beside h."""
    return cell_of(kernel) == "lstm"


def vectors(p: CellParameters) -> Tensor:
    """Return gains and biases in one."""
    return joined(vector_parts(p), cell_of(kernel_of(p)), p.weight_hh)


def vector_parts(p: CellParameters) -> tuple[Tensor | None, ...]:
    """Return gains and biases in the order of `PLACES`; None for what a layer lacks.

    bias_ih is among that where the input term is normalised before the recurrence, over the whole
    sequence.
    """
    bias_ih = None if p.whole_sequence else p.ih.bias
    if p.cell == "rnn" and p.hh.gain is None:
        return p.ih.gain, bias_ih, p.hh.bias
    parts = p.ih.gain, p.hh.gain, bias_ih, p.hh.bias
    return (*parts, p.c.gain, p.c.bias) if p.cell == "lstm" else parts


def joined(parts: Sequence[Tensor | None], cell: str, like: Tensor) -> Tensor:
    """Return a cell's gains and biases in one, as its `Vectors` in vectors.h are.

    Parts of the same place are added; a place without any is zero. like: W_hh (G * H, H), whose
    type and device the vectors have.
    """
    hidden, lengths = like.size(1), LENGTHS[cell]
    found: list[Tensor | None] = [None] * len(lengths)
    for place, part in zip(PLACES[cell], parts, strict=True):
        found[place] = add(found[place], part)
    return torch.cat(
        [
            like.new_zeros(n * hidden) if v is None else v
            for v, n in zip(found, lengths, strict=True)
        ]
    )


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return a + b, where either may be missing."""
    return a if b is None else b if a is None else a + b
