"""Text to pieces to ids and back, by SentencePiece (Kudo & Richardson 2018). Ids: <pad> 0, <unk> 1, <s> 2, </s> 3."""

import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from .checkpoint import replacing, write_text
from .config import TokenizerConfig, TokenizerKind
from .errors import DataError
from .text import WITHOUT_SPACES, clean, join_chinese, nfkc, segment_chinese

SPACE = "▁"
"""SentencePiece's mark of a word's start."""


class Tokenizer:
    """One side's text to ids; `decode` gives detokenized text."""

    pad_id, unk_id, bos_id, eos_id = 0, 1, 2, 3

    def __init__(self, model: bytes, kind: TokenizerKind, language: str, nfkc: bool) -> None:
        self.model, self.kind, self.language, self.nfkc = model, kind, language, nfkc
        self.processor = SentencePieceProcessor()
        self.processor.LoadFromSerializedProto(model)
        self.vocab_size: int = self.processor.vocab_size()

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self.model, self.kind, self.language, self.nfkc)

    def normalise(self, line: str) -> str:
        """The line as SentencePiece gets it."""
        return prepare_line(line, self.kind, self.language, self.nfkc)

    def encode(self, line: str) -> list[int]:
        """Ids without bos and eos; none for a line that is empty."""
        ids: list[int] = self.processor.encode(self.normalise(line))
        return ids

    def pieces(self, line: str) -> list[str]:
        """The pieces of a line; U+2581 marks a word's start, and is left out where every piece is a word."""
        found: list[str] = self.processor.encode(self.normalise(line), out_type=str)
        return [piece.removeprefix(SPACE) for piece in found] if self.kind is TokenizerKind.word else found

    def id_to_piece(self, piece: int) -> str:
        """The piece of an id, with its mark."""
        text: str = self.processor.id_to_piece(piece)
        return text

    def decode(self, ids: Sequence[int]) -> str:
        """Detokenized text; <unk> shows as ⁇."""
        text: str = self.processor.decode(list(ids))
        text = " ".join(text.split())
        return join_chinese(text) if self._segments() else text

    def join(self, parts: Iterable[str]) -> str:
        """Texts of one sentence, one after the other."""
        return ("" if self.language.startswith(WITHOUT_SPACES) else " ").join(parts)

    def _segments(self) -> bool:
        return self.kind is TokenizerKind.word and self.language.startswith("zh")


def prepare_line(line: str, kind: TokenizerKind, language: str, normal: bool) -> str:
    """Odd characters cleaned, NFKC on request, Chinese words apart for a word tokenizer."""
    line = clean(nfkc(line, language) if normal else line)
    return segment_chinese(line) if kind is TokenizerKind.word and language.startswith("zh") else line


def train_model(lines: Iterable[str], config: TokenizerConfig) -> bytes:
    """A SentencePiece model from prepared lines; deterministic."""
    adapts = config.kind in (TokenizerKind.char, TokenizerKind.word)  # these take what the text has, up to a limit
    buffer = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=buffer, model_type=config.kind.value,
            vocab_size=config.vocab_size, hard_vocab_limit=not adapts, character_coverage=1.0,
            byte_fallback=config.byte_fallback and not adapts, normalization_rule_name="identity",
            pad_id=Tokenizer.pad_id, unk_id=Tokenizer.unk_id, bos_id=Tokenizer.bos_id, eos_id=Tokenizer.eos_id,
            max_sentence_length=1 << 20, num_threads=2, minloglevel=2)
    except RuntimeError as error:
        raise _vocabulary_error(str(error), config) from error
    return buffer.getvalue()


def _vocabulary_error(message: str, config: TokenizerConfig) -> DataError:
    """SentencePiece's complaint in a user's words."""
    asked = f"tokenizer.vocab_size={config.vocab_size}"
    largest = re.search(r"value <= (\d+)", message)
    if largest:
        return DataError(f"{asked}: the training text supports at most {largest[1]} pieces "
                         f"(tokenizer.kind={config.kind.value})")
    least = re.search(r"required_chars\. \d+ vs (\d+)", message)
    if least:
        return DataError(f"{asked}: too few for the characters of the training text; expected at least {least[1]}")
    if "sentences_.empty()" in message:
        return DataError("the training text is empty: a tokenizer can't be trained on it")
    return DataError(f"{asked}: SentencePiece can't be trained on this text ({message.strip()})")


@dataclass
class Tokenizers:
    """Both sides' tokenizers; with `joint` they share one SentencePiece model."""

    source: Tokenizer
    target: Tokenizer
    joint: bool

    @classmethod
    def train(cls, source: Iterable[str], target: Iterable[str], config: TokenizerConfig,
              languages: tuple[str, str]) -> "Tokenizers":
        """From the text of both sides, in these languages."""
        prepared = [(prepare_line(line, config.kind, language, config.nfkc) for line in lines)
                    for lines, language in zip((source, target), languages, strict=True)]
        if config.joint:
            model = train_model((line for side in prepared for line in side), config)
            models = [model, model]
        else:
            models = [train_model(side, config) for side in prepared]
        return cls(*(Tokenizer(model, config.kind, language, config.nfkc)
                     for model, language in zip(models, languages, strict=True)), joint=config.joint)

    def _files(self) -> dict[str, Tokenizer]:
        return {"tokenizer": self.source} if self.joint else {"tokenizer.source": self.source,
                                                              "tokenizer.target": self.target}

    def save(self, folder: Path) -> None:
        """Write models, vocabularies (a piece and its log-probability or rank a line) and tokenizer.json."""
        for name, tokenizer in self._files().items():
            with replacing(folder / f"{name}.model") as temporary:
                temporary.write_bytes(tokenizer.model)
            p = tokenizer.processor
            write_text(folder / f"{name}.vocab",
                       "".join(f"{p.id_to_piece(i)}\t{p.get_score(i):g}\n" for i in range(tokenizer.vocab_size)))
        settings = {"joint": self.joint, "kind": self.source.kind.value, "nfkc": self.source.nfkc,
                    "source_language": self.source.language, "target_language": self.target.language}
        write_text(folder / "tokenizer.json", json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Tokenizers":
        """What `save` wrote."""
        file = folder / "tokenizer.json"
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            kind, nfkc, joint = TokenizerKind(settings["kind"]), bool(settings["nfkc"]), bool(settings["joint"])
            names = ["tokenizer"] * 2 if joint else ["tokenizer.source", "tokenizer.target"]
            sides = []
            for name, side in zip(names, ("source", "target"), strict=True):
                file = folder / f"{name}.model"
                sides.append(Tokenizer(file.read_bytes(), kind, settings[f"{side}_language"], nfkc))
        except FileNotFoundError as error:
            raise DataError(f"{file}: no such tokenizer") from error
        except (ValueError, KeyError, RuntimeError) as error:
            raise DataError(f"{file}: damaged tokenizer ({error})") from error
        return cls(sides[0], sides[1], joint)
