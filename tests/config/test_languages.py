"""Languages by tag: their script, their spaces, sacreBLEU's tokenizer, and tags that are none."""

import pytest
from sacrebleu.metrics.bleu import BLEU

from seq2seq.config import DataConfig, TokenizerKind, languages, saved_settings
from seq2seq.config.languages import BLEU_TOKENIZERS, bleu_tokenizer, counted_units, language
from seq2seq.data.normalization import Normalization
from seq2seq.data.tokenizer import Tokenizer, normalise
from seq2seq.translation.scores import score

CHINESE = (
    "zh",
    "ZH",
    "zho",
    "chi",
    "cmn",
    "yue",
    "wuu",
    "lzh",
    "zh-Hant",
    "zh_TW",
    "cmn-Hans-CN",
    "cdo",
    "cpx",
    "mnp",
    "ltc",
)
NOT_CHINESE = ("zha", "za", "zun", "zap", "zh-Latn")
JAPANESE = ("ja", "jpn", "JA", "ja-JP", "ja-Jpan")
NOT_JAPANESE = ("jav", "jv", "jam", "jbo", "ja-Latn")
LETTERS = (
    "th",
    "tha",
    "th-TH",
    "lo",
    "lao",
    "km",
    "khm",
    "my",
    "mya",
    "bur",
    "bo",
    "bod",
    "dz",
    "rki",
    "ksw",
    "xct",
    "ams",
)
"""Written without spaces, and sacreBLEU has no tokenizer of its own for them."""
THAI = "ฉันจะไปตลาดกับแม่ของฉันพรุ่งนี้"
"""I go to the market with my mother tomorrow."""


@pytest.mark.parametrize("tag", CHINESE)
def test_what_is_written_in_chinese_characters(tag: str) -> None:
    assert language(tag).is_chinese
    assert not language(tag).has_spaces
    assert bleu_tokenizer(tag) == "zh"
    assert Normalization(tag)("ＡＢ，ﬁ") == "AB，fi"
    assert normalise("我们学习", TokenizerKind.word, Normalization(tag)) == "我们 学习"


@pytest.mark.parametrize("tag", JAPANESE)
def test_what_is_written_as_japanese(tag: str) -> None:
    assert language(tag).is_japanese
    assert not language(tag).has_spaces
    assert bleu_tokenizer(tag) == "ja-mecab"
    assert Normalization(tag)("ＡＢ，ﬁ") == "ＡＢ，fi"


@pytest.mark.parametrize("tag", [*NOT_CHINESE, *NOT_JAPANESE, "de", "en-GB", "vi", "hi", "qaa"])
def test_what_only_begins_like_them_is_neither(tag: str) -> None:
    assert not language(tag).is_chinese
    assert not language(tag).is_japanese
    assert language(tag).has_spaces
    assert bleu_tokenizer(tag) == "13a"
    assert Normalization(tag)("ＡＢ，ﬁ") == "AB,fi"


@pytest.mark.parametrize("tag", LETTERS)
def test_what_has_no_spaces_is_scored_by_character(tag: str) -> None:
    assert not language(tag).has_spaces
    assert bleu_tokenizer(tag) == "char"


def test_a_line_that_is_nearly_right_does_not_score_nothing() -> None:
    nearly = THAI.replace("พรุ่งนี้", "วันนี้")
    assert 50 < score([nearly], [THAI], bleu_tokenizer("th")).bleu < 100
    assert score([nearly], [THAI], "13a").bleu < 1e-3


@pytest.mark.parametrize(
    ("tag", "script"),
    [
        *(("sr", "Cyrl"), ("sr-Latn", "Latn"), ("hin", "Deva"), ("arb", "Arab"), ("iw", "Hebr")),
        *(("ko", "Kore"), ("und", None), ("mul", None), ("qaa", None), ("x-mine", None)),
    ],
)
def test_the_script_is_the_tags_or_the_likely_one(tag: str, script: str | None) -> None:
    assert language(tag).script == script


@pytest.mark.parametrize("tag", ["ko", "kor", "KO", "ko-KR"])
def test_korean_has_its_own_analyser(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "_installed", lambda *modules: "mecab_ko" in modules)
    assert bleu_tokenizer(tag) == "ko-mecab"
    assert language(tag).has_spaces


@pytest.mark.parametrize("tag", ["ko", "ja"])
def test_without_the_analyser_characters_are_scored(
    tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(languages, "_installed", lambda *modules: False)
    assert bleu_tokenizer(tag) == "char"


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("BLEU|nrefs:1|tok:13a|smooth:exp", "words and punctuation marks (tokenizer 13a)"),
        (
            "BLEU|tok:ja-mecab-0.996-IPA|x",
            "Japanese words as MeCab finds them (tokenizer ja-mecab)",
        ),
        ("BLEU|tok:future|x", "tokenizer future"),
        ("BLEU", "tokenizer unknown"),
    ],
)
def test_a_signature_is_said_in_words(signature: str, words: str) -> None:
    assert counted_units(signature) == words


def test_the_tokenizers_are_sacrebleus() -> None:
    assert set(BLEU_TOKENIZERS) == set(BLEU.TOKENIZERS)


@pytest.mark.parametrize(
    ("tag", "meant"),
    [
        *(("german", "de"), ("Germn", "de"), ("mandarin", "cmn"), ("cantonese", "yue")),
        *(("cn", "zh"), ("jp", "ja"), ("cz", "cs"), ("ua", "uk")),
        *(("Deutsch", "de"), ("中文", "zh"), ("ไทย", "th")),
        *(("de_DE.UTF-8", "de-DE"), ("zh-simplified", "zh")),
    ],
)
def test_a_tag_that_is_no_language_is_refused(tag: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"^data.target_language={tag}: no .*mean {meant}\?"):
        DataConfig(target_language=tag)


@pytest.mark.parametrize("tag", ["xx", "", "de,en", "мова"])
def test_nothing_is_proposed_for_what_resembles_nothing(tag: str) -> None:
    with pytest.raises(ValueError, match=f"^data.source_language={tag}: no such .* zh-Hant$"):
        DataConfig(source_language=tag)


def test_a_run_that_was_trained_with_such_a_tag_is_read() -> None:
    with saved_settings():
        assert DataConfig(target_language="german").target_language == "german"
    assert bleu_tokenizer("german") == "13a"
    assert language("german").has_spaces


def test_parts_of_a_sentence_are_joined_as_its_language_does() -> None:
    for tag, text in (("cmn", "ab"), ("th", "ab"), ("jav", "a b"), ("kor", "a b")):
        tokenizer = object.__new__(Tokenizer)
        tokenizer.normalization = Normalization(tag)
        assert tokenizer.join(["a", "b"]) == text


def test_the_tokenizer_of_bleu_is_the_one_asked_for() -> None:
    assert DataConfig(target_language="zh").splits_for_bleu == "zh"
    assert DataConfig(target_language="zh", bleu_tokenizer="char").splits_for_bleu == "char"
