import gzip
import tempfile
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data import text
from seq2seq.data.text import (
    clean,
    decoded_lines,
    join_chinese,
    nfkc,
    odd_characters,
    read_lines,
    segment_chinese,
    text_sha256,
)
from seq2seq.errors import DataError


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


# -- reading ---


def test_only_lf_and_crlf_end_a_line(tmp_path):
    text = "one\u2028still one\ntwo\x0bstill\x85two\r\nthree\rstill three\nfour"
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbf" + text.encode())
    assert list(read_lines(path)) == [
        "one\u2028still one",
        "two\x0bstill\x85two",
        "three\rstill three",
        "four",
    ]


def test_a_byte_order_mark_counts_at_the_start_alone(tmp_path):
    assert list(read_lines(write(tmp_path / "a", "\ufeffa\n\ufeffb\n"))) == ["a", "\ufeffb"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-12], lambda b: b[:20] + b"\x00\xff\x00" + b[23:], lambda b: b[:5]]
)
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    data = gzip.compress("".join(f"line {i} {i * i}\n" for i in range(200)).encode())
    path = write(tmp_path / "a.gz", damage(data))
    for read in (lambda: list(read_lines(path)), lambda: text_sha256(path)):
        with pytest.raises(DataError, match=r"a\.gz: damaged gzip file"):
            read()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_invalid_utf8_names_file_line_and_byte(tmp_path, pack):
    path = write(tmp_path / "a.txt", pack(b"fine\nab\xffc\n"))
    with pytest.raises(DataError, match=r"a\.txt:2: invalid UTF-8 at byte 3 \(0xff\)"):
        list(read_lines(path))


# -- normalisation ---


def test_segmenting_prints_nothing_and_writes_no_cache(capfd, tmp_path, monkeypatch):
    text._chinese_words.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert segment_chinese("我喜欢学习") == "我 喜欢 学习"
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_spaces_go_beside_chinese_and_stay_between_other_words():
    assert join_chinese("我 喜欢 New York 的 3 个 苹果 。") == "我喜欢New York的3个苹果。"


@pytest.mark.parametrize(
    ("language", "line", "expected"),
    [
        ("en", "ｆｕｌｌ，ﬁne…", "full,fine..."),
        ("zh", "你好，ＡＢＣ１２？（好）！……", "你好，ABC12？（好）！……"),
        ("ja", "１０ｃｍ、ｶﾞ？", "１０ｃｍ、ガ？"),
    ],
)
def test_nfkc_keeps_what_chinese_and_japanese_references_hold(language, line, expected):
    assert nfkc(line, language) == expected


def test_odd_characters_are_counted_and_made_plain():
    line = "a\u00a0b\u202fc\u2009d\u200be\u00adf\u3000g\th\x07i\u0085j"
    assert clean(line) == "a b c def g h i j"
    assert sum(odd_characters(line).values()) == 9
    assert odd_characters("plain text") == {}
    assert clean("  two   spaces ") == "two spaces"
    assert clean("می\u200cخواهم") == "می\u200cخواهم"  # the zero-width non-joiner is spelling


# -- for any text ---

SETTINGS = settings(max_examples=100, deadline=None)
ODD = st.sampled_from(text.SPACES + text.INVISIBLE + text.CONTROLS)
LINE = st.text(st.one_of(st.characters(codec="utf-8"), ODD), max_size=30)


@SETTINGS
@given(
    st.lists(LINE.filter(lambda line: "\n" not in line and not line.endswith("\r"))), st.booleans()
)
def test_lines_are_read_as_they_were_written(lines, crlf):
    end = "\r\n" if crlf else "\n"
    raw = [f"{line}{end}".encode() for line in lines]
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    assert list(decoded_lines(raw, "a.txt")) == lines


@SETTINGS
@given(LINE)
def test_a_clean_line_is_plain_and_stays_as_it_is(line):
    plain = clean(line)
    assert not odd_characters(plain)
    assert clean(plain) == plain == " ".join(plain.split())
    kept = [c for c in line if not c.isspace() and c not in text.INVISIBLE + text.CONTROLS]
    assert "".join(plain.split()) == "".join(kept)


@SETTINGS
@given(LINE, st.sampled_from(["en", "zh", "zh-Hant", "ja"]))
def test_nfkc_twice_is_nfkc_once(line, language):
    once = nfkc(line, language)
    assert nfkc(once, language) == once
    assert unicodedata.normalize("NFKC", once) == unicodedata.normalize("NFKC", line)
