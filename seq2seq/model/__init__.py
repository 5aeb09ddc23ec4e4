"""The translator, bottom-up: packing, attention, encoder, decoder, translator.

Everything works on packed rows, so that padding costs nothing; attention does with the kernels.
"""

from .decoder import DecoderState
from .dropout import Dropout
from .memory import Memory
from .mode import evaluating
from .packing import Packing
from .translator import Translator, Vocabulary, count_parameters
from .unset import Unset

__all__ = [
    "DecoderState",
    "Dropout",
    "Memory",
    "Packing",
    "Translator",
    "Unset",
    "Vocabulary",
    "count_parameters",
    "evaluating",
]
