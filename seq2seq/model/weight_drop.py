"""Dropout on the recurrent weights: DropConnect on W_hh (Merity et al. 2018)."""

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from .dropout import dropout_mask
from .recurrent_weights import recurrent_weights


def dropped_weights(module: nn.Module, p: float) -> dict[str, Tensor]:
    """Return every W_hh (G * H, H) of a module's recurrent layers after dropout, by its name.

    A mask drops single weights with probability p and scales the others by 1 / (1 - p). Source:
    Merity et al. 2018 (arXiv:1708.02182), section 2.
    """
    return {
        name: weight * dropout_mask(weight, weight.shape, p)
        for name, weight in recurrent_weights(module)
    }


def call_with_dropped_weights(module: nn.Module, p: float, *arguments: Any) -> Any:
    """Return what a module returns with one mask for each W_hh, at all time steps.

    Its parameters stay as they are, and have gradients. With p = 0 no mask is drawn.
    """
    if p == 0:
        return module(*arguments)
    return functional_call(module, dropped_weights(module, p), arguments)
