"""Cross-entropy of a linear output layer, without all its logits in float32 at once.

N rows, A features, V classes. With a row x, its target class y and smoothing e:

    p = softmax(W x + b)
    q = (1 - e) onehot(y) + e / V              (Szegedy et al. 2016, eq. 7)
    loss = -sum_k q_k log p_k    nll = -log p_y
    dloss/dlogits = p - q

R-Drop (Wu et al. 2021, arXiv:2106.14448) compares two passes with different dropout. For two rows
of one target, with probabilities p and r, the loss is half of the paper's equation 4, so that the
pair counts once:

    loss = (loss of p + loss of r) / 2 + a / 4 (KL(p || r) + KL(r || p))
    dloss/d(logits of p) = (p - q) / 2 + a / 4 (p (log(p / r) - KL(p || r)) + p - r)

The gradient of a row needs only its own logits, or those of its pair. So forward computes it chunk
by chunk: in a C++ kernel on a CPU (cpu/loss.cpp), else in plain torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..rnn import product_dtype
from . import kernels

BLOCK_ROWS = 2048
"""Rows whose logits exist at a time in the products' type; even, so that pairs stay together."""
CHUNK_ROWS = 128
"""Rows whose logits exist at a time in float32; even, too.

With a vocabulary of 8,000 they stay in the processor's cache.
"""


def row_gradients(
    log_p: Tensor, target: Tensor, smoothing: float, out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of loss and nll, and the gradient p - q of the logits, which is `out`.

    log_p (rows, V), target (rows,).
    """
    nll = -log_p.gather(1, target[:, None]).sum()
    loss = (1 - smoothing) * nll
    if smoothing:
        loss = loss - smoothing / log_p.size(1) * log_p.sum()
    p = torch.exp(log_p, out=out)
    if smoothing:
        p.sub_(smoothing / log_p.size(1))
    p.scatter_add_(1, target[:, None], p.new_full((p.size(0), 1), smoothing - 1))
    return loss, nll, p


def pair_gradients(
    log_p: Tensor, target: Tensor, smoothing: float, r_drop: float, out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what row_gradients does for pairs of rows with one target each, with R-Drop.

    Rows 2 i and 2 i + 1 are a pair.
    """
    p, r = log_p[::2].exp(), log_p[1::2].exp()
    log_ratio = log_p[::2] - log_p[1::2]
    kl_p = (p * log_ratio).sum(dim=1, keepdim=True)
    kl_r = -(r * log_ratio).sum(dim=1, keepdim=True)
    loss, nll, gradients = row_gradients(log_p, target, smoothing, out)
    gradients.div_(2)
    gradients[::2] += r_drop / 4 * (p * (log_ratio - kl_p) + p - r)
    gradients[1::2] -= r_drop / 4 * (r * (log_ratio + kl_r) + p - r)
    return loss / 2 + r_drop / 4 * (kl_p + kl_r).sum(), nll / 2, gradients


@dataclass(frozen=True)
class OutputLayer:
    """An output layer, and the loss of its logits."""

    weight: Tensor  # (V, A), float or of the products' type
    bias: Tensor  # (V,)
    smoothing: float
    r_drop: float
    divisor: float


@dataclass
class Sums:
    """Sums over rows, which grow block by block."""

    losses: Tensor  # (2,) loss and nll
    dbias: Tensor  # (V,) gradient of the bias of loss / divisor


Block = Callable[[OutputLayer, Tensor, Tensor, Sums, bool], Tensor]
"""(layer, x (rows, A), target (rows,), sums, grad) -> gradients of the logits (rows, V), which are
valid only if grad is true. Adds to the sums.
"""


def fused_block(layer: OutputLayer, x: Tensor, target: Tensor, sums: Sums, grad: bool) -> Tensor:
    """Run a block by the kernels."""
    ops = torch.ops.seq2seq
    d: Tensor = ops.projection(x, layer.weight)
    scale = layer.smoothing, layer.r_drop, layer.divisor
    sums.losses += ops.softmax_loss(d, layer.bias, target, sums.dbias, *scale, grad)
    return d


def plain_block(layer: OutputLayer, x: Tensor, target: Tensor, sums: Sums, grad: bool) -> Tensor:
    """Run a block in plain torch; the weight has the type of x."""
    d = torch.addmm(layer.bias.to(x.dtype), x, layer.weight.t())
    chunks = zip(d.split(CHUNK_ROWS), target.split(CHUNK_ROWS), strict=True)
    for logits, targets in chunks:
        whole = logits.to(layer.bias.dtype)
        log_p, e, a = torch.log_softmax(whole, dim=1), layer.smoothing, layer.r_drop
        if a:
            loss, nll, dlogits = pair_gradients(log_p, targets, e, a, out=whole)
        else:
            loss, nll, dlogits = row_gradients(log_p, targets, e, out=whole)
        sums.losses += torch.stack([loss, nll])
        if grad:
            sums.dbias += dlogits.div_(layer.divisor).sum(dim=0)
            logits.copy_(dlogits)
    return d


def over_blocks(
    layer: OutputLayer, x: Tensor, target: Tensor, grad: bool, by_kernels: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of loss and nll (2,), and the gradients of x, weight and bias.

    The gradients are those of loss / divisor. They have the type of the bias, and mean nothing
    without `grad`. x (N, A) has the type of the products, target (N,).
    """
    bias = layer.bias
    block: Block = fused_block if by_kernels else plain_block
    sums = Sums(bias.new_zeros(2), torch.zeros_like(bias))
    dx, dweight = bias.new_empty(x.shape), bias.new_empty(0)
    for rows, targets, drows in zip(*(t.split(BLOCK_ROWS) for t in (x, target, dx)), strict=True):
        d = block(layer, rows, targets, sums, grad)
        if grad:
            by_x, by_weight = gradients(d, rows, layer.weight, by_kernels)
            drows.copy_(by_x)
            dweight = dweight.add_(by_weight) if dweight.numel() else by_weight.to(bias.dtype)
    return sums.losses, dx, dweight, sums.dbias


def gradients(d: Tensor, x: Tensor, weight: Tensor, by_kernels: bool) -> tuple[Tensor, Tensor]:
    """Return d W and d^T x, for gradients d (rows, V) of logits."""
    if by_kernels:
        ops = torch.ops.seq2seq
        return ops.float_product(d, weight.t()), ops.weight_gradient(d, x)
    return d @ weight, d.t() @ x


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
        r_drop: float,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        dtype = product_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            grad = any(ctx.needs_input_grad[:3])
            serves = kernels.serves(backend, x.detach(), weight.detach(), bias.detach())
            rounded = weight.detach() if serves else weight.detach().to(dtype)
            layer = OutputLayer(rounded, bias.detach(), smoothing, r_drop, divisor)
            losses, *grads = over_blocks(layer, x.detach().to(dtype), target, grad, serves)
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
        return *grads, None, None, None, None, None


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    smoothing: float = 0.0,
    divisor: float = 1.0,
    r_drop: float = 0.0,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return loss / divisor and negative log-likelihood of softmax(x W^T + b), in nats.

    Both are sums over rows. x (N, A), weight (V, A), bias (V,), target (N,) ids. The loss is
    label-smoothed and has a gradient; the negative log-likelihood has none. A division afterwards
    would take a pass over the weight's gradient.

    With `r_drop`, the weight a of R-Drop's divergence, rows 2 i and 2 i + 1 are two passes of one
    target, and count once.
    """
    loss, nll = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, target, smoothing, divisor, r_drop, backend
    )
    return loss, nll
