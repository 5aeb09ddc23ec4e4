"""Unknown words: replaced by the source words that they attend to."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch

from seq2seq.config import DecodeConfig, TokenizerConfig, TokenizerKind
from seq2seq.data.tokenizer import Tokenizer, Tokenizers
from seq2seq.model import Translator
from seq2seq.translation import lines as translation
from seq2seq.translation.history import Hypothesis
from seq2seq.translation.lines import Session
from seq2seq.translation.unknown_words import source_words

ENGLISH = [
    "one dog sees two cats",
    "two cats see one dog",
    "three dogs like four cats",
    "a dog likes cats",
] * 5
CHINESE = ["一只狗看见两只猫", "两只猫看见一只狗", "三只狗喜欢四只猫", "狗喜欢猫"] * 5


def tokenizer(
    lines: list[str],
    language: str,
    kind: TokenizerKind = TokenizerKind.bpe,
    vocab_size: int = 45,
    **options: Any,
) -> Tokenizer:
    return Tokenizer.train(lines, TokenizerConfig(kind, vocab_size, **options), language)


Finds = Callable[..., str]


class Pointing(torch.nn.Module):
    """A model that is never called: the test replaces the search."""

    device = torch.device("cpu")

    def load_kernels(self) -> None:
        """Do nothing: this model needs no kernels."""


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Finds:
    """Return a function that translates a line as if the search had found these pieces.

    A piece None is <unk>; each piece attends to one source piece.
    """

    def translate(
        source: Tokenizer,
        target: Tokenizer,
        line: str,
        pieces: list[str | None],
        attended: list[int],
        attends: bool = True,
        replace_unk: bool = True,
    ) -> str:
        ids = [
            Tokenizer.unk_id if piece is None else target.processor.piece_to_id(piece)
            for piece in pieces
        ]
        assert ids.count(Tokenizer.unk_id) == pieces.count(None)
        count = len(source.encode(line)) + 1
        weights = torch.full((len(ids) + 1, count), 0.1)
        for row, column in enumerate(attended):
            weights[row, column] = 1.0
        hypothesis = Hypothesis(ids, -1.0, -0.5, weights if attends else None)
        monkeypatch.setattr(translation, "search_in_batches", lambda *_: iter([(0, [hypothesis])]))
        config = DecodeConfig(replace_unk=replace_unk)
        model = cast(Translator, Pointing())
        tokenizers = Tokenizers(source, target, False)
        return Session(model, tokenizers, config).translate([line])[0][0].text

    return translate


def test_an_unknown_word_becomes_the_source_word_with_most_attention(finds: Finds) -> None:
    source, target = tokenizer(ENGLISH, "en"), tokenizer(CHINESE, "zh", vocab_size=30)
    line = "two Žižeks see cats"
    pieces = source.pieces(line)
    name = next(i for i, piece in enumerate(pieces) if "Ž" in piece)
    assert finds(source, target, line, ["猫", None, "狗"], [0, name, 1]) == "猫Žižeks狗"
    assert finds(source, target, line, [None, None], [0, name + 1]) == "twoŽižeks"
    assert finds(source, target, line, ["猫", None], [0, name], replace_unk=False) == "猫 ⁇"
    assert finds(source, target, line, ["猫", None], [0, name], attends=False) == "猫 ⁇"
    assert finds(source, target, line, ["猫"], [name]) == "猫"


def test_the_end_of_the_sentence_is_not_copied(finds: Finds) -> None:
    source, target = tokenizer(ENGLISH, "en"), tokenizer(CHINESE, "zh", vocab_size=30)
    end = len(source.encode("one dog"))
    assert finds(source, target, "one dog", [None], [end]) == "one"


def test_words_copied_into_a_spaced_language_keep_their_spaces(finds: Finds) -> None:
    source, target = (
        tokenizer(CHINESE, "zh", vocab_size=30),
        tokenizer(ENGLISH, "en", TokenizerKind.word),
    )
    line = "一只熊看见猫"
    place = source.pieces(line).index("熊")
    text = finds(source, target, line, ["▁one", None, "▁sees", "▁cats"], [0, place, 1, 2])
    assert text == "one 熊 sees cats"  # only the word, although no space ends it


def test_words_of_a_word_tokenizer_are_copied(finds: Finds) -> None:
    source, target = (tokenizer(ENGLISH, language, TokenizerKind.word) for language in ("en", "de"))
    assert finds(source, target, "one bear sees cats", ["▁one", None], [0, 1]) == "one bear"
    chinese = tokenizer(CHINESE, "zh", TokenizerKind.word)
    line = "两只熊猫看见一只狗"
    pieces = chinese.pieces(line)
    place = next(i for i, piece in enumerate(pieces) if "熊" in piece)
    assert finds(chinese, target, line, [None], [place]) == pieces[place] != line


def test_source_words_are_joined_from_pieces() -> None:
    english = tokenizer(ENGLISH, "en")
    assert source_words(["▁two", "▁c", "at", "s", "▁", "x"], english) == [
        "two",
        "cats",
        "cats",
        "cats",
        "x",
        "x",
    ]
    assert source_words(["t", "wo", "▁cat"], english) == ["two", "two", "cat"]
    assert source_words([], english) == []
    assert source_words(["▁一", "只", "狗"], tokenizer(CHINESE, "zh", vocab_size=30)) == [
        "一",
        "只",
        "狗",
    ]
    assert source_words(["two", "cats"], tokenizer(ENGLISH, "en", TokenizerKind.word)) == [
        "two",
        "cats",
    ]


@pytest.mark.parametrize("kind", list(TokenizerKind))
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_every_id_has_a_piece(kind: TokenizerKind, byte_fallback: bool) -> None:
    bytes_too = byte_fallback and kind in (TokenizerKind.bpe, TokenizerKind.unigram)
    english = tokenizer(ENGLISH, "en", kind, 280 if bytes_too else 24, byte_fallback=bytes_too)
    for line in ("one dog", "Žižek sees Ωλ dogs", "狗狗 dog", "  ", "x" * 50, "<unk> </s>"):
        assert len(english.pieces(line)) == len(english.encode(line))
