"""LSTM, GRU and RNN with no norm, batch norm, layer norm or RMS norm in the cell.

The layers and cells are drop-ins for those of torch.nn and need torch alone:

    from seq2seq.rnn import LSTM
    rnn = LSTM(input_size, hidden_size, norm="layer")
    output, (h_n, c_n) = rnn(input)

The equations are in `reference.py`, the norms in `normalization.py`. The settings of a norm need
not even torch: it is imported with the first of the other names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import CellNorm, NormConfig, NormGroup, NormKind, Statistics, Terms

if TYPE_CHECKING:
    from .backends import load_kernels
    from .cells import GRUCell, LSTMCell, RecurrentCell, RNNCell
    from .cpu.frozen import Freezable, frozen
    from .cpu.operators import packed, packs
    from .cpu.step_loops import StepProduct, Stepwise, has_step_products, stepwise
    from .layers import GRU, LSTM, RNN, RecurrentLayers
    from .observation import Step, steps
    from .packing import Layout
    from .parameters import is_norm_parameter
    from .precision import product_dtype
    from .recalibration import (
        TooFewRows,
        batch_norm_layers,
        batch_statistics,
        pooled_statistics,
        recalibrating,
    )
    from .recurrent import RecurrentModule
    from .reference import State, as_hx, as_state
    from .statistics import Pool

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellNorm",
    "Freezable",
    "GRUCell",
    "LSTMCell",
    "Layout",
    "NormConfig",
    "NormGroup",
    "NormKind",
    "Pool",
    "RNNCell",
    "RecurrentCell",
    "RecurrentLayers",
    "RecurrentModule",
    "State",
    "Statistics",
    "Step",
    "StepProduct",
    "Stepwise",
    "Terms",
    "TooFewRows",
    "as_hx",
    "as_state",
    "batch_norm_layers",
    "batch_statistics",
    "frozen",
    "has_step_products",
    "is_norm_parameter",
    "load_kernels",
    "packed",
    "packs",
    "pooled_statistics",
    "product_dtype",
    "recalibrating",
    "steps",
    "stepwise",
]

_NEEDING_TORCH = (
    "backends",
    "cells",
    "cpu.frozen",
    "cpu.operators",
    "layers",
    "observation",
    "packing",
    "parameters",
    "precision",
    "recalibration",
    "recurrent",
    "reference",
    "statistics",
    "cpu.step_loops",
)
"""The modules of the names that this one does not import."""


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    if name in __all__:
        for module in (import_module(f".{module}", __name__) for module in _NEEDING_TORCH):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
