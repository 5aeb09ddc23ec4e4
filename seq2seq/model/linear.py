"""A linear layer whose weight can be packed for the products of a search."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..rnn import packed, packs, product_dtype, recurring_rows


def keeps_shapes(weight: Tensor) -> bool:
    """Return whether products with an unpacked weight are oneDNN's, which keeps each new shape."""
    return weight.device.type == "cpu" and product_dtype(weight) is torch.bfloat16


class Linear(nn.Linear):
    """torch.nn.Linear, which may hold its weight in the layout of oneDNN's products too."""

    packed: tuple[Tensor, Tensor | None] | None = None
    """Weight, packed, and bias, of the products' type; None outside of `packed_weights`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x W^T + b (..., out) of x (..., in)."""
        if self.packed is None and not keeps_shapes(self.weight):
            return super().forward(input)
        x = input.reshape(-1, input.size(-1))
        more = recurring_rows(x.size(0)) - x.size(0)
        padded = F.pad(x, (0, 0, 0, more)) if more else x
        if self.packed is None:
            y = super().forward(padded)
        else:
            weight, bias = self.packed
            padded = padded.to(weight.dtype)
            y = torch.ops.mkldnn._linear_pointwise(padded, weight, bias, "none", [], "")
        return y[: x.size(0)].view(*input.shape[:-1], -1)

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
