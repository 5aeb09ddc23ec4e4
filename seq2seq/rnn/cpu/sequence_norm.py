"""Batch norm of the input term over the rows of all steps at once, on the CPU in eager mode."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..normalization import Term
from .second_derivatives import gradients_of


def sequence_norm(u: Tensor, term: Term) -> Tensor:
    """Return gain * N(u) + bias (N, F), float, of the input term u (N, F); record its statistics.

    The same as term(u.float(), 0), without a copy of u in float.
    """
    statistics, gain, rows = term.statistics, term.gain, u.size(0)
    assert statistics is not None
    assert gain is not None
    own = statistics.by_batch(rows)
    mean, var = (None, None) if own else (s[0] for s in statistics.running(0))
    y, mean, var = _SequenceNorm.apply(  # type: ignore[no-untyped-call]
        u, gain, term.bias, mean, var, term.eps
    )
    if own:
        unbiased = var * (rows / (rows - 1))
        count = torch.full((1,), rows, device="cpu")
        statistics.record(0, count, mean.unsqueeze(0), unbiased.unsqueeze(0))
    found: Tensor = y
    return found


class _SequenceNorm(torch.autograd.Function):
    """Of u, gain, bias, the running mean and variance (None: those of u) and eps."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        gain: Tensor,
        bias: Tensor | None,
        mean: Tensor | None,
        var: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, *found = torch.ops.seq2seq.sequence_norm(u, gain, bias, mean, var, eps)
        ctx.own, ctx.eps = mean is None, eps
        ctx.save_for_backward(u, gain, bias, *(found if ctx.own else (mean, var)))
        ctx.mark_non_differentiable(*found)
        return y, *found

    @staticmethod
    def backward(ctx: Any, d: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        u, gain, bias, mean, var = ctx.saved_tensors
        found: list[Tensor | None]
        if torch.is_grad_enabled():  # by create_graph=True
            mean, var = (None, None) if ctx.own else (mean, var)
            y = F.batch_norm(u.float(), mean, var, gain, bias, training=ctx.own, eps=ctx.eps)
            found = gradients_of(y, (u, gain, bias), d)
        else:
            found = torch.ops.seq2seq.sequence_norm_backward(
                d, u, gain, mean, var, ctx.own, ctx.eps
            )
        needed = ctx.needs_input_grad[:3]
        return *(g if n else None for g, n in zip(found, needed, strict=True)), None, None, None
