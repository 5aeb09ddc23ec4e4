"""One step of a cell in a loop over steps: products, then the cell's own operator.

R rows, H features, G gates; u, z and other symbols are those of `reference.py`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..reference import CellParameters, State
from .running import record_statistics, running_statistics
from .step_loops import StepProduct
from .vectors import kernel_of, vectors


@dataclass
class CellSteps:
    """What the steps of a loop share: the products of a layer and direction, and its vectors."""

    ih: StepProduct
    hh: StepProduct
    vectors: Tensor
    """Gains and biases in one, with their gradient."""


def cell_steps(p: CellParameters, batch_sizes: list[int], dtype: torch.dtype) -> CellSteps:
    """Prepare steps of so many rows, with products of a type."""
    ih, hh = (StepProduct(w, None, batch_sizes, dtype) for w in (p.weight_ih, p.weight_hh))
    return CellSteps(ih, hh, vectors(p))


def run_step(
    x: Tensor, state: State | None, p: CellParameters, first_step: int
) -> tuple[Tensor, State]:
    """Return the output (R, H) of one step of x (R, I), and the state after it."""
    steps = p.steps
    assert isinstance(steps, CellSteps)
    u, z = steps.ih(x), None
    h, c = (*(() if state is None else (s.float() for s in state)), None, None)[:2]
    if h is None:
        steps.hh.skip()
    else:
        z = steps.hh(h)
    tensors = (u, z, h, c, steps.vectors)
    if p.ih.statistics is None:
        names = kernel_of(p), p.ih.kind
        h, c, *_ = _Step.apply(  # type: ignore[no-untyped-call]
            *tensors, "cell_step", (*names, p.ih.eps, True), names
        )
    else:
        h, c = _batch_norm(tensors, p, first_step)
    assert h is not None
    return h, (h, c) if p.cell == "lstm" else (h,)


def _batch_norm(
    tensors: tuple[Tensor | None, ...], p: CellParameters, first_step: int
) -> tuple[Tensor, Tensor]:
    """Return h and c with batch norm, and record the statistics of its terms."""
    u, *others = tensors
    assert u is not None
    assert p.ih.statistics is not None
    by_batch = p.ih.statistics.by_batch(len(u))
    if p.whole_sequence:
        u = p.ih(u.float(), 0)
    statistics = running_statistics(p, first_step, 1)
    settings = (by_batch, kernel_of(p), p.ih.eps, not p.whole_sequence)
    h, c, mean, var = _Step.apply(  # type: ignore[no-untyped-call]
        u, *others, "batch_norm_step", (*statistics, *settings), settings
    )
    rows = torch.full((1 if by_batch else 0,), len(u), device="cpu")
    record_statistics(p, first_step, rows, mean, var, has_state=tensors[2] is not None)
    return h, c


class _Step(torch.autograd.Function):
    """One step by an operator: cell_step of rows.cpp, or batch_norm_step of columns.cpp.

    The backward operator takes what the operator took and returned, then `kept` of its settings.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, z: Any, h: Any, c: Any, vectors: Tensor, name: str, settings: Any,
        kept: Any,
    ) -> Any:  # fmt: skip
        inputs = (u, z, h, c, vectors)
        outputs = getattr(torch.ops.seq2seq, name)(*inputs, *settings)
        ctx.save_for_backward(*inputs, *outputs)
        ctx.name, ctx.kept = name, kept
        ctx.mark_non_differentiable(*outputs[2:])
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_h: Tensor | None, d_c: Tensor | None, *_: Any) -> tuple[Any, ...]:
        backward = getattr(torch.ops.seq2seq, f"{ctx.name}_backward")
        found = backward(d_h, d_c, *ctx.saved_tensors, *ctx.kept)
        return *_in_order(ctx, found), None, None, None


def _in_order(ctx: Any, found: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Return the gradients of u, z, h, c and the vectors."""
    u, z, carried, by_vectors = found
    _, had_z, had_h, had_c, _, _, c, *_ = ctx.saved_tensors
    dz = None if had_z is None else z if len(z) else u
    by_h, by_c = (None, carried) if len(c) else (carried, None)
    return (
        u,
        dz,
        by_h if had_h is not None else None,
        by_c if had_c is not None else None,
        by_vectors,
    )
