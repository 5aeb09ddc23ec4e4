"""LSTM, GRU and RNN with no norm, batch norm, layer norm or RMS norm in the cell.

They are drop-ins for the layers of torch.nn and need torch alone.
"""

from .config import CellNorm, NormConfig, NormGroup, NormKind, Statistics, Terms
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
