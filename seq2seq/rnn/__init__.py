"""LSTM, GRU and RNN with no norm, batch norm, layer norm or RMS norm in the cell.

They are drop-ins for the layers of torch.nn and need torch alone. The layers are imported when
they are first used, so that the settings of a norm can be read without torch.
"""

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
    """Return one of the layers."""
    if name in __all__:
        from . import layers

        return getattr(layers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
