"""Text to pieces to ids and back, by SentencePiece (Kudo & Richardson 2018). Ids: <pad> 0, <unk> 1,
<s> 2, </s> 3.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from ..config import TokenizerConfig, TokenizerKind
from ..errors import DataError
from ..files import replacing, write_text
from .text import WITHOUT_SPACES, clean, join_chinese, nfkc, segment_chinese

SPACE = "▁"
"""SentencePiece's mark of a word's start."""

LEAST_PIECES = 5


class Tokenizer:
    """One side's text to ids; `decode` gives detokenized text."""

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
    def train(cls, lines: Iterable[str], config: TokenizerConfig, language: str) -> "Tokenizer":
        """From the text of one language."""
        prepared = (prepare_line(line, config.kind, language, config.nfkc) for line in lines)
        return cls(train_model(prepared, config, language), config.kind, language, config.nfkc)

    @property
    def sha256(self) -> str:
        """Checksum of the model."""
        return hashlib.sha256(self.model).hexdigest()

    def save(self, path: Path) -> None:
        """Write the model and its vocabulary: a piece and its log-probability or rank a line."""
        with replacing(path) as temporary:
            temporary.write_bytes(self.model)
        p = self.processor
        write_text(
            path.with_suffix(".vocab"),
            "".join(f"{p.id_to_piece(i)}\t{p.get_score(i):g}\n" for i in range(self.vocab_size)),
        )

    def normalise(self, line: str) -> str:
        """The line as SentencePiece gets it."""
        return prepare_line(line, self.kind, self.language, self.nfkc)

    def encode(self, line: str) -> list[int]:
        """Ids without bos and eos; none for a line that is empty."""
        ids: list[int] = self.processor.encode(self.normalise(line))
        return ids

    def pieces(self, line: str) -> list[str]:
        """The pieces of a line; U+2581 marks a word's start, and is left out where every piece is a
        word.
        """
        found: list[str] = self.processor.encode(self.normalise(line), out_type=str)
        return (
            [piece.removeprefix(SPACE) for piece in found]
            if self.kind is TokenizerKind.word
            else found
        )

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
    return (
        segment_chinese(line) if kind is TokenizerKind.word and language.startswith("zh") else line
    )


def train_model(lines: Iterable[str], config: TokenizerConfig, languages: str) -> bytes:
    """A SentencePiece model from prepared lines; deterministic. `languages` says in errors whose
    text it is.
    """
    if config.vocab_size < LEAST_PIECES:
        raise DataError(
            f"tokenizer.vocab_size={config.vocab_size}: expected at least {LEAST_PIECES}, the four"
            " special pieces and one more"
        )
    adapts = config.kind in (
        TokenizerKind.char,
        TokenizerKind.word,
    )  # these take what the text has, up to a limit
    buffer = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=buffer,
            model_type=config.kind.value,
            vocab_size=config.vocab_size,
            hard_vocab_limit=not adapts,
            character_coverage=1.0,
            byte_fallback=config.byte_fallback and not adapts,
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
    """SentencePiece's complaint in a user's words."""
    asked, text = f"tokenizer.vocab_size={config.vocab_size}", f"the training text ({languages})"
    largest = re.search(r"value <= (\d+)", message)
    if largest:
        return DataError(
            f"{asked}: {text} supports at most {largest[1]} pieces"
            f" (tokenizer.kind={config.kind.value})"
        )
    least = re.search(r"required_chars\. \d+ vs (\d+)", message)
    if least:
        return DataError(
            f"{asked}: too few for the characters of {text}; expected at least {least[1]}"
        )
    if "sentences_.empty()" in message:
        return DataError(f"{text} is empty: a tokenizer can't be trained on it")
    return DataError(f"{asked}: SentencePiece can't be trained on {text} ({message.strip()})")


class _Settings:
    """A tokenizer's JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.values = json.loads(path.read_text(encoding="utf-8"))
            self.kind = TokenizerKind(self.values["kind"])
            self.nfkc = bool(self.values["nfkc"])
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such tokenizer") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: damaged tokenizer ({error!r})") from error

    def text(self, key: str) -> str:
        """A setting that is a string."""
        value = self.values.get(key)
        if not isinstance(value, str):
            raise DataError(f"{self.path}: damaged tokenizer ({key} is {value!r})")
        return value

    def load_model(self, path: Path, language_key: str) -> Tokenizer:
        """A SentencePiece model with these settings; nothing in it is executed."""
        try:
            tokenizer = Tokenizer(path.read_bytes(), self.kind, self.text(language_key), self.nfkc)
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such tokenizer") from error
        except DataError:
            raise
        except (ValueError, RuntimeError) as error:
            raise DataError(f"{path}: damaged tokenizer ({error})") from error
        expected = self.values.get("sha256", {}).get(path.name, tokenizer.sha256)
        if tokenizer.sha256 != expected:  # a model that lost its last pieces can still be read
            raise DataError(
                f"{path}: damaged tokenizer (SHA-256 is {tokenizer.sha256}, expected {expected})"
            )
        return tokenizer


@dataclass
class Tokenizers:
    """Both sides' tokenizers; with `joint` they share one SentencePiece model."""

    source: Tokenizer
    target: Tokenizer
    joint: bool

    @classmethod
    def train(
        cls,
        source: Iterable[str],
        target: Iterable[str],
        config: TokenizerConfig,
        languages: tuple[str, str],
    ) -> "Tokenizers":
        """From the text of both sides, in these languages."""
        if not config.joint:
            sides = [
                Tokenizer.train(lines, config, language)
                for lines, language in zip((source, target), languages, strict=True)
            ]
            return cls(sides[0], sides[1], joint=False)
        prepared = (
            prepare_line(line, config.kind, language, config.nfkc)
            for lines, language in zip((source, target), languages, strict=True)
            for line in lines
        )
        model = train_model(prepared, config, " and ".join(languages))
        sides = [Tokenizer(model, config.kind, language, config.nfkc) for language in languages]
        return cls(sides[0], sides[1], joint=True)

    def _files(self) -> dict[str, Tokenizer]:
        return (
            {"tokenizer": self.source}
            if self.joint
            else {"tokenizer.source": self.source, "tokenizer.target": self.target}
        )

    def save(self, folder: Path) -> None:
        """Write models, vocabularies (a piece and its log-probability or rank a line) and
        tokenizer.json.
        """
        files = {f"{name}.model": tokenizer for name, tokenizer in self._files().items()}
        for name, tokenizer in files.items():
            tokenizer.save(folder / name)
        settings = {
            "joint": self.joint,
            "kind": self.source.kind.value,
            "nfkc": self.source.nfkc,
            "source_language": self.source.language,
            "target_language": self.target.language,
            "sha256": {name: tokenizer.sha256 for name, tokenizer in files.items()},
        }
        write_text(folder / "tokenizer.json", json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Tokenizers":
        """What `save` wrote."""
        settings = _Settings(folder / "tokenizer.json")
        joint = bool(settings.values.get("joint"))
        names = ["tokenizer"] * 2 if joint else ["tokenizer.source", "tokenizer.target"]
        source, target = (
            settings.load_model(folder / f"{name}.model", f"{side}_language")
            for name, side in zip(names, ("source", "target"), strict=True)
        )
        return cls(source, target, joint)
