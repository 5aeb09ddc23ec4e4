"""The tokenizer's settings."""

from dataclasses import dataclass
from enum import Enum

from .checks import check_ranges, number, only_with

MOST_PIECES = 10_000_000
"""Largest vocabulary."""


class TokenizerKind(Enum):
    """SentencePiece model type."""

    bpe = "bpe"
    unigram = "unigram"
    char = "char"
    word = "word"


SUBWORDS = (TokenizerKind.bpe, TokenizerKind.unigram)
"""Kinds that split words into pieces of any length."""


@dataclass
class TokenizerConfig:
    """How text is split into pieces."""

    kind: TokenizerKind = TokenizerKind.bpe
    vocab_size: int = number(8000, at_least=5, at_most=MOST_PIECES)
    """Number of pieces, with the four special ones; an upper limit for char and word."""
    joint: bool = True
    """Whether both languages share one tokenizer."""
    byte_fallback: bool = False
    """Whether an unknown character is spelled as bytes instead of <unk> (bpe and unigram)."""
    nfkc: bool = True
    """Whether text is normalised by Unicode NFKC first."""

    def __post_init__(self) -> None:
        check_ranges(self, "tokenizer")
        condition = "tokenizer.kind=bpe or unigram"
        only_with(self, "tokenizer", condition, self.kind in SUBWORDS, "byte_fallback")
