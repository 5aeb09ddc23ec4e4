"""The operands of the fused operators: weights, gains and biases, and batch norm's statistics."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..reference import CellParameters
from .operators import packed, packs
from .running import places_with_statistics, running_statistics
from .vectors import vectors


@dataclass
class Operands:
    """A cell's parameters as the operators take them."""

    weight_ih: Tensor
    """(G * H, I), which the operators round to the products' type, or packed."""
    weight_hh: Tensor
    """(G * H, H), in the same way."""
    vectors: Tensor
    """Gains and biases in one, float."""
    statistics: list[Tensor] = field(default_factory=list)
    """Running means and variances (S', F) of batch norm up to the last place that has any."""


def prepare(p: CellParameters, dtype: torch.dtype, by_row: bool = False) -> Operands:
    """Return the operands for products of a type; `by_row` with batch norm's statistics.

    Where the cell's parameters may be kept, the operands are kept too, with packed weights.
    """
    if p.kept is None:
        found = Operands(*weights(p, dtype), vectors(p))
    elif dtype in p.kept:
        found = p.kept[dtype]
    else:
        found = p.kept[dtype] = packed_operands(p, dtype)
    if by_row and not found.statistics:
        found.statistics = running_statistics(p, 0, places_with_statistics(p))
    return found


def weights(p: CellParameters, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return W_ih and W_hh for products of a type, packed where they are kept.

    The operators round them to the type of what they multiply, the CPU's as they pack them. The
    input term that whole-sequence batch norm returns is float whatever that is.
    """
    if p.kept is not None:
        kept = prepare(p, dtype)
        return kept.weight_ih, kept.weight_hh
    return p.weight_ih, p.weight_hh.to(dtype) if p.whole_sequence else p.weight_hh


def packed_operands(p: CellParameters, dtype: torch.dtype) -> Operands:
    """Return operands that serve many calls: weights of the products' type, packed if possible."""
    weight_ih, weight_hh = p.weight_ih.to(dtype), p.weight_hh.to(dtype)
    if not weight_hh.is_cuda and packs(dtype):
        weight_ih, weight_hh = packed(weight_ih), packed(weight_hh)
    return Operands(weight_ih, weight_hh, vectors(p))
