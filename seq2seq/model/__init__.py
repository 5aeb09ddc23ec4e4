"""The translator, bottom-up: packing, attention, encoder, decoder, translator."""

from .translator import (
    DecoderState,
    Dropout,
    Memory,
    Packing,
    Translator,
    Vocabulary,
    as_state,
    count_parameters,
)

__all__ = [
    "DecoderState",
    "Dropout",
    "Memory",
    "Packing",
    "Translator",
    "Vocabulary",
    "as_state",
    "count_parameters",
]
