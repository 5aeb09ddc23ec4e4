"""Checks of the operators' arguments: kernels see pointers alone."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from .cells import COLUMN_CELLS, ROW_CELLS, Cell

NORMS = ("none", "layer", "rms")


def expect(holds: bool, message: str) -> None:
    """Raise RuntimeError unless a condition holds, as the CPU's operators do."""
    if not holds:
        raise RuntimeError(message)


def check(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    vectors: Tensor,
    batch_sizes: list[int],
    sequences: int,
    cell: Cell,
) -> None:
    """Raise RuntimeError unless shapes and types fit together."""
    hidden, rows = weight_hh.size(1), batch_sizes[0] if batch_sizes else 0
    width = cell.gates * hidden
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
    expect(rows == sequences, f"expected {rows} sequences, got {sequences}")
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


def product_weight(u: Tensor, weight_hh: Tensor) -> Tensor:
    """Return W_hh of the type of the products: a float one is rounded to that of a bfloat16 u."""
    rounds = weight_hh.dtype == torch.float32 and u.dtype == torch.bfloat16
    return weight_hh.to(u.dtype) if rounds else weight_hh


def check_columns(
    u: Tensor, weight_hh: Tensor, mean: Tensor, var: Tensor, batch_sizes: list[int], cell: Cell
) -> None:
    """Raise RuntimeError unless batch norm's arguments fit the others."""
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
    """Return shape and type, for a message."""
    return "none" if t is None else f"{[*t.shape]} of type {t.dtype}"


def row_cell(cell: str, norm: str) -> Cell:
    """Return the cell of this name, for a norm that is over the features of a row."""
    expect(norm in NORMS, f"norm={norm}: expected none, layer or rms")
    return kind_of(cell, ROW_CELLS)


def column_cell(cell: str) -> Cell:
    """Return the cell of this name, for batch norm."""
    return kind_of(cell, COLUMN_CELLS)


def kind_of(cell: str, cells: Mapping[str, Cell]) -> Cell:
    """Return the cell of this name, if it is one of these."""
    *names, last = cells
    expect(cell in cells, f"cell={cell}: expected {', '.join(names)} or {last}")
    return cells[cell]
