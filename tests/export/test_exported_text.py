"""Text of an exported folder: ids and translations are those of the project's tokenizers."""

import json
from dataclasses import replace
from pathlib import Path
from time import process_time

import pytest
from any_text import LINES, profile
from hypothesis import given

from seq2seq.config import (
    NormalForm,
    NormalizationConfig,
    TokenizerConfig,
    TokenizerKind,
)
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.export.tables import text_tables
from seq2seq.export.text import Text

LINES_OF = {
    "de": ["ein Haus &amp; zwei Straßen", "ｆünf … Häuser NAME_1 hier", "wo wohnt NAME_1?"] * 3,
    "zh": ["我喜欢狗，你呢？", "他看见１２只猫ＡＢ。", "NAME_1 在哪里？"] * 3,
    "ja": ["猫が好きです。", "ﾊﾟﾝを１つ！", "NAME_1はどこ？"] * 3,
}
CASES = {
    "bpe": TokenizerConfig(TokenizerKind.bpe, vocab_size=50, joint=False),
    "joint": TokenizerConfig(TokenizerKind.char, vocab_size=120),
    "bytes": TokenizerConfig(vocab_size=306, joint=False, byte_fallback=True),
    "word": TokenizerConfig(TokenizerKind.word, vocab_size=40, joint=False),
    "placeholders": TokenizerConfig(
        TokenizerKind.word, vocab_size=40, joint=False, user_defined_symbols="NAME_1 E_"
    ),
    "plain": TokenizerConfig(
        TokenizerKind.bpe,
        vocab_size=50,
        joint=False,
        normalization=NormalizationConfig(NormalForm.nfc, NormalForm.none, markup=False),
    ),
}


def folder_of(tokenizers: Tokenizers, folder: Path) -> Text:
    names = ["source.model", "target.model"]
    for name, side in zip(names, (tokenizers.source, tokenizers.target), strict=True):
        side.save(folder / name)
    (folder / "text.json").write_text(json.dumps(text_tables(tokenizers, names)))
    return Text(folder)


@pytest.mark.parametrize("source", ["de", "ja", "zh"])
@pytest.mark.parametrize("name", CASES)
def test_any_line_has_the_same_ids_and_text(name: str, source: str, tmp_path: Path) -> None:
    target = "zh" if source == "de" else "de"
    if source == "zh" and CASES[name].kind is TokenizerKind.word:
        pytest.skip("refused: see below")
    both = Tokenizers.train([LINES_OF[source], LINES_OF[target]], CASES[name], (source, target))
    text = folder_of(both, tmp_path)

    @profile(fast=60, long=3000)
    @given(LINES)
    def agrees(line: str) -> None:
        assert text.normalise(line) == both.source.normalise(line)
        assert text.encode(line) == both.source.encode(line)

    agrees()
    for line in [*LINES_OF[source], "NAME_1E_ ｘ &#38;lt; x&shy;y NAME_1&nbsp;E_"]:
        assert text.encode(line) == both.source.encode(line)
    for line in LINES_OF[target]:
        ids = both.target.encode(line)
        for given_ids in (ids, [*ids, 1, *ids[:2]], [0, 2, 3, 1], []):
            assert text.decode(given_ids) == both.target.decode(given_ids)


def test_deeply_nested_entities_take_linear_time(tmp_path: Path) -> None:
    """They are replaced as deep as in the project."""
    both = Tokenizers.train([LINES_OF["de"]] * 2, CASES["bpe"], ("de", "de"))
    text, start = folder_of(both, tmp_path), process_time()
    for depth in (3, 9, 10, 11, 40, 30_000):
        for line in (
            "&" * depth + "#" + "35;" * depth,
            "\uff06" + "#65286;" * depth + "lt;",
            "&" + "#0038;" * depth + "lt;",
        ):
            assert text.normalise(line) == both.source.normalise(line)
    assert process_time() - start < 20


def test_a_placeholder_that_an_entity_makes_stays_whole(tmp_path: Path) -> None:
    config = replace(CASES["placeholders"], user_defined_symbols="&lt;")
    both = Tokenizers.train([["a &lt; b c"] * 9] * 2, replace(config, vocab_size=9), ("de", "de"))
    text, line = folder_of(both, tmp_path), "&&#108;t; a"
    assert text.normalise(line) == both.source.normalise(line)


def test_a_model_with_other_special_ids(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceTrainer

    (tmp_path / "lines").write_text("".join(line + "\n" for line in LINES_OF["de"]))
    options = (
        "--vocab_size=60 --hard_vocab_limit=false --unk_id=0 --bos_id=1 --eos_id=2 --pad_id=-1"
    )
    files = f"--input={tmp_path}/lines --model_prefix={tmp_path}/own --minloglevel=2"
    SentencePieceTrainer.train(f"{files} {options}")
    config = TokenizerConfig(model=str(tmp_path / "own.model"))
    both = Tokenizers.own(config, ("de", "de"))
    assert both.source.numbers.is_needed
    text = folder_of(both, tmp_path)
    for line in [*LINES_OF["de"], "☃ Haus"]:
        ids = both.source.encode(line)
        assert text.encode(line) == ids
        assert text.decode(ids) == both.target.decode(ids)


def test_chinese_words_cannot_be_exported() -> None:
    both = Tokenizers.train([LINES_OF["zh"], LINES_OF["de"]], CASES["word"], ("zh", "de"))
    with pytest.raises(ValueError, match=r"jieba divides zh text into words.*expected"):
        text_tables(both, ["a", "b"])
