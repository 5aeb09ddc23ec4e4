"""From text to batches, in one way: text -> clean text -> pieces -> ids -> batches.

`corpora` finds the text, `text` and `tokenizer` turn it into ids, `preparation` stores them, and
`dataset` and `batches` read them. A module is imported with the first of its names that is used.
Nothing here imports torch until the first batch is made.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batches import Batch, BatchSampler, pad
    from .corpora import is_here, read_parallel, read_split, scored_text, splits
    from .dataset import Counts, ParallelDataset, Prepared
    from .preparation import prepare
    from .text import decoded_lines
    from .tokenizer import SPACE, Tokenizer, Tokenizers

__all__ = [
    "SPACE",
    "Batch",
    "BatchSampler",
    "Counts",
    "ParallelDataset",
    "Prepared",
    "Tokenizer",
    "Tokenizers",
    "decoded_lines",
    "is_here",
    "pad",
    "prepare",
    "read_parallel",
    "read_split",
    "scored_text",
    "splits",
]

_MODULES = ("text", "tokenizer", "corpora", "dataset", "batches", "preparation")


def __getattr__(name: str) -> Any:
    """Import what is asked for: a normalised line needs no tokenizer."""
    if name in __all__:
        for module in (import_module(f".{module}", __name__) for module in _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
