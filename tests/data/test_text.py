import gzip
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data import text
from seq2seq.data.normalization import CONTROLS, INVISIBLE, SPACES
from seq2seq.data.text import (
    decoded_lines,
    join_chinese,
    read_lines,
    segment_chinese,
    text_sha256,
)
from seq2seq.errors import DataError


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


# -- reading ---


def test_only_lf_and_crlf_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028still one\ntwo\x0bstill\x85two\r\nthree\rstill three\nfour"
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbf" + text.encode())
    assert list(read_lines(path)) == [
        "one\u2028still one",
        "two\x0bstill\x85two",
        "three\rstill three",
        "four",
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_with_cr_alone_is_named(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.txt", pack(b"one\r" * 20))
    monkeypatch.setattr(text, "LONGEST_LINE", 40)  # the first part of the file tells
    with pytest.raises(DataError, match=r"a\.txt: its lines end in CR alone, .*\(tr '\\r' '\\n' <"):
        list(read_lines(path))
    assert list(read_lines(write(tmp_path / "b.txt", b"a\rb\r\n"))) == ["a\rb"]


def test_a_byte_order_mark_is_removed_only_at_the_start(tmp_path: Path) -> None:
    assert list(read_lines(write(tmp_path / "a", "\ufeffa\n\ufeffb\n"))) == ["a", "\ufeffb"]


def test_the_byte_that_is_no_text_is_counted_with_the_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfab\xff\n")
    assert path.read_bytes()[6 - 1] == 0xFF
    with pytest.raises(DataError, match=r"a\.txt:1: invalid UTF-8 at byte 6 \(0xff\)"):
        list(read_lines(path))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-12], lambda b: b[:20] + b"\x00\xff\x00" + b[23:], lambda b: b[:5]]
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: Callable[..., Any]) -> None:
    data = gzip.compress("".join(f"line {i} {i * i}\n" for i in range(200)).encode())
    path = write(tmp_path / "a.gz", damage(data))
    for read in (lambda: list(read_lines(path)), lambda: text_sha256(path)):
        with pytest.raises(DataError, match=r"a\.gz: damaged gzip file"):
            read()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_invalid_utf8_names_file_line_and_byte(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / "a.txt", pack(b"fine\nab\xffc\n"))
    with pytest.raises(DataError, match=r"a\.txt:2: invalid UTF-8 at byte 3 \(0xff\)"):
        list(read_lines(path))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "LONGEST_LINE", 2**20)
    longest = "x" * (2**20 - 1)
    path = write(tmp_path / "a.txt", pack(f"{longest}\n{longest}".encode()))
    assert list(read_lines(path)) == [longest] * 2
    path.write_bytes(pack(f"fine\n{longest}xy\n".encode()))
    with pytest.raises(DataError, match=r"a\.txt:2: a line of 1 MB or more; expected text"):
        list(read_lines(path))


# -- normalisation ---


def test_segmenting_prints_nothing_and_writes_no_cache(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text._chinese_words.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert segment_chinese("我喜欢学习") == "我 喜欢 学习"
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_spaces_are_removed_next_to_chinese_and_kept_between_other_words() -> None:
    assert join_chinese("我 喜欢 New York 的 3 个 苹果 。") == "我喜欢New York的3个苹果。"


# -- for any text ---

SETTINGS = settings(max_examples=100, deadline=None)
ODD = st.sampled_from(SPACES + INVISIBLE + CONTROLS)
LINE = st.text(st.one_of(st.characters(codec="utf-8"), ODD), max_size=30)


@SETTINGS
@given(
    st.lists(LINE.filter(lambda line: "\n" not in line and not line.endswith("\r"))), st.booleans()
)
def test_lines_are_read_as_they_were_written(lines: list[str], crlf: bool) -> None:
    end = "\r\n" if crlf else "\n"
    raw = io.BytesIO("".join(f"{line}{end}" for line in lines).encode())
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    assert list(decoded_lines(raw, "a.txt")) == lines
