"""LSTM, GRU and RNN with no norm, batch norm, layer norm or RMS norm in the cell.

The layers are drop-ins for those of torch.nn and need torch alone:

    from seq2seq.rnn import LSTM
    rnn = LSTM(input_size, hidden_size, norm="layer")
    output, (h_n, c_n) = rnn(input)

The equations are in `reference.py`, the norms in `normalization.py`.
"""

from .backends import load_kernels
from .config import CellNorm, NormConfig, NormGroup, NormKind, Statistics, Terms
from .cpu.operators import packs
from .layers import GRU, LSTM, RNN, RecurrentLayers
from .observation import Step, steps
from .packing import flipped_rows
from .parameters import is_norm_parameter
from .precision import product_dtype
from .recalibration import batch_norm_layers, batch_statistics, pooled_statistics, recalibration
from .reference import State
from .statistics import Pool

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellNorm",
    "NormConfig",
    "NormGroup",
    "NormKind",
    "Pool",
    "RecurrentLayers",
    "State",
    "Statistics",
    "Step",
    "Terms",
    "batch_norm_layers",
    "batch_statistics",
    "flipped_rows",
    "is_norm_parameter",
    "load_kernels",
    "packs",
    "pooled_statistics",
    "product_dtype",
    "recalibration",
    "steps",
]
