"""Both directions of a layer at once: an operator that runs two recurrences, and its gradients.

It is for eager mode: torch.compile and torch.export take the operators of one recurrence.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..packing import Layout
from .operators import differentiable, differentiable_projection

Tensors = tuple[Tensor | None, ...]
"""x, weight_ih, weight_hh, h_0, c_0 and vectors of a recurrence; with batch norm mean and var."""
DIFFERENTIABLE = 6
"""The first of the tensors, which have gradients."""
RESULTS = 3
"""The first of the results, which have gradients: output, h_n and c_n."""


def saves(tensors: Sequence[Tensor | None]) -> bool:
    """Return whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def run(
    name: str, given: Sequence[Tensors], layout: Layout, width: int, settings: tuple[Any, ...]
) -> list[tuple[Tensor, ...]]:
    """Return what the operator of one recurrence returns for each of two, and u (N, width).

    name: recurrence, or batch_norm_recurrence. settings are the cell's: see the operators.
    """
    batch_sizes, sequences = layout.batch_sizes, layout.sequences
    tensors = [t for of_one in given for t in of_one]
    if saves(tensors):
        found = _Both.apply(  # type: ignore[no-untyped-call]
            name, batch_sizes, sequences, width, settings, *tensors
        )
    else:
        found = operator(name)(*given, batch_sizes, sequences, width, *settings, False)
    return halves(found)


def operator(name: str) -> Any:
    """Return the operator that runs two recurrences, from the name of that of one."""
    return getattr(torch.ops.seq2seq, f"both_{name}".replace("recurrence", "recurrences"))


def halves(of_both: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return what belongs to the first of two recurrences, and to the second."""
    middle = len(of_both) // 2
    return [tuple(of_both[:middle]), tuple(of_both[middle:])]


class _Both(torch.autograd.Function):
    """Two recurrences, for tensors of the first and then of the second."""

    @staticmethod
    def forward(
        ctx: Any,
        name: str,
        batch_sizes: Tensor,
        sequences: int,
        width: int,
        settings: tuple[Any, ...],
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        given = halves(tensors)
        found = halves(operator(name)(*given, batch_sizes, sequences, width, *settings, True))
        kept = [
            (*inputs[:DIFFERENTIABLE], output, *others)
            for inputs, (output, _, _, *others) in zip(given, found, strict=True)
        ]
        ctx.save_for_backward(batch_sizes, *kept[0], *kept[1])
        ctx.mark_non_differentiable(*found[0][RESULTS:], *found[1][RESULTS:])
        ctx.set_materialize_grads(False)
        ctx.name, ctx.settings = name, (sequences, *settings)
        return *found[0], *found[1]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        batch_sizes, *saved = ctx.saved_tensors
        needed, kept = halves(ctx.needs_input_grad[5:]), halves(saved)
        incoming = [d[:RESULTS] for d in halves(upstream)]
        found: list[tuple[Tensor | None, ...]]
        if torch.is_grad_enabled():  # by create_graph=True
            found = [
                differentiable_again(ctx.name, d, k, batch_sizes, ctx.settings)
                for d, k in zip(incoming, kept, strict=True)
            ]
        else:
            given = [(*d, *k) for d, k in zip(incoming, kept, strict=True)]
            wanted = [any(of_one[place] for of_one in needed) for place in range(3)]
            backward = operator(f"{ctx.name}_backward")
            found = halves(backward(*given, batch_sizes, *ctx.settings, *wanted))
        gradients = [g for f, n in zip(found, needed, strict=True) for g in wanted_alone(f, n)]
        return None, None, None, None, None, *gradients


def wanted_alone(found: Sequence[Tensor | None], wanted: tuple[bool, ...]) -> list[Tensor | None]:
    """Return a gradient for each tensor of a recurrence; None where it is not wanted."""
    of_first = [g if is_wanted else None for g, is_wanted in zip(found, wanted, strict=False)]
    return of_first + [None] * (len(wanted) - len(of_first))


def differentiable_again(
    name: str,
    upstream: tuple[Tensor | None, ...],
    kept: tuple[Tensor, ...],
    batch_sizes: Tensor,
    settings: tuple[Any, ...],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of one recurrence's first tensors, which have gradients themselves."""
    x, weight_ih, *others = kept[:DIFFERENTIABLE]
    u = torch.ops.seq2seq.projection(x, weight_ih)
    statistics = kept[-3:-1]
    if name == "batch_norm_recurrence":
        settings = (*settings, True)
    found = differentiable(name, upstream, [u, *others], batch_sizes, statistics, settings)
    du, *rest = found
    if du is None:
        return None, None, *rest
    return *differentiable_projection(du, x, weight_ih), *rest
