"""The operands of the fused operators: weights, gains and biases, and batch norm's statistics."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..reference import CellParameters
from .operators import packed, packs


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


def prepare(p: CellParameters, dtype: torch.dtype, by_place: bool = False) -> Operands:
    """Return the operands for products of a type; `by_place` with batch norm's statistics.

    Where the cell's parameters may be kept, the operands are kept too, with packed weights.
    """
    if p.kept is None:
        found = Operands(*weights(p, dtype), vectors(p))
    elif dtype in p.kept:
        found = p.kept[dtype]
    else:
        found = p.kept[dtype] = packed_operands(p, dtype)
    if by_place and not found.statistics:
        found.statistics = running_statistics(p, 0, places_with_statistics(p))
    return found


def weights(p: CellParameters, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return W_ih and W_hh for products of a type.

    The operators round them to the type of what they multiply, the CPU's as they pack them. The
    input term that whole-sequence batch norm returns is float whatever that is.
    """
    float_term = p.ih.statistics is not None and p.ih.statistics.whole_sequence
    return p.weight_ih, p.weight_hh.to(dtype) if float_term else p.weight_hh


def packed_operands(p: CellParameters, dtype: torch.dtype) -> Operands:
    """Return operands that serve many calls: weights of the products' type, packed if possible."""
    weight_ih, weight_hh = p.weight_ih.to(dtype), p.weight_hh.to(dtype)
    if not weight_hh.is_cuda and packs(dtype):
        weight_ih, weight_hh = packed(weight_ih), packed(weight_hh)
    return Operands(weight_ih, weight_hh, vectors(p))


def places_with_statistics(p: CellParameters) -> int:
    """Return how many places of all terms may have statistics."""
    return max(
        s.last + 1 if isinstance(s.last, int) else s.running_mean.size(0) for s in p.statistics()
    )


def vectors(p: CellParameters) -> Tensor:
    """Return gains and biases in one, in the order of the cell's `Vectors` in vectors.h.

    What a layer lacks is zero. So is bias_ih where the input term is normalised before the
    recurrence, over the whole sequence.
    """
    gates, hidden = p.weight_hh.shape
    with_input = p.ih.statistics is None or not p.ih.statistics.whole_sequence
    bias_ih = p.ih.bias if with_input else None
    parts = {
        "lstm": [
            (p.ih.gain, gates),
            (p.hh.gain, gates),
            (add(bias_ih, p.hh.bias), gates),
            (p.c.gain, hidden),
            (p.c.bias, hidden),
        ],
        "gru": [(p.ih.gain, gates), (p.hh.gain, gates), (bias_ih, gates), (p.hh.bias, gates)],
        "rnn": [(p.ih.gain, gates), (add(bias_ih, p.hh.bias), gates)],
    }[p.cell]
    return torch.cat(
        [p.weight_hh.new_zeros(size) if part is None else part for part, size in parts]
    )


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return a + b, where either may be missing."""
    return a if b is None else b if a is None else a + b


def running_statistics(p: CellParameters, first_step: int, steps: int) -> list[Tensor]:
    """Return running means (T, F) and variances (T, F), all terms side by side."""
    device = p.weight_hh.device
    found = [
        s.running(torch.arange(first_step, first_step + steps, device=device))
        for s in p.statistics()
    ]
    return [
        torch.cat([part.detach() for part in parts], dim=1) for parts in zip(*found, strict=True)
    ]


@torch.no_grad()
def record_statistics(
    p: CellParameters, first_step: int, rows: Tensor, mean: Tensor, var: Tensor, has_state: bool
) -> None:
    """Record the statistics of the steps that were normalised by their own.

    mean and var (T, F) hold all terms side by side, var is biased; `rows` (n,) are the rows of each
    such step.
    """
    count = rows.size(0)
    if count == 0:
        return
    correction = (rows / (rows - 1)).to(var).unsqueeze(1)
    terms = p.statistics()
    widths = [s.running_mean.size(1) for s in terms]
    means = mean[:count].split(widths, dim=1)
    variances = (var[:count] * correction).split(widths, dim=1)
    for statistics, m, v in zip(terms, means, variances, strict=True):
        start = 0 if has_state or statistics is not p.hh.statistics else 1
        # The statistics of a whole sequence were recorded as it was normalised.
        if not statistics.whole_sequence and count > start:
            statistics.record(first_step + start, rows[start:], m[start:], v[start:])
