"""Cross-entropy of a linear output layer, without all its logits in float32 at once.

N rows, A features, V classes. With a row x, its target class y and smoothing e:

    p = softmax(W x + b)
    q = (1 - e) onehot(y) + e / V              (Szegedy et al. 2016, eq. 7)
    loss = -sum_k q_k log p_k    nll = -log p_y
    dloss/dlogits = p - q

The gradient of a row needs its own logits alone, so forward computes it chunk by chunk: in a C++
kernel on a CPU (cpu/loss.cpp), else in plain torch.
"""

from typing import Any

import torch
from torch import Tensor

from ..rnn import packs, product_dtype
from . import kernels

BLOCK_ROWS = 2048
"""Number of rows whose logits exist at a time in the products' type."""
CHUNK_ROWS = 128
"""Number of rows whose logits exist at a time in float32.

With a vocabulary of 8,000 they stay in the processor's cache.
"""


def logit_gradients(
    logits: Tensor, target: Tensor, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of loss and nll over logits (rows, V), and the gradient p - q of the loss.

    The gradient overwrites the logits. target (rows,).
    """
    log_p = torch.log_softmax(logits, dim=1)
    nll = -log_p.gather(1, target[:, None]).sum()
    loss = (1 - smoothing) * nll
    if smoothing:
        loss = loss - smoothing / logits.size(1) * log_p.sum()
    p = torch.exp(log_p, out=logits)
    if smoothing:
        p.sub_(smoothing / logits.size(1))
    p.scatter_add_(1, target[:, None], p.new_full((p.size(0), 1), smoothing - 1))
    return loss, nll, p


class _LinearCrossEntropy(torch.autograd.Function):
    """The loss with all its gradients from one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        smoothing: float,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        wants_grad = any(ctx.needs_input_grad[:3])
        dtype = product_dtype(x)
        if kernels.serves(backend, x.detach(), weight.detach(), bias.detach()):
            losses, *grads = torch.ops.seq2seq.linear_cross_entropy(
                x.to(dtype), weight.to(dtype), bias, target, smoothing, packs(dtype), wants_grad
            )
            ctx.save_for_backward(*grads)
            loss, nll = losses
            ctx.mark_non_differentiable(nll)
            return loss, nll
        x_cast, weight_cast, bias_cast = x.to(dtype), weight.to(dtype), bias.to(dtype)
        loss, nll = weight.new_zeros(()), weight.new_zeros(())
        dx, dweight, dbias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        with torch.autocast(x.device.type, enabled=False):
            for rows, targets, drows in zip(
                x_cast.split(BLOCK_ROWS),
                target.split(BLOCK_ROWS),
                dx.split(BLOCK_ROWS),
                strict=True,
            ):
                d = torch.addmm(bias_cast, rows, weight_cast.t())
                for logits, chunk_targets in zip(
                    d.split(CHUNK_ROWS), targets.split(CHUNK_ROWS), strict=True
                ):
                    chunk_loss, chunk_nll, p = logit_gradients(
                        logits.to(weight.dtype), chunk_targets, smoothing
                    )
                    loss += chunk_loss
                    nll += chunk_nll
                    if wants_grad:
                        dbias += p.sum(dim=0)
                        logits.copy_(p)
                if wants_grad:
                    drows.copy_(d @ weight_cast)
                    dweight += d.t() @ rows
        if wants_grad:
            ctx.save_for_backward(dx, dweight, dbias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, grad_nll: Tensor) -> tuple[Tensor | None, ...]:
        dx, dweight, dbias = ctx.saved_tensors
        return dx * grad_loss, dweight * grad_loss, dbias * grad_loss, None, None, None


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    smoothing: float = 0.0,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return loss and negative log-likelihood of softmax(x W^T + b), summed over rows, in nats.

    x (N, A), weight (V, A), bias (V,), target (N,) ids. The loss is label-smoothed and has a
    gradient; the negative log-likelihood has none.
    """
    loss, nll = _LinearCrossEntropy.apply(x, weight, bias, target, smoothing, backend)  # type: ignore[no-untyped-call]
    return loss, nll
