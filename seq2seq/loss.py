"""Cross-entropy of a linear output layer, without ever holding all its logits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ROWS = 256
"""Rows whose logits exist at a time: they stay in the processor's cache for a vocabulary of 8,000."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of rows: the gradient of a row needs nothing but its logits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, target: Tensor,
                smoothing: float) -> tuple[Tensor, Tensor]:
        wants_grad = any(ctx.needs_input_grad[:3])
        loss, nll = x.new_zeros((), dtype=weight.dtype), x.new_zeros((), dtype=weight.dtype)
        grads = (torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)) if wants_grad else ()
        for start in range(0, x.size(0), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            product = F.linear(x[rows], weight, bias)
            logits = product.to(weight.dtype)
            log_sum = logits.logsumexp(dim=1)
            wanted = logits.gather(1, target[rows, None]).squeeze(1)
            chunk_nll = log_sum - wanted
            nll += chunk_nll.sum()
            loss += ((1 - smoothing) * chunk_nll + smoothing * (log_sum - logits.mean(dim=1))).sum()
            if wants_grad:
                d = logits.sub_(log_sum[:, None]).exp_().sub_(smoothing / weight.size(0))
                d.scatter_add_(1, target[rows, None], d.new_full((d.size(0), 1), smoothing - 1))
                grads[2].add_(d.sum(dim=0))
                d = d.to(product.dtype)
                grads[0][rows] = F.linear(d, weight.t())
                grads[1].add_(F.linear(d.t(), x[rows].t()))
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, grad_nll: Tensor) -> tuple[Tensor | None, ...]:
        dx, dweight, dbias = ctx.saved_tensors
        return dx * grad_loss, dweight * grad_loss, dbias * grad_loss, None, None


def linear_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, target: Tensor,
                         smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Sums over rows, in nats, of the cross-entropy of softmax(x W^T + b) against `target`.

    x (N, A), weight (V, A), bias (V,), target (N,) ids. The first sum is against the target smoothed towards the
    uniform distribution by `smoothing` (Szegedy et al. 2016, eq. 7) and has a gradient; the second is the plain
    negative log-likelihood.
    """
    loss, nll = _LinearCrossEntropy.apply(x, weight, bias, target, smoothing)
    return loss, nll
