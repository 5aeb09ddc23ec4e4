"""Text to pieces to ids and back, by SentencePiece (Kudo & Richardson 2018, arXiv:1808.06226).

The special pieces have the ids <pad> 0, <unk> 1, <s> 2 and </s> 3.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from ..config import TokenizerConfig, TokenizerKind, languages
from ..errors import DataError
from ..files import replacing, write_text
from .text import clean, join_chinese, nfkc, segment_chinese

SPACE = "▁"
"""SentencePiece's mark of a word's start, U+2581."""

LEAST_PIECES = 5
"""The smallest vocabulary: the four special pieces and one more."""


class Tokenizer:
    """Conversion of one language's text to ids and back."""

    pad_id, unk_id, bos_id, eos_id = 0, 1, 2, 3

    def __init__(self, model: bytes, kind: TokenizerKind, language: str, nfkc: bool) -> None:
        self.model, self.kind, self.language, self.nfkc = model, kind, language, nfkc
        self.processor = p = SentencePieceProcessor()
        p.LoadFromSerializedProto(model)
        self.vocab_size: int = p.vocab_size()
        special = (p.pad_id(), p.unk_id(), p.bos_id(), p.eos_id())
        if special != (self.pad_id, self.unk_id, self.bos_id, self.eos_id):
            raise ValueError(f"<pad>, <unk>, <s>, </s> have ids {special}; expected 0, 1, 2, 3")

    @classmethod
    def train(cls, lines: Iterable[str], config: TokenizerConfig, language: str) -> Tokenizer:
        """Train a tokenizer on the text of one language."""
        model = train_model(_normalised(lines, config, language), config, language)
        return cls(model, config.kind, language, config.nfkc)

    @property
    def sha256(self) -> str:
        """Checksum of the model."""
        return hashlib.sha256(self.model).hexdigest()

    def save(self, path: Path) -> None:
        """Write the model, and its vocabulary: on each line a piece and its score."""
        with replacing(path) as temporary:
            temporary.write_bytes(self.model)
        p = self.processor
        lines = (f"{p.id_to_piece(i)}\t{p.get_score(i):g}\n" for i in range(self.vocab_size))
        write_text(path.with_suffix(".vocab"), "".join(lines))

    def normalise(self, line: str) -> str:
        """Return a line as SentencePiece receives it."""
        return normalise(line, self.kind, self.language, self.nfkc)

    def encode(self, line: str) -> list[int]:
        """Return a line's ids without bos and eos; an empty line has none."""
        return list(self.processor.encode(self.normalise(line)))

    def pieces(self, line: str) -> list[str]:
        """Return a line's pieces, without the word mark where each piece is a word."""
        found: list[str] = self.processor.encode(self.normalise(line), out_type=str)
        is_word = self.kind is TokenizerKind.word
        return [piece.removeprefix(SPACE) for piece in found] if is_word else found

    def id_to_piece(self, piece: int) -> str:
        """Return the piece of an id, with its word mark."""
        return str(self.processor.id_to_piece(piece))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the detokenized text of ids; <unk> becomes ⁇."""
        text = " ".join(self.processor.decode(list(ids)).split())
        return join_chinese(text) if _is_segmented(self.kind, self.language) else text

    def join(self, parts: Iterable[str]) -> str:
        """Return the parts of one sentence as one text."""
        return (" " if languages.language(self.language).has_spaces else "").join(parts)


def _is_segmented(kind: TokenizerKind, language: str) -> bool:
    """Return whether text is split into words before SentencePiece receives it."""
    return kind is TokenizerKind.word and languages.language(language).is_chinese


def normalise(line: str, kind: TokenizerKind, language: str, use_nfkc: bool) -> str:
    """Return a line cleaned, in NFKC if wanted, with Chinese words apart for a word tokenizer."""
    line = clean(nfkc(line, language) if use_nfkc else line)
    return segment_chinese(line) if _is_segmented(kind, language) else line


def _normalised(lines: Iterable[str], config: TokenizerConfig, language: str) -> Iterator[str]:
    return (normalise(line, config.kind, language, config.nfkc) for line in lines)


def train_model(lines: Iterable[str], config: TokenizerConfig, languages: str) -> bytes:
    """Train a SentencePiece model on normalised lines; the same lines give the same model.

    `languages` names the text in errors. Raise DataError where the text does not support the
    vocabulary's size.
    """
    if config.vocab_size < LEAST_PIECES:
        raise DataError(
            f"tokenizer.vocab_size={config.vocab_size}: expected at least {LEAST_PIECES}, "
            "the four special pieces and one more"
        )
    is_limit = config.kind in (TokenizerKind.char, TokenizerKind.word)  # vocab_size is a limit
    buffer = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=buffer,
            model_type=config.kind.value,
            vocab_size=config.vocab_size,
            hard_vocab_limit=not is_limit,
            character_coverage=1.0,
            byte_fallback=config.byte_fallback and not is_limit,
            normalization_rule_name="identity",
            pad_id=Tokenizer.pad_id,
            unk_id=Tokenizer.unk_id,
            bos_id=Tokenizer.bos_id,
            eos_id=Tokenizer.eos_id,
            max_sentence_length=1 << 20,
            num_threads=2,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _vocabulary_error(str(error), config, languages) from error
    return buffer.getvalue()


def _vocabulary_error(message: str, config: TokenizerConfig, languages: str) -> DataError:
    """Translate an error of SentencePiece into the configuration's terms."""
    asked, text = f"tokenizer.vocab_size={config.vocab_size}", f"the training text ({languages})"
    if largest := re.search(r"value <= (\d+)", message):
        kind = f"tokenizer.kind={config.kind.value}"
        return DataError(f"{asked}: {text} supports at most {largest[1]} pieces ({kind})")
    if least := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return DataError(
            f"{asked}: too few for the characters of {text}; expected at least {least[1]}"
        )
    if "sentences_.empty()" in message:
        return DataError(f"{text} is empty; expected text to train a tokenizer on")
    return DataError(f"{asked}: SentencePiece cannot be trained on {text} ({message.strip()})")


