"""Text to pieces to ids and back, by SentencePiece (Kudo & Richardson 2018, arXiv:1808.06226).

The special pieces have the ids <pad> 0, <unk> 1, <s> 2 and </s> 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from ..config import NormalForm, TokenizerConfig, TokenizerKind, languages
from ..config.tokenizer import SPECIAL
from ..errors import AGAIN, DataError
from ..files import replacing, write_text
from ..shown import brief
from ..stored import DAMAGE, content, read_checked_json, write_checked_json
from .normalization import Changes, Normalization, around
from .own_model import Renumbering, read_model
from .text import join_chinese, segment_chinese
from .tokenizer_training import TrainingLines, train_model

SETTINGS = "tokenizer.json"
"""File beside the models, which says how they are used and has their checksums."""
SPACE = "▁"
"""SentencePiece's mark of a word's start, U+2581."""


class Tokenizer:
    """Conversion of one language's text to ids and back."""

    pad_id, unk_id, bos_id, eos_id = 0, 1, 2, 3

    def __init__(self, model: bytes, kind: TokenizerKind, normalization: Normalization) -> None:
        self.model, self.kind, self.normalization = model, kind, normalization
        self.processor = SentencePieceProcessor()
        self.processor.LoadFromSerializedProto(model)
        self.numbers = Renumbering(self.processor)
        self.vocab_size = len(self.numbers.theirs)

    @classmethod
    def train(cls, lines: Iterable[str], config: TokenizerConfig, language: str) -> Tokenizer:
        """Train a tokenizer on the text of one language, normalised as source text is."""
        how, _ = normalizations(config, (language, language))
        usable = _usable(_normalised(lines, config.kind, how), config)
        return cls(train_model(usable, config, language), config.kind, how)

    @property
    def language(self) -> str:
        """The language's tag."""
        return self.normalization.language

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

    def normalise(self, line: str, changes: Changes | None = None) -> str:
        """Return a line as SentencePiece receives it; `changes` counts what was changed."""
        return normalise(line, self.kind, self.normalization, changes)

    def encode(self, line: str, changes: Changes | None = None) -> list[int]:
        """Return a line's ids without bos and eos; an empty line has none.

        `changes` counts what normalisation changed.
        """
        found: list[int] = self.processor.encode(self.normalise(line, changes))
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
    line: str, kind: TokenizerKind, normalization: Normalization, changes: Changes | None = None
) -> str:
    """Return a normalised line, with Chinese words apart for a word tokenizer.

    For a word tokenizer the placeholders are words.
    """
    line, symbols = normalization(line, changes), normalization.symbols
    if _is_segmented(kind, normalization.language):
        return around(symbols, segment_chinese, line, " ")
    return around(symbols, str.strip, line, " ") if kind is TokenizerKind.word else line


def _normalised(
    lines: Iterable[str], kind: TokenizerKind, normalization: Normalization
) -> Iterator[str]:
    return (normalise(line, kind, normalization) for line in lines)


def _usable(normalised: Iterable[str], config: TokenizerConfig) -> TrainingLines:
    return TrainingLines(normalised, config.symbols, config.kind is TokenizerKind.word)


