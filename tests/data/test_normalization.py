"""How lines are normalised, and the count of what that changes."""

import html
import json
import unicodedata
from collections import Counter
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import regex  # type: ignore[import-untyped]
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_corpora import corpus

from seq2seq.config import NormalForm, NormalizationConfig, TokenizerConfig, TokenizerKind
from seq2seq.data.normalization import (
    CONTROLS,
    DIRECTIONS,
    ENTITIES,
    INVISIBLE,
    MOSES,
    SPACES,
    Changes,
    Normalization,
    clean,
    clusters,
    comparable,
)
from seq2seq.data.preparation import prepare
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.runs.configuration import read_config, write_config
from seq2seq.translation.scores import score

SOURCE, TARGET = Normalization("de"), Normalization("de", NormalForm.nfc)


def changes(line: str, how: Normalization = SOURCE) -> dict[tuple[str, str], int]:
    counted: Changes = Counter()
    how(line, counted)
    return {(before, after): count for (before, after), count in counted.items()}


# -- marks of the writing direction ---


def test_the_marks_are_those_of_unicode() -> None:
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert "".join(regex.findall(r"\p{Bidi_Control}", every)) == DIRECTIONS


@pytest.mark.parametrize("how", [SOURCE, TARGET])
def test_marks_of_the_writing_direction_are_removed_and_counted(how: Normalization) -> None:
    line = "\u202bשלום\u200f, \u2067ABC\u2069!\u202c"
    assert how(line) == "שלום, ABC!"
    counted = changes(line, how)
    assert counted == {(mark, ""): 1 for mark in "\u202b\u200f\u2067\u2069\u202c"}
    assert how("می\u200cخواهم 👩\u200d💻") == "می\u200cخواهم 👩\u200d💻"


def test_a_mark_between_a_letter_and_its_accent_does_not_part_them() -> None:
    assert SOURCE("e\u200e\u0301") == TARGET("e\u00ad\u0301") == "é"


# -- HTML entities ---


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "don &apos;t &quot; say &#91; 1 &#93; &amp; go &#124; on",
            "don 't \" say [ 1 ] & go | on",
        ),
        ("&lt; a &gt; &bar; &bra; &ket;", "< a > | [ ]"),
        ("&#8217;s &#x2019;s &eacute; &AMP; 1&nbsp;000", "’s ’s é & 1 000"),
        ("&amp;quot; &amp;amp;lt; &amp;#38;#39;", "\" < '"),
        ("AT&T, R&D; Q&A; a &b, &x; & amp ; &lt &#; &#0; &#xD800; &#99999999;",) * 2,
        ("x&shy;y&#x200F;z a&#10;b", "xyz a b"),
    ],
)
def test_entities_become_characters(line: str, expected: str) -> None:
    for how in (SOURCE, TARGET):
        assert how(line) == expected
    assert Normalization("de", NormalForm.none, markup=False)(line) == line


@pytest.mark.parametrize(
    "line",
    [
        "&" + "#0038;" * 100_000 + "lt;",
        "&" + "#X26;" * 100_000 + "lt;",
        "&" * 100_000 + "#" + "35;" * 100_000,  # &#35; is #
        "\uff06"
        + "#65286;" * 10_000
        + "lt;",  # a full-width ampersand, which NFKC makes a plain one
        "&#82" * 100_000 + "03;" * 100_000,  # &#8203; is removed
        "&#0" * 100_000 + "&" * 100_000 + "amp" * 100_000,
    ],
    ids=["decimal", "hexadecimal", "number sign", "full width", "invisible", "none"],
)
def test_deeply_nested_entities_take_linear_time(line: str) -> None:
    """In the square of their number they would take minutes."""
    start = process_time()
    SOURCE(line, Counter())
    assert process_time() - start < 20


@pytest.mark.parametrize("amp", ["#38", "#038", "#0000038", "#x26", "#X0026", "amp", "AMP"])
def test_an_ampersand_may_be_escaped_in_any_way(amp: str) -> None:
    assert SOURCE(f"&{amp};{amp};lt; &{amp};") == "< &"
    assert changes(f"&{amp};quot;") == {(f"&{amp};quot;"[:16], '"'): 1}


