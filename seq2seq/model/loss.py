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

from ..rnn import product_dtype
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


Losses = tuple[Tensor, Tensor, Tensor, Tensor]
"""Sums of loss and nll (2,), and the gradients of x, weight and bias of loss / divisor."""


def fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    smoothing: float,
    divisor: float,
    grad: bool,
) -> Losses:
    """Return what `plain` returns, by the kernels, with float gradients."""
    ops = torch.ops.seq2seq
    losses, dx = bias.new_zeros(2), bias.new_empty(x.shape)
    dweight, dbias = bias.new_empty(0), torch.zeros_like(bias)
    for rows, targets, drows in zip(*(t.split(BLOCK_ROWS) for t in (x, target, dx)), strict=True):
        d = ops.projection(rows, weight)
        losses += ops.softmax_loss(d, bias, targets, dbias, smoothing, divisor, grad)
        if grad:
            drows.copy_(ops.float_product(d, weight.t()))
            part = ops.weight_gradient(d, rows)
            dweight = dweight.add_(part) if dweight.numel() else part
    return losses, dx, dweight, dbias


def plain(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    smoothing: float,
    divisor: float,
    grad: bool,
) -> Losses:
    """Return losses and gradients, which mean nothing without `grad`.

    x has the type of the products, to which weight is rounded, and so has the gradient of x.
    """
    weight = weight.to(x.dtype)
    losses = bias.new_zeros(2)
    dx, dweight, dbias = torch.empty_like(x), bias.new_zeros(weight.shape), torch.zeros_like(bias)
    blocks = zip(*(t.split(BLOCK_ROWS) for t in (x, target, dx)), strict=True)
    for rows, targets, drows in blocks:
        d = torch.addmm(bias.to(x.dtype), rows, weight.t())
        chunks = zip(d.split(CHUNK_ROWS), targets.split(CHUNK_ROWS), strict=True)
        for logits, chunk_targets in chunks:
            loss, nll, p = logit_gradients(logits.to(bias.dtype), chunk_targets, smoothing)
            losses += torch.stack([loss, nll])
            if grad:
                dbias += p.div_(divisor).sum(dim=0)
                logits.copy_(p)
        if grad:
            drows.copy_(d @ weight)
            dweight += d.t() @ rows
    return losses, dx, dweight, dbias


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
        divisor: float,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        dtype = product_dtype(x)
        parts = x.detach().to(dtype), weight.detach(), bias.detach(), target
        with torch.autocast(x.device.type, enabled=False):
            grad = any(ctx.needs_input_grad[:3])
            serves = kernels.serves(backend, x.detach(), weight.detach(), bias.detach())
            compute = fused if serves else plain
            losses, *grads = compute(*parts, smoothing, divisor, grad)
        ctx.save_for_backward(grads[0].to(x.dtype), *grads[1:])
        loss, nll = losses[0] / divisor, losses[1]
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, grad_nll: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        if grad_loss.device.type != "cpu" or grad_loss.item() != 1:  # a GPU would have to wait
            grads = tuple(grad * grad_loss for grad in grads)
        return *grads, None, None, None, None


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    smoothing: float = 0.0,
    divisor: float = 1.0,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return loss / divisor and negative log-likelihood of softmax(x W^T + b), in nats.

    Both are sums over rows. x (N, A), weight (V, A), bias (V,), target (N,) ids. The loss is
    label-smoothed and has a gradient; the negative log-likelihood has none. A division afterwards
    would take a pass over the weight's gradient.
    """
    loss, nll = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, target, smoothing, divisor, backend
    )
    return loss, nll
