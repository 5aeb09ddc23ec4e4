"""Text to pieces to ids and back, by SentencePiece (Kudo & Richardson 2018, arXiv:1808.06226).

The special pieces have the ids <pad> 0, <unk> 1, <s> 2 and </s> 3.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from ..config import TokenizerConfig, TokenizerKind, languages
from ..config.tokenizer import SPECIAL
from ..errors import DataError
from ..files import replacing, write_text
from .own_model import Renumbering, read_model
from .text import clean, join_chinese, nfkc, segment_chinese
from .tokenizer_training import TrainingLines, train_model

SPACE = "▁"
"""SentencePiece's mark of a word's start, U+2581."""


class Tokenizer:
    """Conversion of one language's text to ids and back."""

    pad_id, unk_id, bos_id, eos_id = 0, 1, 2, 3

    def __init__(
        self,
        model: bytes,
        kind: TokenizerKind,
        language: str,
        nfkc: bool,
        symbols: Sequence[str] = (),
    ) -> None:
        """`symbols` are the placeholders that stay whole."""
        self.model, self.kind, self.language, self.nfkc = model, kind, language, nfkc
        self.symbols = list(symbols)
        self.processor = SentencePieceProcessor()
        self.processor.LoadFromSerializedProto(model)
        self.numbers = Renumbering(self.processor)
        self.vocab_size = len(self.numbers.theirs)

    @classmethod
    def train(cls, lines: Iterable[str], config: TokenizerConfig, language: str) -> Tokenizer:
        """Train a tokenizer on the text of one language."""
        usable = _usable(_normalised(lines, config, language), config)
        return cls._of(train_model(usable, config, language), config, language)

    @classmethod
    def _of(cls, model: bytes, config: TokenizerConfig, language: str) -> Tokenizer:
        return cls(model, config.kind, language, config.nfkc, config.symbols)

    @property
    def sha256(self) -> str:
        """Checksum of the model."""
        return hashlib.sha256(self.model).hexdigest()

    def save(self, path: Path) -> None:
        """Write the model, and its vocabulary: on each line a piece and its score."""
        with replacing(path) as temporary:
            temporary.write_bytes(self.model)
        lines = (f"{self.id_to_piece(i)}\t{self._score(i):g}\n" for i in range(self.vocab_size))
        write_text(path.with_suffix(".vocab"), "".join(lines))

    def _score(self, piece: int) -> float:
        own = self.numbers.theirs[piece]
        return float(self.processor.get_score(own)) if own >= 0 else 0.0

    def normalise(self, line: str) -> str:
        """Return a line as SentencePiece receives it."""
        return normalise(line, self.kind, self.language, self.nfkc, self.symbols)

    def encode(self, line: str) -> list[int]:
        """Return a line's ids without bos and eos; an empty line has none."""
        found: list[int] = self.processor.encode(self.normalise(line))
        return [self.numbers.ours[i] for i in found] if self.numbers.is_needed else found

    def pieces(self, line: str) -> list[str]:
        """Return a line's pieces, without the word mark where each piece is a word."""
        found: list[str] = self.processor.encode(self.normalise(line), out_type=str)
        is_word = self.kind is TokenizerKind.word
        return [piece.removeprefix(SPACE) for piece in found] if is_word else found

    def id_to_piece(self, piece: int) -> str:
        """Return the piece of an id, with its word mark."""
        if piece < len(SPECIAL):
            return SPECIAL[piece]
        return str(self.processor.id_to_piece(self.numbers.theirs[piece]))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the detokenized text of ids; <unk> becomes ⁇."""
        own = [self.numbers.theirs[i] for i in ids]
        text = " ".join(self.processor.decode([i for i in own if i >= 0]).split())
        return join_chinese(text) if _is_segmented(self.kind, self.language) else text

    def join(self, parts: Iterable[str]) -> str:
        """Return the parts of one sentence as one text."""
        return (" " if languages.language(self.language).has_spaces else "").join(parts)


def _is_segmented(kind: TokenizerKind, language: str) -> bool:
    """Return whether text is split into words before SentencePiece receives it."""
    return kind is TokenizerKind.word and languages.language(language).is_chinese


def normalise(
    line: str, kind: TokenizerKind, language: str, use_nfkc: bool, symbols: Sequence[str] = ()
) -> str:
    """Return a line cleaned, in NFKC if wanted, with Chinese words apart for a word tokenizer.

    `symbols` are left as they are; for a word tokenizer they are words.
    """
    if use_nfkc:
        line = _around(symbols, lambda part: nfkc(part, language), line)
    line = clean(line)
    if _is_segmented(kind, language):
        return _around(symbols, segment_chinese, line, " ")
    return _around(symbols, str.strip, line, " ") if kind is TokenizerKind.word else line


def _around(
    symbols: Sequence[str], change: Callable[[str], str], line: str, space: str = ""
) -> str:
    """Change the parts of a line between the symbols, and join all by `space`."""
    if not symbols:
        return change(line)
    longest_first = "|".join(map(re.escape, sorted(symbols, key=len, reverse=True)))
    parts = re.split(f"({longest_first})", line)
    parts[::2] = map(change, parts[::2])
    return space.join(part for part in parts if part)


def _normalised(lines: Iterable[str], config: TokenizerConfig, language: str) -> Iterator[str]:
    kind, nfkc, symbols = config.kind, config.nfkc, config.symbols
    return (normalise(line, kind, language, nfkc, symbols) for line in lines)


def _usable(normalised: Iterable[str], config: TokenizerConfig) -> TrainingLines:
    return TrainingLines(normalised, config.symbols, config.kind is TokenizerKind.word)


@dataclass
class Tokenizers:
    """The tokenizers of both sides; with `joint` they share one SentencePiece model."""

    source: Tokenizer
    target: Tokenizer
    joint: bool
    left_out: int = 0
    """Training lines that the tokenizers were not trained on; not stored with them."""
    unseen: list[str] = field(default_factory=list)
    """User-defined symbols that no training line has; not stored with the tokenizers."""

    @classmethod
    def train(
        cls, texts: Sequence[Iterable[str]], config: TokenizerConfig, languages: tuple[str, str]
    ) -> Tokenizers:
        """Train on the source's and the target's text, which are in these languages."""
        lines = [_normalised(text, config, s) for text, s in zip(texts, languages, strict=True)]
        named = list(zip(lines, languages, strict=True))
        if config.joint:
            named = [(chain.from_iterable(lines), " and ".join(languages))]
        usable = [_usable(text, config) for text, _ in named]
        models = [train_model(t, config, n) for t, (_, n) in zip(usable, named, strict=True)]
        source, target = (
            Tokenizer._of(model, config, language)
            for model, language in zip((models[0], models[-1]), languages, strict=True)
        )
        left_out = sum(text.left_out for text in usable)
        unseen = [s for s in config.symbols if all(s in text.unseen for text in usable)]
        return cls(source, target, config.joint, left_out, unseen)

    @classmethod
    def own(cls, config: TokenizerConfig, languages: tuple[str, str]) -> Tokenizers:
        """Return the models that the settings name, which normalise text by themselves."""
        assert config.model is not None
        source, target = (
            Tokenizer(*read_model(Path(file)), language, nfkc=False)
            for file, language in zip(
                (config.model, config.target_model or config.model), languages, strict=True
            )
        )
        return cls(source, target, config.one_model)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides how text is split, as JSON can hold it."""
        both = (self.source, self.target)
        names = ("sha256", "nfkc", "symbols", "language")
        return {name: [getattr(side, name) for side in both] for name in names}

    def save(self, folder: Path) -> None:
        """Write models, vocabularies and tokenizer.json."""
        source, target = self.source, self.target
        files = dict(zip(_model_names(self.joint), (source, target), strict=True))
        for name, tokenizer in files.items():
            tokenizer.save(folder / name)
        settings = {
            "joint": self.joint,
            "kind": source.kind.value,
            "target_kind": target.kind.value,
            "nfkc": source.nfkc,
            "symbols": source.symbols,
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
            kinds = [TokenizerKind(settings["kind"])] * 2
            kinds[1] = TokenizerKind(settings.get("target_kind", settings["kind"]))
            nfkc, symbols = bool(settings["nfkc"]), list(settings.get("symbols", ()))
            languages = [settings["source_language"], settings["target_language"]]
            if not all(isinstance(language, str) for language in languages):
                raise ValueError(f"languages {languages}; expected two names")
            joint, sha256 = bool(settings.get("joint")), dict(settings.get("sha256", {}))
        both = []
        for name, kind, language in zip(_model_names(joint), kinds, languages, strict=True):
            with _naming_damage(folder / name) as path:
                model = path.read_bytes()
                both.append(Tokenizer(model, kind, language, nfkc, symbols))
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
