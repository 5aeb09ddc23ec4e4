"""Loops over time steps in which each weight is packed once and has one gradient.

With input feeding a step's input depends on the step before, so that layers are called once for
each step. Each call would pack its weights again, and the gradient of a weight would be a sum of
products of few rows. Here a product is

    y_t = x_t W^T + b + s_t        s_t = 0

with a constant W and b. The gradient of s, N rows of all steps, is that of y. From it follow
dL/dW = (dL/ds)^T x and dL/db, in one product and one sum after the last step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .frozen import versions
from .operators import packed, packs


class _Factors:
    """What the backward passes of a product read; it must not hold the zeros' graph."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight, self.dtype, self.size = weight.detach().to(dtype), dtype, weight.size(0)
        self.versions = versions([self.weight])  # the parameter's, unless it was converted
        self.bias = None if bias is None else bias.detach()
        self.inputs: list[Tensor] = []
        self.input_versions: list[int] = []

    def all_inputs(self, rows: int) -> Tensor:
        """Return the inputs (N, I) of all steps.

        Raises RuntimeError if one has changed since its step, or if the steps have not all run.
        """
        if versions(self.inputs) != self.input_versions:
            raise RuntimeError(
                "an input of `stepwise` needed for gradient computation has been modified by an"
                " inplace operation: expected a tensor of its own at each step"
            )
        if sum(map(len, self.inputs)) != rows:
            raise RuntimeError(
                f"a backward pass after {len(self.inputs)} steps of `stepwise`: expected it after"
                " the last step"
            )
        return torch.cat(self.inputs)

    @cached_property
    def packed(self) -> Tensor:
        """W, packed."""
        return packed(self.weight)

    @cached_property
    def packed_transposed(self) -> Tensor:
        """W^T, packed.

        Raises RuntimeError if W has changed since the loop began, as autograd does.
        """
        if versions([self.weight]) != self.versions:
            raise RuntimeError(
                "a weight needed for gradient computation has been modified by an inplace operation"
                " since `stepwise` began: expected no changes until the backward pass"
            )
        return packed(self.weight.t())


class StepProduct:
    """x W^T + b at each step of a loop, for W (F, I) and b (F,), with one gradient of both."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, batch_sizes: list[int], dtype: torch.dtype
    ) -> None:
        """Prepare products of a type, which `packs`; step t has batch_sizes[t] rows."""
        self.factors, self.batch_sizes = _Factors(weight, bias, dtype), batch_sizes
        self.inputs = self.factors.inputs
        rows = sum(batch_sizes)
        zeros = _Zeros.apply(weight, bias, self.factors, rows)  # type: ignore[no-untyped-call]
        self.zeros = zeros.split(batch_sizes)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x W^T + b (R, F) of the products' type, for the next step's x (R, I)."""
        x = x if x.dtype is self.factors.dtype else x.float()
        zeros = self._next(x.detach())
        y: Tensor = _Product.apply(x, zeros, self.factors)  # type: ignore[no-untyped-call]
        return y

    def skip(self) -> None:
        """Pass a step over that has no x."""
        rows = self.batch_sizes[len(self.inputs)]
        self._next(self.factors.weight.new_zeros(rows, self.factors.weight.size(1)))

    def _next(self, x: Tensor) -> Tensor:
        """Keep the next step's x, and return its zeros."""
        step = len(self.inputs)
        if step == len(self.batch_sizes):
            raise ValueError(f"step {step} of a loop over {step} steps: expected no more calls")
        if x.dim() != 2 or x.size(0) != self.batch_sizes[step]:
            raise ValueError(
                f"the input of step {step} has shape {tuple(x.shape)}: expected"
                f" ({self.batch_sizes[step]}, {self.factors.weight.size(1)})"
            )
        self.inputs.append(x)
        self.factors.input_versions += versions([x])
        zeros: Tensor = self.zeros[step]
        return zeros

    def check_complete(self) -> None:
        """Raise ValueError if some of the steps have run, and not all."""
        if 0 < len(self.inputs) < len(self.batch_sizes):
            raise ValueError(
                f"{len(self.inputs)} steps of a loop over {len(self.batch_sizes)} have run:"
                " expected all of them, or none"
            )


class _Zeros(torch.autograd.Function):
    """Zeros (N, F) whose gradient becomes that of a weight and of a bias."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor | None, factors: _Factors, rows: int
    ) -> Tensor:
        ctx.factors, ctx.rows = factors, rows
        ctx.types = weight.dtype, None if bias is None else bias.dtype
        return weight.new_zeros((), dtype=factors.dtype).expand(rows, factors.size)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        weight_type, bias_type = ctx.types
        x = ctx.factors.all_inputs(ctx.rows).to(d.dtype)
        weight = torch.ops.seq2seq.weight_gradient(d, x).to(weight_type)
        bias = d.sum(0, dtype=bias_type) if ctx.needs_input_grad[1] else None
        return weight, bias, None, None


class _Product(torch.autograd.Function):
    """x W^T + b + s for a constant W and b, with s = 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, zeros: Tensor, factors: _Factors) -> Tensor:
        ctx.factors, ctx.in_float, ctx.inputs = factors, x.dtype is torch.float32, x.size(1)
        y: Tensor = torch.ops.seq2seq.packed_projection(
            x, factors.packed, factors.bias, factors.size
        )
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        d, turned = d.contiguous(), ctx.factors.packed_transposed
        if not ctx.needs_input_grad[0]:
            return None, d, None
        x = torch.ops.seq2seq.packed_projection(d, turned, None, ctx.inputs, ctx.in_float)
        return x, d, None


class Stepwise(nn.Module):
    """Base of modules that `stepwise` prepares."""

    def begin_steps(self, batch_sizes: list[int]) -> None:
        """Prepare calls with batch_sizes[t] rows at step t."""
        raise NotImplementedError

    def check_steps(self) -> None:
        """Raise ValueError if some of the steps have run, and not all."""
        raise NotImplementedError

    def end_steps(self) -> None:
        """Forget what was prepared."""
        raise NotImplementedError


@contextmanager
def stepwise(modules: Sequence[nn.Module], batch_sizes: list[int]) -> Iterator[None]:
    """Prepare layers for one call at each step: weights are packed, and differentiated, once.

    Inside, each of the layers is called T times, at step t with batch_sizes[t] rows, and nothing
    but the speed differs. Weights and inputs must not change until the backward pass, which begins
    after the last step. It has an effect where
    gradients are wanted and the CPU's kernels have the products. Autocast has to be entered before.

    Raises ValueError if a call has several steps or another number of rows, or if some are missing.
    """
    wanted = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    found = [m for m in modules if isinstance(m, Stepwise)] if wanted else []
    try:
        for module in found:
            module.begin_steps(batch_sizes)
        yield
        for module in found:
            module.check_steps()
    finally:
        for module in found:
            module.end_steps()


def has_step_products(weight: Tensor, dtype: torch.dtype) -> bool:
    """Return whether `StepProduct` has products of this type with a weight."""
    return weight.device.type == "cpu" and weight.dtype is torch.float32 and packs(dtype)
