"""LSTM, GRU and RNN with no norm, batch norm, layer norm or RMS norm in the cell.

They are drop-ins for the layers of torch.nn and need torch alone. The settings of a norm need not
even that: torch is loaded with the first of the names below that needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .config import CellNorm, NormConfig, NormGroup, NormKind, Statistics, Terms

if TYPE_CHECKING:
    from .layers import GRU, LSTM, RNN, RecurrentLayers, is_norm_parameter
    from .recalibration import recalibration

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellNorm",
    "NormConfig",
    "NormGroup",
    "NormKind",
    "RecurrentLayers",
    "Statistics",
    "Terms",
    "is_norm_parameter",
    "recalibration",
]

_LATER = {
    "layers": ("GRU", "LSTM", "RNN", "RecurrentLayers", "is_norm_parameter"),
    "recalibration": ("recalibration",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
