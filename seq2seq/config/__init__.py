"""Every setting of the application, as plain dataclasses that check their own values.

`configs/` holds the values, and Hydra checks their types against the dataclasses. The package needs
neither Hydra nor torch.
"""

from ..rnn import NormConfig
from .checks import saved_settings
from .data import CleaningConfig, DataConfig, GrammarSplit, SplitConfig, SplitRule, TextOrigin
from .decode import DecodeConfig, Sampling, length_limit
from .model import Attention, CellConfig, CellKind, ModelConfig, Nonlinearity, Tying
from .optimizer import OptimizerConfig, OptimizerKind, Schedule
from .probe import ProbeConfig, ProbeKind, has_statistics
from .run import Config
from .tokenizer import NormalForm, NormalizationConfig, Sides, TokenizerConfig, TokenizerKind
from .trainer import Backend, Device, Metric, Precision, TrainerConfig

__all__ = [
    "Attention",
    "Backend",
    "CellConfig",
    "CellKind",
    "CleaningConfig",
    "Config",
    "DataConfig",
    "DecodeConfig",
    "Device",
    "GrammarSplit",
    "Metric",
    "ModelConfig",
    "Nonlinearity",
    "NormConfig",
    "NormalForm",
    "NormalizationConfig",
    "OptimizerConfig",
    "OptimizerKind",
    "Precision",
    "ProbeConfig",
    "ProbeKind",
    "Sampling",
    "Schedule",
    "Sides",
    "SplitConfig",
    "SplitRule",
    "TextOrigin",
    "TokenizerConfig",
    "TokenizerKind",
    "TrainerConfig",
    "Tying",
    "has_statistics",
    "length_limit",
    "saved_settings",
]
