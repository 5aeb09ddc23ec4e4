"""Recurrent sequence-to-sequence translation with normalised LSTM, GRU and RNN cells."""

from pathlib import Path

__version__ = "0.1.0"
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
