"""The precision of matrix products under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor


def has_autocast(device: str) -> bool:
    """Return whether autocast exists for a type of device."""
    return torch.amp.is_autocast_available(device)


has_autocast._dynamo_marked_constant = True  # type: ignore[attr-defined]  # 2.10 cannot trace it


def autocast_enabled(device: str) -> bool:
    """Return whether autocast is enabled for a type of device."""
    return has_autocast(device) and torch.is_autocast_enabled(device)


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the type of products with x: autocast's where autocast is enabled, else x's own."""
    device = x.device.type
    if autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x W^T in the type of the weight; under autocast it is computed in autocast's type.

    Norms and states stay in the weight's type.
    """
    return F.linear(x, weight).to(weight.dtype)