def test_entities_are_counted_as_they_were_written() -> None:
    counted = changes("&apos;s &apos;s &amp;quot; &nbsp; AT&T")
    assert counted[("&apos;", "'")] == 2
    assert counted[("&amp;quot;", '"')] == 1
    assert ("&", "") not in counted


def test_every_entity_is_the_one_of_html() -> None:
    html_has = {name: html.unescape(f"&{name};") for name in ENTITIES}
    assert {name for name in ENTITIES if html_has[name] != ENTITIES[name]} == set(MOSES)
    assert set("&<>\"'") <= set(ENTITIES.values())


def test_an_entity_of_full_width_characters_is_found_after_nfkc() -> None:
    assert SOURCE("＆ｑｕｏｔ；") == '"'


def test_a_placeholder_stays_whole() -> None:
    how = Normalization("de", symbols=("<url>", "&quot;"))
    assert how("&lt;url&gt; &quot; &apos;") == "<url> &quot; '"


# -- normal forms ---


def test_the_target_keeps_what_references_have() -> None:
    line = "10 m² ½ … ™ ﬁ Ｗ e\u0301"
    assert SOURCE(line) == "10 m2 1⁄2 ... TM fi W é"
    assert TARGET(line) == "10 m² ½ … ™ ﬁ Ｗ é"
    assert changes(line, TARGET) == {("e\u0301", "é"): 1}
    counted = changes(line)
    assert counted[("²", "2")] == counted[("…", "...")] == counted[("ﬁ", "fi")] == 1


@pytest.mark.parametrize(
    ("language", "line", "expected"),
    [
        ("en", "ｆｕｌｌ，ﬁne…", "full,fine..."),
        ("zh", "你好，ＡＢＣ１２？（好）！……", "你好，ABC12？（好）！……"),
        ("ja", "１０ｃｍ、ｶﾞ？", "１０ｃｍ、ガ？"),
    ],
)
def test_nfkc_keeps_full_width_characters_of_chinese_and_japanese(
    language: str, line: str, expected: str
) -> None:
    assert Normalization(language)(line) == expected


def test_clusters_are_letters_with_their_marks() -> None:
    line = "ae\u0301\u0323 \u1112\u1161\u11ab ｶﾞ한"
    assert list(clusters(line)) == ["a", "e\u0301\u0323", " ", "\u1112\u1161\u11ab", " ", "ｶﾞ", "한"]


def test_a_long_line_of_marks_takes_no_time() -> None:
    """Python sorts the marks of a letter in the square of their number: minutes for these."""
    line = "x" + "\u0316\u0301" * 200_000
    once = SOURCE(line)
    assert once.replace("\u034f", "").count("\u0301") == 200_000
    assert SOURCE(once) == once
    assert SOURCE("Z" + "\u0301\u0316" * 20) == "Ź" + "\u0316" * 20 + "\u0301" * 19


def test_references_can_be_written(tmp_path: Path) -> None:
    """A target vocabulary has the characters of the training text, whatever NFKC makes of them."""
    pairs = [(f"{n} m² … ½", f"{n} m² … ½ ™") for n in range(300)]
    for joint in (True, False):
        config = TokenizerConfig(TokenizerKind.char, 60, joint)
        tokenizers = prepare(corpus(tmp_path, pairs), config, progress=False).tokenizers
        ids = tokenizers.target.encode("7 m² … ½ ™")
        assert tokenizers.target.decode(ids) == "7 m² … ½ ™"
        assert tokenizers.source.decode(tokenizers.source.encode("7 m²")) == "7 m2"


# -- spaces ---


