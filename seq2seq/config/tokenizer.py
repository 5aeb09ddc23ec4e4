"""The tokenizer's settings."""

import re
from dataclasses import dataclass, field
from enum import Enum

from .checks import check_ranges, expand_paths, number, only_with, path

MOST_PIECES = 10_000_000
"""Largest vocabulary."""


class TokenizerKind(Enum):
    """SentencePiece model type."""

    bpe = "bpe"
    unigram = "unigram"
    char = "char"
    word = "word"


class NormalForm(Enum):
    """Unicode normal form (UAX 15)."""

    none = "none"
    nfc = "nfc"
    nfkc = "nfkc"


class Sides(Enum):
    """Sides of a sentence pair."""

    both = "both"
    source = "source"
    target = "target"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sides."""
        return (self.source.value, self.target.value) if self is Sides.both else (self.value,)


SUBWORDS = (TokenizerKind.bpe, TokenizerKind.unigram)
"""Kinds that split words into pieces of any length."""
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
"""The pieces that every tokenizer has, by their ids."""
MARKS = "▁▅"
"""SentencePiece's own marks: of a word's start, U+2581, and of a rare character, U+2585."""


@dataclass
class NormalizationConfig:
    """How lines are normalised before they are split into pieces.

    NFC writes each letter with its accents in one way. NFKC also replaces what looks alike: m² by
    m2, ½ by 1⁄2, … by three full stops, full-width letters by plain ones. The source is read in
    fewer characters so; the target keeps what its references have.
    """

    source: NormalForm = NormalForm.nfkc
    target: NormalForm = NormalForm.nfc
    markup: bool = True
    """Whether HTML entities (&apos;) become characters, and marks of writing direction are removed.

    The marks are those with Unicode's property Bidi_Control. It holds for both sides.
    """


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
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    """How text is normalised first."""
    character_coverage: float = number(1.0, at_least=0.98, at_most=1)
    """Share of the training text's characters that the vocabulary covers; the rarest are left out.

    SentencePiece suggests 0.9995 for languages with thousands of characters.
    """
    user_defined_symbols: str = ""
    """Placeholders such as <url> that stay whole, separated by spaces or commas."""
    bpe_dropout: float = number(0.0, at_least=0, below=1)
    """Rate at which a merge is left out when a training sentence is split (Provilkov et al. 2020).

    Each epoch splits the sentences in another way (kind: bpe). All other text is split without it.
    `data.batch_tokens` and `data.max_length` count the pieces of a split without it.
    """
    bpe_dropout_sides: Sides = Sides.both
    """The sides that `bpe_dropout` is for."""
    model: str | None = path()
    """A SentencePiece model file to use instead of a new one, with its own settings."""
    target_model: str | None = path()
    """The target's model file, where it is not the source's."""

    def __post_init__(self) -> None:
        check_ranges(self, "tokenizer")
        expand_paths(self)
        condition = "tokenizer.kind=bpe or unigram"
        only_with(self, "tokenizer", condition, self.kind in SUBWORDS, "byte_fallback")
        is_bpe, drops = self.kind is TokenizerKind.bpe, self.bpe_dropout > 0
        only_with(self, "tokenizer", "tokenizer.kind=bpe", is_bpe, "bpe_dropout")
        only_with(self, "tokenizer", "tokenizer.bpe_dropout above 0", drops, "bpe_dropout_sides")
        only_with(
            self, "tokenizer", "tokenizer.model=null", self.model is None, "kind", "vocab_size",
            "joint", "byte_fallback", "character_coverage", "user_defined_symbols",
        )  # fmt: skip
        forms, trains = "tokenizer.normalization", self.model is None
        only_with(self.normalization, forms, "tokenizer.model=null", trains, "source", "target")
        only_with(self, "tokenizer", "tokenizer.model=FILE", self.model is not None, "target_model")
        self._check_symbols()

    @property
    def symbols(self) -> list[str]:
        """The user-defined symbols, each once."""
        return list(dict.fromkeys(re.findall(r"[^\s,]+", self.user_defined_symbols)))

    @property
    def one_model(self) -> bool:
        """Whether both languages have the same pieces."""
        return self.joint and self.target_model in (None, self.model)

    def _check_symbols(self) -> None:
        for symbol in self.symbols:
            if symbol in SPECIAL:
                reason = "another name: every tokenizer has this piece"
            elif not symbol.isprintable() or set(symbol) & set(MARKS):
                reason = f"visible characters other than {' and '.join(MARKS)}"
            else:
                continue
            raise ValueError(f"tokenizer.user_defined_symbols={symbol}: expected {reason}")