def normalizations(
    config: TokenizerConfig, languages: tuple[str, str]
) -> tuple[Normalization, Normalization]:
    """Return how the settings normalise the source and the target."""
    forms = (config.normalization.source, config.normalization.target)
    source, target = (
        Normalization(language, form, config.normalization.markup, tuple(config.symbols))
        for language, form in zip(languages, forms, strict=True)
    )
    return source, target


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
        kind, both = config.kind, normalizations(config, languages)
        lines = [_normalised(text, kind, how) for text, how in zip(texts, both, strict=True)]
        named = list(zip(lines, languages, strict=True))
        if config.joint:
            named = [(chain.from_iterable(lines), " and ".join(languages))]
        usable = [_usable(text, config) for text, _ in named]
        models = [train_model(t, config, n) for t, (_, n) in zip(usable, named, strict=True)]
        source, target = (
            Tokenizer(model, kind, how)
            for model, how in zip((models[0], models[-1]), both, strict=True)
        )
        left_out = sum(text.left_out for text in usable)
        unseen = [s for s in config.symbols if all(s in text.unseen for text in usable)]
        return cls(source, target, config.joint, left_out, unseen)

    @classmethod
    def own(cls, config: TokenizerConfig, languages: tuple[str, str]) -> Tokenizers:
        """Return the models that the settings name, which bring their own normal form."""
        assert config.model is not None
        files = (config.model, config.target_model or config.model)
        source, target = (
            Tokenizer(*read_model(Path(file)), replace(how, form=NormalForm.none))
            for file, how in zip(files, normalizations(config, languages), strict=True)
        )
        return cls(source, target, config.one_model)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides how text is split, as JSON can hold it."""
        both = (self.source, self.target)
        return {
            "sha256": [side.sha256 for side in both],
            "normalization": [
                asdict(side.normalization) | {"form": side.normalization.form.value}
                for side in both
            ],
        }

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
            "normalization": {
                "source": source.normalization.form.value,
                "target": target.normalization.form.value,
                "markup": source.normalization.markup,
            },
            "symbols": source.normalization.symbols,
            "source_language": source.language,
            "target_language": target.language,
            "sha256": {name: tokenizer.sha256 for name, tokenizer in files.items()},
        }
        write_checked_json(folder / SETTINGS, settings)

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """Load what `save` wrote; raise DataError where a file is missing or damaged."""
        with _naming_damage(folder / SETTINGS) as path:
            settings = read_checked_json(path)
            kinds = [TokenizerKind(settings["kind"])] * 2
            kinds[1] = TokenizerKind(settings.get("target_kind", settings["kind"]))
            both_ways = _stored_normalizations(settings)
            joint, sha256 = bool(settings.get("joint")), dict(settings.get("sha256", {}))
        both = []
        for name, kind, how in zip(_model_names(joint), kinds, both_ways, strict=True):
            with _naming_damage(folder / name) as path:
                model = content(path)
                found = hashlib.sha256(model).hexdigest()
                expected = str(sha256.get(name, found))
                if found != expected:  # a model that lost its last pieces can still be loaded
                    raise ValueError(
                        f"SHA-256 is {found[:8]}, expected {expected[:8]} by {SETTINGS}"
                    )
                both.append(Tokenizer(model, kind, how))
                pieces = [*range(both[-1].processor.vocab_size())]
                both[-1].processor.id_to_piece(pieces)  # all of them are UTF-8
        return cls(both[0], both[1], joint)


def _stored_normalizations(settings: dict[str, Any]) -> list[Normalization]:
    """Return the normalisation of both sides, as tokenizer.json has it.

    Earlier versions stored one normal form, NFKC or none, and left markup alone.
    """
    languages = [settings["source_language"], settings["target_language"]]
    if not all(isinstance(language, str) for language in languages):
        raise ValueError(f"languages {languages}; expected two names")
    if "normalization" in settings:
        stored = dict(settings["normalization"])
    else:
        form = "nfkc" if settings["nfkc"] else "none"
        stored = {"source": form, "target": form, "markup": False}
    symbols = tuple(map(str, settings.get("symbols", ())))
    return [
        Normalization(language, NormalForm(stored[side]), bool(stored["markup"]), symbols)
        for language, side in zip(languages, ("source", "target"), strict=True)
    ]


def _model_names(joint: bool) -> list[str]:
    """Return the file names of the source's and the target's model."""
    return [f"tokenizer{'' if joint else side}.model" for side in (".source", ".target")]


@contextmanager
def _naming_damage(path: Path) -> Iterator[Path]:
    """Give a file's path; raise DataError where the file is missing or its contents are wrong."""
    try:
        yield path
    except FileNotFoundError as error:
        named = "" if path.name == SETTINGS else f", which {SETTINGS} names"
        raise DataError(f"{path}: no such tokenizer{named}; {AGAIN}") from error
    except KeyError as error:
        raise DataError(f"{path}: damaged tokenizer (no key {error}); {AGAIN}") from error
    except DataError:
        raise
    except RuntimeError as error:  # of SentencePiece, about the places of its own code
        raise DataError(f"{path}: damaged tokenizer (not of SentencePiece); {AGAIN}") from error
    except DAMAGE as error:
        raise DataError(f"{path}: damaged tokenizer ({brief(str(error))}); {AGAIN}") from error
