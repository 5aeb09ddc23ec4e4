"""A linear layer whose weight can be packed for the products of a search."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..rnn import (
    SharedProduct,
    Stepwise,
    load_kernels,
    packed,
    packs,
    product_dtype,
    shares,
)


class Linear(nn.Linear, Stepwise):
    """torch.nn.Linear with the kernels' products, whose weight may be packed for a search."""

    packed: Tensor | None = None
    """The weight, packed, of the products' type; None outside of `packed_weights`."""
    steps: SharedProduct | None = None
    """The products of a loop over steps; None outside of `stepwise`."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, backend: str = "auto"
    ) -> None:
        """Make a layer x W^T + b; backend "reference" leaves its products to torch."""
        super().__init__(in_features, out_features, bias)
        self.backend = backend

    def forward(self, input: Tensor) -> Tensor:
        """Return x W^T + b (..., out) of x (..., in); in float where the weight is packed."""
        if self.steps is not None:
            return self.steps(input)
        dtype = product_dtype(self.weight)
        if self.packed is None and not self._has_kernels(dtype):
            return super().forward(input)
        x, ops = input.reshape(-1, self.in_features), torch.ops.seq2seq
        y: Tensor
        if self.packed is not None:
            y = ops.packed_projection(x, self.packed, self.bias, self.out_features, True)
        else:
            y = ops.projection(x.to(dtype), self.weight)
            y = y if self.bias is None else y + self.bias.to(dtype)
        return y.view(*input.shape[:-1], -1)

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
        if self._has_kernels(dtype) and shares(self.weight, dtype):
            self.steps = SharedProduct(self.weight, self.bias, batch_sizes, dtype)

    def check_steps(self) -> None:
        """Raise ValueError if some of the steps have run, and not all."""
        if self.steps is not None:
            self.steps.check_complete()

    def end_steps(self) -> None:
        """Forget what was prepared."""
        self.steps = None

    def pack(self) -> None:
        """Pack the weight in its present values, for a CPU whose products gain by that."""
        dtype = product_dtype(self.weight)
        if self._has_kernels(dtype):
            self.packed = packed(self.weight.detach().to(dtype))


@contextmanager
def packed_weights(module: nn.Module) -> Iterator[None]:
    """Pack the weights of a module's linear layers, which must not change meanwhile.

    A search then packs them once and not at every step. Autocast has to be entered before.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, Linear)]
    try:
        for layer in layers:
            layer.pack()
        yield
    finally:
        for layer in layers:
            layer.packed = None
