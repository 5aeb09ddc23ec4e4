"""A linear layer with the kernels' products, whose weight is packed once for a search."""

import torch
from torch import Tensor, nn

from ..rnn import (
    Freezable,
    StepProduct,
    Stepwise,
    has_step_products,
    load_kernels,
    packed,
    packs,
    product_dtype,
)
from . import kernels


class Linear(nn.Linear, Freezable, Stepwise):
    """torch.nn.Linear with the kernels' products, which packs its weight once within `frozen`."""

    steps: StepProduct | None = None
    """The products of a loop over steps; None outside of `stepwise`."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, backend: str = "auto"
    ) -> None:
        """Make a layer x W^T + b; backend "reference" leaves its products to torch."""
        super().__init__(in_features, out_features, bias)
        self.backend = backend

    def forward(self, input: Tensor) -> Tensor:
        """Return x W^T + b (..., out) of x (..., in): in the products' type, in `frozen` float."""
        if self.steps is not None:
            return self.steps(input)
        dtype = product_dtype(self.weight)
        weight = self._packed(dtype)
        if weight is None and not self._has_kernels(dtype):
            return super().forward(input)
        x, ops = input.reshape(-1, self.in_features), torch.ops.seq2seq
        y: Tensor
        if weight is not None:
            y = ops.packed_projection(x, weight, self.bias, self.out_features, True)
        else:
            y = ops.projection(x.to(dtype), self.weight)
            y = y if self.bias is None else y + self.bias.to(dtype)
        return y.view(*input.shape[:-1], self.out_features)

    def best_words(self, input: Tensor, forbidden: list[int], count: int) -> tuple[Tensor, Tensor]:
        """Return the best `count` words of x (R, in) but the forbidden ones, of a softmax layer.

        Their log-probabilities and ids (R, count), the likeliest first. Within `frozen` no logit
        is written to memory.
        """
        weight = self._packed(product_dtype(self.weight))
        if weight is not None and kernels.load():
            ops, bias = torch.ops.seq2seq, self.bias.detach()
            log_probs, words = ops.best_next_words(input, weight, bias, forbidden, count)
            return log_probs, words
        return kernels.best_log_probs(self(input).float(), forbidden, count, self.backend)

    def _packed(self, dtype: torch.dtype) -> Tensor | None:
        """Return the weight, packed for products of a type; None where it is not to be kept."""
        kept = self.kept()
        if kept is not None and dtype not in kept:
            kept[dtype] = packed(self.weight.to(dtype)) if self._has_kernels(dtype) else None
        return None if kept is None else kept[dtype]

    def _has_kernels(self, dtype: torch.dtype) -> bool:
        return (
            self.backend != "reference"
            and self.weight.device.type == "cpu"
            and packs(dtype)
            and load_kernels("cpu", self.backend)
        )

    def begin_steps(self, batch_sizes: list[int]) -> None:
        """Prepare one call for each step, with inputs (R, in), where the kernels can."""
        dtype = product_dtype(self.weight)
        if self._has_kernels(dtype) and has_step_products(self.weight, dtype):
            self.steps = StepProduct(self.weight, self.bias, batch_sizes, dtype)

    def check_steps(self) -> None:
        """Raise ValueError if some of the steps have run, and not all."""
        if self.steps is not None:
            self.steps.check_complete()

    def end_steps(self) -> None:
        """Forget what was prepared."""
        self.steps = None
