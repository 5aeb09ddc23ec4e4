"""From text to batches, in one way: text -> clean text -> pieces -> ids -> batches.

`corpora` finds the text, `text` and `tokenizer` turn it into ids, `preparation` stores them, and
`dataset` and `batches` read them. Nothing here imports torch until the first batch is made.
"""

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
