"""What tokenizers are trained on: any text, whatever its lines are like, and placeholders."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invented_text import corpus, letters, sentences

from seq2seq.config import TokenizerConfig, TokenizerKind
from seq2seq.data import text
from seq2seq.data.preparation import MAKING, prepare
from seq2seq.data.tokenizer import Tokenizer, Tokenizers
from seq2seq.data.tokenizer_training import LONGEST_LINE, LONGEST_WORD
from seq2seq.errors import DataError

KINDS = [kind.value for kind in TokenizerKind]
ODD = "\u0378\ue000\uffff\ufffe\U0010ffff\U000e0001\u0300\u200d▁\U0001f600"
"""Unassigned, private, no characters, tags, marks alone, joiners, SentencePiece's own mark."""


def settings(kind: str, size: int, symbols: str = "", coverage: float = 1.0) -> TokenizerConfig:
    return TokenizerConfig(
        TokenizerKind(kind), size, user_defined_symbols=symbols, character_coverage=coverage
    )


def trained(lines: list[str], kind: str, size: int = 60, **options: Any) -> Tokenizers:
    config = settings(kind, size, **options)
    return Tokenizers.train((lines, sentences()), config, ("en", "en"))


LONG = {
    "ascii": letters(70_000),
    "one letter": "a" * 70_000,
    "chinese": letters(70_000, "一二三四五六七八九十"),
    "emoji": letters(30_000, "😀😁😂🤣"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("line", LONG.values(), ids=LONG)
def test_a_long_line_without_spaces_is_left_out_and_encoded(kind: str, line: str) -> None:
    found = trained([*sentences(), line, line], kind)
    assert found.left_out == 2
    assert found.source.model == trained(sentences(), kind).source.model
    ids = found.source.encode(line)
    assert ids
    if Tokenizer.unk_id not in ids:
        assert found.source.decode(ids) == line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alphabet", ["ab", "éü", "一二", "😀😁"])
def test_the_longest_word_is_still_trained_on(kind: str, alphabet: str) -> None:
    size = len(alphabet[0].encode())
    word = letters(LONGEST_WORD // size, alphabet)
    found = trained([*sentences(), word, word], kind, 80)
    assert found.left_out == 0
    assert Tokenizer.unk_id not in found.source.encode(alphabet) or kind == "word"
    assert trained([word + alphabet[0]], kind).left_out == 1


def test_a_long_line_of_short_words_is_trained_on() -> None:
    line = " ".join(sentences(20_000))
    assert LONGEST_WORD < len(line) < LONGEST_LINE
    assert trained([line], "word").left_out == 0
    assert trained([line * 2], "word").left_out == 1


def test_a_line_with_a_reserved_character_is_counted() -> None:
    found = trained([*sentences(), "a ▅ bar"], "bpe")
    assert found.left_out == 1
    assert found.source.decode(found.source.encode("sing ▅")) == "sing ⁇"


@pytest.mark.parametrize("kind", KINDS)
def test_odd_characters_train_and_come_back(kind: str) -> None:
    found = trained([*sentences(), *(f"birds {c}x{c} sing" for c in ODD)] * 3, kind, 200)
    assert found.source.encode(ODD)


def test_text_of_long_lines_alone_names_the_reason_and_the_way_out() -> None:
    config = settings("bpe", 60)
    with pytest.raises(
        DataError, match=r"no line .*\(en\) .* 3 lines with a word of over 7,500 bytes"
    ):
        Tokenizer.train([letters(9000)] * 3, config, "en")
    with pytest.raises(DataError, match=r"tokenizer\.model=FILE"):
        Tokenizer.train([letters(9000)] * 3, config, "en")


def test_jieba_never_gets_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time can grow with the square of a run: a minute for the first line."""
    found = list[str]()

    class Segmenter:
        def cut(self, line: str, HMM: bool) -> list[str]:
            assert HMM
            found.append(line)
            return [line]

    monkeypatch.setattr(text, "_chinese_words", Segmenter)
    for line in ("我" * 70_000, "我喜欢学习。" * 900 + "a" * 5000, "我 喜欢 3.14"):
        found.clear()
        assert text.segment_chinese(line).replace(" ", "") == line.replace(" ", "")
        assert "".join(found) == line
        assert all("我" * 2001 not in part for part in found)
    assert found == [line]


# -- a prepared corpus ---


def test_the_corpus_keeps_what_the_tokenizer_is_not_trained_on(tmp_path: Path) -> None:
    data = corpus(tmp_path, [*sentences(), LONG["ascii"], "birds ▅ sing"])
    prepared = prepare(data, settings("bpe", 60, "<url>"), progress=False)
    again = prepare(data, settings("bpe", 60, "<url>"), progress=False)
    counts = prepared.manifest.splits["train"]
    assert again.manifest.left_out == prepared.manifest.left_out == 4
    assert again.manifest.unseen == ["<url>"]
    assert counts.too_long == 1, "of the corpus, by data.max_length"
    assert counts.pairs == 202
    assert prepared.split("train").src_lengths.max() <= data.max_length + 1


def test_a_manifest_without_these_counts_is_read(tmp_path: Path) -> None:
    prepared = prepare(corpus(tmp_path, sentences()), settings("bpe", 60), progress=False)
    assert "left_out" not in (prepared.folder / "manifest.json").read_text()
    again = prepare(corpus(tmp_path, sentences()), settings("bpe", 60), progress=False)
    assert (again.manifest.left_out, again.manifest.unseen) == (0, [])


def test_the_folder_of_a_killed_process_goes_though_the_corpus_is_there(tmp_path: Path) -> None:
    data = corpus(tmp_path, sentences())
    prepare(data, settings("bpe", 60), progress=False)
    left = tmp_path / "prepared" / "own" / f"{MAKING}killed"
    left.mkdir()
    prepare(data, settings("bpe", 60), progress=False)
    assert not left.exists()


def test_the_process_survives(tmp_path: Path) -> None:
    """In a process of its own, since the failure would end it."""
    (tmp_path / "train.txt").write_text("\n".join([*sentences(), LONG["ascii"]]) + "\n")
    program = (
        "import sys; from seq2seq.data.tokenizer import Tokenizer;"
        "from seq2seq.config import TokenizerConfig;"
        "lines = open(sys.argv[1]).read().split('\\n');"
        "print(len(Tokenizer.train(lines, TokenizerConfig(vocab_size=60), 'en').model) > 0)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "train.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n")


# -- characters ---


def test_too_small_a_vocabulary_names_the_coverage_that_makes_it_fit() -> None:
    rare = [f"birds {chr(code)} sing" for code in range(0x4E00, 0x4E00 + 50)]
    lines = sentences(2000) + rare
    with pytest.raises(DataError, match=r"lower tokenizer\.character_coverage=1 .* at least \d+$"):
        Tokenizer.train(lines, settings("bpe", 60), "en")
    smaller = Tokenizer.train(lines, settings("bpe", 60, coverage=0.999), "en")
    assert Tokenizer.unk_id in smaller.encode("一")
    assert Tokenizer.unk_id not in smaller.encode("birds sing")


@pytest.mark.parametrize("coverage", [0.97, 1.01, float("nan")])
def test_a_coverage_out_of_range_is_refused_by_name(coverage: float) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.character_coverage=.*at least 0\.98"):
        settings("bpe", 60, coverage=coverage)


# -- placeholders ---

PLACED = ["see <url> now", "<url>", "a<url>b", "<url>.", "(<url>), <url>", "<num> of [TM]"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_placeholders_stay_whole(kind: str, language: str) -> None:
    size = 2000 if kind == "word" else 150  # an upper limit, enough for every word
    config = settings(kind, size, "<url> <num>,[TM] ™")
    lines = [*sentences(), *PLACED] * 2
    tokenizer = Tokenizer.train(lines, config, language)
    for line in PLACED:
        expected = [s for s in line.replace("<", " <").replace(">", "> ").split() if s in SYMBOLS]
        found = [p.removeprefix("▁") for p in tokenizer.pieces(line)]
        assert [p for p in found if p in SYMBOLS] == expected
        text = tokenizer.decode(tokenizer.encode(line))
        same = "".join(text.split()) == "".join(line.split())
        assert same if kind == "word" or language == "zh" else text == line


SYMBOLS = ("<url>", "<num>", "[TM]", "™")


@pytest.mark.parametrize("kind", KINDS)
def test_a_placeholder_is_safe_from_normalisation(kind: str) -> None:
    """NFKC writes the trade mark sign as two letters, and full-width letters as others."""
    symbols = "™ ＵＲＬ ＵＲＬ２"
    lines = [*sentences(), "birds™ sing ＵＲＬ and ＵＲＬ２", "one™ two"]
    tokenizer = Tokenizer.train(lines, settings(kind, 90, symbols), "en")
    pieces = [p.removeprefix("▁") for p in tokenizer.pieces("birds™ sing ＵＲＬ２")]
    assert "™" in pieces
    assert "ＵＲＬ２" in pieces
    assert "ｂ" not in "".join(tokenizer.pieces("ｂirds"))


def test_placeholders_are_saved_with_the_tokenizer(tmp_path: Path) -> None:
    trained([*sentences(), *PLACED], "word", symbols="™ <url>").save(tmp_path)
    loaded = Tokenizers.load(tmp_path)
    for tokenizer in (loaded.source, loaded.target):
        assert tokenizer.pieces("™<url>") == ["™", "<url>"]


def test_a_placeholder_that_the_text_does_not_have_is_named() -> None:
    found = trained([*sentences(), "see <url>"], "bpe", symbols="<url> [num]")
    assert found.unseen == ["[num]"]


@pytest.mark.parametrize("symbols", ["<unk>", "a <s>", "x▁y", "▅", "a\u200bb"])
def test_what_cannot_be_a_placeholder_is_refused(symbols: str) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.user_defined_symbols=.*: expected"):
        settings("bpe", 60, symbols)


def test_a_vocabulary_too_small_for_the_placeholders_is_refused() -> None:
    with pytest.raises(DataError, match=r"vocab_size=7: expected at least 8: .*3 user-defined"):
        Tokenizer.train(sentences(), settings("bpe", 7, "a1 b2 c3"), "en")
