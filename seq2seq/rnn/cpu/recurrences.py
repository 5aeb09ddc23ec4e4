"""Recurrences with their input terms, by one operator: one alone, or two at once.

It is for eager mode on the CPU: torch.compile and torch.export take the operators of
`launch.recurrence`. One call of autograd for all of a recurrence matters where a call has few rows,
as of a cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..packing import Layout
from .operators import differentiable, differentiable_projection, in_plain_torch
from .vectors import LENGTHS, PLACES, joined

STATES = 3
"""The first results of a recurrence have gradients: output, h_n and c_n. Then come z, c, moments, u
and the vectors. With batch norm there are in the place of the moments means and variances, of the
steps that are normalised by their own.
"""
STATISTICS = slice(5, 7)
"""The means and variances among the results."""
KEPT_STATISTICS = slice(3, 5)
"""The means and variances among those that are `kept`."""


@dataclass
class Call:
    """What the recurrences of a call have in common."""

    name: str
    """recurrences, or batch_norm_recurrences."""
    cell: str
    layout: Layout
    width: int
    """Of the input term."""
    settings: tuple[Any, ...]
    """The operator's, of a cell."""
    count: int
    """Recurrences."""

    @property
    def has_statistics(self) -> bool:
        """Whether the recurrences have batch norm, whose statistics a caller reads too."""
        return self.name == "batch_norm_recurrences"


def operator(name: str) -> Any:
    """Return an operator by its name."""
    return getattr(torch.ops.seq2seq, name)


def run(call: Call, tensors: Sequence[Tensor | None]) -> list[tuple[Tensor, ...]]:
    """Return output, h_n, c_n of each recurrence; with batch norm also the means and variances.

    tensors: of each x, weight_ih, weight_hh, h_0, c_0; gains and biases as in `PLACES`; with batch
    norm the running mean and variance of the steps that are not normalised by their own. Without a
    weight_ih x is W_ih x. Without gradients x may be rows (N,) of a table of W_ih x, which is in
    the place of weight_ih.
    """
    if torch.is_grad_enabled():
        found = _Recurrences.apply(call, *tensors)  # type: ignore[no-untyped-call]
        return split(found, call.count)
    layout = call.layout
    found = operator(call.name)(
        tensors, layout.batch_sizes, layout.sequences, call.width, *call.settings, False
    )
    return returned(call, found)


def split(tensors: Sequence[Any], count: int) -> list[tuple[Any, ...]]:
    """Return the tensors of each of so many recurrences."""
    size = len(tensors) // count
    return [tuple(tensors[i : i + size]) for i in range(0, len(tensors), size)]


def returned(call: Call, results: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Return of each recurrence's results those that a caller reads."""
    each = split(results, call.count)
    return [r[:STATES] + r[STATISTICS] if call.has_statistics else r[:STATES] for r in each]


def kept(results: Sequence[Tensor]) -> list[Tensor]:
    """Return the results that the backward pass reads: not h_n and c_n, which may change."""
    return [results[0], *results[STATES:]]


class _Recurrences(torch.autograd.Function):
    """One recurrence or two, for the tensors of one after the other."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        save, layout = any(ctx.needs_input_grad), call.layout
        results = operator(call.name)(
            tensors, layout.batch_sizes, layout.sequences, call.width, *call.settings, save
        )
        if save:
            ctx.call, ctx.tensors = call, len(tensors)
            ctx.save_for_backward(
                *tensors, *(t for r in split(results, call.count) for t in kept(r))
            )
        ctx.set_materialize_grads(False)
        found = returned(call, results)
        if call.has_statistics:
            ctx.mark_non_differentiable(*(t for r in found for t in r[STATES:]))
        return tuple(t for r in found for t in r)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        call: Call = ctx.call
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        tensors, results = saved[: ctx.tensors], saved[ctx.tensors :]
        if call.has_statistics:
            upstream = tuple(d for of_one in split(upstream, call.count) for d in of_one[:STATES])
        if in_plain_torch(*upstream):
            found = _differentiable_gradients(call, upstream, tensors, results)
        else:
            layout = call.layout
            found = operator(f"{call.name}_backward")(
                upstream, tensors, results, layout.batch_sizes, layout.sequences, *call.settings,
                needed,
            )  # fmt: skip
        return None, *(g if wanted else None for g, wanted in zip(found, needed, strict=True))


def _differentiable_gradients(
    call: Call,
    upstream: Sequence[Tensor | None],
    tensors: Sequence[Tensor | None],
    results: Sequence[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of all tensors, by plain torch."""
    found: list[Tensor | None] = []
    each = zip(*(split(t, call.count) for t in (upstream, tensors, results)), strict=True)
    for d, (x, weight_ih, weight_hh, h_0, c_0, *others), r in each:
        count = len(PLACES[call.cell])
        parts, statistics = others[:count], others[count:]
        with torch.enable_grad():
            u = x if weight_ih is None else torch.ops.seq2seq.projection(x, weight_ih)
            operands = u, weight_hh, h_0, c_0, joined(parts, call.cell, weight_hh)
        own = r[KEPT_STATISTICS] if statistics else ()
        of_all_steps = [torch.cat(parts) for parts in zip(own, statistics, strict=True)]
        settings = call.layout.sequences, *call.settings
        du, *rest, dvectors = differentiable(
            call.name.removesuffix("s"),
            d,
            operands,
            call.layout.batch_sizes,
            of_all_steps,
            settings,
        )
        if du is None or x is None or weight_ih is None:
            found += du, None
        else:
            found += differentiable_projection(du, x, weight_ih)
        found += [*rest, *_of_parts(call.cell, dvectors), *[None] * len(statistics)]
    return found


def _of_parts(cell: str, dvectors: Tensor | None) -> list[Tensor | None]:
    """Return the gradients of gains and biases, from that of `joined`."""
    if dvectors is None:
        return [None] * len(PLACES[cell])
    lengths = LENGTHS[cell]
    pieces = dvectors.split([n * dvectors.size(0) // sum(lengths) for n in lengths])
    return [pieces[place] for place in PLACES[cell]]
