"""A linear layer whose weight can be packed for the products of a search."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..rnn import packed, packs, product_dtype


class Linear(nn.Linear):
    """torch.nn.Linear, which may hold its weight in the layout of oneDNN's products too."""

    packed: tuple[Tensor, Tensor | None] | None = None
    """Weight, packed, and bias, of the products' type; None outside of `packed_weights`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x W^T + b (..., out) of x (..., in)."""
        if self.packed is None:
            return super().forward(input)
        weight, bias = self.packed
        x = input.to(weight.dtype)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return result

    def pack(self) -> None:
        """Pack the weight in its present values, for a CPU whose products gain by that."""
        dtype = product_dtype(self.weight)
        if self.weight.device.type == "cpu" and packs(dtype):
            bias = None if self.bias is None else self.bias.detach().to(dtype)
            self.packed = packed(self.weight.detach().to(dtype)), bias


@contextmanager
def packed_weights(module: nn.Module) -> Iterator[None]:
    """Pack the weights of a module's linear layers, which must not change meanwhile.

    With few rows, as in a search, a product with a packed weight takes a third to two thirds of the
    time. Autocast has to be entered before.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, Linear)]
    try:
        for layer in layers:
            layer.pack()
        yield
    finally:
        for layer in layers:
            layer.packed = None
