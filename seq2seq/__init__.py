"""Recurrent sequence-to-sequence translation with normalised LSTM, GRU and RNN cells."""

__version__ = "0.2.0"
