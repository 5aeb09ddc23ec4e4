"""Corpora that nobody means to train on: bytes that are no text, one pair, one pair again and again."""

from pathlib import Path

import pytest
from any_text import ENDS, LINES, profile
from corpus_files import write
from hypothesis import example, given
from hypothesis import strategies as st
from messages import WAY_OUT

from seq2seq.config import DataConfig, TokenizerConfig, TokenizerKind
from seq2seq.data.preparation import prepare
from seq2seq.data.text import read_lines
from seq2seq.errors import DataError

KINDS = [kind.value for kind in TokenizerKind]
SURROGATE = "\ud83d".encode("utf-8", "surrogatepass")
"""Half of a character, as some programs write it; it is no UTF-8."""
MARKS = (
    b"\x1f\x8b",
    b"\xfd7zXZ\0",
    b"BZh9",
    b"\x28\xb5\x2f\xfd",
    b"PK\x03\x04",
    b"\xff\xfe",
    b"\x1f\x9d",
)
"""First bytes of packed files, and of text in UTF-16."""
NAMED = ("train.source", "data=odd", "tokenizer=", "tokenizer.")
"""What is wrong with one pair: its file, its corpus, or the tokenizer that is asked of it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@profile(300, 3000)
@given(st.sampled_from([b"", *MARKS]), st.binary(max_size=200))
@example(b"", b"a\n" + SURROGATE + b"\n")
@example(b"", b"a\nb\xc3\n")
def test_any_bytes_are_lines_or_are_refused_by_name(
    folder: Path, mark: bytes, content: bytes
) -> None:
    path, refused = write(folder / "bytes", mark + content), ""
    try:
        found = list(read_lines(path))
    except DataError as error:
        refused = str(error)
    if refused:
        assert str(path) in refused
        assert WAY_OUT.search(refused)
    elif not mark:
        assert len(found) == content.count(b"\n") + (content[-1:] not in (b"", b"\n"))
        assert "\ufffd" not in "".join(found) or "\ufffd".encode() in content


def test_half_a_character_is_named_by_line_and_byte(folder: Path) -> None:
    path = write(folder / "half", b"a\nab" + SURROGATE + b"\n")
    with pytest.raises(DataError, match=r"half:2: invalid UTF-8 at byte 3 \(0xed\)"):
        list(read_lines(path))


def corpus(folder: Path, pairs: list[tuple[str, str]], end: str) -> DataConfig:
    """Return the settings of a corpus of these pairs, with one good pair as its valid."""
    data = DataConfig(name="odd", root=str(folder / "prepared"), source_language="und")
    data.target_language = "und"
    for name, split, lines in (("train", data.train, pairs), ("valid", data.valid, [("a", "b")])):
        for i, side in enumerate(("source", "target")):
            text = "".join(f"{pair[i]}{end}" for pair in lines)
            setattr(split, side, str(write(folder / f"{name}.{side}", text.encode())))
    return data


@profile(60, 600)
@given(
    st.tuples(LINES, LINES),
    st.integers(0, 40),
    st.sampled_from(KINDS),
    st.sampled_from([5, 12, 300, 10**6]),
    st.booleans(),
    st.booleans(),
    ENDS,
)
@example(("", ""), 3, "bpe", 12, True, True, "\n")
@example(("a b c", "d e f"), 0, "bpe", 12, True, True, "\n")
@example(("\u200f\u202e", "\u200f"), 2, "char", 12, True, True, "\n")
def test_one_pair_is_prepared_or_refused_by_name(
    folder: Path,
    pair: tuple[str, str],
    count: int,
    kind: str,
    size: int,
    joint: bool,
    drops: bool,
    end: str,
) -> None:
    """A vocabulary that the text cannot support is refused, with the size that it can."""
    data = corpus(folder, [pair] * count, end)
    data.cleaning.drop_duplicates, refused = drops, ""
    try:
        prepared = prepare(data, TokenizerConfig(TokenizerKind[kind], size, joint), progress=False)
    except DataError as error:
        refused = str(error)
    if refused:
        assert WAY_OUT.search(refused) or "empty" in refused, refused
        assert any(word in refused for word in NAMED), refused
        return
    train = prepared.manifest.splits["train"]
    assert train.pairs == count
    assert train.kept == (1 if drops else count)
    assert train.kept + sum(train.dropped.values()) == count
    assert prepared.tokenizers.source.vocab_size <= size
    assert len(prepared.split("train")) == train.kept