@dataclass
class Tokenizers:
    """The tokenizers of both sides; with `joint` they share one SentencePiece model."""

    source: Tokenizer
    target: Tokenizer
    joint: bool

    @classmethod
    def train(
        cls, texts: Sequence[Iterable[str]], config: TokenizerConfig, languages: tuple[str, str]
    ) -> Tokenizers:
        """Train on the source's and the target's text, which are in these languages."""
        sides = list(zip(texts, languages, strict=True))
        if config.joint:
            lines = chain.from_iterable(_normalised(text, config, side) for text, side in sides)
            model = train_model(lines, config, " and ".join(languages))
            both = [Tokenizer(model, config.kind, language, config.nfkc) for language in languages]
        else:
            both = [Tokenizer.train(text, config, language) for text, language in sides]
        return cls(both[0], both[1], config.joint)

    def save(self, folder: Path) -> None:
        """Write models, vocabularies and tokenizer.json."""
        source, target = self.source, self.target
        files = dict(zip(_model_names(self.joint), (source, target), strict=True))
        for name, tokenizer in files.items():
            tokenizer.save(folder / name)
        settings = {
            "joint": self.joint,
            "kind": source.kind.value,
            "nfkc": source.nfkc,
            "source_language": source.language,
            "target_language": target.language,
            "sha256": {name: tokenizer.sha256 for name, tokenizer in files.items()},
        }
        write_text(folder / "tokenizer.json", json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """Load what `save` wrote; raise DataError where a file is missing or damaged."""
        with _naming_damage(folder / "tokenizer.json") as path:
            settings = json.loads(path.read_text(encoding="utf-8"))
            kind, nfkc = TokenizerKind(settings["kind"]), bool(settings["nfkc"])
            languages = [settings["source_language"], settings["target_language"]]
            if not all(isinstance(language, str) for language in languages):
                raise ValueError(f"languages {languages}; expected two names")
            joint, sha256 = bool(settings.get("joint")), dict(settings.get("sha256", {}))
        both = []
        for name, language in zip(_model_names(joint), languages, strict=True):
            with _naming_damage(folder / name) as path:
                both.append(Tokenizer(path.read_bytes(), kind, language, nfkc))
                found, expected = both[-1].sha256, sha256.get(name, both[-1].sha256)
                if found != expected:  # a model that lost its last pieces can still be loaded
                    raise ValueError(f"SHA-256 is {found}, expected {expected}")
        return cls(both[0], both[1], joint)


def _model_names(joint: bool) -> list[str]:
    """Return the file names of the source's and the target's model."""
    return [f"tokenizer{'' if joint else side}.model" for side in (".source", ".target")]


@contextmanager
def _naming_damage(path: Path) -> Iterator[Path]:
    """Give a file's path; raise DataError where the file is missing or its contents are wrong."""
    try:
        yield path
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such tokenizer") from error
    except KeyError as error:
        raise DataError(f"{path}: damaged tokenizer (no key {error})") from error
    except (ValueError, RuntimeError, TypeError) as error:
        raise DataError(f"{path}: damaged tokenizer ({error})") from error
