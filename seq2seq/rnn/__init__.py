"""LSTM, GRU and RNN with no norm, batch norm, layer norm or RMS norm in the cell.

They are drop-ins for the layers of torch.nn and need torch alone. The settings need not even that:
torch is imported with the first layer.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import CellNorm, NormConfig, NormGroup, NormKind, Statistics, Terms

if TYPE_CHECKING:
    from .layers import GRU, LSTM, RNN, RecurrentLayers, is_norm_parameter

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
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".layers", __name__), name)
