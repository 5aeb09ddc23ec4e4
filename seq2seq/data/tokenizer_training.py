"""The training of a SentencePiece model, on lines that SentencePiece can take."""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from ..config import TokenizerConfig, TokenizerKind
from ..config.tokenizer import MARKS, SPECIAL
from ..errors import DataError
from ..shown import brief, counted

LONGEST_WORD = 7500
"""Bytes of the longest text between spaces that a tokenizer is trained on.

SentencePiece 0.2.3 cannot load a piece of 8,000 bytes, and a piece of a word tokenizer is a word.
It also fails on some words of ten thousands of characters (unigram), and up to 0.2.2 it ended the
process at a word of 65,536, which its 16-bit positions cannot count (bpe).
"""
LONGEST_LINE = 1 << 20
"""Bytes of the longest line that a tokenizer is trained on."""
RESERVED = MARKS[1]
"""A character whose lines SentencePiece skips: its own mark of a rare character."""
WHY_LEFT_OUT = (
    f"a word of over {LONGEST_WORD:,} bytes, over {LONGEST_LINE:,} bytes in all, or U+2585"
)
"""Why a line is left out of a tokenizer's training."""
LEAST_PIECES = len(SPECIAL) + 1
"""The smallest vocabulary: the special pieces and one more."""


@dataclass
class TrainingLines:
    """The normalised lines that a tokenizer is trained on; it counts what it leaves out."""

    lines: Iterable[str]
    symbols: list[str] = field(default_factory=list)
    are_words: bool = False
    """Whether pieces are words; SentencePiece then forgets the words next to a symbol."""
    left_out: int = 0
    """Lines that SentencePiece cannot be trained on."""
    unseen: list[str] = field(init=False)
    """Symbols that no line had so far."""

    def __post_init__(self) -> None:
        self.unseen = list(self.symbols)

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.unseen = [symbol for symbol in self.unseen if symbol not in line]
            if not is_trainable(line):
                self.left_out += 1
            elif self.symbols and self.are_words:
                yield " ".join(word for word in line.split(" ") if word not in self.symbols)
            else:
                yield line


def is_trainable(line: str) -> bool:
    """Return whether SentencePiece can be trained on a normalised line."""
    if RESERVED in line:
        return False
    if len(line) * 4 <= LONGEST_WORD:  # a character has at most 4 bytes
        return True
    if len(line.encode()) > LONGEST_LINE:
        return False
    return max(len(word.encode()) for word in line.split(" ")) <= LONGEST_WORD


def train_model(lines: TrainingLines, config: TokenizerConfig, languages: str) -> bytes:
    """Train a SentencePiece model; the same lines give the same model.

    `languages` names the text in errors. Raise DataError where the text does not support the
    settings.
    """
    least = LEAST_PIECES + len(config.symbols)
    if config.vocab_size < least:
        symbols = f", {len(config.symbols)} user-defined symbols" if config.symbols else ""
        raise DataError(
            f"tokenizer.vocab_size={config.vocab_size}: expected at least {least}: the four special"
            f" pieces{symbols} and one more"
        )
    buffer = io.BytesIO()
    is_limit = config.kind in (TokenizerKind.char, TokenizerKind.word)  # vocab_size is a limit
    begins = MARKS[0] if config.kind is TokenizerKind.word else ""
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=buffer,
            model_type=config.kind.value,
            vocab_size=config.vocab_size,
            hard_vocab_limit=not is_limit,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback and not is_limit,
            user_defined_symbols=[begins + symbol for symbol in config.symbols],
            normalization_rule_name="identity",
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            max_sentence_length=LONGEST_LINE,
            num_threads=2,
            minloglevel=2,
        )
        SentencePieceProcessor().LoadFromSerializedProto(buffer.getvalue())
    except RuntimeError as error:
        raise _training_error(str(error), config, languages, lines.left_out) from error
    return buffer.getvalue()


def _training_error(
    message: str, config: TokenizerConfig, languages: str, left_out: int
) -> DataError:
    """Translate an error of SentencePiece into the configuration's terms."""
    asked, text = f"tokenizer.vocab_size={config.vocab_size}", f"the training text ({languages})"
    if largest := re.search(r"value <= (\d+)", message):
        kind = f"tokenizer.kind={config.kind.value}"
        return DataError(f"{asked}: {text} supports at most {largest[1]} pieces ({kind})")
    if least := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return DataError(
            f"{asked}: too few for the characters of {text}; lower"
            f" tokenizer.character_coverage={config.character_coverage:g} (to 0.9995, say),"
            f" or expected at least {least[1]}"
        )
    if "sentences_.empty()" in message and left_out:
        return DataError(
            f"no line of {text} can train a tokenizer: {counted(left_out, 'line')} with"
            f" {WHY_LEFT_OUT}; expected spaces in them, or tokenizer.model=FILE"
        )
    if "sentences_.empty()" in message:
        return DataError(f"{asked}: {text} is empty; expected text to train a tokenizer on")
    return DataError(
        f"{asked}: SentencePiece cannot be trained on {text} ({brief(message.strip())});"
        " another tokenizer= or vocab_size may do"
    )
