"""Text that is plainly not in its language is refused; mixed text, names and numbers are not."""

from pathlib import Path

import pytest
from composing import composed

from seq2seq.data.language_check import check_scripts
from seq2seq.data.preparation import prepare, train_tokenizers
from seq2seq.data.scripts import FEW_LINES, ScriptCount
from seq2seq.errors import DataError

GERMAN = "Der kleine Hund läuft schnell über die Straße."
CHINESE = "我们明天去学校学习汉语。"
JAPANESE = "明日は学校で日本語を勉強します。"
RUSSIAN = "Маленькая собака быстро бежит."
SERBIAN = "Mali pas brzo trči preko ulice."
THAI = "ฉันจะไปตลาดกับแม่พรุ่งนี้"
LINES = 4 * FEW_LINES


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        *((GERMAN, "zh"), (GERMAN, "ru"), (GERMAN, "tha"), (CHINESE, "de"), (JAPANESE, "cmn")),
        *((CHINESE, "ja"), (CHINESE, "ko"), (RUSSIAN, "en"), (RUSSIAN, "ja"), (THAI, "lo")),
        *((SERBIAN, "sr-Cyrl"), (SERBIAN, "ru"), (CHINESE, "zh-Latn")),
    ],
)
def test_text_in_another_script_is_found(line: str, tag: str) -> None:
    assert ScriptCount([line] * LINES, tag).is_other


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        *((GERMAN, "de"), (GERMAN, "en"), (CHINESE, "yue"), (CHINESE, "zh-Hant"), (THAI, "th")),
        *((JAPANESE, "ja"), ("東京", "ja"), ("トーキョー", "ja"), (RUSSIAN, "mn"), (SERBIAN, "sr")),
        *(("我用 iPhone 打开 Microsoft Office", "zh"), ("2 + 2 = 4", "ru"), ("안녕하세요", "ko")),
        *((GERMAN, "und"), (GERMAN, "qaa"), (CHINESE, "mul"), ("Pe̍h-ōe-jī", "nan")),
        *(("nǐ hǎo", "zh-Latn"), ("aap kaise hain", "hi-Latn"), ("", "zh")),
    ],
)
def test_text_in_its_script_passes(line: str, tag: str) -> None:
    assert not ScriptCount([line] * LINES, tag).is_other


def test_some_lines_may_be_in_any_script() -> None:
    names = ["Barack Obama", "https://example.org/x", "3.14", "©", RUSSIAN]
    assert not ScriptCount([*names * 80, *[CHINESE] * 50], "zh").is_other
    assert ScriptCount([*names * 80, *[CHINESE] * 5], "zh").is_other


def test_a_few_lines_say_nothing() -> None:
    assert not ScriptCount([GERMAN] * (FEW_LINES - 1), "zh").is_other
    assert ScriptCount([GERMAN] * FEW_LINES, "zh").is_other


def test_a_tenth_of_the_lines_is_enough() -> None:
    assert not ScriptCount([*[CHINESE] * 10, *[GERMAN] * 90], "zh").is_other
    assert ScriptCount([*[CHINESE] * 9, *[GERMAN] * 91], "zh").is_other


def test_a_few_chinese_characters_are_japanese_without_syllable_signs() -> None:
    assert ScriptCount(["東京大阪京都奈"], "ja").written == 1
    assert ScriptCount(["東京大阪京都奈良"], "ja").written == 0


def write(folder: Path, name: str, line: str) -> str:
    path = folder / name
    path.write_text(f"{line}\n" * LINES, encoding="utf-8")
    return str(path)


def test_a_corpus_in_another_language_is_refused_with_its_counts(tmp_path: Path) -> None:
    source, target = write(tmp_path, "a.en", "The dog runs."), write(tmp_path, "a.de", GERMAN)
    named = [f"data.train.source={source}", f"data.train.target={target}"]
    config = composed("data=files", "data.name=mine", f"data.root={tmp_path / 'p'}", *named)
    with pytest.raises(DataError) as raised:
        prepare(config.data, config.tokenizer, progress=False)
    assert str(raised.value) == (
        f"{target}: expected target text in zh, but 400 of 400 lines are not (Latin 100%);"
        " set data.target_language to its language, such as de or zh-Latn (und: no check)"
    )
    assert not list((tmp_path / "p").rglob("manifest.json"))
    for tag in ("de", "und"):
        check_scripts(composed("data=files", *named, f"data.target_language={tag}").data)


def test_sides_that_are_exchanged_are_said_to_be(tmp_path: Path) -> None:
    source, target = write(tmp_path, "a", CHINESE), write(tmp_path, "b", GERMAN)
    data = composed("data=files", f"data.train.source={source}", f"data.train.target={target}").data
    with pytest.raises(DataError, match=r"a: expected source text in en, .*are source and target"):
        check_scripts(data)


def test_every_split_is_checked(tmp_path: Path) -> None:
    source, target = write(tmp_path, "a", GERMAN), write(tmp_path, "b", CHINESE)
    train = [f"data.train.source={source}", f"data.train.target={target}"]
    test = [f"data.test.source={source}", f"data.test.target={source}"]
    with pytest.raises(DataError, match=r"a: expected target text in zh"):
        check_scripts(composed("data=files", *train, *test).data)


@pytest.mark.parametrize(
    ("tag", "line", "words"),
    [
        ("ja", JAPANESE, "明日 は 学校 で 日本 語 を 勉強 し ます 。"),
        ("th", THAI, "ฉัน จะ ไป ตลาด กับ แม่ พรุ่งนี้"),
        ("km", "ខ្ញុំទៅផ្សារជាមួយម្តាយ", "ខ្ញុំ ទៅ ផ្សារ ជាមួយ ម្តាយ"),
        ("lo", "ຂ້ອຍໄປຕະຫຼາດກັບແມ່", "ຂ້ອຍ ໄປ ຕະຫຼາດ ກັບ ແມ່"),
        ("my", "ကျွန်တော်အမေနဲ့ဈေးသွားမယ်", "ကျွန်တော် အမေ နဲ့ ဈေး သွား မယ်"),
    ],
)
def test_a_word_tokenizer_needs_words(tag: str, line: str, words: str, tmp_path: Path) -> None:
    named = [f"data.train.source={write(tmp_path, 'a', 'The dog runs.')}", "tokenizer=word"]
    named += [f"data.train.target={write(tmp_path, 'b', line)}", f"data.target_language={tag}"]
    config = composed("data=files", f"data.root={tmp_path / 'p'}", *named)
    with pytest.raises(DataError, match=rf"=word: the target text \({tag}\) has .*tokenizer=bpe"):
        train_tokenizers(config.data, config.tokenizer)
    letters = sum(map(str.isalnum, line))
    with pytest.raises(DataError, match=f" has {letters} letters between spaces on average;"):
        train_tokenizers(config.data, config.tokenizer)
    write(tmp_path, "b", words)
    train_tokenizers(config.data, config.tokenizer)


@pytest.mark.parametrize(
    "name",
    [
        *("iwslt15_en_vi", "multi30k_fr_en", "multi30k_en_de", "small_en_ja"),
        *("tatoeba_de_en", "tatoeba_fr_en", "tatoeba_en_zh", "tatoeba_zh_en"),
    ],
)
def test_every_published_corpus_passes(name: str, mirror: Path) -> None:
    check_scripts(composed(f"data={name}", f"data.mirror={mirror}").data)