def test_odd_characters_are_replaced_and_counted() -> None:
    line = "a\u00a0b\u202fc\u2009d\u200be\u00adf\u3000g\th\x07i\u0085j\u2028k\u1680l▁m"
    assert SOURCE(line) == TARGET(line) == clean(line) == "a b c def g h i j k l m"
    assert sum(changes(line).values()) == sum(changes(line, TARGET).values()) == 12
    assert changes("plain text") == {}
    assert changes("  two   spaces ") == {(" ", ""): 5}
    assert SOURCE("  two   spaces ") == "two spaces"


# -- any text ---

ODD = st.sampled_from([*SPACES, *INVISIBLE, *CONTROLS, *DIRECTIONS, *map("&{};".format, ENTITIES)])
PART = st.one_of(st.characters(codec="utf-8"), ODD, st.sampled_from("&;#amp1x9ﬁ…½ｶﾞ\u0301\u1161"))
LINE = st.lists(PART, max_size=30).map("".join)
HOW = st.builds(
    Normalization, st.sampled_from(["en", "zh", "zh-Hant", "ja"]), st.sampled_from(NormalForm)
)


@settings(max_examples=300, deadline=None)
@given(LINE, HOW)
@example("&&#97;mp;lt;", SOURCE)
@example("e\u00ad\u0301", SOURCE)
def test_a_second_time_changes_nothing(line: str, how: Normalization) -> None:
    once = how(line)
    assert how(once) == once
    assert changes(once, how) == {}
    assert " ".join(once.split()) == once
    assert not set(once) & set(SPACES + INVISIBLE + CONTROLS + DIRECTIONS)
    if how.form is not NormalForm.none:
        assert unicodedata.is_normalized("NFC", once)
        assert how(unicodedata.normalize("NFD", line)) == once


@settings(max_examples=300, deadline=None)
@given(LINE, HOW)
def test_what_is_counted_is_what_changed(line: str, how: Normalization) -> None:
    counted = changes(line, how)
    assert (how(line) == line) == (not counted)
    for before, after in counted:
        assert before != after


# -- runs of earlier versions ---


@pytest.mark.parametrize(("nfkc", "form"), [(True, NormalForm.nfkc), (False, NormalForm.none)])
def test_an_earlier_tokenizer_normalises_as_it_did(
    tmp_path: Path, nfkc: bool, form: NormalForm
) -> None:
    made = prepare(corpus(tmp_path), TokenizerConfig(vocab_size=90), progress=False).tokenizers
    made.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    stored: dict[str, Any] = json.loads(file.read_text())
    assert stored.pop("normalization") == {"source": "nfkc", "target": "nfc", "markup": True}
    del stored["checksum"]  # an earlier version had none
    file.write_text(json.dumps({**stored, "nfkc": nfkc}))
    loaded = Tokenizers.load(tmp_path)
    for side, language in ((loaded.source, "en"), (loaded.target, "de")):
        assert side.normalization == Normalization(language, form, markup=False)
        assert side.normalise("a&apos;b\u200f") == "a&apos;b\u200f"


def test_an_earlier_configuration_is_read(tmp_path: Path, train_here: Any) -> None:
    file = tmp_path / "config.yaml"
    write_config(file, train_here.config())
    lines = file.read_text().splitlines()
    start = lines.index("  normalization:")
    assert lines[start + 1 : start + 4] == [
        "    source: nfkc",
        "    target: nfc",
        "    markup: true",
    ]
    file.write_text("\n".join([*lines[:start], "  nfkc: true", *lines[start + 4 :]]))
    both = NormalForm.nfkc
    assert read_config(file).tokenizer.normalization == NormalizationConfig(both, both, False)


# -- scores ---


def test_references_are_compared_without_entities_and_marks() -> None:
    hypotheses = ['It \'s "a" [b] שלום and so on'] * 3
    references = ["It &apos;s &quot;a&quot; &#91;b&#93; \u200fשלום\u200e and so on"] * 3
    found = score(hypotheses, references, "13a")
    assert found.bleu == pytest.approx(100)
    assert found.chrf == pytest.approx(100)
    assert comparable("e\u0301&amp;\u200e\u00a0") == "é&"
